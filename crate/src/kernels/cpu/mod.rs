//! The operations on the CPU, by SIMD: pure functions over slices, and their use on burn's tensors.
//!
//! | module | what |
//! |---|---|
//! | `isa` | lanes of every instruction set, and the choice of one |
//! | `pack`, `activations` | quantised matrices and rows as the products want them |
//! | `quantised`, `float` | matrix products; `epilogue` and `gelu` finish them |
//! | `attention` | many queries by `tiles`, a few by a `sweep` over the keys |
//! | `step_attention` | a decoding step: into the cache, then a sweep |
//! | `norm`, `gather`, `choose` | LayerNorm, embeddings, the choice of tokens |
//! | `flex` | tensors in and out |
//! | `trained` | the operations of training, with their derivatives (feature `train`) |

mod activations;
mod attention;
mod choose;
mod epilogue;
mod exp;
mod flex;
mod float;
mod gather;
mod gelu;
pub mod isa;
mod norm;
pub mod pack;
mod quantised;
mod quantised_few;
mod quantised_many;
mod quantised_tile;
mod scratch;
mod step_attention;
mod sweep;
mod threads;
mod tiles;
#[cfg(feature = "train")]
pub(in crate::kernels) mod trained;

#[cfg(test)]
mod attention_tests;
#[cfg(test)]
mod flex_tests;
#[cfg(test)]
mod quantised_tests;
#[cfg(test)]
mod samples;

pub use flex::{read, view};
