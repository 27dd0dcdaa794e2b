//! What the tensors of a part hold, checked.

use half::f16;

use super::checkpoint::{Dtype, to_f32};
use super::plan::{Field, SCALES, format_of};
use super::quantise::{group_of, row_sizes};
use super::schema::Part;
use crate::kernels::{Format, Stored};
use crate::{Error, ErrorKind, Result};

/// Room for the bytes of a tensor, as many as a file says it has.
///
/// # Errors
/// [`ErrorKind::OutOfMemory`].
pub(super) fn room(bytes: u64) -> Result<Vec<u8>> {
    let mut room = Vec::new();
    let fits = usize::try_from(bytes).is_ok_and(|bytes| room.try_reserve_exact(bytes).is_ok());
    if fits {
        return Ok(room);
    }
    let message = format!("weights: no memory for a tensor of {bytes} bytes");
    Err(Error::new(ErrorKind::OutOfMemory, message))
}

/// What is there of a part.
#[derive(Debug, Default)]
pub(super) struct Piece {
    floats: Option<Vec<f32>>,
    codes: Option<Vec<u8>>,
    scales: Option<Vec<f16>>,
}

impl Piece {
    /// Reads one tensor of a part.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsNotFinite`] and [`ErrorKind::WeightsFormat`], naming the tensor.
    pub fn read(part: &Part, field: Field, dtype: Dtype, bytes: Vec<u8>) -> Result<Self> {
        let mut piece = Self::default();
        match (field, format_of(dtype)) {
            (Field::Scales, _) => piece.scales = Some(scales(part, &bytes)?),
            (Field::Values, Some(format @ (Format::Q8 | Format::Q4))) => {
                check_codes(part, format, &bytes)?;
                piece.codes = Some(bytes);
            }
            (Field::Values, _) => piece.floats = Some(floats(part, dtype, &bytes)?),
        }
        Ok(piece)
    }

    /// Whether all of the part is there.
    pub fn is_whole(&self) -> bool {
        self.floats.is_some() || (self.codes.is_some() && self.scales.is_some())
    }

    /// Whether it is kept in the memory that it came in.
    pub fn is_as_it_came(&self) -> bool {
        self.codes.is_some()
    }

    /// Bytes of host memory.
    pub fn bytes(&self) -> usize {
        self.floats.as_ref().map_or(0, |floats| size_of_val(floats.as_slice()))
            + self.codes.as_ref().map_or(0, Vec::len)
            + self.scales.as_ref().map_or(0, |scales| size_of_val(scales.as_slice()))
    }

    /// Adds what another tensor holds of the same part.
    pub fn merge(&mut self, other: Self) {
        self.floats = self.floats.take().or(other.floats);
        self.codes = self.codes.take().or(other.codes);
        self.scales = self.scales.take().or(other.scales);
    }

    /// The numbers of a float part.
    pub fn into_floats(self) -> Vec<f32> {
        self.floats.unwrap_or_default()
    }

    /// The rows of a matrix. Only whole pieces come here.
    pub fn stored(self, part: &Part) -> Stored {
        let (outputs, inputs) = (part.rows, part.columns);
        let (Some(codes), Some(scales)) = (self.codes, self.scales) else {
            return Stored::Float { values: self.floats.unwrap_or_default(), shape: [outputs, inputs] };
        };
        let q4 = codes.len() == outputs * row_sizes(Format::Q4, inputs).0;
        let format = if q4 { Format::Q4 } else { Format::Q8 };
        Stored::Quantised { format, group: group_of(format, inputs), outputs, inputs, codes, scales }
    }
}

fn floats(part: &Part, dtype: Dtype, bytes: &[u8]) -> Result<Vec<f32>> {
    let values = to_f32(dtype, bytes)?;
    if values.len() != part.rows * part.columns {
        let message = format!("weights: `{}` is cut short: {} values", part.path, values.len());
        return Err(Error::new(ErrorKind::WeightsFormat, message));
    }
    match values.iter().position(|value| !value.is_finite()) {
        None => Ok(values),
        Some(index) => Err(not_finite(&part.path, values[index], index)),
    }
}

fn scales(part: &Part, bytes: &[u8]) -> Result<Vec<f16>> {
    let scales: Vec<f16> = bytes.as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair)).collect();
    let name = format!("{}{}", part.path, SCALES);
    match scales.iter().position(|scale| !scale.is_finite() || scale.to_f32() < 0.0) {
        None => Ok(scales),
        Some(index) if scales[index].is_finite() => {
            let message = format!(
                "weights: `{name}` holds {} at element {index}, expected no negative scale",
                scales[index]
            );
            Err(Error::new(ErrorKind::WeightsFormat, message))
        }
        Some(index) => Err(not_finite(&name, scales[index].to_f32(), index)),
    }
}

fn not_finite(name: &str, value: f32, index: usize) -> Error {
    let message = format!("weights: `{name}` holds {value} at element {index}, expected finite numbers");
    Error::new(ErrorKind::WeightsNotFinite, message)
}

/// Codes that no matrix has: -128, and padding that is not zero.
fn check_codes(part: &Part, format: Format, bytes: &[u8]) -> Result<()> {
    let refuse = |what: String| {
        Err(Error::new(ErrorKind::WeightsFormat, format!("weights: `{}` holds {what}", part.path)))
    };
    let (row, _) = row_sizes(format, part.columns);
    if bytes.len() != part.rows * row {
        return refuse(format!("{} bytes: it is cut short", bytes.len()));
    }
    // Of a q4 byte that is half padding, the high nibble is.
    let (used, zero) = match format {
        Format::Q4 => (part.columns / 2, 0x88),
        _ => (part.columns, 0),
    };
    if format == Format::Q8
        && let Some(index) = bytes.iter().position(|code| *code == 0x80)
    {
        return refuse(format!("the reserved code -128 at element {index}"));
    }
    for (index, row) in bytes.chunks_exact(row).enumerate() {
        let half = format == Format::Q4 && part.columns % 2 == 1;
        let split = half && row[used] & 0xF0 != 0x80;
        if split || row[used + usize::from(half)..].iter().any(|code| *code != zero) {
            return refuse(format!("padding that is not zero in row {index}"));
        }
    }
    Ok(())
}
