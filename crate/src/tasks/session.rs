//! Models that are ready to be asked, and what they see of a picture.

use std::sync::Arc;

use burn::tensor::Tensor;
use image::RgbImage;

use super::part::{ModelLoader, Part, Task, find};
use super::picture::{Identity, Picture, View};
use crate::config::BlipConfig;
use crate::device::OpenDevice;
use crate::image::{cut, preprocess, resize_bicubic};
use crate::kernels;
use crate::model::{Grounding, Med, Networks};
use crate::tokenizer::Tokenizer;
use crate::weights::{Checkpoint, Manifest};
use crate::{Error, ErrorKind, Result};

/// Models on a device. Those with the same image encoder share it.
#[derive(Debug)]
pub struct Session {
    pub(super) parts: Vec<Part>,
    pub(super) device: OpenDevice,
    /// Another one whenever parts change their places.
    identity: Identity,
}

/// The most pictures that are encoded side by side: what they need grows with their number.
pub const BATCH: usize = 8;

impl Session {
    /// A session without a model, on `device`.
    pub fn new(device: &OpenDevice) -> Self {
        Self { parts: Vec::new(), device: device.clone(), identity: Identity::default() }
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

    /// Runs the vision encoder on a picture, resized to the model's square as in the reference.
    ///
    /// Where the session has several image encoders, the others follow when a task asks for them.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] and its kin when the device fails, or returns something that is not a
    /// number; [`ErrorKind::TaskUnsupported`] without a model.
    pub async fn encode(&self, picture: &RgbImage) -> Result<Picture> {
        self.encode_video(std::slice::from_ref(picture)).await
    }

    /// As [`encode`](Self::encode), for several pictures side by side, [`BATCH`] at a time.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub async fn encode_many(&self, pictures: &[RgbImage]) -> Result<Vec<Picture>> {
        let mut encoded = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(BATCH) {
            let first = self.first_tower()?;
            let squares: Vec<RgbImage> = batch.iter().map(|picture| square(picture, first)).collect();
            let tokens = self.run_tower(first, &squares).await?;
            for (nth, picture) in batch.iter().enumerate() {
                let own = one_of(&tokens, nth);
                encoded.push(self.picture(std::slice::from_ref(picture), first, own));
            }
        }
        Ok(encoded)
    }

    /// As [`encode`](Self::encode), for the frames of a clip, which every task then sees as one picture.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and [`ErrorKind::BadOption`] without a frame or with more than
    /// [`FRAMES`].
    pub async fn encode_video(&self, frames: &[RgbImage]) -> Result<Picture> {
        if frames.is_empty() || frames.len() > FRAMES {
            let message = format!("a clip of {} frames, expected 1 to {FRAMES}", frames.len());
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let first = self.first_tower()?;
        let squares: Vec<RgbImage> = frames.iter().map(|frame| square(frame, first)).collect();
        let tokens = self.run_tower(first, &squares).await?;
        Ok(self.picture(frames, first, tokens))
    }

    /// The image tokens that a part sees: `[frames, tokens, dim]`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); [`ErrorKind::BadOption`] for a picture that was encoded before the
    /// part was added, or by another session.
    pub async fn tokens(&self, picture: &Picture, part: &Part) -> Result<Tensor<3>> {
        picture.check(&self.identity)?;
        match picture.view(part.tower) {
            View::Tokens(tokens) => Ok(*tokens),
            View::Squares(squares) => {
                let tokens = self.run_tower(&self.parts[part.tower], &squares).await?;
                picture.keep_tokens(part.tower, tokens.clone());
                Ok(tokens)
            }
            View::Absent => {
                let message = "the picture was encoded before this model was loaded; encode it again";
                Err(Error::new(ErrorKind::BadOption, message))
            }
        }
    }

    /// Keys and values over a picture's tokens for a part's text encoder. All frames are one sequence.
    ///
    /// # Errors
    /// As [`tokens`](Self::tokens), and [`ErrorKind::TaskUnsupported`] without a text encoder.
    pub async fn grounding(&self, picture: &Picture, part: &Part) -> Result<Grounding> {
        let encoder = part.model.text_encoder.as_ref();
        self.grounding_of(picture, part, encoder, 2 * part.index).await
    }

    /// As [`grounding`](Self::grounding), for a part's decoder.
    ///
    /// # Errors
    /// As [`grounding`](Self::grounding), without a decoder.
    pub async fn caption_grounding(&self, picture: &Picture, part: &Part) -> Result<Grounding> {
        // A decoder that is the encoder with other self-attention reads the same keys and values.
        let own = usize::from(part.model.text_decoder.is_some());
        self.grounding_of(picture, part, part.model.decoder(), 2 * part.index + own).await
    }

    async fn grounding_of(
        &self,
        picture: &Picture,
        part: &Part,
        reader: Option<&Med>,
        place: usize,
    ) -> Result<Grounding> {
        picture.check(&self.identity)?;
        if let Some(known) = picture.grounding(place) {
            return Ok(known);
        }
        let missing = || Error::new(ErrorKind::TaskUnsupported, "this model lacks the text network for that");
        let reader = reader.ok_or_else(missing)?;
        let tokens = sequence(self.tokens(picture, part).await?);
        let grounding = Grounding::new(reader.cross_kv(tokens));
        picture.keep_grounding(place, grounding.clone());
        Ok(grounding)
    }

    fn first_tower(&self) -> Result<&Part> {
        let missing = || Error::new(ErrorKind::TaskUnsupported, "no model is loaded");
        self.parts.first().ok_or_else(missing)
    }

    /// A picture whose tokens are known for one image encoder.
    fn picture(&self, frames: &[RgbImage], known: &Part, tokens: Tensor<3>) -> Picture {
        let view = |part: &Part| {
            if part.tower != part.index {
                return View::Absent;
            }
            if part.index == known.index {
                return View::Tokens(Box::new(tokens.clone()));
            }
            View::Squares(Arc::new(frames.iter().map(|frame| square(frame, part)).collect()))
        };
        Picture::new(&self.identity, frames.len(), self.parts.iter().map(view).collect())
    }

    /// Image tokens of squares of the encoder's size: `[squares, tokens, dim]`.
    async fn run_tower(&self, part: &Part, squares: &[RgbImage]) -> Result<Tensor<3>> {
        let [size, patch] = part.square();
        let grid = size / patch;
        let patches: Vec<f32> =
            squares.iter().flat_map(|square| cut(&preprocess(square, size), size, patch)).collect();
        let shape = [squares.len(), grid * grid, 3 * patch * patch];
        let vision = &part.model.vision;
        let patches = kernels::floats(patches, shape, &self.device.device, vision.activations());
        let tokens = vision.forward_patches(patches, [grid, grid]);
        // Two numbers a picture tell that the device is done and every value sane, before anything is
        // built on them: the highest value, and the log-sum-exp of all.
        let [batch, count, width] = tokens.dims();
        let probe = kernels::top_k(kernels::view(tokens.clone(), [batch, count * width]), 1);
        if self.device.read(probe).await?.iter().all(|value| value.is_finite()) {
            return Ok(tokens);
        }
        Err(Error::new(ErrorKind::Gpu, "the image encoder returned a value that is not a number"))
    }
}

/// The most frames of a clip; the reference uses 8 for retrieval and 16 for questions.
pub const FRAMES: usize = 32;

/// All frames' tokens as those of one picture: `[frames, tokens, dim]` to `[1, frames·tokens, dim]`.
pub(super) fn sequence(tokens: Tensor<3>) -> Tensor<3> {
    let [frames, count, width] = tokens.dims();
    kernels::view(tokens, [1, frames * count, width])
}

/// One picture of a batch: `[batch, tokens, dim]` to `[1, tokens, dim]`.
fn one_of(tokens: &Tensor<3>, nth: usize) -> Tensor<3> {
    let [batch, count, width] = tokens.dims();
    if batch == 1 {
        return tokens.clone();
    }
    let rows = kernels::rows(kernels::view(tokens.clone(), [batch * count, width]), nth * count, count);
    kernels::view(rows, [1, count, width])
}

fn square(picture: &RgbImage, part: &Part) -> RgbImage {
    let side = u32::try_from(part.square()[0]).unwrap_or(u32::MAX);
    resize_bicubic(picture, side, side)
}
