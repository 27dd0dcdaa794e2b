//! Layers shared by the vision and the text transformer.

mod linear;
mod matrix;
mod norm;
mod rows;
mod source;

pub use linear::Linear;
pub use matrix::Matrix;
pub use norm::LayerNorm;
pub use rows::Rows;
pub use source::{RandomSource, Source};
