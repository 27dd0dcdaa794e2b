//! From a checkpoint to the container of `models/`: a safetensors file with Hugging Face's names, a
//! vocabulary and the `blip.json` that describes both.

use crate::config::BlipConfig;
use crate::weights::keymap::{Meaning, hugging_face, meaning};
use crate::weights::manifest::{FileEntry, Files};
use crate::weights::{
    Checkpoint, Dtype, Manifest, NamedTensors, StoredTensor, find_networks, to_safetensors,
};
use crate::{Error, ErrorKind, Result};

/// What a model directory says about itself, apart from its files.
#[derive(Clone, Debug)]
pub struct ModelDirectory {
    /// Name of the model.
    pub id: String,
    /// Dimensions.
    pub config: BlipConfig,
    /// Tasks it was trained for.
    pub tasks: Vec<String>,
    /// SPDX expression.
    pub licence: String,
    /// What it knows, for a page to show.
    pub knows: Option<serde_json::Value>,
}

/// A checkpoint in our container's layout.
#[derive(Clone, Debug)]
pub struct Converted {
    /// Tensors by Hugging Face's names.
    pub tensors: NamedTensors,
    /// Tasks that the networks in it serve.
    pub tasks: Vec<String>,
    /// What was in the file and is not in the container: aliases and left-overs of training.
    pub dropped: Vec<String>,
}

/// Renames the tensors of a checkpoint of either layout and drops what is no parameter.
///
/// # Errors
/// What [`crate::weights::load`] would find wrong with names; values are checked there too.
pub fn convert(checkpoint: &Checkpoint, config: &BlipConfig) -> Result<Converted> {
    // Loading on the CPU is the strictest check there is: every name, shape and value.
    crate::weights::load(config, checkpoint, &burn::tensor::Device::flex())?;
    let networks = find_networks(checkpoint)?;
    let mut converted = Converted {
        tensors: NamedTensors::new(),
        tasks: networks.tasks().into_iter().map(str::to_owned).collect(),
        dropped: Vec::new(),
    };
    for (name, tensor) in &checkpoint.tensors {
        match meaning(name) {
            Meaning::Parameter(path) if !(path == "lm.decoder" && networks.tied_lm) => {
                let name = hugging_face(&path).ok_or_else(|| {
                    Error::new(ErrorKind::Internal, format!("weights: `{path}` has no foreign name"))
                })?;
                converted.tensors.insert(name, (tensor.shape.clone(), tensor.to_f32()?));
            }
            _ => converted.dropped.push(name.clone()),
        }
    }
    Ok(converted)
}

/// The files of a model directory: names and bytes.
///
/// # Errors
/// As [`to_safetensors`].
pub fn assemble(
    directory: &ModelDirectory,
    tensors: &NamedTensors,
    vocab: &[u8],
    dtype: Dtype,
) -> Result<Vec<(&'static str, Vec<u8>)>> {
    const WEIGHTS: &str = "model.safetensors";
    const VOCAB: &str = "vocab.txt";
    let weights = to_safetensors(tensors, directory.config.vision_config.patch_size, dtype)?;
    let manifest = Manifest {
        format_version: Manifest::FORMAT_VERSION,
        id: directory.id.clone(),
        tasks: directory.tasks.clone(),
        config: directory.config.clone(),
        files: Files { weights: FileEntry::of(WEIGHTS, &weights), vocab: FileEntry::of(VOCAB, vocab) },
        dtype: if dtype == Dtype::F16 { "f16" } else { "f32" }.to_owned(),
        licence: directory.licence.clone(),
        knows: directory.knows.clone(),
    };
    let json = serde_json::to_string_pretty(&manifest)
        .map_err(|e| Error::new(ErrorKind::Internal, "manifest: cannot be written").with_source(e))?;
    Ok(vec![(WEIGHTS, weights), (VOCAB, vocab.to_vec()), ("blip.json", (json + "\n").into_bytes())])
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
