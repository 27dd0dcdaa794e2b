//! Records on their way to the ranks, on a thread of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::Run;
use crate::Result;
use crate::train::batch::Batch;
use crate::train::data::{
    Augment, Context, Dataset, Loader, LoaderOptions, Order, Position, Record, Share, Skipped, Steps,
};
use crate::train::draw::{Draw, Purpose};
use crate::train::objectives::Objective;

/// The records of every step of a run.
pub trait Feed: Send + Sync {
    /// Examples of an epoch.
    fn examples(&self) -> usize;

    /// The records of all steps from step `first` on, `batch` at a time.
    ///
    /// A step's records are the same whichever step is asked for first. A record that cannot be read is
    /// left out; the step is smaller then.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`](crate::ErrorKind::BadOption) when the data cannot be read in this order.
    fn steps(&self, first: usize, batch: usize) -> Result<Box<dyn FeedSteps>>;
}

/// The records of step after step.
pub trait FeedSteps: Iterator<Item = Result<Vec<Record>>> + Send {
    /// The records left out so far.
    fn skipped(&self) -> Skipped;
}

/// A dataset in the order of training, augmented, read ahead on threads.
#[derive(Clone)]
pub struct Shuffled {
    /// What is read.
    pub data: Arc<dyn Dataset>,
    /// Pieces of the dataset whose records are shuffled into each other, see [`Order::windowed`].
    pub window: usize,
    /// What happens to pictures, and their side afterwards.
    pub augment: Option<(Augment, u32)>,
    /// Seed of the order, and of what is random about a record.
    pub seed: u64,
    /// Threads that read.
    pub workers: usize,
}

impl std::fmt::Debug for Shuffled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shuffled").field("data", &self.data.describe()).finish_non_exhaustive()
    }
}

impl Feed for Shuffled {
    fn examples(&self) -> usize {
        self.data.len()
    }

    fn steps(&self, first: usize, batch: usize) -> Result<Box<dyn FeedSteps>> {
        let order = Order::of(&*self.data, self.window, self.seed)?;
        let options = LoaderOptions {
            workers: self.workers,
            prefetch: (STEPS_AHEAD * batch).max(1),
            from: Position::after((first * batch) as u64, &order, Share::ALL),
            seed: self.seed,
            ..LoaderOptions::default()
        };
        let augment = self.augment;
        let prepare = move |mut record: Record, context: Context| {
            if let Some((augment, size)) = augment {
                augment.apply_to(&mut record, size, &mut context.random());
            }
            Ok(record)
        };
        Ok(Box::new(Loader::new(self.data.clone(), order, &options, prepare)?.steps(batch)))
    }
}

impl FeedSteps for Steps<Record> {
    fn skipped(&self) -> Skipped {
        Self::skipped(self).clone()
    }
}

/// Steps whose records are read before they are asked for.
const STEPS_AHEAD: usize = 2;
/// Batches ahead of the step that is computed.
const AHEAD: usize = 4;

/// What a step learns from.
#[derive(Debug)]
pub(super) struct StepBatches<B> {
    /// One a rank; none where too few records could be read.
    pub(super) ranks: Vec<B>,
    /// The records left out so far.
    pub(super) skipped: Skipped,
}

/// The batches of every step from `first` on.
pub(super) fn batches<B: Batch>(
    run: &Run<'_, impl Objective<Batch = B>>,
    data: &dyn Feed,
    first: usize,
) -> Result<Receiver<Result<StepBatches<B>>>> {
    let (sender, receiver) = sync_channel(AHEAD);
    let (preparation, options) = (run.preparation.clone(), run.options.clone());
    let (ranks, seed) = (run.recipe.ranks, run.recipe.seed);
    let mut steps = data.steps(first, run.recipe.batch)?;
    std::thread::spawn(move || {
        for step in first.. {
            let Some(records) = steps.next() else { return };
            let batches = records.and_then(|records| {
                let batch = |(rank, records): (usize, &[Record])| {
                    let mut draw = Draw::new(seed, Purpose::Records, step as u64, rank as u64);
                    B::of(records, &preparation, &options, &mut draw)
                };
                let ranks = shares(&records, ranks, B::FEWEST).into_iter().enumerate().map(batch);
                Ok(StepBatches { ranks: ranks.collect::<Result<_>>()?, skipped: steps.skipped() })
            });
            // The receiver hangs up when training ends.
            if sender.send(batches).is_err() {
                return;
            }
        }
    });
    Ok(receiver)
}

/// Records in `parts` pieces of nearly equal size, in order, none of fewer than `fewest`.
fn shares<T>(records: &[T], parts: usize, fewest: usize) -> Vec<&[T]> {
    let parts = parts.min(records.len() / fewest.max(1));
    let bound = |part: usize| part * records.len() / parts.max(1);
    (0..parts).map(|part| &records[bound(part)..bound(part + 1)]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_get_nearly_equal_shares_and_never_too_few() {
        let lengths = |records: usize, parts, fewest| -> Vec<usize> {
            shares(&vec![0; records], parts, fewest).iter().map(|share| share.len()).collect()
        };
        assert_eq!(lengths(32, 2, 2), [16, 16]);
        assert_eq!(lengths(31, 2, 2), [15, 16]);
        assert_eq!(lengths(5, 4, 2), [2, 3]);
        assert_eq!(lengths(1, 4, 2), [0usize; 0]);
        assert_eq!(lengths(3, 4, 1), [1, 1, 1]);
        assert_eq!(lengths(0, 4, 1), [0usize; 0]);
    }
}
