//! BLIP vision-language models in Rust: captions on WebGPU in the browser, natively, and the training behind them.

mod clock;
pub mod config;
#[cfg(feature = "cli")]
pub mod convert;
pub mod device;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
pub mod generate;
pub mod image;
pub mod model;
pub mod nn;
pub mod tasks;
pub mod tokenizer;
#[cfg(feature = "train")]
pub mod train;
#[cfg(target_family = "wasm")]
mod wasm;
pub mod weights;

pub use error::{Error, ErrorKind, Result};
