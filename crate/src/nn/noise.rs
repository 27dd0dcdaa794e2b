//! What training leaves out at random.

use std::marker::PhantomData;

use burn::tensor::Tensor;

use super::{Linear, Rows};

/// Dropout and stochastic depth of a pass: nothing outside training.
///
/// Where training is not built there is nothing it could be, and no code for it. It never changes what a
/// model is: the same `forward` takes it along.
#[derive(Clone, Copy, Debug, Default)]
pub struct Noise<'a> {
    #[cfg(feature = "train")]
    source: Option<&'a dyn NoiseSource>,
    life: PhantomData<&'a ()>,
}

/// What a sub-layer adds to its residual.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Branch {
    /// A text sub-layer's: single values are left out.
    Text,
    /// An image sub-layer's: all rows of a picture are left out together, the more often the deeper.
    Image {
        /// The block, from 0.
        block: usize,
        /// Blocks.
        depth: usize,
        /// Pictures.
        batch: usize,
    },
}

/// Where noise comes from.
#[cfg(feature = "train")]
pub trait NoiseSource: std::fmt::Debug {
    /// Values with some of them left out and the others larger: `[rows, width]` to the same; nothing where
    /// none is left out.
    fn thin(&self, branch: Branch, values: &Tensor<2>) -> Option<Tensor<2>>;

    /// A factor for everything that queries give to keys, of so many numbers, 0 where a key is left out;
    /// nothing where none is.
    fn shares(&self, count: usize) -> Option<Vec<f32>>;
}

impl<'a> Noise<'a> {
    /// Nothing is left out.
    pub const NONE: Self = Self {
        #[cfg(feature = "train")]
        source: None,
        life: PhantomData,
    };

    /// What this source leaves out.
    #[cfg(feature = "train")]
    pub fn of(source: &'a dyn NoiseSource) -> Self {
        Self { source: Some(source), life: PhantomData }
    }

    /// `linear(x)` with noise, plus the residual: `[rows, outputs]`. One product where there is no noise.
    pub fn onto(self, branch: Branch, linear: &Linear, x: &Rows, residual: &Rows) -> Tensor<2> {
        #[cfg(feature = "train")]
        if let Some(source) = self.source {
            let values = linear.forward(x);
            let values = source.thin(branch, &values).unwrap_or(values);
            return values + residual.clone().settle();
        }
        let _ = branch;
        linear.forward_onto(x, residual)
    }

    /// Values with noise.
    #[must_use]
    pub fn thin(self, branch: Branch, values: Tensor<2>) -> Tensor<2> {
        #[cfg(feature = "train")]
        if let Some(source) = self.source {
            return source.thin(branch, &values).unwrap_or(values);
        }
        let _ = branch;
        values
    }

    /// Rows with noise.
    #[must_use]
    pub fn thin_rows(self, branch: Branch, rows: Rows) -> Rows {
        #[cfg(feature = "train")]
        if self.source.is_some() {
            return Rows::of(self.thin(branch, rows.settle()));
        }
        let _ = branch;
        rows
    }

    /// Whether there may be any.
    pub fn is_some(self) -> bool {
        #[cfg(feature = "train")]
        return self.source.is_some();
        #[cfg(not(feature = "train"))]
        false
    }

    /// Factors of attention, see [`NoiseSource::shares`].
    #[cfg(feature = "train")]
    pub fn shares(self, count: usize) -> Option<Vec<f32>> {
        self.source.and_then(|source| source.shares(count))
    }
}
