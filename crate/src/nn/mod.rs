//! Layers shared by the vision and the text transformer.

mod attention;
mod embedding;
mod linear;

pub use attention::{attend, merge_heads, split_heads};
pub use embedding::{parameter, table};
pub use linear::{Linear, linear};

use burn::nn::{LayerNorm, LayerNormConfig};
use burn::tensor::Device;

/// A LayerNorm over the last axis, initialised to scale 1 and shift 0.
pub fn layer_norm(width: usize, epsilon: f64, device: &Device) -> LayerNorm {
    LayerNormConfig::new(width).with_epsilon(epsilon).init(device)
}
