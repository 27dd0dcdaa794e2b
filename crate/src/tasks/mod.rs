//! What a user asks of a model: the public Rust API.
//!
//! A [`Session`] holds a model, its tokenizer and its device; the tasks are its methods.

mod caption;
mod decoder;
mod self_test;
mod session;
mod steps;

pub use caption::{Caption, CaptionOptions, CaptionProgress, Captions, Timings};
pub use decoder::ModelDecoder;
pub use self_test::{Check, SelfTest};
pub use session::{Picture, Session};
