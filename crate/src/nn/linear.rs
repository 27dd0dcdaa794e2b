//! The linear layer.

use burn::module::{Module, Param};
use burn::tensor::Tensor;

use super::{Matrix, Rows, Source};
use crate::kernels::Activation;

/// `x·Wᵀ + b` with `W: [outputs, inputs]`.
#[derive(Module, Debug)]
pub struct Linear {
    matrix: Matrix,
    bias: Param<Tensor<1>>,
}

impl Linear {
    /// The layer stored as `path`, from `inputs` to `outputs` values a row.
    pub fn build(source: &mut dyn Source, path: &str, inputs: usize, outputs: usize) -> Self {
        Self {
            matrix: source.matrix(&format!("{path}.weight"), [outputs, inputs]),
            bias: source.vector(&format!("{path}.bias"), outputs),
        }
    }

    /// `[rows, inputs]` to `[rows, outputs]`.
    pub fn forward(&self, x: &Rows) -> Tensor<2> {
        self.matrix.multiply(x, Some(self.bias.val()), Activation::None, None)
    }

    /// As [`forward`](Self::forward), through GELU.
    pub fn forward_gelu(&self, x: &Rows) -> Tensor<2> {
        self.matrix.multiply(x, Some(self.bias.val()), Activation::Gelu, None)
    }

    /// As [`forward`](Self::forward), without what is negative.
    pub fn forward_relu(&self, x: &Rows) -> Tensor<2> {
        self.matrix.multiply(x, Some(self.bias.val()), Activation::Relu, None)
    }

    /// Half of [`forward`](Self::forward), plus `residual: [rows, outputs]`.
    pub fn forward_half_onto(&self, x: &Rows, residual: &Rows) -> Tensor<2> {
        self.matrix.multiply(x, Some(self.bias.val()), Activation::Half, Some(residual))
    }

    /// As [`forward`](Self::forward), plus `residual: [rows, outputs]`.
    pub fn forward_onto(&self, x: &Rows, residual: &Rows) -> Tensor<2> {
        self.matrix.multiply(x, Some(self.bias.val()), Activation::None, Some(residual))
    }

    /// The matrix.
    pub fn matrix(&self) -> &Matrix {
        &self.matrix
    }

    /// The same layer with another float matrix.
    #[cfg(feature = "train")]
    #[must_use]
    pub fn with_parameter(mut self, change: impl FnOnce(Param<Tensor<2>>) -> Param<Tensor<2>>) -> Self {
        self.matrix = self.matrix.map_parameter(change);
        self
    }
}
