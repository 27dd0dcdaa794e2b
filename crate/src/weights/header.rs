//! The header of a safetensors file: reading it, and writing one for tensors in an order of our own.

use std::ops::Range;

use super::checkpoint::Dtype;
use super::plan::Entry;
use crate::{Error, ErrorKind, Result};

/// The longest header that is read; that of a large model has some 100 kB.
const LONGEST: u64 = 8 << 20;

/// What a header says.
#[derive(Clone, Debug)]
pub(super) struct Header {
    /// Tensors in the order of their data, with the place of their bytes in the file.
    pub tensors: Vec<(Entry, Range<u64>)>,
    /// Length of the file.
    pub total: u64,
}

impl Header {
    /// Bytes of the header after the first eight of a file, which say so.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`] when there are no eight bytes, or no header is that long.
    pub fn length(bytes: &[u8]) -> Result<usize> {
        let first =
            bytes.first_chunk::<8>().ok_or_else(|| refused("the file ends within its first 8 bytes"))?;
        let length = u64::from_le_bytes(*first);
        if length > LONGEST {
            return Err(refused(format!("a header of {length} bytes, expected at most {LONGEST}")));
        }
        Ok(length as usize)
    }

    /// Reads the header at the beginning of `bytes`.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`].
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let end = 8 + Self::length(bytes)?;
        let text = bytes.get(8..end).ok_or_else(|| refused("the file ends within its header"))?;
        // Checks that data lies without gaps or overlaps, and has the length of its shape and type.
        let metadata: safetensors::tensor::Metadata = serde_json::from_slice(text).map_err(|e| {
            Error::new(ErrorKind::WeightsFormat, "weights: not a safetensors file").with_source(e)
        })?;
        let start = end as u64;
        let mut tensors = Vec::new();
        for (name, info) in metadata.tensors() {
            let dtype = match info.dtype {
                safetensors::Dtype::F32 => Dtype::F32,
                safetensors::Dtype::F16 => Dtype::F16,
                safetensors::Dtype::BF16 => Dtype::Bf16,
                safetensors::Dtype::F64 => Dtype::F64,
                safetensors::Dtype::I8 => Dtype::I8,
                safetensors::Dtype::U8 => Dtype::U8,
                _ => Dtype::Other,
            };
            let (from, to) = info.data_offsets;
            let range = start + from as u64..start + to as u64;
            tensors.push((Entry { name, dtype, shape: info.shape.clone() }, range));
        }
        tensors.sort_by_key(|(_, range)| (range.start, range.end));
        Ok(Self { tensors, total: start + metadata.data_len() as u64 })
    }

    /// # Errors
    /// [`ErrorKind::WeightsFormat`] when a file of `length` bytes is not what the header describes.
    pub fn check_length(&self, length: u64) -> Result<()> {
        if length == self.total {
            return Ok(());
        }
        let message = format!(
            "weights: the safetensors file has {length} bytes, its header describes {}: it is cut short or damaged",
            self.total
        );
        Err(Error::new(ErrorKind::WeightsFormat, message))
    }

    /// The bytes in front of these tensors, in this order; padded so that data begins at a multiple of 16.
    pub fn bytes(tensors: &[Entry], metadata: &[(&str, String)]) -> Vec<u8> {
        let notes: serde_json::Map<String, serde_json::Value> =
            metadata.iter().map(|(name, value)| ((*name).to_owned(), value.as_str().into())).collect();
        let mut text = format!("{{\"__metadata__\":{}", serde_json::Value::from(notes));
        let mut at = 0u64;
        for entry in tensors {
            let end = at + entry.bytes();
            let info = serde_json::json!({
                "dtype": entry.dtype.name(), "shape": entry.shape, "data_offsets": [at, end],
            });
            text += &format!(",{}:{info}", serde_json::Value::from(entry.name.as_str()));
            at = end;
        }
        text.push('}');
        while (8 + text.len()) % 16 != 0 {
            text.push(' ');
        }
        [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
    }
}

impl Entry {
    /// Bytes of the tensor, which may be more than this machine can count in its memory: a configuration
    /// allows tensors of 2³⁸ bytes, and a browser addresses 2³².
    pub(super) fn bytes(&self) -> u64 {
        let elements = self.shape.iter().fold(1u64, |elements, size| elements.saturating_mul(*size as u64));
        elements.saturating_mul(self.dtype.size() as u64)
    }
}

impl Dtype {
    /// Bytes of an element of the types that are written.
    pub(super) fn size(self) -> usize {
        match self {
            Self::F64 => 8,
            Self::F32 => 4,
            Self::F16 | Self::Bf16 => 2,
            Self::I8 | Self::U8 | Self::Other => 1,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::F64 => "F64",
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::I8 => "I8",
            Self::U8 | Self::Other => "U8",
        }
    }
}

fn refused(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::WeightsFormat, format!("weights: not a safetensors file: {why}"))
}
