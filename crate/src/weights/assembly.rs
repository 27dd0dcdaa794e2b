//! Stored tensors become parameters on a device, each as soon as all of its parts are there.

use std::collections::HashMap;

use super::fingerprint::Fingerprint;
use super::manifest::sha256;
use super::piece::Piece;
use super::plan::{Entry, Field, Plan, Role, Slot};
use super::schema::{Kind, Parameter};
use super::shared::{SharedText, is_own};
use crate::config::BlipConfig;
use crate::kernels::{self, Format, Stored};
use crate::model::{Blip, DecoderNetwork, Networks, VisionModel};
use crate::nn::{Matrix, Source};
use crate::{Error, ErrorKind, Result};
use burn::module::Param;
use burn::tensor::{DType, Device, Tensor};

/// A model in the making: takes tensors in any order, keeps on the host only what waits for the rest
/// of its parameter.
#[derive(Debug)]
pub(super) struct Assembly {
    config: BlipConfig,
    device: Device,
    /// The float type of activations, and of what is added to them row by row.
    activations: DType,
    entries: Vec<Entry>,
    plan: Plan,
    /// Parts that wait, by parameter.
    waiting: HashMap<usize, Vec<Piece>>,
    done: HashMap<String, Loaded>,
    /// Digests of the tensors that may turn out to be copies of others.
    watched: HashMap<Slot, Option<[u8; 32]>>,
    /// Whether the decoder repeats the encoder; nothing where it cannot.
    shared: Option<SharedText>,
    /// Of the image encoder, and of the projections of ITC.
    pub vision: Fingerprint,
    pub itc: Fingerprint,
    /// Bytes of `waiting`.
    pub held: usize,
    /// The most bytes that were held at a time, the tensor that was handed over included.
    pub peak: usize,
}

/// A parameter on its device.
#[derive(Debug)]
enum Loaded {
    Matrix(Matrix),
    Plane(Param<Tensor<2>>),
    Line(Param<Tensor<1>>),
}

impl Assembly {
    /// # Errors
    /// As [`Plan::new`].
    pub fn new(config: &BlipConfig, entries: Vec<Entry>, device: &Device) -> Result<Self> {
        let plan = Plan::new(config, &entries, device)?;
        let mut watched = HashMap::new();
        let slots = plan.slots();
        for field in [Field::Scales, Field::Values] {
            if let (Some(a), Some(b)) = (slots.get(&(TIED.0, field)), slots.get(&(TIED.1, field))) {
                watched.extend([(*a, None), (*b, None)]);
            }
        }
        watched.extend(plan.roles.iter().filter_map(|role| match role {
            Role::Repeats(slot) => Some((*slot, None)),
            _ => None,
        }));
        let shared = SharedText::of(&plan, &entries);
        let (config, device) = (config.clone(), device.clone());
        let (waiting, done) = (HashMap::new(), HashMap::new());
        Ok(Self {
            config,
            device,
            activations: DType::F32,
            entries,
            plan,
            waiting,
            done,
            watched,
            shared,
            vision: Fingerprint::default(),
            itc: Fingerprint::default(),
            held: 0,
            peak: 0,
        })
    }

    /// How the matrices are stored, each way once.
    pub fn formats(&self) -> Vec<Format> {
        self.plan.formats(&self.entries)
    }

    /// Makes a model whose activations and float matrices are halves.
    #[must_use]
    pub fn in_halves(mut self, halves: bool) -> Self {
        self.activations = if halves { DType::F16 } else { DType::F32 };
        self
    }

    /// Whether the tensor at that index of the entries is needed at all.
    pub fn wants(&self, index: usize) -> bool {
        self.plan.roles[index] != Role::Ignored
    }

    /// Indices of the entries in the order that holds least.
    pub fn order(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.entries.len()).filter(|index| self.wants(*index)).collect();
        order.sort_by_key(|index| self.slot(*index));
        order
    }

    /// Takes the little-endian bytes of a tensor.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsNotFinite`] and [`ErrorKind::WeightsFormat`], naming the tensor.
    pub fn accept(&mut self, index: usize, bytes: Vec<u8>) -> Result<()> {
        self.compare(index, &bytes)?;
        let Role::Fills(slot) = self.plan.roles[index] else { return Ok(()) };
        let entry = &self.entries[index];
        let path = &*self.plan.part(slot).path;
        if path.starts_with("vision.") {
            self.vision.add(path, &bytes);
        } else if path.starts_with("itc.") {
            self.itc.add(path, &bytes);
        }
        let transient = bytes.len();
        let fresh = Piece::read(self.plan.part(slot), slot.field, entry.dtype, bytes)?;
        let parts = self.plan.parameters[slot.parameter].parts.len();
        let pieces = self
            .waiting
            .entry(slot.parameter)
            .or_insert_with(|| std::iter::repeat_with(Piece::default).take(parts).collect());
        self.held += fresh.bytes();
        // What a float tensor was read from is still there; codes are kept as they came.
        let read_from = if fresh.is_as_it_came() { 0 } else { transient };
        self.peak = self.peak.max(self.held + read_from);
        pieces[slot.part].merge(fresh);
        if pieces.iter().all(Piece::is_whole) {
            self.complete(slot.parameter);
        }
        Ok(())
    }

    /// Indices of the entries of which a copy may be in the file, in the order that soonest tells whether
    /// the text networks share anything.
    pub fn copies(&self) -> Vec<usize> {
        let pair = |index: usize| self.slot(index).and_then(|slot| self.shared.as_ref()?.pair(slot));
        let mut copies: Vec<usize> =
            (0..self.entries.len()).filter(|index| self.is_watched(*index)).collect();
        copies.sort_by_key(|index| pair(*index));
        copies
    }

    /// Whether a copy of the tensor may be in the file, as far as those that were seen tell.
    pub fn is_watched(&self, index: usize) -> bool {
        let is_shared = |slot| self.shared.as_ref().is_some_and(|shared| shared.pair(slot).is_some());
        self.slot(index).is_some_and(|slot| self.watched.contains_key(&slot) || is_shared(slot))
    }

    /// Compares a tensor with its copies, of those seen before.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`] for two values of one parameter.
    pub fn compare(&mut self, index: usize, bytes: &[u8]) -> Result<()> {
        let Some(slot) = self.slot(index) else { return Ok(()) };
        if let (Role::Fills(_), Some(shared)) = (self.plan.roles[index], &mut self.shared) {
            shared.add(slot, bytes);
        }
        if let Some(known) = self.watched.get_mut(&slot) {
            let own = digest(&self.entries[index], bytes);
            if *known.get_or_insert(own) != own {
                return Err(self.contradiction(slot));
            }
        }
        Ok(())
    }

    fn slot(&self, index: usize) -> Option<Slot> {
        match self.plan.roles[index] {
            Role::Ignored => None,
            Role::Fills(slot) | Role::Repeats(slot) => Some(slot),
        }
    }

    /// Puts a parameter on the device.
    fn complete(&mut self, index: usize) {
        let pieces = self.waiting.remove(&index).unwrap_or_default();
        let about = &self.plan.parameters[index];
        let bytes: usize = pieces.iter().map(Piece::bytes).sum();
        if pieces.len() > 1 {
            // Its parts and the whole, for a moment.
            self.peak = self.peak.max(self.held + bytes);
        }
        self.held -= bytes;
        let loaded = match about.kind {
            Kind::Matrix => {
                let parts = pieces.into_iter().zip(&about.parts).map(|(piece, part)| piece.stored(part));
                let stored = Stored::concatenate(parts.collect()).expect("the plan checked the formats");
                Loaded::Matrix(Matrix::from_stored(stored, &self.device, self.activations))
            }
            Kind::Table => {
                let shape = [about.shape[0], about.shape[1]];
                Loaded::Plane(Param::from_tensor(self.tensor(pieces, shape, self.activations)))
            }
            Kind::Norm => {
                let shape = [about.shape[0], about.shape[1]];
                Loaded::Plane(Param::from_tensor(self.tensor(pieces, shape, DType::F32)))
            }
            Kind::Vector => {
                // The class token is a row like those of the position table, all others are biases.
                let float = if about.path.ends_with("bias") { DType::F32 } else { self.activations };
                Loaded::Line(Param::from_tensor(self.tensor(pieces, [about.shape[0]], float)))
            }
        };
        self.done.insert(about.path.clone(), loaded);
    }

    fn tensor<const D: usize>(&self, pieces: Vec<Piece>, shape: [usize; D], float: DType) -> Tensor<D> {
        let values: Vec<f32> = pieces.into_iter().flat_map(|piece| piece.into_floats()).collect();
        kernels::floats(values, shape, &self.device, float)
    }

    /// The model, once every tensor was accepted; over `tower` where the file has no image encoder.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsMissing`] when there is no image encoder at all, and
    /// [`ErrorKind::Internal`] when tensors that the plan has were never handed over.
    pub fn finish(mut self, tower: Option<VisionModel>) -> Result<(Blip, Networks)> {
        let unfilled: Vec<&Parameter> =
            self.plan.parameters.iter().filter(|about| !self.done.contains_key(&about.path)).collect();
        if let Some(first) = unfilled.first() {
            let message = format!("weights: {} parameters were not filled: `{}`", unfilled.len(), first.path);
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let networks = self.networks();
        if networks.tied_lm {
            self.done.remove(TIED.0);
        }
        if networks.decoder == Some(DecoderNetwork::Shared) {
            self.share_decoder();
        }
        let mut source = LoadedSource { device: self.device, parameters: self.done };
        let model = match tower {
            _ if networks.vision => Blip::build(&mut source, &self.config, &networks),
            Some(tower) => Blip::build_over(tower, &mut source, &self.config, &networks),
            None => {
                let message = "weights: the tensors of the image encoder are missing";
                return Err(Error::new(ErrorKind::WeightsMissing, message));
            }
        };
        Ok((model, networks))
    }

    /// The networks of the file, as far as the tensors that were seen tell.
    pub fn networks(&self) -> Networks {
        let mut networks = self.plan.networks.clone();
        networks.tied_lm |= self.is_tied();
        if self.shared.as_ref().is_some_and(SharedText::is_equal) {
            networks.decoder = Some(DecoderNetwork::Shared);
        }
        networks
    }

    /// Whether the head's matrix and the word embedding are stored with the same bytes.
    fn is_tied(&self) -> bool {
        let slots = self.plan.slots();
        let digest = |path: &str, field| slots.get(&(path, field)).and_then(|slot| self.watched.get(slot));
        let equal = |field| digest(TIED.0, field) == digest(TIED.1, field);
        digest(TIED.0, Field::Values).is_some_and(Option::is_some)
            && equal(Field::Values)
            && equal(Field::Scales)
    }

    /// Moves the decoder's self-attention beside the encoder's and drops the copies of what is shared.
    fn share_decoder(&mut self) {
        let decoder: Vec<String> =
            self.done.keys().filter(|path| path.starts_with("text_decoder.")).cloned().collect();
        for path in decoder {
            let loaded = self.done.remove(&path);
            if let (Some(loaded), true) = (loaded, is_own(&path)) {
                let path = path
                    .replace("text_decoder.", "text_encoder.")
                    .replace(".attention.", ".causal_attention.");
                self.done.insert(path, loaded);
            }
        }
    }

    /// Which of two different values was meant, nobody can know.
    fn contradiction(&self, slot: Slot) -> Error {
        let names = self.plan.roles.iter().zip(&self.entries).filter_map(|(role, entry)| match role {
            Role::Fills(other) | Role::Repeats(other) if *other == slot => Some(format!("`{}`", entry.name)),
            _ => None,
        });
        let names = names.collect::<Vec<_>>().join(" and ");
        let message = format!("weights: {names} are one parameter with different values");
        Error::new(ErrorKind::WeightsFormat, message)
    }
}

/// A head whose matrix equals the word embedding is tied to it.
const TIED: (&str, &str) = ("lm.decoder", "text_decoder.word_embeddings.weight");

fn digest(entry: &Entry, bytes: &[u8]) -> [u8; 32] {
    // Equal bytes of another type or shape are something else.
    let mut own = format!("{:?}{:?}", entry.dtype, entry.shape).into_bytes();
    own.extend(sha256(bytes));
    sha256(&own)
}

/// The parameters of a file, for the model to ask for.
struct LoadedSource {
    device: Device,
    parameters: HashMap<String, Loaded>,
}

impl LoadedSource {
    fn take(&mut self, path: &str) -> Loaded {
        self.parameters.remove(path).expect("the plan has whatever the model asks for")
    }

    fn plane(&mut self, path: &str) -> Param<Tensor<2>> {
        match self.take(path) {
            Loaded::Plane(param) => param,
            _ => unreachable!("the plan knows the kind of `{path}`"),
        }
    }
}

impl Source for LoadedSource {
    fn device(&self) -> &Device {
        &self.device
    }

    fn matrix(&mut self, path: &str, _: [usize; 2]) -> Matrix {
        match self.take(path) {
            Loaded::Matrix(matrix) => matrix,
            _ => unreachable!("the plan knows the kind of `{path}`"),
        }
    }

    fn table(&mut self, path: &str, _: [usize; 2]) -> Param<Tensor<2>> {
        self.plane(path)
    }

    fn vector(&mut self, path: &str, _: usize) -> Param<Tensor<1>> {
        match self.take(path) {
            Loaded::Line(param) => param,
            _ => unreachable!("the plan knows the kind of `{path}`"),
        }
    }

    fn norm(&mut self, path: &str, _: usize) -> Param<Tensor<2>> {
        self.plane(path)
    }
}
