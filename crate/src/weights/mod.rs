//! Stored tensors: reading checkpoints, and putting them into a model without guessing.
//!
//! Files keep the names and the layout of Hugging Face (`Linear` weights `[out, in]`, norms
//! `weight`/`bias`), so that other tools can read what we write; [`keymap`] is the only place that
//! knows them. Loading is strict: a tensor that is missing, unknown, misshapen or not finite is an
//! error that names it, apart from the left-overs of training listed in [`keymap`].

pub mod checkpoint;
pub mod keymap;
mod load;
pub mod manifest;
#[cfg(feature = "cli")]
mod save;

pub use checkpoint::{Checkpoint, Dtype, StoredTensor};
pub use load::{find_networks, load};
pub use manifest::Manifest;
#[cfg(feature = "cli")]
pub use save::{NamedTensors, named_tensors, to_safetensors};
