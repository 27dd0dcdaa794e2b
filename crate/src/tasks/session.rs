//! A model that is ready to be asked.

use burn::tensor::Tensor;
use image::RgbImage;

use super::caption::{CaptionOptions, CaptionProgress};
use crate::config::BlipConfig;
use crate::device::OpenDevice;
use crate::generate::{Control, GenerateConfig};
use crate::image::{cut, preprocess};
use crate::kernels::{self, Format};
use crate::model::{Blip, Networks};
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Loader, Manifest, formats, load_as};
use crate::{Error, ErrorKind, Result};

/// A model, its tokenizer and the device both belong to.
#[derive(Debug)]
pub struct Session {
    pub(crate) config: BlipConfig,
    pub(crate) networks: Networks,
    pub(crate) model: Blip,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) device: OpenDevice,
    /// How its matrices were stored, each way once.
    pub(crate) formats: Vec<Format>,
}

/// The image tokens of one picture, on the device: encode once, ask often.
#[derive(Clone, Debug)]
pub struct Picture {
    pub(crate) tokens: Tensor<3>,
}

impl Session {
    /// Loads a model directory's files: verifies their digests, then builds the model.
    ///
    /// # Errors
    /// As [`from_loader`](Self::from_loader).
    pub fn from_manifest(
        manifest: &Manifest,
        weights: &[u8],
        vocab: &[u8],
        device: &OpenDevice,
    ) -> Result<Self> {
        let mut loader = Loader::new(manifest, &device.device).in_halves(device.halves());
        loader.push(weights)?;
        Self::from_loader(manifest, loader, vocab, device)
    }

    /// Builds a session from a configuration, stored tensors and a vocabulary (one token a line).
    ///
    /// # Errors
    /// [`ErrorKind::BadVocabulary`] when vocabulary and configuration disagree, and whatever
    /// [`load_as`] finds wrong with the weights.
    pub fn from_checkpoint(
        config: &BlipConfig,
        checkpoint: &Checkpoint,
        vocab: &[u8],
        device: &OpenDevice,
    ) -> Result<Self> {
        let tokenizer = Tokenizer::from_vocab(vocab)?;
        check_tokens(config, &tokenizer)?;
        let (model, networks) = load_as(config, checkpoint, &device.device, device.halves())?;
        let formats = formats(config, checkpoint, &device.device)?;
        Ok(Self { config: config.clone(), networks, model, tokenizer, device: device.clone(), formats })
    }

    /// Builds a session from a loader on `device` that was given all of the manifest's weights, and the
    /// manifest's vocabulary.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when either is not the manifest's, [`ErrorKind::BadVocabulary`] when
    /// vocabulary and configuration disagree, and whatever [`Loader::finish`] finds wrong with the weights.
    pub fn from_loader(
        manifest: &Manifest,
        loader: Loader,
        vocab: &[u8],
        device: &OpenDevice,
    ) -> Result<Self> {
        manifest.files.vocab.verify(vocab)?;
        let tokenizer = Tokenizer::from_vocab(vocab)?;
        check_tokens(&manifest.config, &tokenizer)?;
        let formats = loader.formats();
        let (model, networks) = loader.finish()?;
        let config = manifest.config.clone();
        Ok(Self { config, networks, model, tokenizer, device: device.clone(), formats })
    }

    /// The model's dimensions.
    pub fn config(&self) -> &BlipConfig {
        &self.config
    }

    /// The networks that were in the checkpoint.
    pub fn networks(&self) -> &Networks {
        &self.networks
    }

    /// The device the session runs on.
    pub fn device(&self) -> &OpenDevice {
        &self.device
    }

    /// The tokenizer of the checkpoint.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Runs the vision encoder on a picture, resized to the model's square as in the reference.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] and its kin when the device fails, or returns something that is not a
    /// number.
    pub async fn encode(&self, picture: &RgbImage) -> Result<Picture> {
        let size = self.config.vision_config.image_size;
        let patch = self.config.vision_config.patch_size;
        let grid = size / patch;
        let patches = cut(&preprocess(picture, size), size, patch);
        let shape = [1, grid * grid, 3 * patch * patch];
        let patches = kernels::floats(patches, shape, &self.device.device, self.model.vision.activations());
        let tokens = self.model.vision.forward_patches(patches, [grid, grid]);
        // Two numbers tell that the device is done and every value sane, before a caption is built on
        // them: the highest value, and the log-sum-exp of all.
        let [_, count, width] = tokens.dims();
        let probe = kernels::top_k(kernels::view(tokens.clone(), [1, count * width]), 1);
        if self.device.read(probe).await?.iter().all(|value| value.is_finite()) {
            return Ok(Picture { tokens });
        }
        Err(Error::new(ErrorKind::Gpu, "the image encoder returned a value that is not a number"))
    }

    /// Compiles every GPU pipeline that captioning uses, by captioning a blank picture in steps, and
    /// takes the memory that captions will need.
    ///
    /// `on_progress` is told how many steps of how many are done. The device is waited for after each,
    /// so that a browser's event loop turns in between.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub async fn warm_up(&self, on_progress: &mut dyn FnMut(usize, usize)) -> Result<()> {
        let captions = if self.networks.tasks().contains(&"caption") { WARM_UP_BEAMS } else { &[] };
        let steps = 1 + captions.len();
        let size = u32::try_from(self.config.vision_config.image_size).unwrap_or(1);
        let blank = self.encode(&RgbImage::from_pixel(size, size, image::Rgb([255; 3]))).await?;
        on_progress(1, steps);
        for (done, num_beams) in captions.iter().enumerate() {
            // Room for a caption of the usual length, of which only the beginning is written.
            let generate =
                GenerateConfig { num_beams: *num_beams, min_length: 20, ..GenerateConfig::default() };
            let options = CaptionOptions { generate, ..CaptionOptions::default() };
            let mut tokens = 0;
            let mut enough = |_: CaptionProgress| {
                tokens += 1;
                if tokens < WARM_UP_TOKENS { Control::Continue } else { Control::Cancel }
            };
            match self.caption_picture(&blank, &options, &mut enough).await {
                Err(error) if error.kind() != ErrorKind::Aborted => return Err(error),
                _ => on_progress(2 + done, steps),
            }
        }
        Ok(())
    }
}

/// The searches that are warmed up: greedy, and with as many beams as the reference uses.
const WARM_UP_BEAMS: &[usize] = &[1, 3];
/// Enough to run the prompt, cached steps, and for beams a reorder.
const WARM_UP_TOKENS: usize = 4;

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
