//! Zero-shot classification: which of some labels a picture shows.

use serde::{Deserialize, Serialize};

use super::features::{dot, unit};
use super::matching::{Convention, Head, OnStep, probability, softmax, step};
use super::picture::Picture;
use super::session::Session;
use crate::{Error, ErrorKind, Result};

/// What to choose from, and how.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClassifyOptions {
    /// The labels.
    pub labels: Vec<String>,
    /// Sentences in which `{}` stands for a label; what several say is averaged.
    #[serde(default = "one_template")]
    pub templates: Vec<String>,
    /// Cosines of features (default: quick for many labels), or the image-grounded encoder.
    #[serde(default = "itc")]
    pub head: Head,
    /// What cosines are divided by before the softmax.
    #[serde(default = "temperature")]
    pub temperature: f32,
    /// How text is prepared.
    #[serde(default)]
    pub convention: Convention,
}

fn one_template() -> Vec<String> {
    vec!["a photo of {}".to_owned()]
}

fn itc() -> Head {
    Head::Itc
}

/// What the reference's training starts from (spec §1.5).
fn temperature() -> f32 {
    0.07
}

/// How likely a label is.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Label {
    /// The label.
    pub label: String,
    /// Among the labels; they sum to 1.
    pub probability: f32,
    /// By itself: the cosine, or the probability of a match.
    pub score: f32,
}

impl ClassifyOptions {
    /// # Errors
    /// [`ErrorKind::BadOption`].
    fn texts(&self) -> Result<Vec<String>> {
        let bad = |message: String| Err(Error::new(ErrorKind::BadOption, message));
        if self.labels.is_empty() || self.templates.is_empty() {
            return bad("options labels and templates: each needs at least one entry".to_owned());
        }
        if !(self.temperature.is_finite() && self.temperature > 0.0) {
            return bad(format!("option temperature is {}, expected a number above 0", self.temperature));
        }
        if let Some(template) = self.templates.iter().find(|template| !template.contains("{}")) {
            return bad(format!("option templates: `{template}` has no `{{}}` for the label"));
        }
        let mut texts = Vec::with_capacity(self.labels.len() * self.templates.len());
        for label in &self.labels {
            texts.extend(self.templates.iter().map(|template| template.replace("{}", label)));
        }
        Ok(texts)
    }
}

impl Session {
    /// Ranks labels for each of some pictures, best first; labels are read once.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for options that make no sense, [`ErrorKind::TaskUnsupported`] without a
    /// network for the head, [`ErrorKind::Aborted`] when cancelled, and what the device fails with.
    pub async fn classify(
        &self,
        pictures: &[Picture],
        options: &ClassifyOptions,
        on_step: OnStep<'_>,
    ) -> Result<Vec<Vec<Label>>> {
        let texts = options.texts()?;
        let each = options.templates.len();
        let mut results = Vec::with_capacity(pictures.len());
        // Pictures and clips read different numbers of words.
        let mut features: [Option<Vec<Vec<f32>>>; 2] = [None, None];
        for (nth, picture) in pictures.iter().enumerate() {
            let total = pictures.len() * texts.len();
            let mut on_text = |done: usize, _: usize| on_step(nth * texts.len() + done, total);
            let (scores, odds): (Vec<f32>, Vec<f64>) = if options.head == Head::Itc {
                let (convention, frames) = (options.convention, picture.frames());
                let features = match &mut features[usize::from(frames > 1)] {
                    Some(features) => features,
                    unknown => {
                        let all = self.known_text_features(&texts, convention, frames, &mut on_text).await?;
                        unknown.insert(all.chunks_exact(each).map(mean).collect())
                    }
                };
                let image = self.image_feature(picture).await?;
                step(&mut on_text, texts.len(), texts.len())?;
                let cosine = |feature: &Vec<f32>| {
                    let cosine = dot(&image, feature);
                    (cosine, f64::from(cosine / options.temperature))
                };
                features.iter().map(cosine).unzip()
            } else {
                let logits = self.itm_logits(picture, &texts, options.convention, &mut on_text).await?;
                let mean = |sentences: &[[f32; 2]]| {
                    let sum: f64 = sentences.iter().map(|logits| f64::from(probability(*logits))).sum();
                    let mean = sum / each as f64;
                    // In proportion to the probabilities of a match.
                    (mean as f32, mean.max(f64::MIN_POSITIVE).ln())
                };
                logits.chunks_exact(each).map(mean).unzip()
            };
            let probabilities = softmax(&odds);
            let mut labels: Vec<Label> = options
                .labels
                .iter()
                .zip(probabilities)
                .zip(scores)
                .map(|((label, p), score)| Label { label: label.clone(), probability: p as f32, score })
                .collect();
            labels.sort_by(|a, b| b.probability.total_cmp(&a.probability));
            results.push(labels);
        }
        Ok(results)
    }
}

/// The mean of a label's sentences, of unit length, as zero-shot classifiers are made.
fn mean(sentences: &[Vec<f32>]) -> Vec<f32> {
    let mut mean = vec![0.0; sentences[0].len()];
    for sentence in sentences {
        mean.iter_mut().zip(sentence).for_each(|(sum, x)| *sum += x);
    }
    unit(&mut mean);
    mean
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(json: &str) -> Result<Vec<String>> {
        serde_json::from_str::<ClassifyOptions>(json).expect("valid JSON").texts()
    }

    #[test]
    fn every_label_is_put_into_every_template() {
        let texts = options(r#"{"labels":["cat","dog"],"templates":["a {}","no {}"]}"#).unwrap();
        assert_eq!(texts, ["a cat", "no cat", "a dog", "no dog"]);
        assert_eq!(options(r#"{"labels":["cat"]}"#).unwrap(), ["a photo of cat"]);
    }

    #[test]
    fn options_that_make_no_sense_have_their_code() {
        for json in [
            r#"{"labels":[]}"#,
            r#"{"labels":["a"],"templates":[]}"#,
            r#"{"labels":["a"],"templates":["a photo"]}"#,
            r#"{"labels":["a"],"temperature":0}"#,
        ] {
            assert_eq!(options(json).unwrap_err().code(), "bad-option", "{json}");
        }
    }
}
