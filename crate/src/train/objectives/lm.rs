//! Language modelling: the next token of a text about an image (paper §3.2, spec §1.5).

use burn::tensor::{Device, Tensor};

use crate::model::{Blip, Grounding};
use crate::nn::Noise;
use crate::train::batch::{HostTexts, HostWeights};
use crate::train::loss::smoothed_cross_entropy;

/// Label smoothing of the reference, in every stage that generates.
pub const SMOOTHING: f64 = 0.1;

/// The weighted sum of the losses of all targets: `[1]`.
///
/// The head scores those positions only that predict something: of padding and of the prompt nothing is
/// asked.
///
/// # Panics
/// When the model has no decoder.
pub fn language(
    model: &Blip,
    grounding: &Grounding,
    texts: &HostTexts,
    weights: &HostWeights,
    (dec, smoothing, noise): (u32, f64, Noise<'_>),
    device: &Device,
) -> Tensor<1> {
    let targets = texts.targets(weights, device);
    let ids = texts.on(device, dec).ids;
    let logits = model.lm_logits_after(ids, grounding, targets.rows.clone(), noise);
    smoothed_cross_entropy(logits, &targets, smoothing)
}
