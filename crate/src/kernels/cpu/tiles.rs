//! Attention of many queries: one head by matrix tiles, with its keys and values repacked.
#![allow(unsafe_code, reason = "the innermost loop, and heads that write columns of one matrix")]

use super::exp::{HIDDEN, weigh};
use super::isa::{Isa, Kernel};
use super::threads::Shared;

/// Queries of a tile: with two vectors of keys each, as many sums as 16 registers hold beside their
/// operands, and enough to hide the latency of an addition.
const ROWS: usize = 4;
/// Queries between two passes over the keys. Their scores stay in the cache, a panel of keys or values
/// in the nearest one.
const BLOCK: usize = 24;

/// One head's attention.
pub(super) struct Head<'a> {
    /// Queries, from the first one's first element in this head on.
    pub q: &'a [f32],
    /// Elements from one query to the next.
    pub q_stride: usize,
    /// Keys, from the first one's first element in this head on.
    pub k: &'a [f32],
    /// Values, likewise.
    pub v: &'a [f32],
    /// Elements from one key, and one value, to the next.
    pub kv_stride: usize,
    /// Keys.
    pub keys: usize,
    /// Width of the head.
    pub dim: usize,
    /// Non-zero at keys that must not be seen.
    pub pads: Option<&'a [i32]>,
    /// How many keys, from the first on, each query sees.
    pub sight: Sight,
    /// Queries.
    pub rows: usize,
    /// The result of all heads. This one writes to columns of its own, and nobody else to them.
    pub out: &'a Shared<'a, f32>,
    /// Its first element there.
    pub out_first: usize,
    /// Elements from one row of the result to the next.
    pub out_stride: usize,
    /// At least [`scratch_len`] floats.
    pub scratch: &'a mut [f32],
}

/// How far queries see.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    /// Keys in all.
    pub keys: usize,
    /// Queries of a sequence; the next sequence begins anew.
    pub queries: usize,
    /// `Some(past)`: the query `i` of its sequence sees `past + i + 1` keys.
    pub causal: Option<usize>,
}

impl Sight {
    /// How many keys, from the first on, the query `row` sees.
    #[inline(always)]
    pub(super) fn of(self, row: usize) -> usize {
        self.causal.map_or(self.keys, |past| (past + row % self.queries + 1).min(self.keys))
    }
}

/// Floats of scratch memory that a head needs with vectors of any width.
pub(super) const fn scratch_len(keys: usize, dim: usize) -> usize {
    let (keys, dims) = (keys.next_multiple_of(WIDEST), dim.next_multiple_of(WIDEST));
    keys * dim + keys * dims + BLOCK * keys
}

/// Columns of the widest tile.
const WIDEST: usize = 2 * super::isa::MAX_LANES;

impl Kernel for Head<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(mut self, simd: S) {
        let wide = 2 * S::LANES;
        let (keys, dim) = (self.keys, self.dim);
        let padded = keys.next_multiple_of(wide);
        let scratch = std::mem::take(&mut self.scratch);
        let (k, rest) = scratch.split_at_mut(padded * dim);
        let (v, rest) = rest.split_at_mut(keys * dim.next_multiple_of(wide));
        let (scores, _) = rest.split_at_mut(BLOCK * padded);
        self.pack_keys(k, wide);
        self.pack_values(simd, v, wide);
        for first in (0..self.rows).step_by(BLOCK) {
            let rows = BLOCK.min(self.rows - first);
            let reach = (first..first + rows).map(|row| self.sight.of(row)).max().unwrap_or(0);
            for (panel, k) in k.chunks_exact(wide * dim).enumerate().take(reach.div_ceil(wide)) {
                for row in (0..rows).step_by(ROWS) {
                    // The last tile repeats the last query where there are no more.
                    let q = |i: usize| &self.q[(first + (row + i).min(rows - 1)) * self.q_stride..][..dim];
                    let tile = product(simd, [q(0), q(1), q(2), q(3)], k);
                    for (i, [a, b]) in tile.into_iter().enumerate().take(rows - row) {
                        let to = &mut scores[(row + i) * padded + panel * wide..][..wide];
                        simd.store(to, a);
                        simd.store(&mut to[S::LANES..], b);
                    }
                }
            }
            let mut inverse = [0.0; BLOCK];
            for (row, inverse) in inverse.iter_mut().enumerate().take(rows) {
                let seen = self.sight.of(first + row);
                let scores = &mut scores[row * padded..][..reach];
                hide(&mut scores[..seen], self.pads);
                *inverse = 1.0 / weigh(simd, &mut scores[..seen]);
                scores[seen..].fill(0.0);
            }
            for (panel, v) in v.chunks_exact(keys * wide).enumerate() {
                let from = panel * wide;
                for row in (0..rows).step_by(ROWS) {
                    let weights = |i: usize| &scores[(row + i).min(rows - 1) * padded..][..reach];
                    let tile =
                        product(simd, [weights(0), weights(1), weights(2), weights(3)], &v[..reach * wide]);
                    for (i, [a, b]) in tile.into_iter().enumerate().take(rows - row) {
                        let inverse = simd.splat(inverse[row + i]);
                        let (a, b) = (simd.mul(a, inverse), simd.mul(b, inverse));
                        let len = wide.min(dim - from);
                        let at = self.out_first + (first + row + i) * self.out_stride + from;
                        // SAFETY: inside the head's columns.
                        let to = unsafe { self.out.part(at..at + len) };
                        if len == wide {
                            simd.store(to, a);
                            simd.store(&mut to[S::LANES..], b);
                        } else {
                            let mut all = [0.0; WIDEST];
                            simd.store(&mut all, a);
                            simd.store(&mut all[S::LANES..], b);
                            to.copy_from_slice(&all[..len]);
                        }
                    }
                }
            }
        }
    }
}

impl Head<'_> {
    /// Panels of `wide` keys, each panel transposed, so that lanes are keys: `[panel][dim][wide]`,
    /// scaled so that scores are powers of two. In lanes without a key stands anything: nobody
    /// looks at their scores.
    #[inline(always)]
    fn pack_keys(&self, to: &mut [f32], wide: usize) {
        let scale = score_scale(self.dim);
        for (panel, to) in to.chunks_exact_mut(wide * self.dim).enumerate() {
            let keys = wide.min(self.keys - panel * wide);
            for lane in 0..keys {
                let k = &self.k[(panel * wide + lane) * self.kv_stride..][..self.dim];
                let to = to.as_mut_ptr();
                for (i, k) in k.iter().enumerate() {
                    // SAFETY: `i` is below `dim` and the lane below `wide`.
                    unsafe { *to.add(i * wide + lane) = k * scale };
                }
            }
        }
    }

    /// Panels of `wide` columns: `[panel][key][wide]`, anything where there are no more columns.
    #[inline(always)]
    fn pack_values<S: Isa>(&self, simd: S, to: &mut [f32], wide: usize) {
        for key in 0..self.keys {
            let v = &self.v[key * self.kv_stride..][..self.dim];
            for (panel, v) in v.chunks(wide).enumerate() {
                let to = &mut to[(panel * self.keys + key) * wide..][..wide];
                if v.len() == wide {
                    simd.store(to, simd.load(v));
                    simd.store(&mut to[S::LANES..], simd.load(&v[S::LANES..]));
                } else {
                    to[..v.len()].copy_from_slice(v);
                }
            }
        }
    }
}

/// What scores are multiplied by, so that `2^score` is the exponential of `q·k/√dim`.
pub(super) fn score_scale(dim: usize) -> f32 {
    std::f32::consts::LOG2_E / (dim as f32).sqrt()
}

/// Takes from sight the keys that `pads` marks.
#[inline(always)]
pub(super) fn hide(scores: &mut [f32], pads: Option<&[i32]>) {
    if let Some(pads) = pads {
        for (score, pad) in scores.iter_mut().zip(pads) {
            if *pad != 0 {
                *score = HIDDEN;
            }
        }
    }
}

/// The products of four rows with a panel: `a: [4][depth]`, `b: [depth][2·LANES]`.
///
/// Written out row by row: arrays of sums must be registers, also where the compiler is asked for
/// small code and does not unroll loops. (Unrolling the depth too makes engines spill.)
#[inline(always)]
fn product<S: Isa>(simd: S, a: [&[f32]; ROWS], b: &[f32]) -> [[S::F; 2]; ROWS] {
    let depth = a[0].len();
    let [a0, a1, a2, a3] = a;
    assert!([a1, a2, a3].iter().all(|a| a.len() == depth) && b.len() == 2 * S::LANES * depth, "one depth");
    let (a0, a1, a2, a3, mut b) = (a0.as_ptr(), a1.as_ptr(), a2.as_ptr(), a3.as_ptr(), b.as_ptr());
    let none = [simd.zero(); 2];
    let (mut s0, mut s1, mut s2, mut s3) = (none, none, none, none);
    for i in 0..depth {
        // SAFETY: `i` is below every row's length, and `b` is advanced by a row of the panel each time.
        unsafe {
            let (x, y) = (simd.load_at(b), simd.load_at(b.add(S::LANES)));
            s0 = step(simd, s0, *a0.add(i), x, y);
            s1 = step(simd, s1, *a1.add(i), x, y);
            s2 = step(simd, s2, *a2.add(i), x, y);
            s3 = step(simd, s3, *a3.add(i), x, y);
            b = b.add(2 * S::LANES);
        }
    }
    [s0, s1, s2, s3]
}

/// `sums + a·[x, y]`.
#[inline(always)]
fn step<S: Isa>(simd: S, sums: [S::F; 2], a: f32, x: S::F, y: S::F) -> [S::F; 2] {
    let a = simd.splat(a);
    [simd.fma(a, x, sums[0]), simd.fma(a, y, sums[1])]
}
