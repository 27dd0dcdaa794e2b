//! Attention of a few queries: keys and values are read once, where they stand, in their order.
#![allow(unsafe_code, reason = "inner loops without bounds checks")]

use super::exp::weigh;
use super::isa::Isa;
use super::tiles::{Sight, hide, score_scale};

/// Keys whose values are added at once, so that the sums are loaded and stored less often.
const KEYS: usize = 4;

/// The queries and what they see.
pub(super) struct Sweep<'a, R> {
    /// Queries, `[rows]` of `heads·dim`, from the first one on.
    pub q: &'a [f32],
    /// Elements from one query to the next.
    pub q_stride: usize,
    /// Queries.
    pub rows: usize,
    /// Holds the keys and values.
    pub kv: &'a [f32],
    /// Where the row of a key and its value starts in `kv`.
    pub place: R,
    /// Offset of the key in the row, `heads·dim` wide.
    pub k_offset: usize,
    /// Offset of the value in the row, as wide.
    pub v_offset: usize,
    /// Heads.
    pub heads: usize,
    /// Width of a head.
    pub dim: usize,
    /// How many keys each query sees.
    pub sight: Sight,
    /// Non-zero at keys that must not be seen.
    pub pads: Option<&'a [i32]>,
}

/// Floats of scratch memory that a sweep needs.
pub(super) const fn scratch_len(rows: usize, heads: usize, keys: usize) -> usize {
    rows * heads * keys
}

impl<R: Fn(usize) -> usize> Sweep<'_, R> {
    /// Writes the contexts, `[rows, heads·dim]`; `scratch` holds [`scratch_len`] floats.
    #[inline(always)]
    pub(super) fn run<S: Isa>(self, simd: S, scratch: &mut [f32], out: &mut [f32]) {
        let (keys, heads, dim) = (self.sight.keys, self.heads, self.dim);
        let width = heads * dim;
        // Scores are `[rows][heads][keys]`.
        let scores = &mut scratch[..self.rows * heads * keys];
        self.score(simd, scores);
        for (row, scores) in scores.chunks_exact_mut(heads * keys).enumerate() {
            let seen = self.sight.of(row);
            for scores in scores.chunks_exact_mut(keys) {
                hide(&mut scores[..seen], self.pads);
                let inverse = 1.0 / weigh(simd, &mut scores[..seen]);
                scores[..seen].iter_mut().for_each(|weight| *weight *= inverse);
                scores[seen..].fill(0.0);
            }
        }
        out[..self.rows * width].fill(0.0);
        for first in (0..keys).step_by(KEYS) {
            let count = KEYS.min(keys - first);
            // The last keys may be fewer; in the place of the missing ones the first gets no weight.
            let place = |i: usize| (self.place)(first + if i < count { i } else { 0 }) + self.v_offset;
            let v = [place(0), place(1), place(2), place(3)].map(|at| &self.kv[at..][..width]);
            for (row, out) in out.chunks_exact_mut(width).enumerate().take(self.rows) {
                for (head, out) in out.chunks_exact_mut(dim).enumerate() {
                    let scores = &scores[(row * heads + head) * keys + first..][..count];
                    let mut weights = [0.0; KEYS];
                    weights[..count].copy_from_slice(scores);
                    add_values(simd, weights, v.map(|v| &v[head * dim..][..dim]), out);
                }
            }
        }
    }

    /// Products of all queries with all keys, by head.
    #[inline(always)]
    fn score<S: Isa>(&self, simd: S, scores: &mut [f32]) {
        let (keys, heads, dim) = (self.sight.keys, self.heads, self.dim);
        let scale = score_scale(dim);
        for key in 0..keys {
            let k = &self.kv[(self.place)(key) + self.k_offset..][..heads * dim];
            for (head, k) in k.chunks_exact(dim).enumerate() {
                let q = |row: usize| &self.q[row * self.q_stride + head * dim..][..dim];
                let mut put = |row: usize, sum: f32| scores[(row * heads + head) * keys + key] = sum * scale;
                let mut row = 0;
                while row < self.rows {
                    // As many at once as there are, up to four.
                    row += match self.rows - row {
                        1 => each(dots(simd, [q(row)], k), row, &mut put),
                        2 => each(dots(simd, [q(row), q(row + 1)], k), row, &mut put),
                        3 => each(dots(simd, [q(row), q(row + 1), q(row + 2)], k), row, &mut put),
                        _ => each(dots(simd, [q(row), q(row + 1), q(row + 2), q(row + 3)], k), row, &mut put),
                    };
                }
            }
        }
    }
}

/// Hands the numbers of `row..` on; how many there were.
#[inline(always)]
fn each<const N: usize>(sums: [f32; N], row: usize, put: &mut impl FnMut(usize, f32)) -> usize {
    sums.into_iter().enumerate().for_each(|(i, sum)| put(row + i, sum));
    N
}

/// The products of `N` vectors with one, all of one length.
#[inline(always)]
fn dots<S: Isa, const N: usize>(simd: S, a: [&[f32]; N], b: &[f32]) -> [f32; N] {
    assert!(a.iter().all(|a| a.len() == b.len()), "one length");
    let whole = b.len() - b.len() % S::LANES;
    let mut sums = [simd.zero(); N];
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: a vector's worth from `i` on lies before `whole`, and that in every slice.
        unsafe {
            let b = simd.load_at(b.as_ptr().add(i));
            for (sum, a) in sums.iter_mut().zip(a) {
                *sum = simd.fma(simd.load_at(a.as_ptr().add(i)), b, *sum);
            }
        }
    }
    let mut out = [0.0; N];
    for ((out, sum), a) in out.iter_mut().zip(sums).zip(a) {
        let rest: f32 = a[whole..].iter().zip(&b[whole..]).map(|(a, b)| a * b).sum();
        *out = simd.sum(sum) + rest;
    }
    out
}

/// To `out` the values, each times its weight.
#[inline(always)]
fn add_values<S: Isa>(simd: S, weights: [f32; KEYS], v: [&[f32]; KEYS], out: &mut [f32]) {
    assert!(v.iter().all(|v| v.len() == out.len()), "one length");
    let whole = out.len() - out.len() % S::LANES;
    let [w0, w1, w2, w3] = weights.map(|weight| simd.splat(weight));
    let [v0, v1, v2, v3] = v.map(|v| v.as_ptr());
    for i in (0..whole).step_by(S::LANES) {
        // SAFETY: a vector's worth from `i` on lies before `whole`, and that in every slice.
        unsafe {
            let to = out.as_mut_ptr().add(i);
            let sum = simd.fma(w0, simd.load_at(v0.add(i)), simd.load_at(to));
            let sum = simd.fma(w1, simd.load_at(v1.add(i)), sum);
            let sum = simd.fma(w2, simd.load_at(v2.add(i)), sum);
            let sum = simd.fma(w3, simd.load_at(v3.add(i)), sum);
            simd.store_at(to, sum);
        }
    }
    for i in whole..out.len() {
        out[i] += (0..KEYS).map(|key| weights[key] * v[key][i]).sum::<f32>();
    }
}
