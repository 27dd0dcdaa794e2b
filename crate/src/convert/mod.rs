//! From a checkpoint to the container of `models/`: a safetensors file with Hugging Face's names, a
//! vocabulary and the `blip.json` that describes both. Further checkpoints become further files over the
//! image encoder of the first. The way back is [`HuggingFaceFolder`].

mod hugging_face;
mod report;
mod writer;

use std::io::Write;

pub use hugging_face::{Class, HuggingFaceFolder};
pub use report::{ConvertReport, NetworkReport};
pub use writer::{FurtherSource, ModelWriter};

use crate::config::BlipConfig;
use crate::weights::{Checkpoint, Manifest, Quantisation, TensorReport};
use crate::{Error, ErrorKind, Result};

/// The name of the weights in a model directory.
pub const WEIGHTS: &str = "model.safetensors";
/// The name of the vocabulary in a model directory.
pub const VOCAB: &str = "vocab.txt";

/// What a model directory says about itself, apart from its files.
#[derive(Clone, Debug)]
pub struct ModelDirectory {
    /// Name of the model.
    pub id: String,
    /// Dimensions.
    pub config: BlipConfig,
    /// Tasks it was trained for; those that its networks serve when left out.
    pub tasks: Option<Vec<String>>,
    /// SPDX expression.
    pub licence: String,
    /// What it knows, for a page to show.
    pub knows: Option<serde_json::Value>,
}

/// Writes the weights of a checkpoint of either layout, tensor by tensor, and returns the manifest that
/// goes beside them. `progress` hears of each tensor, with the number of all.
///
/// # Errors
/// What [`crate::weights::load`] would find wrong, and [`ErrorKind::Io`] when `out` fails.
pub fn convert(
    directory: &ModelDirectory,
    checkpoint: &Checkpoint,
    vocab: &[u8],
    quantisation: Quantisation,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(&TensorReport, usize),
) -> Result<(Manifest, ConvertReport)> {
    let mut writer = ModelWriter::new(directory, checkpoint, &[], quantisation, false)?;
    writer.write(0, out, progress)?;
    writer.finish(vocab)
}

/// The text of a `blip.json`.
///
/// # Errors
/// [`ErrorKind::Internal`] for numbers that JSON cannot say, which no valid configuration has.
pub fn manifest_json(manifest: &Manifest) -> Result<String> {
    let json = serde_json::to_string_pretty(manifest)
        .map_err(|e| Error::new(ErrorKind::Internal, "manifest: cannot be written").with_source(e))?;
    Ok(json + "\n")
}

/// The configuration of an original `.pth` file, which has none beside it.
///
/// # Errors
/// As [`crate::weights::infer_config`].
pub fn infer_config(checkpoint: &Checkpoint) -> Result<BlipConfig> {
    crate::weights::infer_config(&checkpoint.entries())
}
