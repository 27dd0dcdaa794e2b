//! Models that are ready to be asked.

use super::features::KnownTexts;
use super::part::{ModelLoader, Part, Task, find};
use super::picture::Identity;
use crate::config::BlipConfig;
use crate::device::OpenDevice;
use crate::model::Networks;
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Manifest};
use crate::{Error, ErrorKind, Result};

/// Models on a device. Those with the same image encoder share it.
#[derive(Debug)]
pub struct Session {
    pub(super) parts: Vec<Part>,
    pub(super) device: OpenDevice,
    /// Another one whenever parts change their places.
    pub(super) identity: Identity,
    pub(super) texts: KnownTexts,
}

impl Session {
    /// A session without a model, on `device`.
    pub fn new(device: &OpenDevice) -> Self {
        let (identity, texts) = (Identity::default(), KnownTexts::default());
        Self { parts: Vec::new(), device: device.clone(), identity, texts }
    }

    /// Loads a model directory's files: verifies their digests, then builds the model.
    ///
    /// `weights` are the bytes of the manifest's weights files back to back; mostly there is one.
    ///
    /// # Errors
    /// As [`ModelLoader::finish`].
    pub fn from_manifest(
        manifest: &Manifest,
        weights: &[u8],
        vocab: &[u8],
        device: &OpenDevice,
    ) -> Result<Self> {
        let mut loader = ModelLoader::new(manifest.clone(), device);
        loader.push(weights)?;
        let mut session = Self::new(device);
        session.add(loader.finish(vocab)?)?;
        Ok(session)
    }

    /// Builds a session from a configuration, stored tensors and a vocabulary (one token a line).
    ///
    /// # Errors
    /// As [`Part::from_checkpoint`].
    pub fn from_checkpoint(
        config: &BlipConfig,
        checkpoint: &Checkpoint,
        vocab: &[u8],
        device: &OpenDevice,
    ) -> Result<Self> {
        let mut session = Self::new(device);
        session.add(vec![Part::from_checkpoint(config, checkpoint, vocab, device)?])?;
        Ok(session)
    }

    /// Adds models, which lie on the session's device. Pictures that were encoded before cannot be
    /// shown to them.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when a task would be served by two of them; then none is added.
    pub fn add(&mut self, parts: Vec<Part>) -> Result<()> {
        let mut served = self.tasks();
        for part in &parts {
            if let Some(task) = part.tasks.iter().find(|task| served.contains(task)) {
                let message = format!("two models for {task}: `{}` is the second", part.id);
                return Err(Error::new(ErrorKind::BadOption, message));
            }
            served.extend(&part.tasks);
        }
        self.texts = KnownTexts::default();
        for mut part in parts {
            part.index = self.parts.len();
            part.tower = part.index;
            let same = |known: &&Part| {
                known.fingerprints[0] == part.fingerprints[0]
                    && known.config.vision_config == part.config.vision_config
            };
            if let Some(known) = self.parts.iter().find(same) {
                part.tower = known.tower;
                part.model.vision = self.parts[known.tower].model.vision.clone();
            }
            self.parts.push(part);
        }
        Ok(())
    }

    /// Keeps only these tasks, and of the models what serves one of them. Pictures that were encoded
    /// before cannot be shown to any of them.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] for a task that no model was trained for.
    pub fn limit(&mut self, tasks: &[Task]) -> Result<()> {
        Part::keep(&mut self.parts, tasks)?;
        let kept = std::mem::take(&mut self.parts);
        self.identity = Identity::default();
        self.add(kept)
    }

    /// The model that was trained for a task.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`], saying what there is.
    pub fn part(&self, task: Task) -> Result<&Part> {
        find(&self.parts, task)
    }

    /// Every model.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// The tasks that the models were trained for.
    pub fn tasks(&self) -> Vec<Task> {
        self.parts.iter().flat_map(|part| part.tasks.iter().copied()).collect()
    }

    /// The first model's dimensions.
    ///
    /// # Panics
    /// When no model is loaded.
    pub fn config(&self) -> &BlipConfig {
        &self.parts[0].config
    }

    /// The first model's networks.
    ///
    /// # Panics
    /// When no model is loaded.
    pub fn networks(&self) -> &Networks {
        &self.parts[0].networks
    }

    /// The first model's tokenizer.
    ///
    /// # Panics
    /// When no model is loaded.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.parts[0].tokenizer
    }

    /// The device the session runs on.
    pub fn device(&self) -> &OpenDevice {
        &self.device
    }

    /// How many image encoders there are.
    pub fn towers(&self) -> usize {
        self.parts.iter().filter(|part| part.tower == part.index).count()
    }
}
