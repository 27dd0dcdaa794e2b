//! Random numbers that are the same on every machine: ChaCha8 and integer arithmetic only.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use super::Split;

/// What the random numbers decide; each purpose has its own stream, so that one never moves another.
#[derive(Clone, Copy, Debug)]
pub(super) enum Purpose {
    /// What is in the scene and where.
    Plan = 0,
    /// Tints and background.
    Paint = 1,
}

/// The random numbers of one scene.
#[derive(Debug)]
pub(super) struct Random(ChaCha8Rng);

impl Random {
    /// The stream that belongs to (split, seed, index) and nothing else.
    pub(super) fn new(split: Split, seed: u64, index: u64, purpose: Purpose) -> Self {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&seed.to_le_bytes());
        key[8..16].copy_from_slice(&index.to_le_bytes());
        key[16] = split as u8;
        key[17] = purpose as u8;
        Self(ChaCha8Rng::from_seed(key))
    }

    /// Uniform in `0..n`; the bias of the multiplication, below `n / 2^32`, does not matter here.
    pub(super) fn below(&mut self, n: usize) -> usize {
        ((u64::from(self.0.next_u32()) * n as u64) >> 32) as usize
    }

    /// Uniform in `low..=high`.
    pub(super) fn between(&mut self, low: i32, high: i32) -> i32 {
        low + self.below((high - low + 1) as usize) as i32
    }

    /// Heads or tails.
    pub(super) fn coin(&mut self) -> bool {
        self.0.next_u32() >> 31 == 1
    }
}
