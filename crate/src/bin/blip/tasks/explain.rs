//! `blip explain`.

use anyhow::Result;
use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::batch::{Job, entries, number, numbers, words};

/// Where in each picture the words of a text are.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Explain {
    /// The text.
    #[arg(long)]
    text: String,
    /// The layer whose cross-attention is looked at, from 0; the middle when left out.
    #[arg(long)]
    layer: Option<usize>,
    /// How text is prepared: `orig` (the original repository), `hf` (transformers) or `lavis`.
    #[arg(long)]
    convention: Option<String>,
}

impl Job for Explain {
    fn request(&self) -> Result<Map<String, Value>> {
        super::request("explain", self)
    }

    fn columns(&self) -> Vec<&'static str> {
        vec!["word", "x", "y", "strength"]
    }

    /// Where each word is strongest, as parts of the picture's width and height from its upper left.
    fn rows(&self, result: &Value) -> Vec<Vec<String>> {
        let width = entries(&result["grid"]).get(1).and_then(Value::as_u64).unwrap_or(1).max(1) as usize;
        let height = entries(&result["grid"]).first().and_then(Value::as_u64).unwrap_or(1).max(1) as usize;
        let row = |word: &Value| {
            let values = entries(&word["map"]).iter().map(|value| value.as_f64().unwrap_or_default());
            let highest =
                values.enumerate().fold((0, 0.0), |best, now| if now.1 > best.1 { now } else { best });
            let (cell, strength) = highest;
            let place = |at: usize, of: usize| number(&((at as f64 + 0.5) / of as f64).into(), 3);
            let (x, y) = (place(cell % width, width), place(cell / width % height, height));
            vec![words(&word["text"]), x, y, format!("{strength:.3e}")]
        };
        entries(&result["words"]).iter().map(row).collect()
    }

    /// Each token and word gets its map, as in the SDK.
    fn add_floats(&self, result: &mut Value, floats: &[Vec<f32>]) {
        let [tokens, words, sentence] = floats else { return };
        for (list, maps) in [("tokens", tokens), ("words", words)] {
            let Some(list) = result[list].as_array_mut() else { continue };
            for (entry, map) in list.iter_mut().zip(maps.chunks(sentence.len().max(1))) {
                entry["map"] = numbers(map);
            }
        }
        result["sentence"] = numbers(sentence);
    }
}
