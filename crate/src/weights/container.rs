//! Writing the container: a checkpoint, tensor by tensor, in the precision that is asked for.

use std::collections::HashMap;
use std::io::Write;

use burn::tensor::Device;

use super::checkpoint::Checkpoint;
use super::digests::FileDigests;
use super::encode::{FileOrder, Item, TensorReport, is_even, metadata};
use super::keymap::BIAS_ALIAS;
use super::manifest::{FileEntry, Precision, Quantisation};
use super::piece::Piece;
use super::plan::{Field, Plan, Role, Slot};
use super::quantise::dequantise;
use super::schema::{Parameter, Part};
use super::tower::Tower;
use crate::config::BlipConfig;
use crate::kernels::Stored;
use crate::model::Networks;
use crate::{Error, ErrorKind, Result};

/// A weights file that is about to be written.
#[derive(Debug)]
pub struct Container<'a> {
    config: BlipConfig,
    checkpoint: &'a Checkpoint,
    /// What the header says beside the tensors.
    metadata: Vec<(&'static str, String)>,
    networks: Networks,
    dropped: Vec<String>,
    items: Vec<Sourced>,
}

/// What is written, and where its numbers are in the checkpoint.
#[derive(Debug)]
struct Sourced {
    item: Item,
    sources: Vec<(Field, String)>,
}

impl<'a> Container<'a> {
    /// The container of a checkpoint of either layout and any precision.
    ///
    /// # Errors
    /// What [`load`](super::load) would find wrong with names, shapes and copies.
    pub fn new(config: &BlipConfig, checkpoint: &'a Checkpoint, quantisation: Quantisation) -> Result<Self> {
        let item = |about: &Parameter, part: &Part| Item::new(about, part, quantisation);
        Self::of(config, checkpoint, &item, metadata(quantisation))
    }

    /// A checkpoint as a file that Hugging Face's `transformers` reads: every number in the same float
    /// type. What is quantised in the checkpoint is written as the numbers that it stands for, which f32
    /// holds exactly.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`ErrorKind::BadOption`] for a precision that is no float.
    pub fn plain(config: &BlipConfig, checkpoint: &'a Checkpoint, precision: Precision) -> Result<Self> {
        if precision < Precision::F16 {
            let message = format!(
                "transformers reads no matrices of {}, which are this project's: expected f32 or f16",
                precision.name()
            );
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let item = |_: &Parameter, part: &Part| Item::stored(part, precision);
        let mut plain = Self::of(config, checkpoint, &item, vec![("format", "pt".to_owned())])?;
        // A head with a matrix of its own has a bias of its own there, and ties the other one to it.
        let bias = plain.items.iter().find(|sourced| sourced.item.part.path == "lm.bias");
        if let Some(bias) = bias.filter(|_| !plain.networks.tied_lm) {
            let alias = Sourced { item: bias.item.alias(BIAS_ALIAS), sources: bias.sources.clone() };
            plain.items.push(alias);
        }
        Ok(plain)
    }

    fn of(
        config: &BlipConfig,
        checkpoint: &'a Checkpoint,
        item: &dyn Fn(&Parameter, &Part) -> Result<Item>,
        metadata: Vec<(&'static str, String)>,
    ) -> Result<Self> {
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
                let sources: Vec<_> = found.collect();
                if !sources.is_empty() {
                    items.push(Sourced { item: item(about, expected)?, sources });
                }
            }
        }
        Ok(Self { config: config.clone(), checkpoint, metadata, networks, dropped, items })
    }

    /// The image encoder of the checkpoint, to be compared with another's. Reads it, one tensor at a time.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsMissing`] when there is none, [`ErrorKind::WeightsNotFinite`] for values that
    /// are no numbers, and what reading the checkpoint fails with.
    pub fn tower(&self) -> Result<Tower> {
        if !self.networks.vision {
            let message = "weights: the tensors of the image encoder are missing";
            return Err(Error::new(ErrorKind::WeightsMissing, message));
        }
        let mut tower = Tower::new(&self.config.vision_config);
        for sourced in self.items.iter().filter(|sourced| sourced.is_vision()) {
            let values = sourced.read(self.checkpoint)?;
            tower.add(sourced.item.name(), &sourced.item.part.path, &values);
        }
        Ok(tower)
    }

    /// Without the image encoder: the file of a further network, which stands over another file's.
    #[must_use]
    pub fn without_vision(mut self) -> Self {
        self.items.retain(|sourced| !sourced.is_vision());
        self.networks.vision = false;
        self
    }

    /// Only the parts that are wanted, by their names in our words, such as
    /// `text_decoder.layers.3.attention.query.weight`. The networks in it count as they did.
    #[must_use]
    pub fn limited_to(mut self, is_wanted: impl Fn(&str) -> bool) -> Self {
        self.items.retain(|sourced| is_wanted(&sourced.item.part.path));
        self
    }

    /// Whether matrices of the checkpoint are quantised.
    pub fn is_quantised_source(&self) -> bool {
        self.items.iter().any(|sourced| sourced.sources.iter().any(|(field, _)| *field == Field::Scales))
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
        let mut digests = FileDigests::default();
        let mut write = |bytes: &[u8]| {
            digests.add(bytes);
            out.write_all(bytes).map_err(unwritable)
        };
        let order = FileOrder::new(self.items.iter().map(|sourced| &sourced.item), &self.metadata);
        write(&order.header)?;
        let mut late: HashMap<(usize, usize), Vec<u8>> = HashMap::new();
        for (index, sourced) in self.items.iter().enumerate() {
            let mut encoder = sourced.item.encode(true)?;
            encoder.push(&sourced.item, &sourced.read(self.checkpoint)?)?;
            let (tensors, line) = encoder.finish(&sourced.item)?;
            for (tensor, (entry, bytes)) in sourced.item.entries.iter().zip(tensors).enumerate() {
                if is_even(entry) {
                    write(&bytes)?;
                } else {
                    late.insert((index, tensor), bytes);
                }
            }
            report(line);
        }
        for place in &order.late {
            write(&late[place])?;
        }
        out.flush().map_err(unwritable)?;
        Ok(digests.entry(path))
    }
}

impl Sourced {
    fn is_vision(&self) -> bool {
        self.item.part.path.starts_with("vision.")
    }

    /// The numbers in the checkpoint.
    fn read(&self, checkpoint: &Checkpoint) -> Result<Vec<f32>> {
        let part = &self.item.part;
        let mut piece = Piece::default();
        for (field, name) in &self.sources {
            let tensor = &checkpoint.tensors[name];
            piece.merge(Piece::read(part, *field, tensor.dtype, tensor.bytes()?)?);
        }
        match piece.stored(part) {
            Stored::Float { values, .. } => Ok(values),
            stored => Ok(dequantise(&stored)),
        }
    }
}

fn unwritable(cause: std::io::Error) -> Error {
    Error::new(ErrorKind::Io, "cannot write the weights").with_source(cause)
}
