//! `blip explain`.

use std::path::{Path, PathBuf};

use anyhow::Result;
use blip_web::tasks::{OverlayOptions, overlay};
use clap::Args;
use image::RgbImage;
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::batch::{Job, Pictured, entries, number, numbers, words};

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
    /// Draw the maps over each picture, into a folder under its name in this folder: `text.png` for all of
    /// the text, and `1-dog.png` and the like for its words, whose colours can be compared.
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip)]
    overlay: Option<PathBuf>,
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

    fn drawings(&self) -> Option<&Path> {
        self.overlay.as_deref()
    }

    fn draw(&self, picture: &Pictured<'_>, nth: usize) -> Result<Vec<(String, RgbImage)>> {
        let (result, [_, maps, sentence]) = (picture.result, picture.floats) else { return Ok(Vec::new()) };
        if self.overlay.is_none() {
            return Ok(Vec::new());
        }
        let side = |at: usize| result["grid"][at].as_u64().unwrap_or_default() as usize;
        let draw = |map: &[f32], maximum: Option<f64>| {
            let options = OverlayOptions { maximum, frame: nth, ..OverlayOptions::default() };
            overlay(picture.image, map, [side(0), side(1)], &options)
        };
        let mut drawings = vec![("text".to_owned(), draw(sentence, None)?)];
        let highest = maps.iter().copied().fold(0.0, f32::max);
        let maps = maps.chunks(sentence.len().max(1));
        for (number, (word, map)) in entries(&result["words"]).iter().zip(maps).enumerate() {
            let name = format!("{}-{}", number + 1, words(&word["text"]));
            drawings.push((name, draw(map, Some(highest.into()))?));
        }
        Ok(drawings)
    }
}
