//! What training and evaluation read: records, and the datasets they come from.
//!
//! Every source is indexed: it knows how many records it has, and gives any of them by its number.
//! Order, shuffling and resuming are then arithmetic on numbers ([`order`]), and a run can be cut at
//! any step and go on with the very next record.

mod record;

pub use record::{Dialogue, Question, Record, Round, Statement, Texts};

use crate::Result;

/// Records by their number.
pub trait Dataset: Send + Sync {
    /// How many records there are; never 0.
    fn len(&self) -> usize;

    /// Whether there is nothing to read.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Record `index`: the same whenever and in whatever order it is asked for.
    ///
    /// # Errors
    /// When this record cannot be read or decoded; others may be fine.
    fn get(&self, index: usize) -> Result<Record>;

    /// What it is and how large, for the log of a run.
    fn describe(&self) -> String;
}
