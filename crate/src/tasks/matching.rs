//! Whether a text belongs to a picture: ITM's probability and ITC's cosine (paper §3.2).

use burn::tensor::{Int, Tensor};
use serde::{Deserialize, Serialize};

use super::features::dot;
use super::part::{Part, Task};
use super::picture::Picture;
use super::session::Session;
use crate::generate::Control;
use crate::model::{TextMode, integers};
use crate::tokenizer::{Tokenizer, pre_caption};
use crate::{Error, ErrorKind, Result};

/// How text is prepared. The code bases differ, and their scores with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Convention {
    /// The original repository's evaluation, which is how the models were trained: cleaned text, 30
    /// words (for clips 40), 35 tokens, `[ENC]` first where the text looks at the image.
    #[default]
    Orig,
    /// transformers: the text as it is, `[CLS]` first everywhere. The original's stand-alone ITM class
    /// does the same, but cuts at 35 tokens.
    Hf,
    /// LAVIS: as `Orig`, with up to 50 words.
    Lavis,
}

/// Tokens of a text, special ones included, that the original and LAVIS keep.
const LONGEST: usize = 35;

impl Convention {
    /// Ids of a text that is about a picture, or a clip of so many frames: for the image-grounded encoder
    /// if `grounded`, and the unimodal one otherwise.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for text longer than the tokenizer reads.
    pub fn ids(self, part: &Part, text: &str, grounded: bool, frames: usize) -> Result<Vec<u32>> {
        let tokenizer = &part.tokenizer;
        let positions = part.config.text_config.max_position_embeddings;
        let (mut ids, longest) = match self.words(frames) {
            Some(words) => (tokenizer.encode(&pre_caption(text, words))?, LONGEST),
            None => (tokenizer.encode(text)?, positions),
        };
        cut(&mut ids, longest.min(positions), tokenizer);
        if grounded && self != Self::Hf {
            ids[0] = tokenizer.enc();
        }
        Ok(ids)
    }

    /// How many words of a cleaned text are read beside so many frames (spec §3.6); `None` where it is not
    /// cleaned.
    pub(super) fn words(self, frames: usize) -> Option<usize> {
        match self {
            Self::Orig if frames > 1 => Some(40),
            Self::Orig => Some(30),
            Self::Lavis => Some(50),
            Self::Hf => None,
        }
    }
}

/// Shortens a text to so many tokens, of which the last stays `[SEP]`.
pub(super) fn cut(ids: &mut Vec<u32>, longest: usize, tokenizer: &Tokenizer) {
    if ids.len() > longest {
        ids.truncate(longest);
        if let Some(last) = ids.last_mut() {
            *last = tokenizer.sep();
        }
    }
}

/// What to compare, and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct MatchOptions {
    /// The texts.
    pub texts: Vec<String>,
    /// What to compute; both where there are networks for both, when left out.
    #[serde(default)]
    pub heads: Option<Vec<Head>>,
    /// How text is prepared.
    #[serde(default)]
    pub convention: Convention,
}

/// One of the two ways to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Head {
    /// Image-text matching: a classifier over text that looks at the image.
    Itm,
    /// Image-text contrast: the cosine of two features.
    Itc,
}

/// How well one text fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Match {
    /// The text.
    pub text: String,
    /// By ITM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itm: Option<ItmScore>,
    /// By ITC: the cosine of the two features, no temperature.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub itc: Option<f32>,
    /// ITM's logit plus ITC's cosine, which the reference ranks by (spec trap 26); one of them alone
    /// where only one was asked for.
    pub score: f32,
}

/// What the ITM head says.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ItmScore {
    /// Softmax of the two logits, at `match`.
    pub probability: f32,
    /// The logit of `match`.
    pub logit: f32,
}

impl ItmScore {
    /// Of both logits: no match, match.
    pub(super) fn of(logits: [f32; 2]) -> Self {
        Self { probability: probability(logits), logit: logits[1] }
    }
}

/// Told how many of how many texts are done; may cancel.
pub type OnStep<'a> = &'a mut dyn FnMut(usize, usize) -> Control;

/// Texts that are encoded side by side.
pub(super) const BATCH: usize = 16;

impl Session {
    /// Compares a picture with texts.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] without a network for what is asked, [`ErrorKind::BadOption`]
    /// without a text, [`ErrorKind::Aborted`] when cancelled, and what the device fails with.
    pub async fn match_texts(
        &self,
        picture: &Picture,
        options: &MatchOptions,
        on_step: OnStep<'_>,
    ) -> Result<Vec<Match>> {
        if options.texts.is_empty() {
            return Err(Error::new(ErrorKind::BadOption, "option texts is empty"));
        }
        let (itm, itc) = self.heads(options.heads.as_deref())?;
        let texts = &options.texts;
        let logits = match itm {
            true => Some(self.itm_logits(picture, texts, options.convention, on_step).await?),
            false => None,
        };
        let cosines = match itc {
            true => {
                let image = self.image_feature(picture).await?;
                let (convention, frames) = (options.convention, picture.frames());
                let features = self.known_text_features(texts, convention, frames, on_step).await?;
                Some(features.iter().map(|feature| dot(&image, feature)).collect::<Vec<f32>>())
            }
            false => None,
        };
        let result = texts.iter().enumerate().map(|(nth, text)| {
            let itm = logits.as_ref().map(|logits| ItmScore::of(logits[nth]));
            let itc = cosines.as_ref().map(|cosines| cosines[nth]);
            let score = itm.map_or(0.0, |itm| itm.logit) + itc.unwrap_or(0.0);
            Match { text: text.clone(), itm, itc, score }
        });
        Ok(result.collect())
    }

    /// Which heads to use.
    pub(super) fn heads(&self, wanted: Option<&[Head]>) -> Result<(bool, bool)> {
        let Some(wanted) = wanted else {
            let (itm, itc) = (self.part(Task::Itm), self.part(Task::Itc).is_ok());
            return if itc { Ok((itm.is_ok(), true)) } else { itm.map(|_| (true, false)) };
        };
        let (itm, itc) = (wanted.contains(&Head::Itm), wanted.contains(&Head::Itc));
        if !itm && !itc {
            return Err(Error::new(ErrorKind::BadOption, "option heads is empty, expected itm, itc or both"));
        }
        if itm {
            self.part(Task::Itm)?;
        }
        if itc {
            self.part(Task::Itc)?;
        }
        Ok((itm, itc))
    }

    /// The two ITM logits of each text beside a picture: no match, match.
    ///
    /// # Errors
    /// As [`match_texts`](Self::match_texts).
    pub async fn itm_logits(
        &self,
        picture: &Picture,
        texts: &[String],
        convention: Convention,
        on_step: OnStep<'_>,
    ) -> Result<Vec<[f32; 2]>> {
        let part = self.part(Task::Itm)?;
        let (Some(encoder), Some(head)) = (&part.model.text_encoder, &part.model.itm) else {
            return Err(Error::new(ErrorKind::Internal, "a network for itm has an encoder and its head"));
        };
        let grounding = self.grounding(picture, part).await?;
        let mut found = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            let ids: Result<Vec<Vec<u32>>> =
                batch.iter().map(|text| convention.ids(part, text, true, picture.frames())).collect();
            let (ids, pads) = self.padded(&ids?, part.config.text_config.pad_token_id);
            let states = encoder.forward(ids, pads, Some(&grounding), TextMode::Grounded);
            let logits = self.read_finite(head.forward(states)).await?;
            found.extend(logits.as_chunks::<2>().0);
            step(on_step, found.len(), texts.len())?;
        }
        Ok(found)
    }

    /// Sequences side by side, `[batch, longest]`, and where they are padded.
    pub(super) fn padded(&self, rows: &[Vec<u32>], pad: u32) -> (Tensor<2, Int>, Option<Tensor<2, Int>>) {
        let device = &self.device.device;
        let longest = rows.iter().map(Vec::len).max().unwrap_or_default();
        let shape = [rows.len(), longest];
        let mut ids = Vec::with_capacity(rows.len() * longest);
        let mut pads = Vec::with_capacity(ids.capacity());
        for row in rows {
            ids.extend(row.iter().map(|id| id.cast_signed()));
            ids.resize(ids.len() + longest - row.len(), pad.cast_signed());
            pads.resize(pads.len() + row.len(), 0);
            pads.resize(pads.len() + longest - row.len(), 1);
        }
        let padded = pads.contains(&1).then(|| integers(pads, shape, device));
        (integers(ids, shape, device), padded)
    }

    /// Numbers of a device, none of them undefined.
    pub(super) async fn read_finite<const D: usize>(&self, tensor: Tensor<D>) -> Result<Vec<f32>> {
        let values = self.device.read(tensor).await?;
        if values.iter().all(|value| value.is_finite()) {
            return Ok(values);
        }
        Err(Error::new(ErrorKind::Gpu, "the text network returned a value that is not a number"))
    }
}

/// Tells of a step.
///
/// # Errors
/// [`ErrorKind::Aborted`] when told to cancel.
pub(super) fn step(on_step: OnStep<'_>, done: usize, total: usize) -> Result<()> {
    match on_step(done, total) {
        Control::Continue => Ok(()),
        Control::Cancel => {
            Err(Error::new(ErrorKind::Aborted, format!("cancelled after {done} of {total} steps")))
        }
    }
}

/// Softmax of no match and match, at match.
pub(super) fn probability([no, yes]: [f32; 2]) -> f32 {
    (1.0 / (1.0 + f64::from(no - yes).exp())) as f32
}

/// Probabilities in proportion to `exp(score)`.
pub(super) fn softmax(scores: &[f64]) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let exponentials: Vec<f64> = scores.iter().map(|score| (score - highest).exp()).collect();
    let sum: f64 = exponentials.iter().sum();
    exponentials.iter().map(|x| x / sum).collect()
}
