//! Stored tensors: reading checkpoints, and putting them into a model without guessing.
//!
//! Files keep the names and the layout of Hugging Face (`Linear` weights `[out, in]`, norms
//! `weight`/`bias`), so that other tools can read what we write; [`keymap`] is the only place that
//! knows them. Loading is strict: a tensor that is missing, unknown, misshapen or not finite is an
//! error that names it, apart from the left-overs of training listed in [`keymap`].
//!
//! # The container
//!
//! A safetensors file in which a matrix may be quantised (see [`quantise`]). Then two tensors say
//! what one would:
//!
//! - `X.weight`: the codes. q8: `I8 [outputs, padded]`; q4: `U8 [outputs, padded / 2]`, each byte two
//!   codes plus 8, the low nibble first. A convolution kernel is flattened to its rows.
//! - `X.weight.scales`: `F16 [outputs, padded / group]`. The element at row `r` and column `c` is
//!   `code[r, c] · scale[r, c / group]`; columns beyond those of the matrix are zero.
//!
//! Matrices are those of linear layers, the patch filters and the word embedding; everything else is
//! f32. A head whose matrix is the word embedding is not stored again. Tensors lie in the order in
//! which a model is built, or in that of the checkpoint that streamed by ([`Conversion`]), scales before
//! their codes, so that a reader can use each as it arrives;
//! each begins at a multiple of 16 bytes, but for a few whose length is none: those come last.
//! The header's `__metadata__` says `blip.format`, `blip.vision` and `blip.text`.

mod archive;
mod assembly;
pub mod checkpoint;
#[cfg(feature = "cli")]
mod container;
mod conversion;
mod digests;
mod dimensions;
mod encode;
mod fingerprint;
mod header;
pub mod keymap;
mod load;
mod loader;
pub mod manifest;
mod pickle;
mod piece;
mod plan;
pub mod quantise;
#[cfg(feature = "cli")]
mod random;
#[cfg(feature = "cli")]
mod save;
mod saved;
mod schema;
mod shared;
mod stream;
mod survey;
#[cfg(feature = "cli")]
mod tower;
mod vocabulary;

pub use checkpoint::{Checkpoint, Dtype, StoredTensor};
#[cfg(feature = "cli")]
pub use container::Container;
pub use conversion::{Conversion, ConversionOptions, ConversionSource, Converted};
pub use dimensions::{fit_image_size, infer_config};
#[cfg(feature = "cli")]
pub use encode::TensorReport;
pub use fingerprint::Fingerprint;
pub use load::{find_networks, formats, load, load_as, load_marked};
pub use loader::Loader;
pub use manifest::{Manifest, Precision, Quantisation};
pub use plan::Entry;
#[cfg(feature = "cli")]
pub use random::{random_checkpoint, random_networks};
#[cfg(feature = "cli")]
pub use save::{NamedTensors, named_tensors};
pub use schema::{Kind, Parameter, Part, schema};
#[cfg(feature = "cli")]
pub use tower::{Tower, TowerDifference};
pub use vocabulary::complete_vocabulary;
