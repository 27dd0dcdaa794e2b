//! The linear layer: the only place that will know the precision of a weight.

use burn::nn::{Initializer, LinearConfig};
use burn::tensor::Device;

pub use burn::nn::Linear;

use super::embedding::INIT;

/// A linear layer `x·W + b`, `W: [d_in, d_out]`, initialised as BLIP does: normal(0, 0.02), bias 0.
pub fn linear(d_in: usize, d_out: usize, device: &Device) -> Linear {
    let mut layer = LinearConfig::new(d_in, d_out).with_initializer(INIT).init(device);
    layer.bias = Some(Initializer::Zeros.init([d_out], device));
    layer
}
