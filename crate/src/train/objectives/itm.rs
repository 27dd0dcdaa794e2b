//! Image-text matching with hard negatives (paper §3.2, spec §7.1).

use burn::tensor::{Device, Tensor};

use super::NETWORKS;
use crate::device::block_on;
use crate::kernels::read_floats;
use crate::model::{Blip, CrossKv, Grounding, TextMode, integers};
use crate::nn::Noise;
use crate::train::batch::{HostTexts, Nearly};
use crate::train::draw::Draw;
use crate::train::loss::cross_entropy;
use crate::train::negatives::Rule;
use crate::{Error, ErrorKind, Result};

/// Pairs that do not belong together, by their places in the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negatives {
    /// For each text an image.
    pub images: Vec<usize>,
    /// For each image a text.
    pub texts: Vec<usize>,
}

impl Negatives {
    /// Draws one hard negative for every text and for every image, by how similar the student finds
    /// them.
    ///
    /// # Shapes
    /// - image_to_text, text_to_image: `[batch, batch]`, over the temperature
    ///
    /// # Errors
    /// As [`Rule::draw`]; [`ErrorKind::Internal`] when the device cannot be read or similarities are no
    /// numbers.
    pub fn draw(
        image_to_text: Tensor<2>,
        text_to_image: Tensor<2>,
        rule: Rule<'_>,
        draw: &mut Draw,
    ) -> Result<Self> {
        let batch = image_to_text.dims()[0];
        let read = |similarities: Tensor<2>| -> Result<Vec<f32>> {
            let values = block_on(read_floats(similarities.inner()));
            let values = values.map_err(|cause| {
                Error::new(ErrorKind::Internal, "similarities cannot be read").with_source(cause)
            })?;
            if values.iter().all(|value| value.is_finite()) {
                return Ok(values);
            }
            let message = "similarities are no numbers any more: lower the learning rate";
            Err(Error::new(ErrorKind::Internal, message))
        };
        let images = rule.draw(&read(text_to_image)?, batch, draw)?;
        let texts = rule.draw(&read(image_to_text)?, batch, draw)?;
        Ok(Self { images, texts })
    }
}

/// The loss of telling pairs that belong together from those that do not: `[1]`.
///
/// Three rows a pair, in this order: all pairs, all texts with wrong images, all images with wrong
/// texts, which are nearly true ones where there are such; the mean over all. Keys and values of an image
/// are computed once, whatever texts look at it, and wrong images learn as well.
///
/// # Panics
/// When the model has no text encoder or no head for matching.
pub fn matching(
    model: &Blip,
    images: &CrossKv,
    (texts, nearly): (&HostTexts, &Nearly),
    negatives: &Negatives,
    (enc, noise): (u32, Noise<'_>),
    device: &Device,
) -> Tensor<1> {
    let batch = texts.len();
    let mut wrong = negatives.texts.clone();
    for (place, &pair) in nearly.of.iter().enumerate() {
        wrong[pair] = batch + place;
    }
    let all = || 0..batch;
    let looked_at = all().chain(negatives.images.iter().copied()).chain(all());
    let grounding = Grounding::new(images.pick(looked_at));
    let texts = texts.and(&nearly.texts).pick(all().chain(all()).chain(wrong));
    let labels: Vec<i32> = (0..3 * batch).map(|row| i32::from(row < batch)).collect();
    cross_entropy(
        logits(model, texts, &grounding, (enc, noise), device),
        integers(labels, [3 * batch], device),
    )
}

/// How well texts fit what they look at: `[texts, 2]`, index 1 = match.
///
/// # Panics
/// As [`matching`].
pub fn logits(
    model: &Blip,
    texts: HostTexts,
    grounding: &Grounding,
    (enc, noise): (u32, Noise<'_>),
    device: &Device,
) -> Tensor<2> {
    let encoder = model.text_encoder.as_ref().expect(NETWORKS);
    let texts = texts.on(device, enc);
    let states = encoder.forward_noisy(texts.ids, texts.pads, Some(grounding), TextMode::Grounded, noise);
    model.itm.as_ref().expect(NETWORKS).forward(states)
}
