//! One checkpoint of a session: a model, its words, and what it was trained for.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::config::BlipConfig;
use crate::device::OpenDevice;
use crate::kernels::Format;
use crate::model::{Blip, Networks};
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Fingerprint, Loader, Manifest, formats, load_marked};
use crate::{Error, ErrorKind, Result};

/// What a network is trained for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Captions (the LM objective).
    Caption,
    /// Answers to questions.
    Vqa,
    /// Whether a text belongs to an image, by the image-grounded encoder.
    Itm,
    /// How near a text is to an image, by the two unimodal encoders.
    Itc,
    /// Whether a statement about two images is true.
    Nlvr2,
}

impl Task {
    /// Every task.
    pub const ALL: [Self; 5] = [Self::Caption, Self::Vqa, Self::Itm, Self::Itc, Self::Nlvr2];

    /// Its name in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caption => "caption",
            Self::Vqa => "vqa",
            Self::Itm => "itm",
            Self::Itc => "itc",
            Self::Nlvr2 => "nlvr2",
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A model, its tokenizer, and the tasks that it was trained for.
#[derive(Debug)]
pub struct Part {
    /// Name of the model.
    pub id: String,
    /// What it was trained for.
    pub tasks: Vec<Task>,
    /// Its dimensions.
    pub config: BlipConfig,
    /// The networks of its checkpoint.
    pub networks: Networks,
    /// The networks themselves.
    pub model: Blip,
    /// Its words.
    pub tokenizer: Arc<Tokenizer>,
    /// Of the image encoder, and of the projections of ITC.
    pub fingerprints: [Fingerprint; 2],
    /// How its matrices were stored, each way once.
    pub(super) formats: Vec<Format>,
    /// Its place among the session's parts; and the part whose image encoder it shares, or its own place.
    pub(super) index: usize,
    pub(super) tower: usize,
}

impl Part {
    /// From a configuration, stored tensors and a vocabulary (one token a line).
    ///
    /// # Errors
    /// [`ErrorKind::BadVocabulary`] when vocabulary and configuration disagree, and whatever
    /// [`load_marked`] finds wrong with the weights.
    pub fn from_checkpoint(
        config: &BlipConfig,
        checkpoint: &Checkpoint,
        vocab: &[u8],
        device: &OpenDevice,
    ) -> Result<Self> {
        let tokenizer = checked_tokenizer(config, vocab)?;
        let (model, networks, fingerprints) =
            load_marked(config, checkpoint, &device.device, device.halves())?;
        let formats = formats(config, checkpoint, &device.device)?;
        let served = networks.tasks();
        let tasks = Task::ALL.into_iter().filter(|task| served.contains(&task.name())).collect();
        let config = config.clone();
        Ok(Self {
            id: String::new(),
            tasks,
            config,
            networks,
            model,
            tokenizer: Arc::new(tokenizer),
            fingerprints,
            formats,
            index: 0,
            tower: 0,
        })
    }

    /// Leaves of some parts only what serves one of these tasks: a model that is there for some tasks
    /// answers for no other.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] for a task that none of them was trained for; then all stay.
    pub fn keep(parts: &mut Vec<Self>, tasks: &[Task]) -> Result<()> {
        for task in tasks {
            find(parts, *task)?;
        }
        parts.iter_mut().for_each(|part| part.tasks.retain(|task| tasks.contains(task)));
        parts.retain(|part| !part.tasks.is_empty());
        Ok(())
    }

    /// Which of the session's parts lends its image encoder; its own place when it has its own.
    pub fn tower(&self) -> usize {
        self.tower
    }

    /// The image encoder's input: pixels of a side, and of a patch's side.
    pub(super) fn square(&self) -> [usize; 2] {
        [self.config.vision_config.image_size, self.config.vision_config.patch_size]
    }
}

/// The part that was trained for a task.
///
/// # Errors
/// [`ErrorKind::TaskUnsupported`], saying what there is.
pub(super) fn find(parts: &[Part], task: Task) -> Result<&Part> {
    parts.iter().find(|part| part.tasks.contains(&task)).ok_or_else(|| {
        let known: Vec<&str> = parts.iter().flat_map(|part| &part.tasks).map(|task| task.name()).collect();
        let message = match known.is_empty() {
            true => format!("nothing was trained for {task}: no model is loaded"),
            false => format!("no loaded network was trained for {task}, only for {}", known.join(", ")),
        };
        Error::new(ErrorKind::TaskUnsupported, message)
    })
}

/// Builds the parts of one manifest from the bytes of its weights files, as they come.
#[derive(Debug)]
pub struct ModelLoader {
    manifest: Manifest,
    device: OpenDevice,
    /// The file that is being read, and those that were.
    current: Loader,
    read: Vec<Loader>,
}

impl ModelLoader {
    /// A loader of everything that the manifest lists.
    pub fn new(manifest: Manifest, device: &OpenDevice) -> Self {
        let current = Loader::new(&manifest, &device.device).in_halves(device.halves());
        Self { manifest, device: device.clone(), current, read: Vec::new() }
    }

    /// Takes the next bytes of the weights files, in the manifest's order and back to back.
    ///
    /// # Errors
    /// As [`Loader::push`].
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        loop {
            let missing = usize::try_from(self.current.missing()).unwrap_or(usize::MAX);
            if bytes.len() < missing || self.read.len() == self.manifest.networks.len() {
                return self.current.push(bytes);
            }
            let (now, later) = bytes.split_at(missing);
            self.current.push(now)?;
            let network = &self.manifest.networks[self.read.len()];
            let config = network.config.as_ref().unwrap_or(&self.manifest.config).clone();
            let next = Loader::of_file(network.weights.clone(), config, &self.device.device)
                .in_halves(self.device.halves());
            self.read.push(std::mem::replace(&mut self.current, next));
            bytes = later;
        }
    }

    /// The parts, after the last byte and with the manifest's vocabulary.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when either is not the manifest's, [`ErrorKind::BadVocabulary`] when
    /// vocabulary and configuration disagree, and whatever [`Loader::finish`] finds wrong with the weights.
    pub fn finish(self, vocab: &[u8]) -> Result<Vec<Part>> {
        let Self { manifest, current, mut read, .. } = self;
        manifest.files.vocab.verify(vocab)?;
        read.push(current);
        if read.len() <= manifest.networks.len() {
            // Says which file ended early.
            read.pop().map_or(Ok(()), |loader| loader.finish().map(|_| ()))?;
        }
        let mut parts: Vec<Part> = Vec::with_capacity(read.len());
        let mut tokenizers: Vec<(usize, Arc<Tokenizer>)> = Vec::new();
        for (nth, loader) in read.into_iter().enumerate() {
            let network = nth.checked_sub(1).map(|nth| &manifest.networks[nth]);
            let config = network.and_then(|network| network.config.as_ref()).unwrap_or(&manifest.config);
            let size = config.text_config.vocab_size;
            let tokenizer = match tokenizers.iter().find(|(known, _)| *known == size) {
                Some((_, tokenizer)) => Arc::clone(tokenizer),
                None => Arc::new(checked_tokenizer(config, vocab)?),
            };
            tokenizers.push((size, Arc::clone(&tokenizer)));
            let (formats, mut fingerprints) = (loader.formats(), loader.fingerprints());
            // A file that lacks the image encoder which its manifest promises must not get another.
            let shares = !network.is_some_and(|network| network.vision);
            let tower = parts.first().filter(|_| shares).map(|first| first.model.vision.clone());
            let (model, networks) = loader.finish_over(tower)?;
            if let (false, Some(first)) = (networks.vision, parts.first()) {
                fingerprints[0] = first.fingerprints[0];
            }
            let wanted = network.map_or(&manifest.tasks, |network| &network.tasks);
            let served = networks.tasks();
            let trained = |task: &Task| {
                served.contains(&task.name()) && wanted.iter().any(|wanted| wanted == task.name())
            };
            parts.push(Part {
                id: manifest.id.clone(),
                tasks: Task::ALL.into_iter().filter(trained).collect(),
                config: config.clone(),
                networks,
                model,
                tokenizer,
                fingerprints,
                formats,
                index: 0,
                tower: 0,
            });
        }
        Ok(parts)
    }
}

fn checked_tokenizer(config: &BlipConfig, vocab: &[u8]) -> Result<Tokenizer> {
    let tokenizer = Tokenizer::from_vocab(vocab)?;
    check_tokens(config, &tokenizer)?;
    Ok(tokenizer)
}

/// The vocabulary must be the one that the word embedding was trained with.
fn check_tokens(config: &BlipConfig, tokenizer: &Tokenizer) -> Result<()> {
    let text = &config.text_config;
    for (name, found, expected) in [
        ("[DEC]", tokenizer.dec(), text.bos_token_id),
        ("[SEP]", tokenizer.sep(), text.sep_token_id),
        ("[PAD]", tokenizer.pad(), text.pad_token_id),
    ] {
        if found != expected {
            let message = format!("vocabulary: {name} is token {found}, the configuration says {expected}");
            return Err(Error::new(ErrorKind::BadVocabulary, message));
        }
    }
    if tokenizer.vocab_size() > text.vocab_size {
        let message = format!(
            "vocabulary: {} tokens, but the word embedding has {} rows",
            tokenizer.vocab_size(),
            text.vocab_size
        );
        return Err(Error::new(ErrorKind::BadVocabulary, message));
    }
    Ok(())
}
