//! `blip caption`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::batch::{Job, entries, number, words};
use super::generation::Generation;

/// What the pictures show, in words.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Caption {
    /// Text that the caption continues.
    #[arg(long)]
    prompt: Option<String>,
    /// Say how well each caption fits its picture; needs a network for `itm` beside the captioner.
    #[arg(long)]
    match_score: bool,
    #[command(flatten)]
    #[serde(flatten)]
    generation: Generation,
}

impl Job for Caption {
    fn request(&self) -> Result<Map<String, Value>> {
        super::request("caption", self)
    }

    fn columns(&self) -> Vec<&'static str> {
        let mut columns = vec!["caption", "log_prob"];
        columns.extend(self.match_score.then_some("match_score"));
        columns
    }

    fn rows(&self, result: &Value) -> Vec<Vec<String>> {
        let row = |caption: &Value| {
            let mut row = vec![words(&caption["text"]), number(&caption["logProb"], 3)];
            row.extend(self.match_score.then(|| number(&caption["matchScore"], 4)));
            row
        };
        entries(&result["captions"]).iter().map(row).collect()
    }

    /// Captions alone, as training data has them.
    fn text(&self, result: &Value) -> String {
        entries(&result["captions"]).iter().map(|caption| words(&caption["text"]) + "\n").collect()
    }

    fn add_to_line(&self, line: &mut Map<String, Value>, result: &Value) {
        line.insert("caption".to_owned(), result["text"].clone());
    }
}
