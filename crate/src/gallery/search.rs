//! The best entries for a query.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::scan::Scan;
use super::vector::Query;
use super::{ContentHash, Entry, Gallery};
use crate::Result;

/// Rows whose products are at hand at a time.
const BLOCK: usize = 1024;

/// What a search found.
#[derive(Clone, Debug, PartialEq)]
pub struct Hit {
    /// SHA-256 of the picture's file.
    pub hash: ContentHash,
    /// What the user calls it.
    pub key: String,
    /// The cosine of query and picture, within the rounding of eight bits.
    pub score: f32,
}

impl Gallery {
    /// The `k` entries of the greatest cosine with an embedding `[width]`, best first; of equal ones
    /// that of the lesser hash.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`](crate::ErrorKind::BadOption) for an embedding of another width or
    /// without a direction.
    pub fn search(&self, embedding: &[f32], k: usize) -> Result<Vec<Hit>> {
        self.search_among(embedding, k, &mut |_| true)
    }

    /// As [`search`](Self::search), among the entries that `keep` says yes to. It is asked only of those
    /// that would be among the best.
    ///
    /// # Errors
    /// As [`search`](Self::search).
    pub fn search_among(
        &self,
        embedding: &[f32],
        k: usize,
        keep: &mut dyn FnMut(Entry<'_>) -> bool,
    ) -> Result<Vec<Hit>> {
        self.check_width(embedding.len())?;
        let stride = self.stride();
        let query = Query::of(embedding, stride)?;
        // The worst of the best is on top.
        let mut best: BinaryHeap<Ranked> = BinaryHeap::new();
        let mut products = [0i64; BLOCK];
        for first in (0..self.len()).step_by(BLOCK) {
            let end = self.len().min(first + BLOCK);
            let products = &mut products[..end - first];
            let codes = &self.codes[first * stride..end * stride];
            Scan { query: &query, codes, sums: &self.sums[first..end], out: products }.run();
            for (at, product) in (first..end).zip(products) {
                let score = (*product as f64 * f64::from(self.scales[at]) * query.scale) as f32;
                let ranked = Ranked { score, hash: self.hashes[at], at };
                if best.len() >= k && best.peek().is_none_or(|worst| ranked >= *worst) {
                    continue;
                }
                if !keep(Entry { hash: ranked.hash, key: &self.keys[at] }) {
                    continue;
                }
                best.push(ranked);
                if best.len() > k {
                    best.pop();
                }
            }
        }
        let hit = |Ranked { score, hash, at }| Hit { hash, key: self.keys[at].clone(), score };
        Ok(best.into_sorted_vec().into_iter().map(hit).collect())
    }
}

/// A candidate; the better of two is the lesser.
struct Ranked {
    score: f32,
    hash: ContentHash,
    at: usize,
}

impl Ord for Ranked {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then_with(|| self.hash.cmp(&other.hash))
    }
}

impl PartialOrd for Ranked {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Ranked {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Ranked {}
