//! Tables and single parameters.

use burn::module::Param;
use burn::nn::{Embedding, EmbeddingConfig, Initializer};
use burn::tensor::{Device, Tensor};

/// How every weight matrix and table starts: normal with the reference's deviation (0.02).
pub(super) const INIT: Initializer = Initializer::Normal { mean: 0.0, std: 0.02 };

/// A table of `rows` vectors of `width`.
pub fn table(rows: usize, width: usize, device: &Device) -> Embedding {
    EmbeddingConfig::new(rows, width).with_initializer(INIT).init(device)
}

/// A free parameter such as the class token, initialised like a weight.
pub fn parameter<const D: usize>(shape: [usize; D], device: &Device) -> Param<Tensor<D>> {
    INIT.init(shape, device)
}
