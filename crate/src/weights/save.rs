//! From a model to a safetensors file in Hugging Face's layout.

use std::collections::BTreeMap;

use burn_store::{BurnToPyTorchAdapter, ModuleSnapshot};
use half::f16;
use safetensors::tensor::TensorView;

use super::checkpoint::Dtype;
use super::keymap::hugging_face;
use crate::model::Blip;
use crate::{Error, ErrorKind, Result};

/// A tensor by its Hugging Face name: shape and f32 values.
pub type NamedTensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Every parameter of a model under its Hugging Face name, read back from the device.
///
/// # Errors
/// [`ErrorKind::Internal`] for a parameter without a name, [`ErrorKind::Gpu`] when reading fails.
pub fn named_tensors(model: &Blip) -> Result<NamedTensors> {
    let mut tensors = NamedTensors::new();
    for tensor in model.collect(None, Some(Box::new(BurnToPyTorchAdapter)), false) {
        let path = tensor.name.clone();
        let path = path.strip_suffix("lm.bias.bias").map_or(path.as_str(), |_| "lm.bias");
        let name = hugging_face(path).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("weights: `{path}` has no foreign name"))
        })?;
        let shape = tensor.shape.to_vec();
        let bytes = tensor.into_bytes().map_err(|e| {
            Error::new(ErrorKind::Gpu, format!("weights: cannot read `{path}` back"))
                .with_source(e.to_string())
        })?;
        let values = bytes.as_chunks::<4>().0.iter().map(|chunk| f32::from_le_bytes(*chunk)).collect();
        tensors.insert(name, (shape, values));
    }
    Ok(tensors)
}

/// A safetensors file with all tensors as `dtype` (f32 or f16), tables and norms included.
///
/// `patch` is the side of a patch: the patch projection is written as the convolution kernel that
/// other readers expect.
///
/// # Errors
/// [`ErrorKind::WeightsNotFinite`] when a value does not fit the type, [`ErrorKind::BadOption`]
/// for a type that is not written here.
pub fn to_safetensors(tensors: &NamedTensors, patch: usize, dtype: Dtype) -> Result<Vec<u8>> {
    let mut encoded = Vec::with_capacity(tensors.len());
    for (name, (shape, values)) in tensors {
        let mut shape = shape.clone();
        if name == "vision_model.embeddings.patch_embedding.weight" && shape.len() == 2 {
            shape = vec![shape[0], 3, patch, patch];
        }
        encoded.push((name, shape, encode(name, values, dtype)?));
    }
    let stored = if dtype == Dtype::F16 { safetensors::Dtype::F16 } else { safetensors::Dtype::F32 };
    let internal = |e| Error::new(ErrorKind::Internal, "weights: cannot lay out the file").with_source(e);
    let views = encoded
        .iter()
        .map(|(name, shape, bytes)| TensorView::new(stored, shape.clone(), bytes).map(|view| (*name, view)))
        .collect::<std::result::Result<Vec<_>, _>>()
        .map_err(internal)?;
    let format = [("format".to_owned(), "pt".to_owned())].into_iter().collect();
    safetensors::serialize(views, Some(format)).map_err(internal)
}

fn encode(name: &str, values: &[f32], dtype: Dtype) -> Result<Vec<u8>> {
    match dtype {
        Dtype::F32 => Ok(values.iter().flat_map(|value| value.to_le_bytes()).collect()),
        Dtype::F16 => {
            let mut bytes = Vec::with_capacity(values.len() * 2);
            for value in values {
                let half = f16::from_f32(*value);
                if !half.is_finite() {
                    let message =
                        format!("weights: `{name}` holds {value}, which f16 cannot hold: convert to f32");
                    return Err(Error::new(ErrorKind::WeightsNotFinite, message));
                }
                bytes.extend(half.to_le_bytes());
            }
            Ok(bytes)
        }
        other => Err(Error::new(ErrorKind::BadOption, format!("dtype {other:?}: expected f32 or f16"))),
    }
}
