//! `blip embed`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::batch::{Job, entries, numbers};

/// Features of pictures, of texts, or of both together.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Embed {
    /// Whose: `image`, `text` (without pictures) or `multimodal`.
    #[arg(long, default_value = "image")]
    kind: String,
    /// A text, or `@file` with one a line; may be given several times.
    #[arg(long, visible_alias = "text", value_name = "TEXT")]
    texts: Vec<String>,
    /// Which: `projection` (to be compared), `class` or `tokens`.
    #[arg(long)]
    output: Option<String>,
    /// How text is prepared: `orig` (the original repository), `hf` (transformers) or `lavis`.
    #[arg(long)]
    convention: Option<String>,
}

impl Job for Embed {
    fn request(&self) -> Result<Map<String, Value>> {
        super::request("embed", self)
    }

    fn has_pictures(&self) -> bool {
        self.kind != "text"
    }

    fn columns(&self) -> Vec<&'static str> {
        vec!["shape", "values"]
    }

    fn rows(&self, result: &Value) -> Vec<Vec<String>> {
        let row = |array: &Value| {
            let joined = |name: &str, with: &str| {
                let numbers: Vec<String> = entries(&array[name]).iter().map(Value::to_string).collect();
                numbers.join(with)
            };
            vec![joined("shape", "x"), joined("values", " ")]
        };
        match result {
            Value::Array(several) => several.iter().map(row).collect(),
            one => vec![row(one)],
        }
    }

    fn add_floats(&self, result: &mut Value, floats: &[Vec<f32>]) {
        let results = match result {
            Value::Array(several) => several.as_mut_slice(),
            one => std::slice::from_mut(one),
        };
        for (result, values) in results.iter_mut().zip(floats) {
            result["values"] = numbers(values);
        }
    }
}
