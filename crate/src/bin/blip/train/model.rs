//! What a run begins with: a fresh model, or the weights of another one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Result, bail};
use blip_web::config::BlipConfig;
use blip_web::hub::{manifest_in, open_checkpoint};
use blip_web::model::{Blip, DecoderNetwork, Networks};
use blip_web::tokenizer::Tokenizer;
use blip_web::train::contrast::Contrast;
use blip_web::train::data::Noise;
use blip_web::train::engine::{Recipe, overlaid};
use blip_web::train::fresh::FreshParameters;
use blip_web::train::inherit::{Inheritance, inherit};
use blip_web::train::objectives::Learner;
use blip_web::train::reword::reworded;
use blip_web::train::scenes::World;
use blip_web::train::vocabulary::vocabulary;
use blip_web::weights::{Checkpoint, Container, Dtype, Precision, Quantisation, complete_vocabulary};
use blip_web::{Error, ErrorKind};
use burn::tensor::Device;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::super::source::read;
use super::Stage;

/// The `[model]` of a config file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ModelConfig {
    /// `tiny`, `base`, `large`, or a `config.json`; a model that inherits has its parent's.
    shape: String,
    /// Fields of a `config.json` that are otherwise, such as `vision_config.image_size`.
    dimensions: Option<Value>,
    /// The words of a fresh model; where one that inherits names them, it has these instead of its
    /// parent's, and what the parent knew of those they share.
    vocabulary: Option<VocabularyConfig>,
    /// What of a parent is taken.
    inherits: Inheritance,
    /// SPDX expression of the weights.
    pub(super) licence: String,
}

/// Where words come from.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
enum VocabularyConfig {
    /// A `vocab.txt`.
    File { path: PathBuf },
    /// The words of the captions of a world of scenes.
    Captions { world: World },
    /// The words of all texts of a world of scenes, and of what the web says of them.
    Texts { world: World },
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            shape: "tiny".to_owned(),
            dimensions: None,
            vocabulary: None,
            inherits: Inheritance::All,
            licence: "MIT OR Apache-2.0".to_owned(),
        }
    }
}

/// A model before its first step.
pub(super) struct Start {
    pub(super) learner: Learner,
    pub(super) config: BlipConfig,
    pub(super) networks: Networks,
    pub(super) tokenizer: Arc<Tokenizer>,
    /// The `vocab.txt`.
    pub(super) vocabulary: Vec<u8>,
    /// Parameters that the parent had not their like of.
    pub(super) fresh: Vec<String>,
}

impl ModelConfig {
    /// The model of a stage, with the weights of `parent` where there is one.
    pub(super) fn start(&self, stage: Stage, recipe: &Recipe, parent: Option<&Path>) -> Result<Start> {
        let device = Device::flex().autodiff();
        let mut start = match parent {
            Some(parent) => self.inherited(stage, recipe, parent, &device)?,
            None => self.fresh(stage, recipe, &device)?,
        };
        if recipe.stem.prepared {
            start.learner.blip.vision = start.learner.blip.vision.prepared_for_training();
        }
        start.learner.contrast = recipe.contrast.map(|_| Contrast::new(&device));
        Ok(start)
    }

    fn inherited(&self, stage: Stage, recipe: &Recipe, parent: &Path, device: &Device) -> Result<Start> {
        let (checkpoint, config) = open_checkpoint(parent)?;
        let checkpoint = written_out(checkpoint, &config)?;
        let config = self.with_dimensions(config)?;
        let folder = if parent.is_dir() { parent } else { parent.parent().unwrap_or(Path::new(".")) };
        let words = match manifest_in(parent)? {
            Some(manifest) => folder.join(&manifest.files.vocab.path),
            None => folder.join("vocab.txt"),
        };
        let mut vocabulary = complete_vocabulary(&read(&words)?, &config)?;
        let (mut checkpoint, mut config) = (checkpoint, config);
        if let Some(wanted) = &self.vocabulary {
            let other = wanted.lines()?;
            checkpoint = reworded(&checkpoint, &words_of(&vocabulary), &words_of(&other), recipe.seed)?;
            vocabulary = other;
        }
        let tokenizer = Arc::new(Tokenizer::from_vocab(&vocabulary)?);
        if self.vocabulary.is_some() {
            config = speaking(config, &tokenizer);
        }
        let networks = stage.networks(&config);
        let inherited = inherit(&checkpoint, &config, &networks, self.inherits, recipe.seed, device)?;
        let learner = Learner { blip: inherited.model, contrast: None };
        Ok(Start { learner, config, networks, tokenizer, vocabulary, fresh: inherited.fresh })
    }

    fn fresh(&self, stage: Stage, recipe: &Recipe, device: &Device) -> Result<Start> {
        let Some(words) = &self.vocabulary else {
            let message = "a model that begins from nothing needs [model.vocabulary] with a kind, \
                           and one that does not --init";
            bail!(Error::new(ErrorKind::BadOption, message));
        };
        let vocabulary = words.lines()?;
        let tokenizer = Arc::new(Tokenizer::from_vocab(&vocabulary)?);
        let config = match &*self.shape {
            "tiny" => BlipConfig::tiny(tokenizer.vocab_size(), tokenizer.dec(), tokenizer.sep()),
            "base" => BlipConfig::base(),
            "large" => BlipConfig::large(),
            path => BlipConfig::from_json(&String::from_utf8_lossy(&read(Path::new(path))?))?,
        };
        let config = self.with_dimensions(speaking(config, &tokenizer))?;
        let networks = stage.networks(&config);
        let mut source = FreshParameters::new(recipe.seed, device);
        let blip = Blip::build(&mut source, &config, &networks);
        let learner = Learner { blip, contrast: None };
        Ok(Start { learner, config, networks, tokenizer, vocabulary, fresh: Vec::new() })
    }

    fn with_dimensions(&self, config: BlipConfig) -> Result<BlipConfig> {
        let config = match &self.dimensions {
            Some(given) => overlaid(&config, given)?,
            None => config,
        };
        config.validate()?;
        Ok(config)
    }
}

/// A quantised checkpoint as the numbers that it stands for; any other as it is.
fn written_out(checkpoint: Checkpoint, config: &BlipConfig) -> Result<Checkpoint> {
    if !checkpoint.tensors.values().any(|tensor| matches!(tensor.dtype, Dtype::I8 | Dtype::U8)) {
        return Ok(checkpoint);
    }
    let container = Container::new(config, &checkpoint, Quantisation::uniform(Precision::F32))?;
    let mut bytes = Vec::new();
    container.write("model.safetensors", &mut bytes, &mut |_| {})?;
    Ok(Checkpoint::from_safetensors(bytes)?)
}

impl VocabularyConfig {
    /// The `vocab.txt`.
    fn lines(&self) -> Result<Vec<u8>> {
        Ok(match self {
            Self::File { path } => read(path)?,
            Self::Captions { world } => lines(&world.words()),
            Self::Texts { world } => lines(&[world.text_words(), Noise::words()].concat()),
        })
    }
}

/// The lines of a `vocab.txt`.
fn words_of(vocabulary: &[u8]) -> Vec<&str> {
    std::str::from_utf8(vocabulary).unwrap_or_default().lines().collect()
}

/// A configuration with the sizes and the marks of a vocabulary.
fn speaking(mut config: BlipConfig, tokenizer: &Tokenizer) -> BlipConfig {
    let text = &mut config.text_config;
    text.vocab_size = tokenizer.vocab_size();
    (text.bos_token_id, text.sep_token_id, text.pad_token_id) =
        (tokenizer.dec(), tokenizer.sep(), tokenizer.pad());
    config
}

/// A `vocab.txt` of these words.
fn lines(words: &[String]) -> Vec<u8> {
    (vocabulary(words).join("\n") + "\n").into_bytes()
}

impl Stage {
    /// The networks that a stage trains (spec §1.6).
    pub(super) fn networks(self, config: &BlipConfig) -> Networks {
        let (image, text) = (config.vision_config.hidden_size, config.text_config.hidden_size);
        let encoder = Networks {
            vision: true,
            text_encoder: true,
            decoder: None,
            tied_lm: true,
            itc: false,
            itm: false,
            nlvr2: false,
        };
        match self {
            Self::Pretrain => {
                Networks { decoder: Some(DecoderNetwork::Shared), itc: true, itm: true, ..encoder }
            }
            Self::Caption => Networks::caption(image),
            Self::Retrieval => Networks { itc: true, itm: true, ..encoder },
            Self::Vqa => Networks { decoder: Some(DecoderNetwork::Own { grounding_width: text }), ..encoder },
            Self::Nlvr2 => Networks { nlvr2: true, ..encoder },
            Self::Dialogue => Networks { itm: true, ..encoder },
        }
    }
}
