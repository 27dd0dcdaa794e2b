//! Records on their way to the ranks, on a thread of their own.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::Run;
use crate::Result;
use crate::train::batch::Batch;
use crate::train::data::{Dataset, Record};
use crate::train::draw::{Draw, Purpose};
use crate::train::objectives::Objective;

/// The records of every step of a run.
pub trait Feed: Send + Sync {
    /// Examples of an epoch.
    fn examples(&self) -> usize;

    /// The records of all steps from step `first` on, `batch` at a time.
    ///
    /// A step's records are the same whichever step is asked for first. A record that cannot be read may
    /// be left out; the step is smaller then.
    fn steps(&self, first: usize, batch: usize) -> Box<dyn Iterator<Item = Result<Vec<Record>>> + Send>;
}

/// The records of a dataset one after another, again and again.
pub struct InOrder(pub Arc<dyn Dataset>);

impl std::fmt::Debug for InOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("InOrder").field(&self.0.describe()).finish()
    }
}

impl Feed for InOrder {
    fn examples(&self) -> usize {
        self.0.len()
    }

    fn steps(&self, first: usize, batch: usize) -> Box<dyn Iterator<Item = Result<Vec<Record>>> + Send> {
        let data = self.0.clone();
        Box::new((first..).map(move |step| {
            (step * batch..(step + 1) * batch).map(|index| data.get(index % data.len())).collect()
        }))
    }
}

/// Batches ahead of the step that is computed.
const AHEAD: usize = 4;

/// The batches of every step from `first` on: one for each rank.
pub(super) fn batches<B: Batch>(
    run: &Run<'_, impl Objective<Batch = B>>,
    data: Arc<dyn Feed>,
    first: usize,
) -> Receiver<Result<Vec<B>>> {
    let (sender, receiver) = sync_channel(AHEAD);
    let (preparation, options) = (run.preparation.clone(), run.options.clone());
    let (batch, ranks, seed) = (run.recipe.batch, run.recipe.ranks, run.recipe.seed);
    std::thread::spawn(move || {
        for (step, records) in (first..).zip(data.steps(first, batch)) {
            let batches = records.and_then(|records| {
                let share = records.len().div_ceil(ranks).max(1);
                let parts = records.chunks(share).enumerate();
                let batch = |(rank, records): (usize, &[Record])| {
                    let mut draw = Draw::new(seed, Purpose::Records, step as u64, rank as u64);
                    B::of(records, &preparation, &options, &mut draw)
                };
                parts.map(batch).collect()
            });
            // The receiver hangs up when training ends.
            if sender.send(batches).is_err() {
                return;
            }
        }
    });
    receiver
}
