//! ITC's features of pictures and texts (paper §3.2).

use std::sync::{Arc, Mutex, PoisonError};

use super::matching::{BATCH, Convention, OnStep, step};
use super::part::Task;
use super::picture::Picture;
use super::session::Session;
use crate::model::TextMode;
use crate::{Error, ErrorKind, Result};

/// Features of the texts that pictures were last compared with. The same texts are mostly compared with
/// many pictures, a few of them at a time.
#[derive(Debug, Default)]
pub(super) struct KnownTexts(Mutex<Option<(Texts, Features)>>);

/// What features depend on: the texts, and how many of their words are read by which convention.
#[derive(Clone, Debug, PartialEq)]
struct Texts {
    texts: Vec<String>,
    convention: Convention,
    words: Option<usize>,
}

/// One a text.
pub(super) type Features = Arc<Vec<Vec<f32>>>;

impl KnownTexts {
    fn get(&self, texts: &Texts) -> Option<Features> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().filter(|(known, _)| known == texts).map(|(_, features)| Arc::clone(features))
    }

    fn keep(&self, texts: Texts, features: &Features) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((texts, Arc::clone(features)));
    }
}

impl Session {
    /// ITC's feature of a picture, of unit length. Of a clip: the mean of its frames' projections,
    /// brought to unit length (spec §6.3).
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] without a network for ITC, and what the device fails with.
    pub async fn image_feature(&self, picture: &Picture) -> Result<Vec<f32>> {
        let part = self.part(Task::Itc)?;
        let Some(head) = &part.model.itc else {
            return Err(Error::new(ErrorKind::Internal, "a network for itc has its projections"));
        };
        let tokens = self.tokens(picture, part).await?;
        if picture.frames() == 1 {
            return self.read_finite(head.image_features(tokens)).await;
        }
        let projections = self.read_finite(head.image_projections(tokens)).await?;
        let width = projections.len() / picture.frames();
        let mut mean = vec![0.0; width];
        for frame in projections.chunks_exact(width) {
            mean.iter_mut().zip(frame).for_each(|(sum, x)| *sum += x / picture.frames() as f32);
        }
        unit(&mut mean);
        Ok(mean)
    }

    /// ITC's features of texts, of unit length, as they are compared with pictures.
    ///
    /// # Errors
    /// As [`image_feature`](Self::image_feature), and [`ErrorKind::Aborted`] when cancelled.
    pub async fn text_features(
        &self,
        texts: &[String],
        convention: Convention,
        on_step: OnStep<'_>,
    ) -> Result<Vec<Vec<f32>>> {
        self.features(texts, convention, 1, on_step).await
    }

    /// As [`text_features`](Self::text_features), to be compared with clips of so many frames; those of the
    /// texts that were asked for last are not computed again.
    pub(super) async fn known_text_features(
        &self,
        texts: &[String],
        convention: Convention,
        frames: usize,
        on_step: OnStep<'_>,
    ) -> Result<Features> {
        let wanted = Texts { texts: texts.to_vec(), convention, words: convention.words(frames) };
        if let Some(known) = self.texts.get(&wanted) {
            step(on_step, texts.len(), texts.len())?;
            return Ok(known);
        }
        let features = Arc::new(self.features(texts, convention, frames, on_step).await?);
        self.texts.keep(wanted, &features);
        Ok(features)
    }

    async fn features(
        &self,
        texts: &[String],
        convention: Convention,
        frames: usize,
        on_step: OnStep<'_>,
    ) -> Result<Vec<Vec<f32>>> {
        let part = self.part(Task::Itc)?;
        let (Some(encoder), Some(head)) = (&part.model.text_encoder, &part.model.itc) else {
            return Err(Error::new(ErrorKind::Internal, "a network for itc has an encoder and projections"));
        };
        let mut found = Vec::with_capacity(texts.len());
        for batch in texts.chunks(BATCH) {
            let ids: Result<Vec<Vec<u32>>> =
                batch.iter().map(|text| convention.ids(part, text, false, frames)).collect();
            let (ids, pads) = self.padded(&ids?, part.config.text_config.pad_token_id);
            let states = encoder.forward(ids, pads, None, TextMode::Unimodal);
            let features = self.read_finite(head.text_features(states)).await?;
            found.extend(features.chunks_exact(features.len() / batch.len()).map(<[f32]>::to_vec));
            step(on_step, found.len(), texts.len())?;
        }
        Ok(found)
    }
}

pub(super) fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>() as f32
}

/// Brings a vector to unit length, as the reference does it.
pub(super) fn unit(vector: &mut [f32]) {
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
}
