//! Directions in eight bits: what a gallery keeps of an embedding, and what a search asks with.

use super::{Gallery, bad_option};
use crate::Result;

/// The longest embedding. The sums of [`super::scan`] fit 32 bits up to here.
pub(super) const LONGEST: usize = 4096;

/// The largest code of a kept vector.
const LARGEST: f64 = 127.0;
/// The largest code of a query, in size: with [`ZERO`] added it has fourteen bits.
const FINEST: f64 = 8191.0;
/// What is added to a query's codes so that none is negative.
pub(super) const ZERO: i64 = 8192;

/// A kept vector: `scale · codes` is the direction of an embedding, at unit length.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub(super) scale: f32,
    /// −127..=127 as bytes.
    pub(super) codes: Vec<u8>,
}

impl Record {
    /// The record of an embedding `[width]` of any length but zero.
    ///
    /// Codes are the values over the largest of them, in 1/127; the scale is the least-squares fit of
    /// the codes to the direction. All of it is double precision in a fixed order: equal embeddings
    /// give equal records on every machine.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`](crate::ErrorKind::BadOption) for a vector that has no direction: zero,
    /// or not finite.
    pub fn of(vector: &[f32]) -> Result<Self> {
        let (largest, length) = measure(vector)?;
        let codes: Vec<f64> =
            vector.iter().map(|x| (f64::from(*x) / largest * LARGEST).round_ties_even()).collect();
        let along: f64 = vector.iter().zip(&codes).map(|(x, code)| f64::from(*x) * code).sum();
        let square: f64 = codes.iter().map(|code| code * code).sum();
        let scale = (along / (length * square)) as f32;
        Ok(Self { scale, codes: codes.into_iter().map(|code| code as i8 as u8).collect() })
    }

    /// The bytes that are stored: the scale as a little-endian f32, then the codes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.scale.to_le_bytes().to_vec();
        bytes.extend_from_slice(&self.codes);
        bytes
    }

    /// What [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`](crate::ErrorKind::BadOption) for bytes that are no record.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (scale, codes) =
            bytes.split_first_chunk().ok_or_else(|| bad_option("a gallery's record has no scale"))?;
        Self::from_parts(f32::from_le_bytes(*scale), codes)
    }

    pub(super) fn from_parts(scale: f32, codes: &[u8]) -> Result<Self> {
        if !(scale.is_finite() && scale >= 0.0) {
            return Err(bad_option(format!("a gallery's record has the scale {scale}")));
        }
        Ok(Self { scale, codes: codes.to_vec() })
    }
}

/// A query's direction in fourteen bits, as two parts of seven: how [`super::scan`] multiplies it.
#[derive(Debug)]
pub(super) struct Query {
    /// What one unit of a code is worth.
    pub scale: f64,
    /// The upper and the lower seven bits of each code, `[stride]`.
    pub high: Vec<u8>,
    pub low: Vec<u8>,
}

impl Query {
    /// The codes of an embedding, with zeros up to the gallery's stride.
    pub fn of(vector: &[f32], stride: usize) -> Result<Self> {
        let (largest, length) = measure(vector)?;
        let mut codes: Vec<u16> = vector
            .iter()
            .map(|x| ((f64::from(*x) / largest * FINEST).round_ties_even() as i64 + ZERO) as u16)
            .collect();
        codes.resize(stride, 0);
        Ok(Self {
            scale: largest / FINEST / length,
            high: codes.iter().map(|code| (code >> 7) as u8).collect(),
            low: codes.iter().map(|code| (code & 127) as u8).collect(),
        })
    }
}

/// The largest value in size, and the length of a vector that has a direction.
fn measure(vector: &[f32]) -> Result<(f64, f64)> {
    let mut largest = 0.0f64;
    let mut square = 0.0f64;
    for x in vector.iter().map(|x| f64::from(*x)) {
        if !x.is_finite() {
            return Err(bad_option(format!("an embedding holds {x}")));
        }
        largest = largest.max(x.abs());
        square += x * x;
    }
    if largest == 0.0 {
        return Err(bad_option("an embedding is all zeros: it has no direction"));
    }
    Ok((largest, square.sqrt()))
}

impl Gallery {
    /// The vector of an embedding of the gallery's width.
    pub(super) fn check_width(&self, found: usize) -> Result<()> {
        if found == self.width() {
            return Ok(());
        }
        let expected = self.width();
        Err(bad_option(format!("an embedding has {found} values, the gallery's have {expected}")))
    }
}
