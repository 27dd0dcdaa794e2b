//! From pixels to what the networks look at: image tokens, and keys and values over them.

use std::slice;
use std::sync::Arc;

use burn::tensor::Tensor;
use image::RgbImage;

use super::part::{Part, Task};
use super::picture::{Picture, View};
use super::session::Session;
use crate::image::{cut, preprocess, resize_bicubic};
use crate::kernels;
use crate::model::{Grounding, Med};
use crate::{Error, ErrorKind, Result};

/// The most pictures, or frames of a clip, that are encoded side by side: what they need grows with their
/// number.
pub const BATCH: usize = 8;

/// The most frames of a clip; the reference uses 8 for retrieval and 16 for questions.
pub const FRAMES: usize = 32;

/// The most frames whose keys and values are kept with a picture. Those of one frame are 42 MB of floats for
/// each text network of BLIP base (spec §11.2); for a longer clip they are computed at every question.
const KEPT_FRAMES: usize = 8;

impl Session {
    /// Runs the vision encoder on a picture, resized to the model's square as in the reference.
    ///
    /// Where the session has several image encoders, it is that of the first model; the others follow when
    /// a task asks for them.
    ///
    /// # Errors
    /// [`ErrorKind::Gpu`] and its kin when the device fails, or returns something that is not a
    /// number; [`ErrorKind::TaskUnsupported`] without a model.
    pub async fn encode(&self, picture: &RgbImage) -> Result<Picture> {
        self.encode_video(slice::from_ref(picture)).await
    }

    /// As [`encode`](Self::encode), for several pictures side by side, [`BATCH`] at a time.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub async fn encode_many(&self, pictures: &[RgbImage]) -> Result<Vec<Picture>> {
        self.encode_for(&[], pictures).await
    }

    /// As [`encode_many`](Self::encode_many), by the image encoders that these tasks look with and no
    /// others; without a task, by that of the first model. [`tasks_of`](Self::tasks_of) tells the tasks of a
    /// request.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and [`ErrorKind::TaskUnsupported`] for a task that no model was
    /// trained for.
    pub async fn encode_for(&self, tasks: &[Task], pictures: &[RgbImage]) -> Result<Vec<Picture>> {
        let towers = self.towers_of(tasks)?;
        let mut encoded = Vec::with_capacity(pictures.len());
        for batch in pictures.chunks(BATCH) {
            let unseen: Vec<Picture> =
                batch.iter().map(|picture| self.unseen(slice::from_ref(picture))).collect();
            self.look_with(&towers, &unseen).await?;
            encoded.extend(unseen);
        }
        Ok(encoded)
    }

    /// As [`encode`](Self::encode), for the frames of a clip, which every task then sees as one picture.
    ///
    /// # Errors
    /// As [`encode`](Self::encode), and [`ErrorKind::BadOption`] without a frame or with more than
    /// [`FRAMES`].
    pub async fn encode_video(&self, frames: &[RgbImage]) -> Result<Picture> {
        self.encode_video_for(&[], frames).await
    }

    /// As [`encode_video`](Self::encode_video), by the image encoders that these tasks look with; see
    /// [`encode_for`](Self::encode_for).
    ///
    /// # Errors
    /// As [`encode_video`](Self::encode_video) and [`encode_for`](Self::encode_for).
    pub async fn encode_video_for(&self, tasks: &[Task], frames: &[RgbImage]) -> Result<Picture> {
        if frames.is_empty() || frames.len() > FRAMES {
            let message = format!("a clip of {} frames, expected 1 to {FRAMES}", frames.len());
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let towers = self.towers_of(tasks)?;
        let clip = self.unseen(frames);
        self.look_with(&towers, slice::from_ref(&clip)).await?;
        Ok(clip)
    }

    /// Shows encoded pictures to the image encoders that these tasks look with, side by side. Those that
    /// have seen a picture are not run again; a task by itself would run them one picture after another.
    ///
    /// # Errors
    /// As [`encode_for`](Self::encode_for); [`ErrorKind::BadOption`] for a picture of another session.
    pub async fn look(&self, tasks: &[Task], pictures: &[Picture]) -> Result<()> {
        if pictures.is_empty() {
            return Ok(());
        }
        self.look_with(&self.towers_of(tasks)?, pictures).await
    }

    /// The image tokens that a part sees: `[frames, tokens, dim]`.
    ///
    /// # Errors
    /// As [`encode`](Self::encode); [`ErrorKind::BadOption`] for a picture that was encoded before the
    /// part was added, or by another session.
    pub async fn tokens(&self, picture: &Picture, part: &Part) -> Result<Tensor<3>> {
        self.look_with(&[&self.parts[part.tower]], slice::from_ref(picture)).await?;
        match picture.view(part.tower) {
            View::Tokens(tokens) => Ok(*tokens),
            View::Squares(_) | View::Absent => {
                let message = "the picture was encoded before this model was loaded; encode it again";
                Err(Error::new(ErrorKind::BadOption, message))
            }
        }
    }

    /// Keys and values over a picture's tokens for a part's text encoder. All frames are one sequence.
    ///
    /// Those of a picture, and of a clip of up to eight frames, are computed once.
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
        if picture.frames() <= KEPT_FRAMES {
            picture.keep_grounding(place, grounding.clone());
        }
        Ok(grounding)
    }

    /// The parts whose image encoders these tasks look with, each once; without a task the first.
    fn towers_of(&self, tasks: &[Task]) -> Result<Vec<&Part>> {
        if tasks.is_empty() {
            let missing = || Error::new(ErrorKind::TaskUnsupported, "no model is loaded");
            return Ok(vec![self.parts.first().ok_or_else(missing)?]);
        }
        let mut towers: Vec<&Part> = Vec::new();
        for task in tasks {
            let tower = &self.parts[self.part(*task)?.tower];
            if towers.iter().all(|known| known.index != tower.index) {
                towers.push(tower);
            }
        }
        Ok(towers)
    }

    /// A picture that no image encoder has seen yet.
    fn unseen(&self, frames: &[RgbImage]) -> Picture {
        let mut sizes: Vec<(usize, Arc<Vec<RgbImage>>)> = Vec::new();
        let view = |part: &Part| {
            if part.tower != part.index {
                return View::Absent;
            }
            let [size, _] = part.square();
            if let Some((_, squares)) = sizes.iter().find(|(known, _)| *known == size) {
                return View::Squares(Arc::clone(squares));
            }
            let squares = Arc::new(frames.iter().map(|frame| square(frame, size)).collect());
            sizes.push((size, Arc::clone(&squares)));
            View::Squares(squares)
        };
        Picture::new(&self.identity, frames.len(), self.parts.iter().map(view).collect())
    }

    /// Runs image encoders on those of the pictures that they have not seen.
    async fn look_with(&self, towers: &[&Part], pictures: &[Picture]) -> Result<()> {
        for picture in pictures {
            picture.check(&self.identity)?;
        }
        for tower in towers {
            let squares = |picture: &Picture| match picture.view(tower.index) {
                View::Squares(squares) => Some(squares),
                View::Tokens(_) | View::Absent => None,
            };
            let waiting = pictures.iter().filter_map(|picture| Some((picture, squares(picture)?)));
            let (single, clips): (Vec<_>, Vec<_>) = waiting.partition(|(picture, _)| picture.frames() == 1);
            for batch in single.chunks(BATCH) {
                let squares: Vec<&RgbImage> = batch.iter().flat_map(|(_, squares)| squares.iter()).collect();
                let tokens = self.run_tower(tower, &squares).await?;
                for (nth, (picture, _)) in batch.iter().enumerate() {
                    picture.keep_tokens(tower.index, some_of(&tokens, nth, 1));
                }
            }
            for (clip, squares) in clips {
                let squares: Vec<&RgbImage> = squares.iter().collect();
                let (first, later) = squares.split_at(BATCH.min(squares.len()));
                let mut tokens = self.run_tower(tower, first).await?;
                for batch in later.chunks(BATCH) {
                    tokens = stacked(tokens, self.run_tower(tower, batch).await?);
                }
                clip.keep_tokens(tower.index, tokens);
            }
        }
        Ok(())
    }

    /// Image tokens of squares of the encoder's size: `[squares, tokens, dim]`.
    async fn run_tower(&self, part: &Part, squares: &[&RgbImage]) -> Result<Tensor<3>> {
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

/// All frames' tokens as those of one picture: `[frames, tokens, dim]` to `[1, frames·tokens, dim]`.
pub(super) fn sequence(tokens: Tensor<3>) -> Tensor<3> {
    let [frames, count, width] = tokens.dims();
    kernels::view(tokens, [1, frames * count, width])
}

/// One batch behind another: `[a, tokens, dim]` and `[b, tokens, dim]` to `[a + b, tokens, dim]`.
pub(super) fn stacked(first: Tensor<3>, second: Tensor<3>) -> Tensor<3> {
    let ([before, count, width], [behind, ..]) = (first.dims(), second.dims());
    let flat = |x: Tensor<3>, batch: usize| kernels::view(x, [1, batch * count * width]);
    let both = kernels::join(flat(first, before), flat(second, behind));
    kernels::view(both, [before + behind, count, width])
}

/// Some of a batch: `[batch, tokens, dim]` to `[some, tokens, dim]`.
pub(super) fn some_of(tokens: &Tensor<3>, first: usize, some: usize) -> Tensor<3> {
    let [batch, count, width] = tokens.dims();
    if batch == some {
        return tokens.clone();
    }
    let rows = kernels::view(tokens.clone(), [batch * count, width]);
    kernels::view(kernels::rows(rows, first * count, some * count), [some, count, width])
}

fn square(picture: &RgbImage, size: usize) -> RgbImage {
    let side = u32::try_from(size).unwrap_or(u32::MAX);
    resize_bicubic(picture, side, side)
}

#[cfg(all(test, feature = "flex", feature = "cli"))]
mod tests {
    use super::*;
    use crate::config::BlipConfig;
    use crate::device::{DeviceKind, OpenDevice, block_on};
    use crate::weights::random_checkpoint;

    #[test]
    fn keys_and_values_are_kept_of_a_picture_and_of_no_long_clip() {
        let mut config = BlipConfig::tiny(7, 5, 3);
        config.vision_config.image_size = 2 * config.vision_config.patch_size;
        let device = block_on(OpenDevice::open(DeviceKind::Cpu)).unwrap();
        let vocab = b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n[DEC]\n[ENC]\n";
        let session =
            Session::from_checkpoint(&config, &random_checkpoint(&config, 1), vocab, &device).unwrap();
        let part = &session.parts()[0];
        let kept = |frames: usize| {
            let clip = block_on(session.encode_video(&vec![RgbImage::new(9, 9); frames])).unwrap();
            block_on(session.caption_grounding(&clip, part)).unwrap();
            (0..2).any(|place| clip.grounding(place).is_some())
        };
        assert_eq!([1, KEPT_FRAMES, KEPT_FRAMES + 1, FRAMES].map(kept), [true, true, false, false]);
    }
}
