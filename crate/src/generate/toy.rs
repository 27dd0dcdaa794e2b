//! A toy language model whose logits are a formula of the whole prefix; `make.py` computes the same.

use std::pin::pin;
use std::task::{Context, Poll, Waker};

use serde::Deserialize;

use super::scores::log_sum_exp;
use super::{Decoder, Logits, Room};
use crate::{Error, ErrorKind, Result};

pub(super) const EOS: u32 = 1;

#[derive(Clone, Debug, Deserialize)]
pub(super) struct ToyLm {
    pub seed: u32,
    pub vocab: usize,
    pub spread: f64,
    pub repeat: f64,
    pub end: f64,
}

impl ToyLm {
    /// Logits `[vocab]` after `prefix`, computed in double precision and rounded once.
    pub fn logits(&self, prefix: &[u32]) -> Vec<f32> {
        let state =
            prefix.iter().fold(self.seed, |state, token| mix(state ^ (token + 1).wrapping_mul(0x9E37_79B1)));
        (0..self.vocab as u32)
            .map(|id| {
                let noise = mix(state ^ (id + 1).wrapping_mul(0x85EB_CA6B)) >> 8;
                let mut value = f64::from(noise) * (self.spread / 16_777_216.0) - self.spread / 2.0;
                value += if prefix.contains(&id) { self.repeat } else { 0.0 };
                value += if id == EOS { self.end } else { 0.0 };
                value as f32
            })
            .collect()
    }
}

fn mix(mut x: u32) -> u32 {
    x = (x ^ (x >> 16)).wrapping_mul(0x7FEB_352D);
    x = (x ^ (x >> 15)).wrapping_mul(0x846C_A68B);
    x ^ (x >> 16)
}

/// A decoder over any function of the prefix, which keeps its rows as a model keeps its caches.
pub(super) struct Scripted<F> {
    logits: F,
    vocab: usize,
    rows: Vec<Vec<u32>>,
    /// How many rows each call had.
    pub calls: Vec<usize>,
    /// Return `Pending` once before each answer, as a GPU does.
    pub waits: bool,
    /// Return only the best scores of a row where that is enough, as a GPU does.
    pub ranks: bool,
    best: Option<usize>,
}

impl<F: Fn(&[u32]) -> Vec<f32>> Scripted<F> {
    pub fn new(vocab: usize, logits: F) -> Self {
        Self { logits, vocab, rows: Vec::new(), calls: Vec::new(), waits: false, ranks: false, best: None }
    }

    async fn answer(&mut self) -> Logits {
        let mut waited = !self.waits;
        std::future::poll_fn(|_| {
            let ready = std::mem::replace(&mut waited, true);
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        self.calls.push(self.rows.len());
        let rows = self.rows.iter().map(|row| (self.logits)(row));
        match self.best.filter(|_| self.ranks) {
            Some(count) => Logits::Best { count, packed: rows.flat_map(|row| rank(&row, count)).collect() },
            None => Logits::All(rows.flatten().collect()),
        }
    }
}

/// The best of a row as [`Logits::Best`] has them.
fn rank(row: &[f32], count: usize) -> Vec<f32> {
    let mut ids: Vec<usize> = (0..row.len()).collect();
    ids.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
    let at = |index: usize| ids.get(index).copied();
    let values = (0..count).map(|index| at(index).map_or(f32::NEG_INFINITY, |id| row[id]));
    let ids = (0..count).map(|index| at(index).unwrap_or(0) as f32);
    let norm = log_sum_exp(row).unwrap_or(f64::NAN) as f32;
    values.chain(ids).chain([norm]).collect()
}

impl<F: Fn(&[u32]) -> Vec<f32>> Decoder for Scripted<F> {
    async fn prefill(&mut self, prompt: &[u32], room: Room) -> Result<Logits> {
        self.best = room.best;
        self.rows = vec![prompt.to_vec()];
        Ok(self.answer().await)
    }

    async fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Logits> {
        if parents.is_empty() || parents.len() != tokens.len() {
            return Err(Error::new(ErrorKind::Internal, format!("{parents:?} and {tokens:?} do not match")));
        }
        let continued = parents.iter().zip(tokens).map(|(&parent, &token)| {
            let mut row = self.rows[parent].clone();
            row.push(token);
            row
        });
        self.rows = continued.collect();
        Ok(self.answer().await)
    }

    fn vocab_size(&self) -> usize {
        self.vocab
    }
}

/// Runs a future that needs no executor to its end.
pub(super) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
    }
}
