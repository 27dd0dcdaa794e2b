//! BLIP vision-language models in Rust: captions on WebGPU in the browser, natively, and the training
//! behind them.
//!
//! BLIP (Li et al., [2201.12086](https://arxiv.org/abs/2201.12086)) is a vision transformer and one
//! text transformer in three modes. A [`tasks::Session`] holds a model, its tokenizer and a device;
//! what can be asked of it are its methods.
//!
//! ```
//! # #[cfg(all(feature = "embedded", feature = "flex"))]
//! # fn main() -> blip_web::Result<()> {
//! use blip_web::device::{DeviceKind, OpenDevice, block_on};
//! use blip_web::tasks::Task;
//!
//! let device = block_on(OpenDevice::open(DeviceKind::Cpu))?;
//! let session = blip_web::embedded::tiny(&device)?;
//! assert_eq!(session.tasks(), [Task::Caption, Task::Itm, Task::Itc, Task::Vqa]);
//! # Ok(())
//! # }
//! # #[cfg(not(all(feature = "embedded", feature = "flex")))]
//! # fn main() {}
//! ```
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `wgpu` (default) | GPUs: WebGPU in the browser; Vulkan, Metal or DX12 natively |
//! | `flex` | the CPU, through burn-flex |
//! | `embedded` | the `tiny` model inside the binary |
//! | `cli` | the `blip` command, checkpoint conversion, reading `.pth` files |
//! | `train` | training |
//!
//! # Untrusted input
//!
//! Pictures, text, options and weights may come from anyone. They are checked before use, sizes before
//! allocation; what is wrong with them becomes an [`Error`] with a stable [code](ErrorKind::code).
//! Special tokens in text are plain text, and nothing in a pickle is executed.
//!
//! # Determinism
//!
//! Equal logits give equal tokens on every machine. Logits themselves differ in the last bits between
//! devices, because sums are ordered differently; ties within that noise may fall either way.

mod clock;
pub mod config;
#[cfg(feature = "cli")]
pub mod convert;
pub mod device;
#[cfg(feature = "embedded")]
pub mod embedded;
pub mod error;
pub mod gallery;
pub mod generate;
#[cfg(feature = "cli")]
pub mod hub;
pub mod image;
pub mod kernels;
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

/// The Rust code of the README compiles.
#[cfg(all(doctest, feature = "embedded", feature = "cli"))]
#[doc = include_str!("../README.md")]
struct Readme;
