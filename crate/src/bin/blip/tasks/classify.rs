//! `blip classify`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::batch::{Job, entries, number, words};

/// Which of some labels each picture shows.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Classify {
    /// A label, or `@file` with one a line; given several times.
    #[arg(long, visible_alias = "label", value_name = "LABEL", required = true)]
    labels: Vec<String>,
    /// A sentence in which `{}` stands for the label; may be given several times.
    #[arg(long, visible_alias = "template", value_name = "TEXT")]
    templates: Vec<String>,
    /// `itc` (cosines, quick) or `itm` (a look at the picture for every label).
    #[arg(long)]
    head: Option<String>,
    /// What cosines are divided by.
    #[arg(long)]
    temperature: Option<f32>,
    /// How text is prepared: `orig` (the original repository), `hf` (transformers) or `lavis`.
    #[arg(long)]
    convention: Option<String>,
}

impl Job for Classify {
    fn request(&self) -> Result<Map<String, Value>> {
        super::request("classify", self)
    }

    fn columns(&self) -> Vec<&'static str> {
        vec!["label", "probability", "score"]
    }

    fn rows(&self, result: &Value) -> Vec<Vec<String>> {
        let row = |label: &Value| {
            vec![words(&label["label"]), number(&label["probability"], 4), number(&label["score"], 4)]
        };
        entries(result).iter().map(row).collect()
    }
}
