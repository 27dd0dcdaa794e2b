//! From a checkpoint to a model, strictly.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use burn::tensor::{Bytes, DType, Device};
use burn_store::burn_pack::{Error as PackError, Tensor as PackTensor};
use burn_store::{ApplyError, ModuleSnapshot, PyTorchToBurnAdapter};

use super::checkpoint::{Checkpoint, StoredTensor};
use super::keymap::{Meaning, meaning};
use crate::config::BlipConfig;
use crate::model::{Blip, DecoderNetwork, Networks};
use crate::{Error, ErrorKind, Result};

/// Our parameter paths and the tensors stored for them.
type Parameters = BTreeMap<String, StoredTensor>;

/// Which networks a checkpoint holds.
///
/// # Errors
/// [`ErrorKind::WeightsUnknown`] for names that belong to no BLIP model.
pub fn find_networks(checkpoint: &Checkpoint) -> Result<Networks> {
    networks_of(&parameters(checkpoint)?)
}

/// A model of this configuration with the weights of the checkpoint, on `device`.
///
/// # Errors
/// [`ErrorKind::WeightsUnknown`], [`ErrorKind::WeightsMissing`], [`ErrorKind::WeightsShape`] and
/// [`ErrorKind::WeightsNotFinite`] name the tensors concerned; [`ErrorKind::WeightsFormat`] when
/// the file cannot be read.
pub fn load(config: &BlipConfig, checkpoint: &Checkpoint, device: &Device) -> Result<(Blip, Networks)> {
    config.validate()?;
    let mut parameters = parameters(checkpoint)?;
    let networks = networks_of(&parameters)?;
    if networks.tied_lm {
        parameters.remove("lm.decoder");
    }
    if networks.decoder == Some(DecoderNetwork::Shared) {
        share_decoder(&mut parameters);
    }
    let failure = Arc::new(Mutex::new(None));
    let tensors = parameters.into_iter().map(|(path, tensor)| pack(path, tensor, &failure)).collect();
    let mut model = Blip::init(config, &networks, device);
    let result = model.apply(tensors, None, Some(Box::new(PyTorchToBurnAdapter)), false);
    if let Some(error) = failure.lock().ok().and_then(|mut failure| failure.take()) {
        return Err(error);
    }
    let shapes: Vec<String> = result.errors.iter().map(describe).collect();
    let missing: Vec<String> = result.missing.into_iter().map(|(path, _)| path).collect();
    for (kind, verb, names) in [
        (ErrorKind::WeightsShape, "do not fit the configuration", shapes),
        (ErrorKind::WeightsMissing, "are missing", missing),
        (ErrorKind::WeightsUnknown, "belong to no part of this model", result.unused),
    ] {
        if !names.is_empty() {
            return Err(Error::new(
                kind,
                format!("weights: {} tensors {verb}: {}", names.len(), list(&names)),
            ));
        }
    }
    Ok((model, networks))
}

/// The parameters of a checkpoint under our names.
///
/// A parameter may be stored under two names (an alias, or both layouts in one file) if the values
/// are the same; which of two different ones was meant, nobody can know.
fn parameters(checkpoint: &Checkpoint) -> Result<Parameters> {
    let mut parameters = Parameters::new();
    let mut names: BTreeMap<String, &str> = BTreeMap::new();
    let mut unknown = Vec::new();
    for (name, tensor) in &checkpoint.tensors {
        match meaning(name) {
            Meaning::Parameter(path) => {
                if let Some(other) = names.insert(path.clone(), name)
                    && !same_values(tensor, &parameters[&path])?
                {
                    let message =
                        format!("weights: `{other}` and `{name}` are one parameter with different values");
                    return Err(Error::new(ErrorKind::WeightsFormat, message));
                }
                parameters.insert(path, tensor.clone());
            }
            Meaning::Ignored => {}
            Meaning::Unknown => unknown.push(name.clone()),
        }
    }
    if unknown.is_empty() {
        return Ok(parameters);
    }
    let message = format!("weights: {} tensors belong to no BLIP model: {}", unknown.len(), list(&unknown));
    Err(Error::new(ErrorKind::WeightsUnknown, message))
}

fn same_values(a: &StoredTensor, b: &StoredTensor) -> Result<bool> {
    Ok(a.shape == b.shape && a.dtype == b.dtype && a.bytes()? == b.bytes()?)
}

fn networks_of(parameters: &Parameters) -> Result<Networks> {
    let has = |prefix: &str| parameters.keys().any(|path| path.starts_with(prefix));
    let same = |a: &str, b: &str| -> Result<bool> {
        match (parameters.get(a), parameters.get(b)) {
            (Some(a), Some(b)) => same_values(a, b),
            _ => Ok(false),
        }
    };
    let text_encoder = has("text_encoder.");
    let ffn = "layers.0.ffn.intermediate.weight";
    let decoder = if !has("text_decoder.") && !has("lm.") {
        None
    } else if text_encoder && same(&format!("text_encoder.{ffn}"), &format!("text_decoder.{ffn}"))? {
        Some(DecoderNetwork::Shared)
    } else {
        let key = "text_decoder.layers.0.crossattention.key.weight";
        let grounding_width = parameters.get(key).and_then(|tensor| tensor.shape.get(1).copied());
        let missing =
            || Error::new(ErrorKind::WeightsMissing, format!("weights: 1 tensors are missing: {key}"));
        Some(DecoderNetwork::Own { grounding_width: grounding_width.ok_or_else(missing)?.max(1) })
    };
    let stored_head = parameters.contains_key("lm.decoder");
    let tied_lm = !stored_head || same("lm.decoder", "text_decoder.word_embeddings.weight")?;
    Ok(Networks { text_encoder, decoder, tied_lm, itc: has("itc."), itm: has("itm.") })
}

/// Moves the decoder's self-attention beside the encoder's and drops the copies of what is shared.
fn share_decoder(parameters: &mut Parameters) {
    let decoder: Vec<String> =
        parameters.keys().filter(|path| path.starts_with("text_decoder.")).cloned().collect();
    for path in decoder {
        let tensor = parameters.remove(&path);
        if let (Some(tensor), true) = (tensor, path.contains(".attention.")) {
            let path =
                path.replace("text_decoder.", "text_encoder.").replace(".attention.", ".causal_attention.");
            parameters.insert(path, tensor);
        }
    }
}

/// A tensor for the model, its values converted to f32 and checked when the model asks for them.
fn pack(path: String, tensor: StoredTensor, failure: &Arc<Mutex<Option<Error>>>) -> PackTensor {
    let mut shape = tensor.shape.clone();
    if path == "vision.patch_embedding.weight" && shape.len() == 4 {
        // A convolution kernel [dim, channel, y, x] is a matrix over flattened patches.
        shape = vec![shape[0], shape[1] * shape[2] * shape[3]];
    }
    let (label, failure) = (path.clone(), Arc::clone(failure));
    let read = move || {
        let values = tensor.to_f32().and_then(|values| finite(&label, values));
        values.map(Bytes::from_elems).map_err(|error| {
            if let Ok(mut slot) = failure.lock() {
                slot.get_or_insert(error);
            }
            PackError::ValidationError(format!("weights: cannot read `{label}`"))
        })
    };
    let len = shape.iter().product::<usize>() * size_of::<f32>();
    PackTensor::deferred(path, DType::F32, shape, None, len, read)
}

fn finite(path: &str, values: Vec<f32>) -> Result<Vec<f32>> {
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => Err(Error::new(
            ErrorKind::WeightsNotFinite,
            format!("weights: `{path}` holds {} at element {index}, expected finite numbers", values[index]),
        )),
    }
}

fn describe(error: &ApplyError) -> String {
    match error {
        ApplyError::ShapeMismatch { path, expected, found } => {
            // Linear weights are stored transposed; say the shapes the file's author knows.
            format!("{path} has the shape {found:?}, expected {expected:?} (in the model's order)")
        }
        other => other.to_string(),
    }
}

/// The first few names, and how many more there are.
fn list(names: &[String]) -> String {
    const SHOWN: usize = 8;
    let mut text = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > SHOWN {
        text += &format!(" and {} more", names.len() - SHOWN);
    }
    text
}
