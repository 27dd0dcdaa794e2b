//! A checkpoint as a table of named tensors whose bytes are read when they are asked for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use half::{bf16, f16};

#[cfg(feature = "cli")]
use super::archive::{LOCAL, before_data, refused};
use super::header::Header;
#[cfg(feature = "cli")]
use super::piece::room;
use super::plan::Entry;
#[cfg(feature = "cli")]
use super::survey::{Located, Survey};
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
        let tensor = |(entry, range): (Entry, std::ops::Range<u64>)| {
            let file = Arc::clone(&bytes);
            let read = move || {
                let bytes = file.get(range.start as usize..range.end as usize).map(<[u8]>::to_vec);
                bytes.ok_or_else(|| {
                    Error::new(ErrorKind::WeightsFormat, "weights: a tensor lies outside its file")
                })
            };
            (entry.name, StoredTensor::new(entry.shape, entry.dtype, read))
        };
        Ok(Self { tensors: header.tensors.into_iter().map(tensor).collect() })
    }

    /// The tensors of a file: `.safetensors`, or what `torch.save` wrote (`.bin`, `.pth`, `.pt`). Their
    /// bytes stay in the file until they are asked for.
    ///
    /// Nothing in a pickle is executed: the reader interprets tensors only.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] and [`ErrorKind::WeightsFormat`], naming the file.
    #[cfg(feature = "cli")]
    pub fn open(path: &std::path::Path) -> Result<Self> {
        let shown = path.display().to_string();
        let file = LocalFile::open(path)
            .map_err(|e| Error::new(ErrorKind::Io, format!("cannot read `{shown}`")).with_source(e))?;
        let survey = Survey::new(&shown, file.total);
        let tensors = file.locate(survey).map_err(|error| match error.kind() {
            ErrorKind::WeightsFormat => {
                Error::new(ErrorKind::WeightsFormat, format!("weights: cannot read `{shown}`"))
                    .with_source(error)
            }
            _ => error,
        })?;
        let file = Arc::new(file);
        let tensor = |(entry, range): (Entry, std::ops::Range<u64>)| {
            let file = Arc::clone(&file);
            let read = move || file.read(range.clone());
            (entry.name, StoredTensor::new(entry.shape, entry.dtype, read))
        };
        Ok(Self { tensors: tensors.into_iter().map(tensor).collect() })
    }
}

/// A file that ranges are read from.
#[cfg(feature = "cli")]
struct LocalFile {
    shown: String,
    total: u64,
    file: std::sync::Mutex<std::fs::File>,
}

#[cfg(feature = "cli")]
impl LocalFile {
    fn open(path: &std::path::Path) -> std::io::Result<Self> {
        let file = std::fs::File::open(path)?;
        let total = file.metadata()?.len();
        Ok(Self { shown: path.display().to_string(), total, file: std::sync::Mutex::new(file) })
    }

    fn read(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        use std::io::{Read as _, Seek as _, SeekFrom};

        let fail = |e: std::io::Error| {
            // A file that changed under us is no different from one that was cut short.
            let kind = match e.kind() {
                std::io::ErrorKind::UnexpectedEof => ErrorKind::WeightsFormat,
                _ => ErrorKind::Io,
            };
            Error::new(kind, format!("cannot read `{}`", self.shown)).with_source(e)
        };
        let length = range.end - range.start;
        let mut bytes = room(length)?;
        let mut file = self.file.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        file.seek(SeekFrom::Start(range.start)).map_err(fail)?;
        (&mut *file).take(length).read_to_end(&mut bytes).map_err(fail)?;
        match bytes.len() as u64 == length {
            true => Ok(bytes),
            false => Err(fail(std::io::ErrorKind::UnexpectedEof.into())),
        }
    }

    /// The tensors, and their bytes in the file.
    fn locate(&self, mut survey: Survey) -> Result<Vec<(Entry, std::ops::Range<u64>)>> {
        while let Some(range) = survey.wants() {
            survey.give(&self.read(range)?)?;
        }
        let layout = survey.layout()?;
        let mut data = Vec::with_capacity(layout.regions.len());
        for region in &layout.regions {
            data.push(if region.has_header {
                let header = self.read(region.start..region.start + LOCAL as u64)?;
                region.start + before_data(&header)? as u64
            } else {
                region.start
            });
            if data[data.len() - 1] + region.size > region.limit {
                return Err(refused("an entry overlaps what follows it"));
            }
        }
        let place = |tensor: Located| {
            let start = data[tensor.region];
            (tensor.entry, start + tensor.range.start..start + tensor.range.end)
        };
        Ok(layout.tensors.into_iter().map(place).collect())
    }
}
