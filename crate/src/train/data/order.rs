//! In which order the records of an epoch are read: arithmetic on numbers, nothing is kept.
//!
//! Where a run stands is a [`Position`], and from a position on the order is the same whether the run
//! was cut there or not. Large sets of tar shards are shuffled in two steps, so that reads stay nearly
//! sequential: the shards, then the records of several shards that follow each other.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Dataset;
use crate::train::random::Random;
use crate::{Error, ErrorKind, Result};

/// What tells the random numbers of orders apart from others.
const STREAM: u64 = 0x6f72_6465_7200_0000;

/// Where a reader stands: how much of an epoch is behind it.
///
/// With several ranks, `offset` counts the records of all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Records of this epoch that are behind.
    pub offset: u64,
}

impl Position {
    /// Where a reader stands that has read so many records from the very start on, whether they were
    /// of use or not: what a run that counts its steps needs to find its place again.
    ///
    /// # Panics
    /// When there is not a record for each rank.
    pub fn after(records: u64, order: &Order, share: Share) -> Self {
        let ranks = share.ranks as u64;
        let an_epoch = order.len / ranks;
        assert!(an_epoch > 0, "{} records for {ranks} ranks", order.len);
        Self { epoch: records / an_epoch, offset: records % an_epoch * ranks }
    }
}

/// Which of several readers of one order this is: rank `rank` of `ranks` reads every `ranks`-th record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// From 0.
    pub rank: usize,
    /// How many readers there are.
    pub ranks: usize,
}

impl Share {
    /// The only reader.
    pub const ALL: Self = Self { rank: 0, ranks: 1 };
}

/// How every epoch of a dataset is ordered.
#[derive(Clone, Debug)]
pub struct Order {
    len: u64,
    seed: u64,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Sequential,
    Shuffled,
    /// Records a shard, and how many shards are shuffled into each other.
    Windows {
        shards: Arc<[u64]>,
        window: usize,
    },
}

impl Order {
    /// Every epoch from the first record to the last.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when there are no records.
    pub fn sequential(len: usize) -> Result<Self> {
        Self::new(len as u64, 0, Kind::Sequential)
    }

    /// Every epoch in another order.
    ///
    /// # Errors
    /// As [`Order::sequential`].
    pub fn shuffled(len: usize, seed: u64) -> Result<Self> {
        Self::new(len as u64, seed, Kind::Shuffled)
    }

    /// Every epoch in another order of shards, and in it the records of `window` shards at a time in
    /// another order.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when there are no records, or `window` is 0.
    pub fn windowed(shards: &[usize], window: usize, seed: u64) -> Result<Self> {
        if window == 0 {
            return Err(Error::new(ErrorKind::BadOption, "a window of 0 shards: expected at least 1"));
        }
        let shards: Arc<[u64]> = shards.iter().map(|&records| records as u64).collect();
        Self::new(shards.iter().sum(), seed, Kind::Windows { shards, window })
    }

    /// [`Order::windowed`] over the pieces of a dataset.
    ///
    /// # Errors
    /// As [`Order::windowed`].
    pub fn of(dataset: &dyn Dataset, window: usize, seed: u64) -> Result<Self> {
        Self::windowed(&dataset.pieces(), window, seed)
    }

    fn new(len: u64, seed: u64, kind: Kind) -> Result<Self> {
        if len == 0 {
            return Err(Error::new(ErrorKind::BadOption, "a dataset without records: expected at least one"));
        }
        Ok(Self { len, seed, kind })
    }

    /// Records an epoch.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is nothing to read; never.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The order of one epoch.
    pub fn epoch(&self, epoch: u64) -> Epoch {
        let permuted = |len, part| Permutation::new(len, [self.seed, epoch, STREAM, part]);
        let windows = match &self.kind {
            Kind::Sequential => return Epoch { len: self.len, kind: EpochKind::Sequential },
            Kind::Shuffled => {
                return Epoch { len: self.len, kind: EpochKind::Shuffled(permuted(self.len, 0)) };
            }
            Kind::Windows { shards, window: size } => {
                let mut starts = Vec::with_capacity(shards.len());
                let mut start = 0;
                for records in shards.iter() {
                    starts.push(start);
                    start += records;
                }
                let mut order: Vec<usize> = (0..shards.len()).collect();
                Random::keyed([self.seed, epoch, STREAM, 1]).shuffle(&mut order);
                let mut first = 0;
                let window = |(number, order): (usize, &[usize])| {
                    let mut ends = Vec::with_capacity(order.len());
                    let mut total = 0;
                    for &shard in order {
                        total += shards[shard];
                        ends.push((total, starts[shard]));
                    }
                    let window =
                        Window { first, shards: ends, order: permuted(total.max(1), 2 + number as u64) };
                    first += total;
                    window
                };
                order.chunks(*size).enumerate().map(window).collect()
            }
        };
        Epoch { len: self.len, kind: EpochKind::Windows(windows) }
    }
}

/// One epoch: which record is read at which offset.
#[derive(Clone, Debug)]
pub struct Epoch {
    len: u64,
    kind: EpochKind,
}

#[derive(Clone, Debug)]
enum EpochKind {
    Sequential,
    Shuffled(Permutation),
    Windows(Vec<Window>),
}

/// Shards that are shuffled into each other.
#[derive(Clone, Debug)]
struct Window {
    /// The offset of its first record.
    first: u64,
    /// Of each shard: where it ends in the window before shuffling, and its first record's number.
    shards: Vec<(u64, u64)>,
    order: Permutation,
}

impl Epoch {
    /// The number of the record at an offset.
    ///
    /// # Panics
    /// When the offset is beyond the end.
    pub fn record(&self, offset: u64) -> usize {
        assert!(offset < self.len, "offset {offset} of an epoch of {} records", self.len);
        let number = match &self.kind {
            EpochKind::Sequential => offset,
            EpochKind::Shuffled(order) => order.at(offset),
            EpochKind::Windows(windows) => {
                let window = &windows[windows.partition_point(|window| window.first <= offset) - 1];
                let inside = window.order.at(offset - window.first);
                let shard = window.shards.partition_point(|&(end, _)| end <= inside);
                let before = if shard == 0 { 0 } else { window.shards[shard - 1].0 };
                window.shards[shard].1 + inside - before
            }
        };
        number as usize
    }
}

/// A permutation of `0..len` that is computed, not stored: a Feistel network over the next power of
/// four, walked until it lands inside (Black and Rogaway, "Ciphers with arbitrary finite domains").
#[derive(Clone, Debug)]
struct Permutation {
    len: u64,
    half: u32,
    keys: [u64; 6],
}

impl Permutation {
    fn new(len: u64, key: [u64; 4]) -> Self {
        let bits = u64::BITS - (len - 1).leading_zeros();
        let mut random = Random::keyed(key);
        Self { len, half: bits.div_ceil(2).max(1), keys: std::array::from_fn(|_| random.bits()) }
    }

    fn at(&self, index: u64) -> u64 {
        let mut value = index;
        // The network has less than four times as many values as there are records.
        loop {
            value = self.network(value);
            if value < self.len {
                return value;
            }
        }
    }

    fn network(&self, value: u64) -> u64 {
        let mask = (1 << self.half) - 1;
        let (mut left, mut right) = (value >> self.half, value & mask);
        for key in self.keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half | right
    }
}

/// The finaliser of splitmix64.
fn mix(value: u64) -> u64 {
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// A reader's way through the epochs, without end.
#[derive(Debug)]
pub struct Walk {
    order: Order,
    share: Share,
    position: Position,
    epoch: Epoch,
}

/// One step of a [`Walk`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// The number of the record.
    pub record: usize,
    /// The epoch that it is read in.
    pub epoch: u64,
    /// Where the reader stands behind it.
    pub after: Position,
}

impl Walk {
    /// From a position on. What is left of an epoch after the last full round of all ranks is not read
    /// in it, so that every rank reads equally many; a shuffled epoch leaves out others each time.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when there is no such rank, or there are fewer records than ranks.
    pub fn new(order: Order, share: Share, from: Position) -> Result<Self> {
        if share.rank >= share.ranks || order.len < share.ranks as u64 {
            let message = format!(
                "rank {} of {} over {} records: expected a rank below the ranks and a record for each",
                share.rank, share.ranks, order.len
            );
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let epoch = order.epoch(from.epoch);
        Ok(Self { order, share, position: from, epoch })
    }

    /// Where the reader stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// How many records this rank reads in an epoch.
    pub fn share_of_epoch(&self) -> u64 {
        self.order.len / self.share.ranks as u64
    }
}

impl Iterator for Walk {
    type Item = Step;

    /// The next record; never `None`.
    fn next(&mut self) -> Option<Step> {
        let ranks = self.share.ranks as u64;
        if self.position.offset.saturating_add(ranks) > self.order.len {
            self.position = Position { epoch: self.position.epoch + 1, offset: 0 };
            self.epoch = self.order.epoch(self.position.epoch);
        }
        let record = self.epoch.record(self.position.offset + self.share.rank as u64);
        let epoch = self.position.epoch;
        self.position.offset += ranks;
        Some(Step { record, epoch, after: self.position })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn records(epoch: &Epoch) -> Vec<usize> {
        (0..epoch.len).map(|offset| epoch.record(offset)).collect()
    }

    fn orders() -> Vec<Order> {
        vec![
            Order::sequential(37).unwrap(),
            Order::shuffled(37, 5).unwrap(),
            Order::windowed(&[3, 0, 11, 1, 20, 2], 2, 5).unwrap(),
        ]
    }

    #[test]
    fn every_epoch_has_every_record_once() {
        for order in orders() {
            for epoch in 0..5 {
                let seen: BTreeSet<usize> = records(&order.epoch(epoch)).into_iter().collect();
                assert_eq!(seen, (0..37).collect(), "{order:?}");
            }
        }
        for len in 1..70 {
            let seen: BTreeSet<usize> =
                records(&Order::shuffled(len, 1).unwrap().epoch(0)).into_iter().collect();
            assert_eq!(seen.len(), len);
        }
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own_and_equal_ones_the_same() {
        let order = |seed, epoch| records(&Order::shuffled(1000, seed).unwrap().epoch(epoch));
        assert_eq!(order(1, 2), order(1, 2));
        assert_ne!(order(1, 2), order(1, 3));
        assert_ne!(order(1, 2), order(2, 2));
    }

    #[test]
    fn a_shuffle_leaves_no_trace_of_the_old_order() {
        let order = records(&Order::shuffled(10_000, 3).unwrap().epoch(0));
        let n = order.len() as f64;
        let mean = (n - 1.0) / 2.0;
        let correlation = |lag: usize| {
            let products = order.iter().enumerate().map(|(i, &a)| {
                let b = if lag == 0 { i as f64 } else { order[(i + lag) % order.len()] as f64 };
                (a as f64 - mean) * (b - mean)
            });
            products.sum::<f64>() / (n * (n * n - 1.0) / 12.0)
        };
        assert!((0..4).all(|lag| correlation(lag).abs() < 0.04), "{:?}", [0, 1, 2, 3].map(correlation));
        // Neighbours stay neighbours as often as chance has it, about twice.
        assert!(order.windows(2).filter(|pair| pair[0].abs_diff(pair[1]) == 1).count() < 10);
    }

    #[test]
    fn a_windowed_order_reads_a_few_shards_at_a_time() {
        let order = Order::windowed(&[10; 40], 4, 9).unwrap();
        let epoch = order.epoch(0);
        for window in records(&epoch).chunks(40) {
            let shards: BTreeSet<usize> = window.iter().map(|record| record / 10).collect();
            assert_eq!(shards.len(), 4);
            let first: BTreeSet<usize> = window[..10].iter().map(|record| record / 10).collect();
            assert!(first.len() > 1, "shuffled across shards");
        }
        assert_ne!(records(&epoch), records(&order.epoch(1)));
    }

    #[test]
    fn a_cut_walk_goes_on_with_the_very_next_record() {
        for order in orders() {
            for share in [Share::ALL, Share { rank: 1, ranks: 3 }] {
                let mut whole = Walk::new(order.clone(), share, Position::default()).unwrap();
                for _ in 0..100 {
                    let text = serde_json::to_string(&whole.position()).unwrap();
                    let from = serde_json::from_str(&text).unwrap();
                    let mut resumed = Walk::new(order.clone(), share, from).unwrap();
                    assert_eq!(resumed.next(), whole.next());
                }
            }
        }
    }

    #[test]
    fn a_count_of_records_is_a_position() {
        for order in orders() {
            for share in [Share::ALL, Share { rank: 2, ranks: 4 }] {
                let mut walk = Walk::new(order.clone(), share, Position::default()).unwrap();
                for count in 0..90 {
                    let from = Position::after(count, &order, share);
                    let mut found = Walk::new(order.clone(), share, from).unwrap();
                    assert_eq!(found.next(), walk.next());
                }
            }
        }
    }

    #[test]
    fn ranks_share_an_epoch_without_overlap_and_read_equally_many() {
        for order in orders() {
            let mut seen = BTreeSet::new();
            for rank in 0..4 {
                let walk = Walk::new(order.clone(), Share { rank, ranks: 4 }, Position::default()).unwrap();
                let share: Vec<usize> =
                    walk.take_while(|step| step.epoch == 0).map(|step| step.record).collect();
                assert_eq!(share.len(), 9);
                assert!(share.into_iter().all(|record| seen.insert(record)));
            }
        }
    }

    #[test]
    fn what_cannot_be_ordered_is_a_bad_option() {
        assert_eq!(Order::shuffled(0, 1).unwrap_err().code(), "bad-option");
        assert_eq!(Order::windowed(&[], 1, 1).unwrap_err().code(), "bad-option");
        assert_eq!(Order::windowed(&[1], 0, 1).unwrap_err().code(), "bad-option");
        let few = Order::sequential(3).unwrap();
        for share in [Share { rank: 0, ranks: 4 }, Share { rank: 2, ranks: 2 }, Share { rank: 0, ranks: 0 }] {
            assert_eq!(Walk::new(few.clone(), share, Position::default()).unwrap_err().code(), "bad-option");
        }
    }

    #[test]
    fn a_position_beyond_the_end_starts_the_next_epoch() {
        let from = Position { epoch: 2, offset: u64::MAX };
        let step = Walk::new(Order::sequential(3).unwrap(), Share::ALL, from).unwrap().next().unwrap();
        assert_eq!((step.record, step.epoch), (0, 3));
    }
}
