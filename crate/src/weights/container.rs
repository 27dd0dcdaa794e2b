//! Writing the container: a checkpoint, tensor by tensor, in the precision that is asked for.

use std::collections::HashMap;
use std::io::Write;

use burn::tensor::Device;
use half::f16;
use serde::Serialize;
use sha2::{Digest, Sha256};

use super::checkpoint::{Checkpoint, Dtype};
use super::header::Header;
use super::keymap::hugging_face;
use super::manifest::{Chunks, FileEntry, Precision, Quantisation, hex};
use super::piece::Piece;
use super::plan::{Entry, Field, Plan, Role, SCALES, Slot};
use super::quantise::{dequantise, quantise, row_sizes};
use super::schema::{Kind, Parameter, Part};
use crate::config::BlipConfig;
use crate::kernels::{Format, Stored};
use crate::model::Networks;
use crate::{Error, ErrorKind, Result};

/// Bytes of a chunk with a digest of its own.
const CHUNK: u64 = 4 << 20;
/// What tensors are aligned to.
const ALIGNMENT: usize = 16;

/// A weights file that is about to be written.
#[derive(Debug)]
pub struct Container<'a> {
    checkpoint: &'a Checkpoint,
    quantisation: Quantisation,
    networks: Networks,
    dropped: Vec<String>,
    items: Vec<Item>,
}

/// A part of a parameter, where its tensors are, and what is written for it.
#[derive(Debug)]
struct Item {
    part: Part,
    sources: Vec<(Field, String)>,
    precision: Precision,
    entries: Vec<Entry>,
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

impl<'a> Container<'a> {
    /// The container of a checkpoint of either layout and any precision.
    ///
    /// # Errors
    /// What [`load`](super::load) would find wrong with names, shapes and copies.
    pub fn new(config: &BlipConfig, checkpoint: &'a Checkpoint, quantisation: Quantisation) -> Result<Self> {
        let device = Device::flex();
        let networks = super::find_networks(config, checkpoint, &device)?;
        let entries = checkpoint.entries();
        let plan = Plan::new(config, &entries, &device)?;
        let mut sources: HashMap<Slot, String> = HashMap::new();
        let mut dropped = Vec::new();
        let tied = |slot: &Slot| networks.tied_lm && plan.part(*slot).path == "lm.decoder";
        for (role, entry) in plan.roles.iter().zip(&entries) {
            match role {
                Role::Fills(slot) if !tied(slot) => drop(sources.insert(*slot, entry.name.clone())),
                _ => dropped.push(entry.name.clone()),
            }
        }
        let mut items = Vec::new();
        for (parameter, about) in plan.parameters.iter().enumerate() {
            for (part, expected) in about.parts.iter().enumerate() {
                let found = [Field::Scales, Field::Values].into_iter().filter_map(|field| {
                    Some((field, sources.get(&Slot { parameter, part, field })?.clone()))
                });
                let found: Vec<_> = found.collect();
                if !found.is_empty() {
                    items.push(Item::new(about, expected, found, quantisation)?);
                }
            }
        }
        Ok(Self { checkpoint, quantisation, networks, dropped, items })
    }

    /// The networks in it.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// What was in the checkpoint and is not in the container: copies and left-overs of training.
    pub fn dropped(&self) -> &[String] {
        &self.dropped
    }

    /// Tensors of the checkpoint that are written.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Writes the file, one tensor in memory at a time, and returns its entry for the manifest, under
    /// the name `path`.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsNotFinite`] for values that are no numbers or do not fit their format,
    /// [`ErrorKind::Io`] when `out` fails, and what reading the checkpoint fails with.
    pub fn write(
        &self,
        path: &str,
        out: &mut dyn Write,
        report: &mut dyn FnMut(TensorReport),
    ) -> Result<FileEntry> {
        let mut out = Digesting::new(out);
        // A tensor whose length is no multiple of the alignment would put all later ones off.
        let is_even = |entry: &Entry| entry.bytes().is_multiple_of(ALIGNMENT);
        let all = || self.items.iter().flat_map(|item| &item.entries);
        let (even, mut odd): (Vec<&Entry>, Vec<&Entry>) = all().partition(|entry| is_even(entry));
        odd.sort_by_key(|entry| std::cmp::Reverse(entry.dtype.size()));
        let order: Vec<Entry> = even.into_iter().chain(odd.iter().copied()).cloned().collect();
        out.write(&Header::bytes(&order, &self.metadata()))?;
        let mut late: HashMap<&str, Vec<u8>> = HashMap::new();
        for item in &self.items {
            let (tensors, line) = item.encode(&item.read(self.checkpoint)?)?;
            for (entry, bytes) in item.entries.iter().zip(tensors) {
                if is_even(entry) {
                    out.write(&bytes)?;
                } else {
                    late.insert(&entry.name, bytes);
                }
            }
            report(line);
        }
        for entry in odd {
            out.write(&late[&*entry.name])?;
        }
        out.finish(path)
    }

    fn metadata(&self) -> Vec<(&'static str, String)> {
        let Quantisation { vision, text } = self.quantisation;
        // Other readers look for `pt`: plain tensors, which quantised ones are not.
        let plain = vision.min(text) >= Precision::F16;
        let format = if plain { "pt" } else { "blip" };
        let names = [vision, text].map(|precision| precision.name().to_owned());
        let [vision, text] = names;
        vec![
            ("blip.format", super::Manifest::FORMAT_VERSION.to_string()),
            ("blip.text", text),
            ("blip.vision", vision),
            ("format", format.to_owned()),
        ]
    }
}

impl Item {
    fn new(
        about: &Parameter,
        part: &Part,
        sources: Vec<(Field, String)>,
        quantisation: Quantisation,
    ) -> Result<Self> {
        let name = hugging_face(&part.path).ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("weights: `{}` has no foreign name", part.path))
        })?;
        let precision = precision_of(about.kind, &part.path, quantisation);
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
        Ok(Self { part: part.clone(), sources, precision, entries })
    }

    /// The numbers in the checkpoint.
    fn read(&self, checkpoint: &Checkpoint) -> Result<Vec<f32>> {
        let mut piece = Piece::default();
        for (field, name) in &self.sources {
            let tensor = &checkpoint.tensors[name];
            piece.merge(Piece::read(&self.part, *field, tensor.dtype, tensor.bytes()?)?);
        }
        match piece.stored(&self.part) {
            Stored::Float { values, .. } => Ok(values),
            stored => Ok(dequantise(&stored)),
        }
    }

    /// The bytes of its tensors, and how far they are off.
    fn encode(&self, values: &[f32]) -> Result<(Vec<Vec<u8>>, TensorReport)> {
        let name = &self.entries[self.entries.len() - 1].name;
        let little_endian = |values: &[f32]| values.iter().flat_map(|value| value.to_le_bytes()).collect();
        let (tensors, kept) = match self.precision {
            Precision::F32 => (vec![little_endian(values)], None),
            Precision::F16 => {
                let halves = halves(name, values)?;
                let bytes = halves.iter().flat_map(|half| half.to_le_bytes()).collect();
                (vec![bytes], Some(halves.into_iter().map(f16::to_f32).collect::<Vec<_>>()))
            }
            Precision::Q8 | Precision::Q4 => {
                let format = if self.precision == Precision::Q8 { Format::Q8 } else { Format::Q4 };
                let stored = quantise(name, values, self.part.columns, format)?;
                let kept = dequantise(&stored);
                let Stored::Quantised { codes, scales, .. } = stored else {
                    unreachable!("what was quantised is quantised")
                };
                let scales = scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
                (vec![scales, codes], Some(kept))
            }
        };
        let (squared_error, squares, max_abs) = errors(values, kept.as_deref().unwrap_or(values));
        let report = TensorReport {
            name: name.clone(),
            shape: self.part.shape.clone(),
            format: self.precision,
            bytes: tensors.iter().map(Vec::len).sum(),
            relative_rms: if squares > 0.0 { (squared_error / squares).sqrt() } else { 0.0 },
            max_abs,
            squared_error,
            squares,
        };
        Ok((tensors, report))
    }
}

/// How a part is written: matrices as asked for, everything else as it is.
fn precision_of(kind: Kind, path: &str, quantisation: Quantisation) -> Precision {
    if kind != Kind::Matrix {
        return Precision::F32;
    }
    let asked = if path.starts_with("vision.") { quantisation.vision } else { quantisation.text };
    // Few weights through which everything goes: 4 bits would save nothing and cost much.
    let narrow = ["vision.patch_embedding.", "itc.", "itm."].iter().any(|start| path.starts_with(start));
    if narrow { asked.max(Precision::Q8) } else { asked }
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

/// Sum of the squared errors, sum of the squares, and the largest error.
fn errors(values: &[f32], kept: &[f32]) -> (f64, f64, f64) {
    let (mut off, mut size, mut most) = (0.0f64, 0.0f64, 0.0f64);
    for (value, kept) in values.iter().zip(kept) {
        let error = f64::from(value - kept).abs();
        off += error * error;
        size += f64::from(*value).powi(2);
        most = most.max(error);
    }
    (off, size, most)
}

/// Passes bytes on, and digests them as a whole and in chunks.
struct Digesting<'a> {
    out: &'a mut dyn Write,
    bytes: u64,
    whole: Sha256,
    chunk: Sha256,
    chunks: Vec<String>,
}

impl<'a> Digesting<'a> {
    fn new(out: &'a mut dyn Write) -> Self {
        Self { out, bytes: 0, whole: Sha256::new(), chunk: Sha256::new(), chunks: Vec::new() }
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(unwritable)?;
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let room = (CHUNK - self.bytes % CHUNK).min(bytes.len() as u64);
            let (now, later) = bytes.split_at(room as usize);
            self.chunk.update(now);
            self.bytes += room;
            bytes = later;
            if self.bytes.is_multiple_of(CHUNK) {
                self.end_chunk();
            }
        }
        Ok(())
    }

    fn end_chunk(&mut self) {
        let digest = std::mem::take(&mut self.chunk).finalize();
        self.chunks.push(hex(&digest.into()));
    }

    fn finish(mut self, path: &str) -> Result<FileEntry> {
        self.out.flush().map_err(unwritable)?;
        if !self.bytes.is_multiple_of(CHUNK) {
            self.end_chunk();
        }
        let chunks = Some(Chunks { size: CHUNK, sha256: self.chunks });
        let sha256 = hex(&self.whole.finalize().into());
        Ok(FileEntry { path: path.to_owned(), bytes: self.bytes, sha256, chunks })
    }
}

fn unwritable(cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot write the weights").with_source(cause)
}
