//! The arithmetic of the model.
mod contract;
#[cfg(feature = "wgpu")]
pub mod gpu;
pub use contract::*;
