//! Activations on their way into a matrix product.

use burn::tensor::Tensor;

use super::LayerNorm;
use crate::kernels::{self, Route};

/// Rows of activations whose LayerNorm may still be due.
///
/// For the few rows of a decoding step a norm is cheaper inside the kernel that reads the rows than
/// as a launch of its own; for many rows it is the other way round. Either way the values are the same.
#[derive(Clone, Debug)]
pub struct Rows {
    pub(super) x: Tensor<2>,
    pub(super) due: Option<(Tensor<2>, f32)>,
    /// Every how many elements a row begins; all rows when absent.
    pub(super) stride: Option<usize>,
}

/// Up to this many rows the matrix-vector kernel is used, which normalises on the way in.
const FEW: usize = 8;

impl Rows {
    /// Rows as they are: `[rows, width]`.
    pub fn of(x: Tensor<2>) -> Self {
        Self { x, due: None, stride: None }
    }

    /// Rows after a norm: `[rows, width]`.
    pub fn normed(x: Tensor<2>, norm: &LayerNorm) -> Self {
        let fused = x.dims()[0] <= FEW && Route::of(&x.device()) == Route::Gpu;
        if fused {
            return Self { x, due: Some((norm.scale_shift(), norm.epsilon())), stride: None };
        }
        Self::of(norm.forward(x))
    }

    /// The first of every `every` rows, such as class tokens: `[batch·every, width]`.
    pub fn first_of(x: Tensor<2>, every: usize) -> Self {
        let width = x.dims()[1];
        Self { x, due: None, stride: Some(every * width) }
    }

    /// Number of rows.
    pub fn count(&self) -> usize {
        let [rows, width] = self.x.dims();
        self.stride.map_or(rows, |stride| rows * width / stride)
    }

    /// The device the rows are on.
    pub fn device(&self) -> burn::tensor::Device {
        self.x.device()
    }

    /// The values, any norm applied: `[rows, width]`.
    ///
    /// # Panics
    /// For rows picked by [`first_of`](Self::first_of), which only a matrix product can read.
    pub fn settle(self) -> Tensor<2> {
        assert!(self.stride.is_none(), "picked rows are read by a matrix product");
        match self.due {
            Some((norm, epsilon)) => kernels::layer_norm(self.x, norm, epsilon),
            None => self.x,
        }
    }
}
