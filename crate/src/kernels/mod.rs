//! The arithmetic of the model: every operation for every kind of device, behind one function each.
//!
//! [`contract`](Kernels) says what the operations are; `gpu` and `cpu` are ours, `composed` is made of
//! burn's. Nothing above this module knows which of them runs.

#[cfg(not(target_family = "wasm"))]
mod composed;
mod contract;
#[cfg(feature = "flex")]
pub mod cpu;
#[cfg(feature = "wgpu")]
pub mod gpu;
mod place;
mod routing;
mod stored;
mod transfer;

pub use contract::*;
pub use place::{place, widen};
#[cfg(feature = "wgpu")]
pub use routing::recorder;
pub use routing::{
    MatrixView, Route, advance, assemble, attention, contiguous, embed, join, layer_norm, linear, memory,
    normalise, release, rows, step_attention, top_k, view, view_int,
};
#[cfg(feature = "train")]
pub use routing::{Sight, attention_at};
pub use stored::Stored;
pub use transfer::{floats, integers, read_floats, read_integers};
