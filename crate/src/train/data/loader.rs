//! Records read, decoded and prepared ahead of the training loop, on threads, in order.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

use serde::Serialize;

use super::order::{Order, Position, Share, Step, Walk};
use super::{Dataset, Record};
use crate::train::random::Random;
use crate::{Error, ErrorKind, Result};

/// What tells the random numbers of records apart from others.
const STREAM: u64 = 0x6c6f_6164_6572_0000;

/// How a [`Loader`] works; none of it but `share`, `from`, `until` and `seed` changes what it gives.
#[derive(Clone, Copy, Debug)]
pub struct LoaderOptions {
    /// Threads, at least one.
    pub workers: usize,
    /// Records that may be ready before they are asked for, at least one.
    pub prefetch: usize,
    /// Which part of the records is read.
    pub share: Share,
    /// Where to start.
    pub from: Position,
    /// The epoch to stop before; without one there is no end.
    pub until: Option<u64>,
    /// Seed of what is random about a record, such as augmentation.
    pub seed: u64,
    /// How many records may fail one after the other before the loader gives up; at most an epoch.
    pub patience: u64,
}

impl Default for LoaderOptions {
    fn default() -> Self {
        Self {
            workers: thread::available_parallelism().map_or(1, usize::from),
            prefetch: 128,
            share: Share::ALL,
            from: Position::default(),
            until: None,
            seed: 0,
            patience: 1000,
        }
    }
}

/// Which record is being prepared, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The number of the record.
    pub index: usize,
    /// The epoch it is read in.
    pub epoch: u64,
    seed: u64,
}

impl Context {
    /// Random numbers of this record in this epoch.
    pub fn random(&self) -> Random {
        Random::keyed([self.seed, self.epoch, self.index as u64, STREAM])
    }
}

/// A prepared record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded<T> {
    /// What was made of it.
    pub value: T,
    /// Which record it is.
    pub index: usize,
    /// Where the loader stands behind it: a loader [from](LoaderOptions::from) here goes on with the
    /// next one.
    pub position: Position,
}

/// The records that were left out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// How many.
    pub records: u64,
    /// Why, by the codes of the errors.
    pub reasons: Vec<Reason>,
}

/// Why records were left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Reason {
    /// The code of the errors.
    pub code: &'static str,
    /// How many records.
    pub records: u64,
    /// The whole message of the first.
    pub first: String,
}

impl Skipped {
    fn count(&mut self, error: &Error) {
        self.records += 1;
        // Messages name files; what they have in common is their code.
        match self.reasons.iter_mut().find(|reason| reason.code == error.code()) {
            Some(reason) => reason.records += 1,
            None => self.reasons.push(Reason { code: error.code(), records: 1, first: error.to_string() }),
        }
    }
}

/// An iterator over prepared records whose order does not depend on threads.
///
/// A record that fails is left out and counted, and the next one takes its place. When
/// [`LoaderOptions::patience`] records or a whole epoch fail one after the other, the loader gives an
/// error and ends.
pub struct Loader<T> {
    shared: Arc<Shared<T>>,
    threads: Vec<JoinHandle<()>>,
    skipped: Skipped,
    failures: u64,
    patience: u64,
    position: Position,
    ended: bool,
}

impl<T> std::fmt::Debug for Loader<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loader")
            .field("position", &self.position)
            .field("threads", &self.threads.len())
            .field("skipped", &self.skipped.records)
            .finish()
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    /// Signalled when there is something to do, to take or to end.
    changed: Condvar,
}

struct State<T> {
    walk: Walk,
    /// The number of the next record to be taken up, counted from the start.
    next: u64,
    /// The number of the next record to be given out.
    wanted: u64,
    ready: BTreeMap<u64, (Step, Result<T>)>,
    stopped: bool,
}

impl<T> Shared<T> {
    /// Nothing that is done under the lock can leave the state half changed.
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, guard: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        self.changed.wait(guard).unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Send + 'static> Loader<T> {
    /// Starts reading. `prepare` makes of every record what the loop needs; it runs on any thread, and
    /// takes what it needs of chance from the [`Context`].
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when the order is not one of this dataset, or as [`Walk::new`].
    pub fn new(
        dataset: Arc<dyn Dataset>,
        order: Order,
        options: &LoaderOptions,
        prepare: impl Fn(Record, Context) -> Result<T> + Send + Sync + 'static,
    ) -> Result<Self> {
        if order.len() != dataset.len() as u64 {
            let message = format!("an order of {} records for a dataset of {}", order.len(), dataset.len());
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let walk = Walk::new(order, options.share, options.from)?;
        let patience = options.patience.clamp(1, walk.share_of_epoch());
        let state = State { walk, next: 0, wanted: 0, ready: BTreeMap::new(), stopped: false };
        let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
        let prepare = Arc::new(prepare);
        let (prefetch, seed, until) = (options.prefetch.max(1) as u64, options.seed, options.until);
        let work = || {
            let (shared, dataset, prepare) = (shared.clone(), dataset.clone(), prepare.clone());
            thread::spawn(move || {
                while let Some((number, step)) = take_up(&shared, prefetch, until) {
                    let context = Context { index: step.record, epoch: step.epoch, seed };
                    let prepared = prepared(&*dataset, &*prepare, context);
                    shared.lock().ready.insert(number, (step, prepared));
                    shared.changed.notify_all();
                }
            })
        };
        let threads = (0..options.workers.max(1)).map(|_| work()).collect();
        Ok(Self {
            shared,
            threads,
            skipped: Skipped::default(),
            failures: 0,
            patience,
            position: options.from,
            ended: false,
        })
    }
}

impl<T> Loader<T> {
    /// The records left out so far.
    pub fn skipped(&self) -> &Skipped {
        &self.skipped
    }

    /// Where the loader stands behind the last record that it gave.
    pub fn position(&self) -> Position {
        self.position
    }

    /// The records of each step, `batch` of the order at a time: a step has fewer where some fail.
    ///
    /// So a step's records are a function of its number (see [`Position::after`]), whatever failed
    /// before it. Where the order ends inside of a step, that step is the last.
    pub fn steps(self, batch: usize) -> Steps<T> {
        Steps { loader: self, batch }
    }

    /// The next record of the order: `None` inside where it failed.
    fn advance(&mut self) -> Option<Result<Option<Loaded<T>>>> {
        if self.ended {
            return None;
        }
        let mut state = self.shared.lock();
        let wanted = state.wanted;
        let (step, value) = loop {
            if let Some(found) = state.ready.remove(&wanted) {
                break found;
            }
            // Stopped, and nothing that was taken up is still wanted.
            if state.stopped && state.next == wanted {
                self.ended = true;
                return None;
            }
            state = self.shared.wait(state);
        };
        state.wanted += 1;
        drop(state);
        self.shared.changed.notify_all();
        match value {
            Ok(value) => {
                self.failures = 0;
                self.position = step.after;
                Some(Ok(Some(Loaded { value, index: step.record, position: step.after })))
            }
            Err(error) => {
                self.skipped.count(&error);
                self.failures += 1;
                if self.failures < self.patience {
                    return Some(Ok(None));
                }
                self.ended = true;
                let message = format!("{} records in a row could not be read", self.failures);
                Some(Err(Error::new(error.kind(), message).with_source(error)))
            }
        }
    }
}

/// What [`Loader::steps`] gives.
#[derive(Debug)]
pub struct Steps<T> {
    loader: Loader<T>,
    batch: usize,
}

impl<T> Steps<T> {
    /// The records left out so far.
    pub fn skipped(&self) -> &Skipped {
        self.loader.skipped()
    }
}

impl<T> Iterator for Steps<T> {
    type Item = Result<Vec<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut values = Vec::with_capacity(self.batch);
        for taken in 0..self.batch {
            match self.loader.advance() {
                Some(Ok(loaded)) => values.extend(loaded.map(|loaded| loaded.value)),
                Some(Err(error)) => return Some(Err(error)),
                None if taken == 0 => return None,
                None => break,
            }
        }
        Some(Ok(values))
    }
}

/// The next record that nobody has taken up; `None` when there is nothing more to do.
fn take_up<T>(shared: &Shared<T>, prefetch: u64, until: Option<u64>) -> Option<(u64, Step)> {
    let mut state = shared.lock();
    while !state.stopped && state.next >= state.wanted + prefetch {
        state = shared.wait(state);
    }
    if state.stopped {
        return None;
    }
    let step = state.walk.next()?;
    if until.is_some_and(|until| step.epoch >= until) {
        state.stopped = true;
        drop(state);
        shared.changed.notify_all();
        return None;
    }
    let number = state.next;
    state.next += 1;
    Some((number, step))
}

/// Decoders are not ours: if one panics on some file, that is an error of the file's.
fn prepared<T>(
    dataset: &dyn Dataset,
    prepare: &impl Fn(Record, Context) -> Result<T>,
    context: Context,
) -> Result<T> {
    let work = || prepare(dataset.get(context.index)?, context);
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        Err(Error::new(ErrorKind::Internal, format!("record {} made a thread panic", context.index)))
    })
}

impl<T> Iterator for Loader<T> {
    type Item = Result<Loaded<T>>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.advance()? {
                Ok(Some(loaded)) => return Some(Ok(loaded)),
                // The next one takes its place.
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

impl<T> Drop for Loader<T> {
    fn drop(&mut self) {
        self.shared.lock().stopped = true;
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            // What it panicked with was an error already.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Texts;
    use super::*;
    use std::time::Duration;

    /// Records that take unequally long; some fail, and one panics.
    struct Uneven {
        len: usize,
        fails: fn(usize) -> bool,
    }

    impl Dataset for Uneven {
        fn len(&self) -> usize {
            self.len
        }

        fn get(&self, index: usize) -> Result<Record> {
            thread::sleep(Duration::from_micros((index as u64 * 7919) % 700));
            if (self.fails)(index) {
                return Err(Error::new(ErrorKind::BadImage, format!("record {index} is torn")));
            }
            Ok(Record { key: index.to_string(), images: Vec::new(), texts: Texts::default() })
        }

        fn describe(&self) -> String {
            "uneven".into()
        }
    }

    const LEN: usize = 50;
    /// The seed with which one record makes its thread panic.
    const PANICS: u64 = 13;

    fn loader(fails: fn(usize) -> bool, options: LoaderOptions) -> Loader<(String, usize)> {
        let order = Order::shuffled(LEN, 3).unwrap();
        let panics = options.seed == PANICS;
        let prepare = move |record: Record, context: Context| {
            assert!(!panics || record.key != "13", "a decoder that panics, which is what is tested");
            Ok((record.key, context.random().below(1000)))
        };
        Loader::new(Arc::new(Uneven { len: LEN, fails }), order, &options, prepare).unwrap()
    }

    fn options(workers: usize, until: u64) -> LoaderOptions {
        LoaderOptions { workers, prefetch: 9, until: Some(until), seed: 4, ..LoaderOptions::default() }
    }

    fn all(loader: Loader<(String, usize)>) -> Vec<Loaded<(String, usize)>> {
        loader.map(Result::unwrap).collect()
    }

    #[test]
    fn the_order_does_not_depend_on_threads_and_every_epoch_has_random_numbers_of_its_own() {
        let one = all(loader(|_| false, options(1, 2)));
        assert_eq!(one.len(), 2 * LEN);
        assert_eq!(one, all(loader(|_| false, options(7, 2))));
        let numbers = |key: &str| -> Vec<usize> {
            one.iter().filter(|item| item.value.0 == key).map(|item| item.value.1).collect()
        };
        assert!((0..12).any(|key: usize| numbers(&key.to_string())[0] != numbers(&key.to_string())[1]));
    }

    #[test]
    fn a_loader_goes_on_where_another_one_stood() {
        let fails = |index| index % 5 == 0;
        let whole = all(loader(fails, options(3, 3)));
        for cut in [0, 1, 17, 40, 77] {
            let mut first = loader(fails, options(2, 3));
            let start: Vec<_> = first.by_ref().take(cut).map(Result::unwrap).collect();
            let from = first.position();
            drop(first);
            let rest = all(loader(fails, LoaderOptions { from, ..options(3, 3) }));
            assert!(whole.iter().eq(start.iter().chain(&rest)), "cut after {cut}");
        }
    }

    #[test]
    fn what_fails_is_left_out_with_a_count_and_reasons() {
        let mut loader = loader(|index| index % 10 == 1, LoaderOptions { seed: PANICS, ..options(3, 1) });
        let read: Vec<_> = loader.by_ref().map(Result::unwrap).collect();
        assert_eq!(read.len(), LEN - 6);
        let skipped = loader.skipped();
        assert_eq!(skipped.records, 6);
        let mut reasons: Vec<(&str, u64)> =
            skipped.reasons.iter().map(|reason| (reason.code, reason.records)).collect();
        reasons.sort_unstable();
        assert_eq!(reasons, [("bad-image", 5), ("internal", 1)]);
        assert!(skipped.reasons.iter().any(|reason| reason.first.contains("is torn")));
    }

    #[test]
    fn a_dataset_in_which_everything_fails_ends_with_an_error() {
        let mut endless = loader(|_| true, LoaderOptions { until: None, ..options(3, 0) });
        let error = endless.next().unwrap().unwrap_err();
        assert_eq!(error.code(), "bad-image");
        assert!(error.to_string().contains(&format!("{LEN} records in a row")), "{error}");
        assert!(endless.next().is_none());
        let impatient = LoaderOptions { patience: 3, until: None, ..options(3, 0) };
        let error = loader(|_| true, impatient).next().unwrap().unwrap_err();
        assert!(error.to_string().contains("3 records in a row"), "{error}");
    }

    #[test]
    fn a_step_has_what_is_left_of_its_records_whatever_failed_before() {
        let order = Order::shuffled(LEN, 3).unwrap();
        let fails = |index| index % 4 == 2;
        let steps: Vec<Vec<_>> = loader(fails, options(3, 3)).steps(7).map(Result::unwrap).collect();
        assert_eq!(steps.len(), (3 * LEN).div_ceil(7));
        let read: usize = steps.iter().map(Vec::len).sum();
        assert_eq!(read, 3 * (0..LEN).filter(|index| !fails(*index)).count());
        for step in [1, 8, 20] {
            let from = Position::after(7 * step as u64, &order, Share::ALL);
            let mut resumed = loader(fails, LoaderOptions { from, ..options(2, 3) }).steps(7);
            assert_eq!(resumed.next().unwrap().unwrap(), steps[step]);
        }
        let mut none = loader(|_| true, LoaderOptions { until: None, ..options(3, 0) }).steps(7);
        assert_eq!(none.by_ref().find_map(Result::err).unwrap().code(), "bad-image");
        assert_eq!((none.next().is_none(), none.skipped().records), (true, LEN as u64));
    }

    #[test]
    fn ranks_read_different_records() {
        let share = |rank| LoaderOptions { share: Share { rank, ranks: 2 }, ..options(2, 1) };
        let mut indices: Vec<usize> =
            (0..2).flat_map(|rank| all(loader(|_| false, share(rank)))).map(|item| item.index).collect();
        indices.sort_unstable();
        indices.dedup();
        assert_eq!(indices.len(), LEN);
    }

    #[test]
    fn an_order_of_another_dataset_is_a_bad_option() {
        let dataset = Arc::new(Uneven { len: 3, fails: |_| false });
        let error =
            Loader::new(dataset, Order::sequential(4).unwrap(), &options(1, 1), |record, _| Ok(record));
        assert_eq!(error.unwrap_err().code(), "bad-option");
    }
}
