//! Image-text contrast with momentum features, queues and soft targets (paper §3.2, spec §7.1).

use burn::tensor::activation::softmax;
use burn::tensor::{Device, Tensor, TensorData};

use super::NETWORKS;
use crate::model::{Blip, TextMode};
use crate::nn::Noise;
use crate::train::batch::Texts;
use crate::train::loss::soft_cross_entropy;
use crate::train::queue::{Fresh, Queues};

/// Features of unit length: `[batch, width]` each.
#[derive(Clone, Debug)]
pub struct Features {
    /// Of images.
    pub images: Tensor<2>,
    /// Of texts.
    pub texts: Tensor<2>,
}

/// The loss, and how similar the student finds the pairs of its batch.
#[derive(Debug)]
pub struct Contrasted {
    /// `[1]`, the mean of both directions.
    pub loss: Tensor<1>,
    /// `[images, candidates]`, over the temperature; the batch's own texts come first.
    pub image_to_text: Tensor<2>,
    /// `[texts, candidates]`, over the temperature; the batch's own images come first.
    pub text_to_image: Tensor<2>,
}

/// Contrasts a batch with the momentum features of itself and of the queues.
///
/// With `s = f·candidatesᵀ/temperature`, the target of a row is `α·softmax(s')` + `(1 − α)·truth`, where
/// `s'` are the momentum features' similarities and `truth` is the row's distribution over its matches;
/// the loss is the mean cross-entropy of images against texts and of texts against images.
///
/// # Shapes
/// - temperature: `[1]`
/// - truth: `[batch, batch + size of the queues]`; where it is left out, every pair matches itself alone
pub fn contrast(
    student: &Features,
    teacher: &Features,
    queues: &Queues,
    temperature: Tensor<1>,
    softness: f64,
    truth: Option<Tensor<2>>,
) -> Contrasted {
    let temperature: Tensor<2> = temperature.unsqueeze();
    let scores = |features: &Tensor<2>, own: &Tensor<2>, queue: Tensor<2>, temperature: &Tensor<2>| {
        // Two products instead of one over everything: the queue is not copied.
        let own = features.clone().matmul(own.clone().transpose());
        let queue = features.clone().matmul(queue.transpose());
        Tensor::cat(vec![own, queue], 1) / temperature.clone()
    };
    let constant = temperature.clone().inner();
    let truth = truth.unwrap_or_else(|| {
        let batch = student.images.dims()[0];
        diagonal(batch, batch + queues.size(), &constant.device())
    });
    let target = |features: &Tensor<2>, own: &Tensor<2>, queue: Tensor<2>| {
        let soft = softmax(scores(features, own, queue, &constant), 1);
        soft.mul_scalar(softness) + truth.clone().mul_scalar(1.0 - softness)
    };
    let image_to_text = scores(&student.images, &teacher.texts, queues.texts(), &temperature);
    let text_to_image = scores(&student.texts, &teacher.images, queues.images(), &temperature);
    let forth =
        soft_cross_entropy(image_to_text.clone(), target(&teacher.images, &teacher.texts, queues.texts()));
    let back =
        soft_cross_entropy(text_to_image.clone(), target(&teacher.texts, &teacher.images, queues.images()));
    Contrasted { loss: (forth + back).div_scalar(2.0), image_to_text, text_to_image }
}

/// What the queues get of a batch.
pub fn fresh(teacher: Features, ids: Vec<u64>) -> Fresh {
    Fresh { images: teacher.images, texts: teacher.texts, ids }
}

/// The distribution of every row over its matches, of equal weight each: pairs of the same image, in the
/// batch and in the queues (spec §9).
pub fn matches(ids: &[u64], queues: &Queues, device: &Device) -> Tensor<2> {
    let candidates: Vec<Option<u64>> =
        ids.iter().copied().map(Some).chain(queues.place().ids.iter().copied()).collect();
    let mut truth = Vec::with_capacity(ids.len() * candidates.len());
    for id in ids {
        let count = candidates.iter().filter(|candidate| **candidate == Some(*id)).count();
        let share = 1.0 / count as f32;
        truth.extend(candidates.iter().map(|other| if *other == Some(*id) { share } else { 0.0 }));
    }
    Tensor::from_data(TensorData::new(truth, [ids.len(), candidates.len()]), device)
}

/// Features of image tokens, and of texts that begin with `[CLS]`.
///
/// # Shapes
/// - tokens: `[batch, tokens, dim]`
///
/// # Panics
/// When the model has no text encoder or no projections.
pub fn features(model: &Blip, tokens: Tensor<3>, texts: Texts, noise: Noise<'_>) -> Features {
    let itc = model.itc.as_ref().expect(NETWORKS);
    let encoder = model.text_encoder.as_ref().expect(NETWORKS);
    let states = encoder.forward_noisy(texts.ids, texts.pads, None, TextMode::Unimodal, noise);
    Features { images: itc.image_features(tokens), texts: itc.text_features(states) }
}

impl Features {
    /// Outside any graph.
    #[must_use]
    pub fn detached(self) -> Self {
        Self { images: self.images.inner(), texts: self.texts.inner() }
    }
}

/// `[rows, columns]`, 1 where both are equal.
fn diagonal(rows: usize, columns: usize, device: &Device) -> Tensor<2> {
    let values = (0..rows * columns).map(|i| if i / columns == i % columns { 1.0f32 } else { 0.0 });
    Tensor::from_data(TensorData::new(values.collect::<Vec<_>>(), [rows, columns]), device)
}
