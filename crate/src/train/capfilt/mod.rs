//! CapFilt: captions for the web's pictures, and a filter for noisy texts (paper §3.3, spec §8).
//!
//! Three stages over tar shards: [`Captioner`] writes a synthetic caption for every picture, [`Filter`]
//! decides which texts belong to their pictures, [`Assembler`] writes what is left as new shards. Each is a
//! [`Stage`], which [`Work`] does for the shards of one process among several: finished shards are skipped,
//! a shard takes its place at once or not at all, and its bytes do not depend on who made it.
//! `docs/capfilt.md` says how to run them, on one machine and on clusters.

mod assemble;
mod caption;
mod claim;
mod filter;
mod pictures;
mod result;
mod share;
mod texts;
mod totals;
mod work;

pub use assemble::Assembler;
pub use caption::{Captioner, CaptionerOptions, seed_of};
pub use claim::Claim;
pub use filter::{Filter, FilterOptions};
pub use result::{Content, Lines, Made, Place, REPORT, Report, Skipped, read_lines};
pub use share::Share;
pub use texts::{Flow, Judged, Kept, Mode, Synthetic, Verdict};
pub use totals::Totals;
pub use work::{Done, Event, Outcome, Stage, Work};
