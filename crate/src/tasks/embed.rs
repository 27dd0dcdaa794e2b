//! Features of pictures, texts, and both together (spec §6.4).

use serde::{Deserialize, Serialize};

use super::encode::sequence;
use super::matching::{Convention, OnStep, step};
use super::part::Task;
use super::picture::Picture;
use super::session::Session;
use crate::model::TextMode;
use crate::{Error, ErrorKind, Result};

/// What to embed, and what of it to return.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct EmbedOptions {
    /// Whose features.
    pub kind: EmbedKind,
    /// The texts, for texts and both together.
    #[serde(default)]
    pub texts: Vec<String>,
    /// Which of them; [`EmbedOutput::Projection`] when left out, for both together [`EmbedOutput::Class`].
    #[serde(default)]
    pub output: Option<EmbedOutput>,
    /// How text is prepared.
    #[serde(default)]
    pub convention: Convention,
}

/// Whose features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbedKind {
    /// Each picture's.
    Image,
    /// Each text's.
    Text,
    /// Each text's as it looks at each picture.
    Multimodal,
}

/// Which features.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EmbedOutput {
    /// ITC's: of unit length, to be compared by their product.
    Projection,
    /// The first token's state.
    Class,
    /// Every token's state.
    Tokens,
}

/// One array of features.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Embedding {
    /// `[width]`, or `[tokens, width]`.
    pub shape: Vec<usize>,
    /// Row-major.
    #[serde(skip)]
    pub values: Vec<f32>,
}

impl Session {
    /// Features: one array a picture, a text, or (by picture, then by text) a pair.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for options that make no sense, [`ErrorKind::TaskUnsupported`] without a
    /// network for them, [`ErrorKind::Aborted`] when cancelled, and what the device fails with.
    pub async fn embed(
        &self,
        pictures: &[Picture],
        options: &EmbedOptions,
        on_step: OnStep<'_>,
    ) -> Result<Vec<Embedding>> {
        let bad = |message: &str| Err(Error::new(ErrorKind::BadOption, message.to_owned()));
        if options.kind != EmbedKind::Image && options.texts.is_empty() {
            return bad("option texts is empty");
        }
        if options.kind != EmbedKind::Text && pictures.is_empty() {
            return bad("there is no image to embed");
        }
        let output = options.output.unwrap_or(match options.kind {
            EmbedKind::Multimodal => EmbedOutput::Class,
            _ => EmbedOutput::Projection,
        });
        match (options.kind, output) {
            (EmbedKind::Multimodal, EmbedOutput::Projection) => {
                bad("option output: features of both together have no projection, take class or tokens")
            }
            (EmbedKind::Image, EmbedOutput::Projection) => {
                let mut found = Vec::with_capacity(pictures.len());
                for picture in pictures {
                    found.push(Embedding::row(self.image_feature(picture).await?));
                    step(on_step, found.len(), pictures.len())?;
                }
                Ok(found)
            }
            (EmbedKind::Image, _) => {
                let part = self.part(Task::Itc).or_else(|_| {
                    self.parts
                        .first()
                        .ok_or_else(|| Error::new(ErrorKind::TaskUnsupported, "no model is loaded"))
                })?;
                let mut found = Vec::with_capacity(pictures.len());
                for picture in pictures {
                    let tokens = sequence(self.tokens(picture, part).await?);
                    let width = tokens.dims()[2];
                    found.push(Embedding::of(self.read_finite(tokens).await?, width, output));
                    step(on_step, found.len(), pictures.len())?;
                }
                Ok(found)
            }
            (EmbedKind::Text, EmbedOutput::Projection) => {
                let features = self.text_features(&options.texts, options.convention, on_step).await?;
                Ok(features.into_iter().map(Embedding::row).collect())
            }
            (EmbedKind::Text, _) => self.states(&[None], options, output, on_step).await,
            (EmbedKind::Multimodal, _) => {
                let pictures: Vec<Option<&Picture>> = pictures.iter().map(Some).collect();
                self.states(&pictures, options, output, on_step).await
            }
        }
    }

    /// States of the text encoder for every text, beside each of the pictures.
    async fn states(
        &self,
        pictures: &[Option<&Picture>],
        options: &EmbedOptions,
        output: EmbedOutput,
        on_step: OnStep<'_>,
    ) -> Result<Vec<Embedding>> {
        let part = self.part(self.text_task()?)?;
        let missing = || Error::new(ErrorKind::TaskUnsupported, "this model has no text encoder");
        let encoder = part.model.text_encoder.as_ref().ok_or_else(missing)?;
        let total = pictures.len() * options.texts.len();
        let mut found = Vec::with_capacity(total);
        for picture in pictures {
            let grounding = match picture {
                Some(picture) => Some(self.grounding(picture, part).await?),
                None => None,
            };
            let mode = if grounding.is_some() { TextMode::Grounded } else { TextMode::Unimodal };
            for text in &options.texts {
                let frames = picture.map_or(1, Picture::frames);
                let ids = options.convention.ids(part, text, grounding.is_some(), frames)?;
                let (ids, _) = self.padded(&[ids], part.config.text_config.pad_token_id);
                let states = encoder.forward(ids, None, grounding.as_ref(), mode);
                let width = states.dims()[2];
                found.push(Embedding::of(self.read_finite(states).await?, width, output));
                step(on_step, found.len(), total)?;
            }
        }
        Ok(found)
    }

    /// What the text encoder was trained for: for comparing, or else for questions.
    fn text_task(&self) -> Result<Task> {
        let known = [Task::Itm, Task::Itc].into_iter().find(|task| self.part(*task).is_ok());
        known.map_or_else(|| self.part(Task::Vqa).map(|_| Task::Vqa), Ok)
    }

    /// What pictures are looked at for; nothing in particular where any image encoder will do.
    pub(super) fn embed_tasks(&self, options: &EmbedOptions) -> Result<Vec<Task>> {
        Ok(match (options.kind, options.output.unwrap_or(EmbedOutput::Projection)) {
            (EmbedKind::Image, EmbedOutput::Projection) => vec![Task::Itc],
            (EmbedKind::Image, _) if self.part(Task::Itc).is_ok() => vec![Task::Itc],
            (EmbedKind::Image, _) | (EmbedKind::Text, _) => Vec::new(),
            (EmbedKind::Multimodal, _) => vec![self.text_task()?],
        })
    }
}

impl Embedding {
    fn row(values: Vec<f32>) -> Self {
        Self { shape: vec![values.len()], values }
    }

    fn of(mut values: Vec<f32>, width: usize, output: EmbedOutput) -> Self {
        if output == EmbedOutput::Class {
            values.truncate(width);
            return Self::row(values);
        }
        Self { shape: vec![values.len() / width, width], values }
    }
}
