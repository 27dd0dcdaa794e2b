//! From a model to tensors with the names and shapes of files.

use std::collections::BTreeMap;

use burn_store::ModuleSnapshot;

use super::checkpoint::{Checkpoint, Dtype, StoredTensor};
use super::keymap::hugging_face;
use super::schema::{Kind, parts};
use crate::model::{Blip, Med};
use crate::{Error, ErrorKind, Result};

/// A tensor by its Hugging Face name: shape and f32 values.
pub type NamedTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Every parameter of a model under its Hugging Face name, read back from the device.
///
/// # Errors
/// [`ErrorKind::Internal`] for a parameter without a name, [`ErrorKind::BadOption`] for a quantised
/// matrix, [`ErrorKind::Gpu`] when reading fails.
pub fn named_tensors(model: &Blip) -> Result<NamedTensors> {
    let mut tensors = NamedTensors::new();
    let twin = model.nlvr2.is_some();
    let shared = model.text_encoder.as_ref().is_some_and(Med::has_causal_attention);
    for tensor in model.collect(None, None, false) {
        let (path, kind) = parameter_path(&tensor.name);
        let path = if twin { of_twin(&path) } else { path };
        let shape = tensor.shape.to_vec();
        let kind = kind.unwrap_or(if shape.len() == 1 { Kind::Vector } else { Kind::Matrix });
        if path.ends_with(".codes") || path.ends_with(".scales") {
            let message = format!("weights: `{path}` is packed; only plain models are written");
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let bytes = tensor.into_bytes().map_err(|e| {
            Error::new(ErrorKind::Gpu, format!("weights: cannot read `{path}` back"))
                .with_source(e.to_string())
        })?;
        // Of the patch filters, [dim, 3·patch²], the shape tells the side of a patch.
        let patch = (shape.get(1).copied().unwrap_or(0) / 3).isqrt();
        for path in if shared { in_two_networks(path) } else { vec![path] } {
            let mut values = bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk));
            for part in parts(&path, kind, &shape, patch) {
                let name = hugging_face(&part.path).ok_or_else(|| {
                    let message = format!("weights: `{}` has no foreign name", part.path);
                    Error::new(ErrorKind::Internal, message)
                })?;
                let rows = values.by_ref().take(part.rows * part.columns).collect();
                tensors.insert(name, (part.shape, rows));
            }
        }
    }
    Ok(tensors)
}

/// The path of a parameter from the path of its field, and its kind where that tells.
fn parameter_path(field: &str) -> (String, Option<Kind>) {
    if let Some(path) = field.strip_suffix(".scale_shift") {
        return (path.to_owned(), Some(Kind::Norm));
    }
    // A linear layer holds its matrix in a field; the head's matrix has no leaf, a text's table has one.
    let path = match field.replace(".matrix.", ".") {
        path if path == "lm.decoder.weight" => "lm.decoder".to_owned(),
        path if path.ends_with(".position_embeddings") => path + ".weight",
        path => path,
    };
    (path, None)
}

/// The path of a parameter of a network with two cross-attentions, of which the fields name the second.
fn of_twin(path: &str) -> String {
    match path.split_once(".crossattention.") {
        Some((layer, rest)) => match rest.strip_prefix("twin.") {
            Some(rest) if rest.starts_with("merge.") => format!("{layer}.crossattention.{rest}"),
            Some(rest) => format!("{layer}.crossattention.second.{rest}"),
            None if rest.starts_with("layer_norm") => path.to_owned(),
            None => format!("{layer}.crossattention.first.{rest}"),
        },
        None => path.to_owned(),
    }
}

/// The paths of a parameter of a text network that encodes and decodes: files have two networks, and what
/// they share twice.
fn in_two_networks(path: String) -> Vec<String> {
    let of_decoder = path.replacen("text_encoder.", "text_decoder.", 1);
    if path.contains(".causal_attention.") {
        return vec![of_decoder.replace(".causal_attention.", ".attention.")];
    }
    if path.contains(".attention.") || of_decoder == path {
        return vec![path];
    }
    vec![path, of_decoder]
}

impl From<NamedTensors> for Checkpoint {
    /// A checkpoint in memory.
    fn from(named: NamedTensors) -> Self {
        let tensor = |(name, (shape, values)): (String, (Vec<usize>, Vec<f32>))| {
            let read = move || Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect());
            (name, StoredTensor::new(shape, Dtype::F32, read))
        };
        Self { tensors: named.into_iter().map(tensor).collect() }
    }
}
