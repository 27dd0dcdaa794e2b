//! Conversions for JavaScript: see [`crate::weights::Conversion`].

use serde::Serialize;
use wasm_bindgen::prelude::*;

use super::{Answer, json, to_js};
use crate::config::BlipConfig;
use crate::weights::{self, ConversionOptions, complete_vocabulary};
use crate::{Error, ErrorKind, Result};

/// A checkpoint that becomes a container while it streams by. Offsets and lengths are in bytes.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Conversion {
    conversion: weights::Conversion,
}

/// What is known at the end.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Finished<'a> {
    input_sha256: &'a str,
    manifest: &'a str,
}

#[wasm_bindgen]
impl Conversion {
    /// Of a file of that name and length and the text of its `config.json`, empty for original files;
    /// options are the JSON of `ConversionOptions`.
    #[wasm_bindgen(constructor)]
    pub fn new(file: &str, total_bytes: f64, config: &str, options: &str) -> Answer<Conversion> {
        let made = || -> Result<_> {
            let options: ConversionOptions = serde_json::from_str(options).map_err(|e| {
                Error::new(ErrorKind::BadOption, "conversion: not the options of one").with_source(e)
            })?;
            // What is negative or no number becomes 0, which no file has.
            weights::Conversion::new(file, total_bytes as u64, config, options)
        };
        Ok(Self { conversion: made().map_err(to_js)? })
    }

    /// The range `[start, end)` of the file that is needed before streaming begins.
    pub fn wants(&self) -> Option<Vec<f64>> {
        self.conversion.wants().map(|range| vec![range.start as f64, range.end as f64])
    }

    /// Takes the bytes that were wanted.
    pub fn give(&mut self, bytes: &[u8]) -> Answer<()> {
        self.conversion.give(bytes).map_err(to_js)
    }

    /// Bytes of the container, once nothing is wanted any more; 0 before.
    #[wasm_bindgen(js_name = outputBytes)]
    pub fn output_bytes(&self) -> f64 {
        self.conversion.output_bytes().unwrap_or(0) as f64
    }

    /// Takes the next bytes of the file and returns the next of the container.
    pub fn push(&mut self, bytes: &[u8]) -> Answer<Vec<u8>> {
        self.conversion.push(bytes).map_err(to_js)
    }

    /// Bytes of the file that were taken.
    pub fn position(&self) -> f64 {
        self.conversion.position() as f64
    }

    /// Whether it failed because the head is not tied to the word embedding: begin again with `untied`.
    #[wasm_bindgen(js_name = isUntied)]
    pub fn is_untied(&self) -> bool {
        self.conversion.is_untied()
    }

    /// What `resume` goes on from.
    pub fn checkpoint(&self) -> Vec<u8> {
        self.conversion.checkpoint()
    }

    /// Goes on from a checkpoint.
    pub fn resume(checkpoint: &[u8]) -> Answer<Conversion> {
        Ok(Self { conversion: weights::Conversion::resume(checkpoint).map_err(to_js)? })
    }

    /// The byte of the file to go on with: of a conversion that is going on, the one that its checkpoint
    /// would.
    #[wasm_bindgen(js_name = resumeInput)]
    pub fn resume_input(&self) -> f64 {
        self.conversion.resume_input() as f64
    }

    /// Bytes of the container that were written by then; what was written beyond them comes again.
    #[wasm_bindgen(js_name = resumeOutput)]
    pub fn resume_output(&self) -> f64 {
        self.conversion.resume_output() as f64
    }

    /// After the last byte: JSON of the file's SHA-256 and the text of the `blip.json`.
    pub fn finish(&self, vocab: &[u8]) -> Answer<String> {
        let finished = || -> Result<String> {
            let converted = self.conversion.finish(vocab)?;
            let manifest = json(&converted.manifest)?;
            json(&Finished { input_sha256: &converted.input_sha256, manifest: &manifest })
        };
        finished().map_err(to_js)
    }

    /// The `vocab.txt` of a repository as that of a model directory; without a configuration, for one of
    /// the published sizes.
    pub fn vocabulary(bytes: &[u8], config: &str) -> Answer<Vec<u8>> {
        let complete = || {
            let config =
                if config.trim().is_empty() { BlipConfig::base() } else { BlipConfig::from_json(config)? };
            complete_vocabulary(bytes, &config)
        };
        complete().map_err(to_js)
    }
}
