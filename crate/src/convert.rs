//! From a checkpoint to the container of `models/`: a safetensors file with Hugging Face's names, a
//! vocabulary and the `blip.json` that describes both.

use std::io::Write;

use serde::Serialize;

use crate::config::BlipConfig;
use crate::weights::keymap::{Meaning, meaning};
use crate::weights::manifest::{FileEntry, Files};
use crate::weights::{Checkpoint, Container, Manifest, Quantisation, StoredTensor, TensorReport};
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

/// What a conversion did.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ConvertReport {
    /// How the matrices are stored.
    pub quantisation: Quantisation,
    /// Every tensor, in the order of the file.
    pub tensors: Vec<TensorReport>,
    /// What was in the checkpoint and is not in the container: copies and left-overs of training.
    pub dropped: Vec<String>,
    /// Numbers in all tensors.
    pub parameters: usize,
    /// Bytes of the weights file.
    pub bytes: u64,
    /// Root mean squared error of all numbers by their root mean square.
    pub relative_rms: f64,
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
    let container = Container::new(&directory.config, checkpoint, quantisation)?;
    let mut tensors = Vec::with_capacity(container.len());
    let weights = container.write(WEIGHTS, out, &mut |line| {
        progress(&line, container.len());
        tensors.push(line);
    })?;
    let served = || container.networks().tasks().into_iter().map(str::to_owned).collect();
    let manifest = Manifest {
        format_version: Manifest::FORMAT_VERSION,
        id: directory.id.clone(),
        tasks: directory.tasks.clone().unwrap_or_else(served),
        config: directory.config.clone(),
        files: Files { weights, vocab: FileEntry::of(VOCAB, vocab) },
        quantisation,
        licence: directory.licence.clone(),
        knows: directory.knows.clone(),
    };
    let dropped = container.dropped().to_vec();
    let report = ConvertReport::new(tensors, dropped, &manifest);
    Ok((manifest, report))
}

impl ConvertReport {
    fn new(tensors: Vec<TensorReport>, dropped: Vec<String>, manifest: &Manifest) -> Self {
        let (mut parameters, mut off, mut size) = (0, 0.0, 0.0);
        for tensor in &tensors {
            parameters += tensor.shape.iter().product::<usize>();
            off += tensor.squared_error;
            size += tensor.squares;
        }
        Self {
            quantisation: manifest.quantisation,
            tensors,
            dropped,
            parameters,
            bytes: manifest.files.weights.bytes,
            relative_rms: if size > 0.0 { (off / size).sqrt() } else { 0.0 },
        }
    }
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

/// The configuration of an original `.pth` file, which has none beside it: base or large by the
/// width of the vision encoder, the image size by the rows of its position table.
///
/// # Errors
/// [`ErrorKind::WeightsMissing`] and [`ErrorKind::WeightsShape`] when the vision encoder is not
/// one of the two published ones.
pub fn infer_config(checkpoint: &Checkpoint) -> Result<BlipConfig> {
    let tensor = |ours: &str| -> Result<&StoredTensor> {
        let found =
            checkpoint.tensors.iter().find(|(name, _)| meaning(name) == Meaning::Parameter(ours.to_owned()));
        found.map(|(_, tensor)| tensor).ok_or_else(|| {
            Error::new(ErrorKind::WeightsMissing, format!("weights: 1 tensors are missing: `{ours}`"))
        })
    };
    let shape = &tensor("vision.position_embedding")?.shape;
    let (tokens, width) = match shape[..] {
        [1, tokens, width] if tokens > 1 => (tokens, width),
        _ => {
            let message =
                format!("weights: the position table has the shape {shape:?}, expected [1, tokens, width]");
            return Err(Error::new(ErrorKind::WeightsShape, message));
        }
    };
    let mut config = match width {
        768 => BlipConfig::base(),
        1024 => BlipConfig::large(),
        _ => {
            let message = format!(
                "weights: the vision encoder has width {width}; without a config.json only 768 (base) and 1024 (large) are known"
            );
            return Err(Error::new(ErrorKind::WeightsShape, message));
        }
    };
    config.vision_config.image_size = (tokens - 1).isqrt() * config.vision_config.patch_size;
    // The original code's epsilon, which its checkpoints were trained with.
    config.vision_config.layer_norm_eps = 1e-6;
    config.validate()?;
    Ok(config)
}
