//! `blip match`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::batch::{Job, entries, number, words};

/// How well texts fit each picture.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Match {
    /// A text, or `@file` with one a line; may be given several times.
    #[arg(long, visible_alias = "text", value_name = "TEXT", required = true)]
    texts: Vec<String>,
    /// What to compute: `itm`, `itc`, or both, given twice; all there is a network for when left out.
    #[arg(long, value_name = "HEAD")]
    heads: Vec<String>,
    /// How text is prepared: `orig` (the original repository), `hf` (transformers) or `lavis`.
    #[arg(long)]
    convention: Option<String>,
}

impl Job for Match {
    fn request(&self) -> Result<Map<String, Value>> {
        super::request("match", self)
    }

    fn columns(&self) -> Vec<&'static str> {
        vec!["text", "score", "itm_probability", "itm_logit", "itc"]
    }

    fn rows(&self, result: &Value) -> Vec<Vec<String>> {
        let row = |found: &Value| {
            vec![
                words(&found["text"]),
                number(&found["score"], 4),
                number(&found["itm"]["probability"], 4),
                number(&found["itm"]["logit"], 4),
                number(&found["itc"], 4),
            ]
        };
        entries(result).iter().map(row).collect()
    }
}
