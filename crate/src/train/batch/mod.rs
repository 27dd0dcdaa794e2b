//! Batches: what a stage learns from in one step, made of records.
//!
//! A batch belongs to one *rank*, a part of a step's records that is computed by itself: as in the
//! reference, losses that compare examples with each other compare those of a rank.

mod captions;
mod dialogues;
mod images;
mod pairs;
mod questions;
mod statements;
mod texts;

use std::sync::Arc;

pub use captions::Captions;
pub use dialogues::Dialogues;
pub use images::HostImages;
pub use pairs::{Nearly, PairOptions, Pairs};
pub use questions::{Questions, QuestionsPerPicture};
pub use statements::Statements;
pub use texts::{HostTexts, HostWeights, Texts};

use super::data::Record;
use super::draw::Draw;
use crate::config::BlipConfig;
use crate::tokenizer::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// How records become batches.
#[derive(Clone, Debug)]
pub struct Preparation {
    /// Text to ids.
    pub tokenizer: Arc<Tokenizer>,
    /// Side of the model's pictures in pixels.
    pub image_size: usize,
    /// Tokens of a text, special ones included, that are kept.
    pub longest: usize,
}

impl Preparation {
    /// For a model of this configuration; texts are cut to `longest`, or to what the model reads.
    pub fn new(tokenizer: Arc<Tokenizer>, config: &BlipConfig, longest: usize) -> Self {
        let longest = longest.min(config.text_config.max_position_embeddings);
        Self { tokenizer, image_size: config.vision_config.image_size, longest }
    }

    fn images(&self) -> HostImages {
        HostImages::new(self.image_size)
    }

    fn texts(&self) -> HostTexts {
        HostTexts::new(&self.tokenizer)
    }
}

/// The first tokens that tell a text network its task (spec §1.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskTokens {
    /// `[CLS]`: text alone.
    pub cls: u32,
    /// `[ENC]`: text that looks at an image.
    pub enc: u32,
    /// `[DEC]`: text that is generated.
    pub dec: u32,
}

impl TaskTokens {
    /// Those of a vocabulary.
    pub fn of(tokenizer: &Tokenizer) -> Self {
        Self { cls: tokenizer.cls(), enc: tokenizer.enc(), dec: tokenizer.dec() }
    }
}

/// A batch of one rank.
pub trait Batch: Sized + Send + 'static {
    /// What such a batch needs to know beside [`Preparation`].
    type Options: Clone + Send + Sync + std::fmt::Debug + 'static;

    /// Records that such a batch has at least.
    const FEWEST: usize = 1;

    /// The batch of these records; where a record has several texts, `draw` says which is taken.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when a record has not what the stage learns from.
    fn of(
        records: &[Record],
        preparation: &Preparation,
        options: &Self::Options,
        draw: &mut Draw,
    ) -> Result<Self>;
}

/// The first picture of a record.
fn picture(record: &Record) -> Result<&image::RgbImage> {
    record.images.first().ok_or_else(|| lacks(record, "a picture"))
}

/// One of several.
fn one<'a, T>(of: &'a [T], record: &Record, what: &str, draw: &mut Draw) -> Result<&'a T> {
    match of {
        [] => Err(lacks(record, what)),
        [only] => Ok(only),
        several => Ok(&several[draw.below(several.len())]),
    }
}

fn lacks(record: &Record, what: &str) -> Error {
    let message = format!("record `{}` has not {what}, which this stage learns from", record.key);
    Error::new(ErrorKind::BadOption, message)
}

#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::train::data::Texts;
    use image::RgbImage;

    pub(super) fn preparation() -> Preparation {
        let vocabulary =
            b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\nred\ncar\nblue\nleft\nright\nof\nis\nit\nyes\nno\nthe\n?";
        let tokenizer = Arc::new(Tokenizer::from_vocab(vocabulary).unwrap());
        let config = BlipConfig::tiny(tokenizer.vocab_size(), tokenizer.dec(), tokenizer.sep());
        Preparation::new(tokenizer, &config, 8)
    }

    pub(super) fn record(key: &str, images: usize, texts: Texts) -> Record {
        Record { key: key.to_owned(), images: vec![RgbImage::new(4, 4); images], texts }
    }

    pub(super) fn draw() -> Draw {
        Draw::new(1, crate::train::draw::Purpose::Records, 0, 0)
    }
}
