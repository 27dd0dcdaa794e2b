//! `blip dialogue`.

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::super::batch::{Job, entries, number, words};

/// The best next answer in a dialogue about each picture.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Dialogue {
    /// What the picture shows, in words.
    #[arg(long)]
    caption: String,
    /// An earlier question and its answer; may be given several times, the oldest first.
    #[arg(long, num_args = 2, value_names = ["QUESTION", "ANSWER"])]
    #[serde(skip)]
    history: Vec<String>,
    /// What is asked now.
    #[arg(long, short)]
    question: String,
    /// An answer to choose from, or `@file` with one a line; given several times.
    #[arg(long, visible_alias = "candidate", value_name = "TEXT", required = true)]
    candidates: Vec<String>,
}

impl Job for Dialogue {
    fn request(&self) -> Result<Map<String, Value>> {
        let mut request = super::request("dialogue", self)?;
        let (turns, []) = self.history.as_chunks::<2>() else {
            bail!("every question of the history has an answer");
        };
        let turn = |[question, answer]: &[String; 2]| json!({"question": question, "answer": answer});
        request.insert("history".to_owned(), turns.iter().map(turn).collect());
        Ok(request)
    }

    fn columns(&self) -> Vec<&'static str> {
        vec!["text", "probability", "logit"]
    }

    fn rows(&self, result: &Value) -> Vec<Vec<String>> {
        let row = |reply: &Value| {
            vec![words(&reply["text"]), number(&reply["probability"], 4), number(&reply["logit"], 4)]
        };
        entries(result).iter().map(row).collect()
    }

    /// The best answer alone.
    fn text(&self, result: &Value) -> String {
        words(&result[0]["text"]) + "\n"
    }
}
