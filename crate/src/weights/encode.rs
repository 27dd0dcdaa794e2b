//! The bytes of stored tensors: what is written for a part of a parameter, row by row.
//!
//! Conversions of whole files and of streams both write through here, so a tensor has the same bytes
//! whichever way it came.

use half::f16;
use serde::Serialize;

use super::checkpoint::Dtype;
use super::header::Header;
use super::keymap::hugging_face;
use super::manifest::{Manifest, Precision, Quantisation};
use super::piece::room;
use super::plan::{Entry, SCALES};
use super::quantise::{dequantise, quantise, row_sizes};
use super::schema::{Kind, Parameter, Part};
use crate::kernels::{Format, Stored};
use crate::{Error, ErrorKind, Result};

/// What tensors are aligned to.
const ALIGNMENT: u64 = 16;

/// A part of a parameter, and the tensors that are written for it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub part: Part,
    pub precision: Precision,
    /// Scales come before codes.
    pub entries: Vec<Entry>,
}

/// What became of a tensor.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TensorReport {
    /// Its name in the file.
    pub name: String,
    /// Its dimensions in the checkpoint.
    pub shape: Vec<usize>,
    /// How it is stored.
    pub format: Precision,
    /// Bytes in the file, scales included.
    pub bytes: usize,
    /// Root of the mean squared error by that of the mean square.
    pub relative_rms: f64,
    /// The largest error.
    pub max_abs: f64,
    /// Sum of the squared errors.
    #[serde(skip)]
    pub squared_error: f64,
    /// Sum of the squares.
    #[serde(skip)]
    pub squares: f64,
}

impl Item {
    /// # Errors
    /// [`ErrorKind::Internal`] for a part without a name in files.
    pub fn new(about: &Parameter, part: &Part, quantisation: Quantisation) -> Result<Self> {
        Self::stored(part, precision_of(about.kind, &part.path, quantisation))
    }

    /// A part that is stored in this precision, whatever it is.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn stored(part: &Part, precision: Precision) -> Result<Self> {
        let name = hugging_face(&part.path).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("weights: `{}` has no foreign name", part.path))
        })?;
        let entry = |name: &str, dtype, shape| Entry { name: name.to_owned(), dtype, shape };
        let quantised = |format, dtype| {
            let (row, groups) = row_sizes(format, part.columns);
            let scales = entry(&format!("{name}{SCALES}"), Dtype::F16, vec![part.rows, groups]);
            vec![scales, entry(&name, dtype, vec![part.rows, row])]
        };
        let entries = match precision {
            Precision::F32 => vec![entry(&name, Dtype::F32, part.shape.clone())],
            Precision::F16 => vec![entry(&name, Dtype::F16, part.shape.clone())],
            Precision::Q8 => quantised(Format::Q8, Dtype::I8),
            Precision::Q4 => quantised(Format::Q4, Dtype::U8),
        };
        Ok(Self { part: part.clone(), precision, entries })
    }

    /// The same numbers under a second name.
    #[cfg(feature = "cli")]
    #[must_use]
    pub fn alias(&self, name: &str) -> Self {
        let mut alias = self.clone();
        alias.entries.iter_mut().for_each(|entry| name.clone_into(&mut entry.name));
        alias
    }

    /// The name of its values in files.
    pub fn name(&self) -> &str {
        self.entries.last().map_or("", |entry| &entry.name)
    }

    /// Begins to write its tensors; with `measured`, says at the end how far they are off.
    ///
    /// # Errors
    /// [`ErrorKind::OutOfMemory`] when there is no room for them: their sizes are what a file claims.
    pub fn encode(&self, measured: bool) -> Result<Encoder> {
        let mut tensors = [Vec::new(), Vec::new()];
        for (tensor, entry) in tensors.iter_mut().zip(&self.entries) {
            *tensor = room(entry.bytes())?;
        }
        Ok(Encoder { values: 0, tensors, errors: measured.then(Errors::default) })
    }
}

/// How a part is written: matrices as asked for, everything else as it is.
fn precision_of(kind: Kind, path: &str, quantisation: Quantisation) -> Precision {
    if kind != Kind::Matrix {
        return Precision::F32;
    }
    let asked = if path.starts_with("vision.") { quantisation.vision } else { quantisation.text };
    // Few weights through which everything goes: 4 bits would save nothing and cost much.
    let narrow =
        ["vision.patch_embedding.", "itc.", "itm.", "nlvr2."].iter().any(|start| path.starts_with(start));
    if narrow { asked.max(Precision::Q8) } else { asked }
}

/// The tensors of an item in the making.
#[derive(Debug)]
pub(super) struct Encoder {
    /// Values so far.
    values: usize,
    /// Bytes of the item's tensors so far, in its order.
    tensors: [Vec<u8>; 2],
    errors: Option<Errors>,
}

impl Encoder {
    /// Takes the next rows of the item, any number of them.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsNotFinite`] for values that are no numbers or do not fit their format.
    pub fn push(&mut self, item: &Item, rows: &[f32]) -> Result<()> {
        let name = item.name();
        if let Some(index) = rows.iter().position(|value| !value.is_finite()) {
            let (value, index) = (rows[index], self.values + index);
            let message =
                format!("weights: `{name}` holds {value} at element {index}, expected finite numbers");
            return Err(Error::new(ErrorKind::WeightsNotFinite, message));
        }
        let [first, second] = &mut self.tensors;
        let kept = match item.precision {
            Precision::F32 => {
                first.extend(rows.iter().flat_map(|value| value.to_le_bytes()));
                None
            }
            Precision::F16 => {
                let halves = halves(name, rows)?;
                first.extend(halves.iter().flat_map(|half| half.to_le_bytes()));
                Some(Stored::Float {
                    values: halves.into_iter().map(f16::to_f32).collect(),
                    shape: [rows.len(), 1],
                })
            }
            Precision::Q8 | Precision::Q4 => {
                let format = if item.precision == Precision::Q8 { Format::Q8 } else { Format::Q4 };
                let stored = quantise(name, rows, item.part.columns, format)?;
                if let Stored::Quantised { codes, scales, .. } = &stored {
                    first.extend(scales.iter().flat_map(|scale| scale.to_le_bytes()));
                    second.extend(codes);
                }
                Some(stored)
            }
        };
        if let Some(errors) = &mut self.errors {
            match kept {
                Some(kept) => errors.add(rows, &dequantise(&kept)),
                None => errors.add(rows, rows),
            }
        }
        self.values += rows.len();
        Ok(())
    }

    /// The bytes of the item's tensors, in its order, and how far they are off.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`] when rows are missing.
    pub fn finish(self, item: &Item) -> Result<(Vec<Vec<u8>>, TensorReport)> {
        let Item { part, precision, entries } = item;
        if self.values != part.rows * part.columns {
            let message = format!("weights: `{}` is cut short: {} values", item.name(), self.values);
            return Err(Error::new(ErrorKind::WeightsFormat, message));
        }
        let Errors { off, size, most } = self.errors.unwrap_or_default();
        let mut tensors = Vec::from(self.tensors);
        tensors.truncate(entries.len());
        let report = TensorReport {
            name: item.name().to_owned(),
            shape: part.shape.clone(),
            format: *precision,
            bytes: tensors.iter().map(Vec::len).sum(),
            relative_rms: if size > 0.0 { (off / size).sqrt() } else { 0.0 },
            max_abs: most,
            squared_error: off,
            squares: size,
        };
        Ok((tensors, report))
    }
}

/// Sum of the squared errors, sum of the squares, and the largest error.
#[derive(Clone, Copy, Debug, Default)]
struct Errors {
    off: f64,
    size: f64,
    most: f64,
}

impl Errors {
    fn add(&mut self, values: &[f32], kept: &[f32]) {
        for (value, kept) in values.iter().zip(kept) {
            let error = f64::from(value - kept).abs();
            self.off += error * error;
            self.size += f64::from(*value).powi(2);
            self.most = self.most.max(error);
        }
    }
}

fn halves(name: &str, values: &[f32]) -> Result<Vec<f16>> {
    let half = |value: &f32| {
        let half = f16::from_f32(*value);
        if half.is_finite() {
            return Ok(half);
        }
        let message = format!("weights: `{name}` holds {value}, which f16 cannot hold: convert to f32");
        Err(Error::new(ErrorKind::WeightsNotFinite, message))
    };
    values.iter().map(half).collect()
}

/// The order of tensors in a file.
#[derive(Debug)]
pub(super) struct FileOrder {
    /// The bytes in front of all tensors.
    pub header: Vec<u8>,
    /// (item, tensor of it) of those that come last, in their order.
    pub late: Vec<(usize, usize)>,
    /// Bytes of the whole file.
    pub total: u64,
}

impl FileOrder {
    /// Of the tensors of these items, which become available in this order. `metadata` is what the
    /// header says beside them.
    pub fn new<'i>(items: impl Iterator<Item = &'i Item>, metadata: &[(&str, String)]) -> Self {
        let (mut even, mut odd) = (Vec::new(), Vec::new());
        for (index, item) in items.enumerate() {
            for (tensor, entry) in item.entries.iter().enumerate() {
                if is_even(entry) {
                    even.push(entry);
                } else {
                    odd.push((entry, (index, tensor)));
                }
            }
        }
        odd.sort_by_key(|(entry, _)| std::cmp::Reverse(entry.dtype.size()));
        let order: Vec<Entry> =
            even.into_iter().chain(odd.iter().map(|(entry, _)| *entry)).cloned().collect();
        let header = Header::bytes(&order, metadata);
        let total = header.len() as u64 + order.iter().map(Entry::bytes).sum::<u64>();
        Self { header, late: odd.into_iter().map(|(_, place)| place).collect(), total }
    }
}

/// Whether a tensor leaves the next one aligned; one that does not would put all later ones off.
pub(super) fn is_even(entry: &Entry) -> bool {
    entry.bytes().is_multiple_of(ALIGNMENT)
}

/// What the header of a container says beside its tensors.
pub(super) fn metadata(quantisation: Quantisation) -> Vec<(&'static str, String)> {
    let Quantisation { vision, text } = quantisation;
    // Other readers look for `pt`: plain tensors, which quantised ones are not.
    let plain = vision.min(text) >= Precision::F16;
    let format = if plain { "pt" } else { "blip" };
    let names = [vision, text].map(|precision| precision.name().to_owned());
    let [vision, text] = names;
    vec![
        ("blip.format", Manifest::FORMAT_VERSION.to_string()),
        ("blip.text", text),
        ("blip.vision", vision),
        ("format", format.to_owned()),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_that_no_memory_holds_is_an_error() {
        for shape in [vec![1 << 31, 1 << 31], vec![usize::MAX, 2]] {
            let part = Part { path: "x".to_owned(), rows: shape[0], columns: shape[1], shape: shape.clone() };
            let entries = vec![Entry { name: "x".to_owned(), dtype: Dtype::F32, shape }];
            let item = Item { part, precision: Precision::F32, entries };
            assert_eq!(item.encode(false).unwrap_err().kind(), ErrorKind::OutOfMemory);
        }
    }
}
