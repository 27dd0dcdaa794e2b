//! The arithmetic of the model.
mod contract;
pub use contract::*;
