//! LayerNorm, its scale and shift in one parameter so that a kernel binds one buffer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::Source;
use crate::kernels;

/// A LayerNorm over the last axis.
#[derive(Module, Debug)]
pub struct LayerNorm {
    /// `[2, width]`: scale, then shift.
    scale_shift: Param<Tensor<2>>,
    epsilon: f64,
}

impl LayerNorm {
    /// The norm stored as `path`.
    pub fn build(source: &mut dyn Source, path: &str, width: usize, epsilon: f64) -> Self {
        Self { scale_shift: source.norm(path, width), epsilon }
    }

    /// `[rows, width]` to the same.
    pub fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        kernels::layer_norm(x, self.scale_shift.val(), self.epsilon())
    }

    /// `[2, width]`: scale, then shift.
    pub fn scale_shift(&self) -> Tensor<2> {
        self.scale_shift.val()
    }

    /// What is added to the variance.
    pub fn epsilon(&self) -> f32 {
        self.epsilon as f32
    }
}
