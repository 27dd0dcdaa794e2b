//! `blip ask`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::batch::{Job, entries, number, words};
use super::generation::Generation;

/// An answer to a question about each picture.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ask {
    /// The question.
    #[arg(long, short)]
    question: String,
    /// An answer to choose from, or `@file` with one a line; may be given several times. Without any the
    /// answer is generated.
    #[arg(long, visible_alias = "answer", value_name = "TEXT")]
    answers: Vec<String>,
    /// Of the answers, rank so many with the likeliest beginnings in full.
    #[arg(long)]
    candidates: Option<usize>,
    /// How the question is prepared: `orig` (the original repository) or `hf` (transformers).
    #[arg(long)]
    convention: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    generation: Generation,
}

impl Job for Ask {
    fn request(&self) -> Result<Map<String, Value>> {
        super::request("ask", self)
    }

    fn columns(&self) -> Vec<&'static str> {
        let mut columns = vec!["answer", "log_prob"];
        if !self.answers.is_empty() {
            columns.extend(["score", "probability"]);
        }
        columns
    }

    fn rows(&self, result: &Value) -> Vec<Vec<String>> {
        let row = |answer: &Value| {
            let mut row = vec![words(&answer["text"]), number(&answer["logProb"], 3)];
            if !self.answers.is_empty() {
                row.extend([number(&answer["score"], 3), number(&answer["probability"], 4)]);
            }
            row
        };
        entries(&result["answers"]).iter().map(row).collect()
    }

    /// The best answer alone.
    fn text(&self, result: &Value) -> String {
        words(&result["text"]) + "\n"
    }
}
