//! A checkpoint as a table of named tensors whose bytes are read when they are asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use half::{bf16, f16};

use super::header::Header;
use super::plan::Entry;
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
    /// Signed bytes: the codes of a q8 matrix.
    I8,
    /// Bytes: the codes of a q4 matrix, two in each.
    U8,
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
        let values = to_f32(self.dtype, &self.bytes()?)?;
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

/// Little-endian numbers as f32.
pub(super) fn to_f32(dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    Ok(match dtype {
        Dtype::F32 => map_chunks(bytes, f32::from_le_bytes),
        Dtype::F16 => map_chunks(bytes, |b| f16::from_le_bytes(b).to_f32()),
        Dtype::Bf16 => map_chunks(bytes, |b| bf16::from_le_bytes(b).to_f32()),
        Dtype::F64 => map_chunks(bytes, |b| f64::from_le_bytes(b) as f32),
        Dtype::I8 | Dtype::U8 | Dtype::Other => {
            return Err(Error::new(
                ErrorKind::WeightsShape,
                "weights: the element type is not a float (f32, f16, bf16 or f64)",
            ));
        }
    })
}

fn map_chunks<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Vec<f32> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect()
}

impl Checkpoint {
    /// What the file says about its tensors.
    pub fn entries(&self) -> Vec<Entry> {
        let entry = |(name, tensor): (&String, &StoredTensor)| Entry {
            name: name.clone(),
            dtype: tensor.dtype,
            shape: tensor.shape.clone(),
        };
        self.tensors.iter().map(entry).collect()
    }

    /// The tensors of a safetensors file.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`] when the header or the length of the file is wrong.
    pub fn from_safetensors(bytes: Vec<u8>) -> Result<Self> {
        let header = Header::parse(&bytes)?;
        header.check_length(bytes.len() as u64)?;
        let bytes = Arc::new(bytes);
        Ok(Self::from_header(&header, |start, len| {
            let file = Arc::clone(&bytes);
            move || {
                let range = file.get(start as usize..start as usize + len).map(<[u8]>::to_vec);
                range.ok_or_else(|| {
                    Error::new(ErrorKind::WeightsFormat, "weights: a tensor lies outside its file")
                })
            }
        }))
    }

    /// The tensors of a header; `reader` makes what reads so many bytes from a place in the file.
    fn from_header<R>(header: &Header, reader: impl Fn(u64, usize) -> R) -> Self
    where
        R: Fn() -> Result<Vec<u8>> + Send + Sync + 'static,
    {
        let tensor = |(entry, range): &(Entry, std::ops::Range<u64>)| {
            let read = reader(range.start, (range.end - range.start) as usize);
            (entry.name.clone(), StoredTensor::new(entry.shape.clone(), entry.dtype, read))
        };
        Self { tensors: header.tensors.iter().map(tensor).collect() }
    }

    /// The tensors of a file: `.safetensors`, or what `torch.save` wrote (`.bin`, `.pth`, `.pt`). Their
    /// bytes stay in the file until they are asked for.
    ///
    /// Nothing in a pickle is executed: the reader interprets tensors only.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::WeightsFormat`].
    #[cfg(feature = "cli")]
    pub fn open(path: &std::path::Path) -> Result<Self> {
        if path.extension().is_some_and(|extension| extension == "safetensors") {
            return Self::open_safetensors(path);
        }
        Self::open_pytorch(path)
    }

    #[cfg(feature = "cli")]
    fn open_safetensors(path: &std::path::Path) -> Result<Self> {
        use std::io::{Read as _, Seek as _, SeekFrom};
        use std::sync::Mutex;

        let shown = path.display().to_string();
        let fail = move |e: std::io::Error| {
            // A file that changed under us is no different from one that was cut short.
            let kind = match e.kind() {
                std::io::ErrorKind::UnexpectedEof => ErrorKind::WeightsFormat,
                _ => ErrorKind::Io,
            };
            Error::new(kind, format!("cannot read `{shown}`")).with_source(e)
        };
        let mut file = std::fs::File::open(path).map_err(&fail)?;
        let total = file.metadata().map_err(&fail)?.len();
        let mut start = Vec::new();
        file.by_ref().take(8).read_to_end(&mut start).map_err(&fail)?;
        let rest = Header::length(&start)?;
        file.by_ref().take(rest as u64).read_to_end(&mut start).map_err(&fail)?;
        let header = Header::parse(&start)?;
        header.check_length(total)?;
        let file = Arc::new(Mutex::new(file));
        Ok(Self::from_header(&header, |start, len| {
            let (file, fail) = (Arc::clone(&file), fail.clone());
            move || {
                let mut bytes = vec![0; len];
                let mut file = file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                file.seek(SeekFrom::Start(start)).map_err(&fail)?;
                file.read_exact(&mut bytes).map_err(&fail)?;
                Ok(bytes)
            }
        }))
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
