//! Layers shared by the vision and the text transformer.

mod linear;
mod matrix;
mod noise;
mod norm;
mod rows;
mod source;

pub use linear::Linear;
pub use matrix::Matrix;
#[cfg(feature = "train")]
pub use noise::NoiseSource;
pub use noise::{Branch, Noise};
pub use norm::LayerNorm;
pub use rows::Rows;
pub use source::{RandomSource, Source};
