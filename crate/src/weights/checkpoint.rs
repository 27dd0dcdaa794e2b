//! A checkpoint as a table of named tensors whose bytes are read when they are asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use half::{bf16, f16};
use safetensors::SafeTensors;

use crate::{Error, ErrorKind, Result};

/// The tensors of a file, by their name in that file.
#[derive(Clone, Debug, Default)]
pub struct Checkpoint {
    /// Name to tensor.
    pub tensors: BTreeMap<String, StoredTensor>,
}

/// Element types that weights come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// 32-bit float.
    F32,
    /// IEEE half.
    F16,
    /// bfloat16.
    Bf16,
    /// 64-bit float.
    F64,
    /// Anything else: counters and position ids, which are never weights.
    Other,
}

type ReadBytes = Arc<dyn Fn() -> Result<Vec<u8>> + Send + Sync>;

/// A tensor whose bytes are still in its file.
#[derive(Clone)]
pub struct StoredTensor {
    /// Dimensions, outermost first.
    pub shape: Vec<usize>,
    /// Element type in the file.
    pub dtype: Dtype,
    read: ReadBytes,
}

impl fmt::Debug for StoredTensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.dtype, self.shape)
    }
}

impl StoredTensor {
    /// A tensor whose little-endian bytes `read` produces.
    pub fn new(
        shape: Vec<usize>,
        dtype: Dtype,
        read: impl Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
    ) -> Self {
        Self { shape, dtype, read: Arc::new(read) }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The little-endian bytes as stored.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`] when the file ends early.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        (self.read)()
    }

    /// The values as f32; exact for every float type but f64.
    ///
    /// # Errors
    /// As [`bytes`](Self::bytes), and [`ErrorKind::WeightsShape`] for an element type that is not
    /// a float.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let bytes = self.bytes()?;
        let values: Vec<f32> = match self.dtype {
            Dtype::F32 => map_chunks(&bytes, f32::from_le_bytes),
            Dtype::F16 => map_chunks(&bytes, |b| f16::from_le_bytes(b).to_f32()),
            Dtype::Bf16 => map_chunks(&bytes, |b| bf16::from_le_bytes(b).to_f32()),
            Dtype::F64 => map_chunks(&bytes, |b| f64::from_le_bytes(b) as f32),
            Dtype::Other => {
                return Err(Error::new(
                    ErrorKind::WeightsShape,
                    "weights: the element type is not a float (f32, f16, bf16 or f64)",
                ));
            }
        };
        if values.len() != self.elements() {
            let message = format!(
                "weights: {} values for the shape {:?}: the file is cut short",
                values.len(),
                self.shape
            );
            return Err(Error::new(ErrorKind::WeightsFormat, message));
        }
        Ok(values)
    }
}

fn map_chunks<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
}

impl Checkpoint {
    /// The tensors of a safetensors file.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`] when the header or the length of the file is wrong.
    pub fn from_safetensors(bytes: Vec<u8>) -> Result<Self> {
        let bytes = Arc::new(bytes);
        let format =
            |e| Error::new(ErrorKind::WeightsFormat, "weights: not a safetensors file").with_source(e);
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(format)?;
        // Eight bytes of header length, the header, then the tensors.
        let (start, total) = (header + 8, header + 8 + metadata.data_len());
        if bytes.len() != total {
            let message = format!(
                "weights: the safetensors file has {} bytes, its header describes {total}: it is cut short or damaged",
                bytes.len()
            );
            return Err(Error::new(ErrorKind::WeightsFormat, message));
        }
        let mut tensors = BTreeMap::new();
        for (name, info) in metadata.tensors() {
            let dtype = match info.dtype {
                safetensors::Dtype::F32 => Dtype::F32,
                safetensors::Dtype::F16 => Dtype::F16,
                safetensors::Dtype::BF16 => Dtype::Bf16,
                safetensors::Dtype::F64 => Dtype::F64,
                _ => Dtype::Other,
            };
            let range = start + info.data_offsets.0..start + info.data_offsets.1;
            let file = Arc::clone(&bytes);
            let read = move || {
                file.get(range.clone()).map(<[u8]>::to_vec).ok_or_else(|| {
                    Error::new(ErrorKind::WeightsFormat, "weights: a tensor lies outside its file")
                })
            };
            tensors.insert(name, StoredTensor::new(info.shape.clone(), dtype, read));
        }
        Ok(Self { tensors })
    }

    /// The tensors of a file: `.safetensors`, or what `torch.save` wrote (`.bin`, `.pth`, `.pt`).
    ///
    /// Nothing in a pickle is executed: the reader interprets tensors only.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::WeightsFormat`].
    #[cfg(feature = "cli")]
    pub fn open(path: &std::path::Path) -> Result<Self> {
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            let bytes = std::fs::read(path).map_err(|e| {
                Error::new(ErrorKind::Io, format!("cannot read `{}`", path.display())).with_source(e)
            })?;
            return Self::from_safetensors(bytes);
        }
        Self::open_pytorch(path)
    }

    #[cfg(feature = "cli")]
    fn open_pytorch(path: &std::path::Path) -> Result<Self> {
        use burn_store::pytorch_reader::{DType as TorchDtype, PytorchError, PytorchReader};

        let fail = |e: PytorchError| {
            let kind =
                if matches!(e, PytorchError::Io(_)) { ErrorKind::Io } else { ErrorKind::WeightsFormat };
            Error::new(kind, format!("weights: cannot read `{}` as a PyTorch file", path.display()))
                .with_source(e)
        };
        // The original files keep the weights under `model`; Hugging Face's are flat.
        let reader = match PytorchReader::with_top_level_key(path, "model") {
            Err(PytorchError::KeyNotFound(_)) => PytorchReader::new(path).map_err(fail)?,
            other => other.map_err(fail)?,
        };
        let mut tensors = BTreeMap::new();
        for (name, tensor) in reader.into_tensors() {
            let dtype = match tensor.dtype() {
                TorchDtype::F32 => Dtype::F32,
                TorchDtype::F16 => Dtype::F16,
                TorchDtype::BF16 => Dtype::Bf16,
                TorchDtype::F64 => Dtype::F64,
                _ => Dtype::Other,
            };
            let shape = tensor.shape().to_vec();
            let label = name.clone();
            let read = move || {
                tensor.read().map_err(|e| {
                    Error::new(ErrorKind::WeightsFormat, format!("weights: cannot read `{label}`"))
                        .with_source(e)
                })
            };
            tensors.insert(name, StoredTensor::new(shape, dtype, read));
        }
        Ok(Self { tensors })
    }
}
