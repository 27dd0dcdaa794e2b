//! `blip nlvr2`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::batch::{Job, entries, number};

/// Whether a statement about two pictures is true; of more pictures, each two are a pair.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Nlvr2 {
    /// The statement.
    #[arg(long)]
    statement: String,
}

impl Job for Nlvr2 {
    const PICTURES: usize = 2;

    fn request(&self) -> Result<Map<String, Value>> {
        super::request("nlvr2", self)
    }

    fn columns(&self) -> Vec<&'static str> {
        vec!["answer", "probability", "logit_false", "logit_true"]
    }

    fn rows(&self, result: &Value) -> Vec<Vec<String>> {
        let logits = entries(&result["logits"]).iter().map(|logit| number(logit, 4));
        let answer = [result["answer"].to_string(), number(&result["probability"], 4)];
        vec![answer.into_iter().chain(logits).collect()]
    }
}
