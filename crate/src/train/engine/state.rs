//! Everything that a run is between two steps: how it begins, and the files it is kept in.

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, ModuleOptimizer};
use burn::store::ModuleRecord;
use burn::tensor::{Bytes, Device};
use serde::{Deserialize, Serialize};

use super::mixed::Scale;
use super::recipe::{Adam, Clip, Recipe};
use crate::config::BlipConfig;
use crate::model::Blip;
use crate::train::checkpoint::CheckpointFiles;
use crate::train::momentum::{among_constants, copy_for_features};
use crate::train::objectives::{Learner, Memory};
use crate::train::queue::{Place, Queues};
use crate::train::schedule::Position;
use crate::{Error, ErrorKind, Result};

const LEARNER: &str = "learner.bpk";
const OPTIMIZER: &str = "optimizer.bpk";
const MEMORY: &str = "memory.bpk";
const AVERAGE: &str = "average.bpk";
const META: &str = "meta.json";

/// A run between two steps.
///
/// Random numbers are functions of the seed and the step ([`Draw`](crate::train::draw::Draw)), and so is
/// the place in the data: the number of steps is all that has to be kept of them.
#[derive(Debug)]
pub struct Trainer {
    /// What is trained.
    pub learner: Learner,
    /// What contrast remembers.
    pub memory: Option<Memory>,
    /// The moving average of the weights.
    pub average: Option<Blip>,
    pub(super) optimizer: Optimizer,
    pub(super) meta: Meta,
    /// With automatic differentiation; the weights are on the first.
    pub(super) devices: Vec<Device>,
}

/// The optimiser; burn's says nothing when it is printed.
pub(super) struct Optimizer(pub ModuleOptimizer);

impl std::fmt::Debug for Optimizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Optimizer").finish_non_exhaustive()
    }
}

/// What a checkpoint says about itself, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Meta {
    /// The stage.
    pub stage: String,
    /// The numbers it runs with.
    pub recipe: Recipe,
    /// The model's dimensions.
    pub config: BlipConfig,
    /// Examples of its data.
    pub examples: usize,
    /// Steps done.
    pub step: usize,
    /// Training time so far, in seconds.
    pub seconds: f64,
    /// The factor of the loss, in mixed precision.
    #[serde(default)]
    pub scale: Option<Scale>,
    /// Where the queues stand.
    pub queues: Option<Place>,
}

impl Trainer {
    /// A run before its first step.
    ///
    /// `examples` is the length of an epoch; `device` one without automatic differentiation, which is
    /// switched on here.
    pub fn new(
        stage: &str,
        recipe: &Recipe,
        config: &BlipConfig,
        start: Learner,
        examples: usize,
        device: &Device,
    ) -> Self {
        let plain = device.clone().inner();
        let device = with_graph(device, recipe);
        let learner = leaves(start, &device, recipe.frozen_vision);
        let memory = recipe.contrast.map(|contrast| Memory {
            momentum: copy_for_features(&learner.blip),
            queues: Queues::new(contrast.queue, config.image_text_hidden_size, recipe.seed, &plain),
        });
        let average = recipe.average.map(|_| learner.blip.valid());
        let meta = Meta {
            stage: stage.to_owned(),
            recipe: recipe.clone(),
            config: config.clone(),
            examples,
            step: 0,
            seconds: 0.0,
            scale: recipe.mixed.map(|mixed| mixed.start()),
            queues: None,
        };
        Self {
            learner,
            memory,
            average,
            optimizer: Optimizer(optimizer(recipe)),
            meta,
            devices: vec![device],
        }
    }

    /// The same run with its ranks on these devices in turn, of which the first is the run's own.
    #[must_use]
    pub fn over(self, devices: &[Device]) -> Self {
        let others = devices.iter().skip(1).map(|device| with_graph(device, &self.meta.recipe));
        let devices = self.devices.iter().take(1).cloned().chain(others).collect();
        Self { devices, ..self }
    }

    /// Steps done.
    pub fn steps_done(&self) -> usize {
        self.meta.step
    }

    /// Where in the run the next step is.
    pub fn position(&self) -> Position {
        self.meta.recipe.position(self.meta.step, self.meta.examples)
    }

    /// The model that the run ends with: the average, where there is one.
    #[must_use]
    pub fn outcome(self) -> Blip {
        self.average.unwrap_or_else(|| self.learner.blip.valid())
    }

    /// Writes the run down.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn save(&self, files: &CheckpointFiles) -> Result<()> {
        let failed = |e: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Io, format!("checkpoint: the run cannot be written down: {e}"))
        };
        let bytes = |record: ModuleRecord| record.into_bytes().map(|b| b.to_vec()).map_err(|e| failed(&e));
        let meta = Meta {
            queues: self.memory.as_ref().map(|memory| memory.queues.place().clone()),
            ..self.meta.clone()
        };
        let mut parts = vec![
            (LEARNER, bytes(self.learner.clone().into_record())?),
            (OPTIMIZER, self.optimizer.0.into_bytes().map_err(|e| failed(&e))?.to_vec()),
            (META, serde_json::to_vec_pretty(&meta).map_err(|e| failed(&e))?),
        ];
        if let Some(memory) = &self.memory {
            parts.push((MEMORY, bytes(memory.clone().into_record())?));
        }
        if let Some(average) = &self.average {
            parts.push((AVERAGE, bytes(average.clone().into_record())?));
        }
        files.save(&parts)
    }

    /// The run that is kept in `files`, in place of this one, which has the same shape.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file is missing or damaged, [`ErrorKind::BadOption`] when it is another
    /// run's.
    pub fn resumed(self, files: &CheckpointFiles) -> Result<Self> {
        let failed = |name: &str, e: &dyn std::fmt::Display| {
            Error::new(ErrorKind::Io, format!("checkpoint: `{name}` cannot be read: {e}"))
        };
        let meta: Meta = serde_json::from_slice(&files.read(META)?).map_err(|e| failed(META, &e))?;
        if (&meta.stage, &meta.config, meta.examples)
            != (&self.meta.stage, &self.meta.config, self.meta.examples)
        {
            let message =
                "the folder holds a checkpoint of another stage, model or data set: use another folder";
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        self.meta.recipe.check_continues(&meta.recipe, meta.step, meta.examples)?;

        fn load<M: Module>(module: M, bytes: Vec<u8>) -> Result<M, burn::store::RecordError> {
            module.try_load_record(ModuleRecord::from_bytes(Bytes::from_bytes_vec(bytes))?)
        }
        let read = |name| files.read(name);
        let learner = load(self.learner, read(LEARNER)?).map_err(|e| failed(LEARNER, &e))?;
        let optimizer = Bytes::from_bytes_vec(read(OPTIMIZER)?);
        let optimizer = self.optimizer.0.from_bytes(optimizer).map_err(|e| failed(OPTIMIZER, &e))?;
        let memory = match (self.memory, &meta.queues) {
            (Some(memory), Some(place)) => {
                let Memory { momentum, queues } =
                    load(memory, read(MEMORY)?).map_err(|e| failed(MEMORY, &e))?;
                if place.ids.len() != queues.size() {
                    return Err(failed(META, &"the queues have another size"));
                }
                Some(Memory { momentum, queues: queues.at(place.clone()) })
            }
            (memory, _) => memory,
        };
        let average = match self.average {
            Some(average) => Some(load(average, read(AVERAGE)?).map_err(|e| failed(AVERAGE, &e))?),
            None => None,
        };
        let meta = Meta { recipe: self.meta.recipe, ..meta };
        let devices = self.devices;
        Ok(Self { learner, optimizer: Optimizer(optimizer), memory, average, meta, devices })
    }
}

/// A device that keeps graphs.
fn with_graph(device: &Device, recipe: &Recipe) -> Device {
    let device = device.clone().inner().autodiff();
    if recipe.gradient_checkpointing { device.gradient_checkpointing() } else { device }
}

/// The learner on a device with automatic differentiation, its parameters leaves.
///
/// What stays as it is is none: a graph keeps leaves that no gradient ever reaches, and each step would
/// have more of them to look through.
fn leaves(start: Learner, device: &Device, frozen_vision: bool) -> Learner {
    let plain = start.valid().to_device(&device.clone().inner());
    let mut learner = among_constants(&plain, device).set_require_grad(true);
    if frozen_vision {
        learner.blip.vision = learner.blip.vision.set_require_grad(false);
    }
    learner
}

fn optimizer(recipe: &Recipe) -> ModuleOptimizer {
    let Adam { beta1, beta2, epsilon, weight_decay } = recipe.adam;
    let each = match recipe.clip {
        Some(Clip::Each { norm }) => Some(GradientClippingConfig::Norm(norm)),
        Some(Clip::Total { .. }) | None => None,
    };
    AdamWConfig::new()
        .with_beta_1(beta1)
        .with_beta_2(beta2)
        .with_epsilon(epsilon)
        .with_weight_decay(weight_decay)
        .with_grad_clipping(each)
        .init()
}
