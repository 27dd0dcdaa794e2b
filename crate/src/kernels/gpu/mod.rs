//! The arithmetic in WGSL, for WebGPU in the browser and wgpu natively.

mod adapter;
pub(crate) mod launch;

pub use adapter::Adapter;
