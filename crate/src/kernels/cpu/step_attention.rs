//! One decoding step's self-attention.

use super::super::contract::StepAttentionSpec;
use super::isa::{Isa, Kernel, Level, dispatch_at};
use super::scratch;
use super::sweep::{self, Sweep};
use super::tiles::Sight;

/// Writes the new keys and values of `qkv: [rows, 3·width]` to `cache` at `position`, attends, and
/// returns `[rows, width]`; see [`Kernels::step_attention`](super::super::Kernels::step_attention).
///
/// The cache may have more rows than `spec.rows`; `lineage` may name any of them, and what is no row
/// is read as row 0.
///
/// # Panics
/// When the position is outside the cache, or a slice too short.
pub fn step_attention(
    qkv: &[f32],
    cache: &mut [f32],
    position: usize,
    lineage: Option<&[i32]>,
    spec: &StepAttentionSpec,
) -> Vec<f32> {
    step_attention_at(Level::best(), qkv, cache, position, lineage, spec)
}

pub(super) fn step_attention_at(
    level: Level,
    qkv: &[f32],
    cache: &mut [f32],
    position: usize,
    lineage: Option<&[i32]>,
    spec: &StepAttentionSpec,
) -> Vec<f32> {
    let StepAttentionSpec { rows, capacity, heads, head_dim } = *spec;
    let width = heads * head_dim;
    assert!(position < capacity, "position {position} of a cache for {capacity} tokens");
    let row_len = capacity * 2 * width;
    for (row, qkv) in qkv.chunks_exact(3 * width).enumerate().take(rows) {
        let place = row * row_len + position * 2 * width;
        cache[place..place + 2 * width].copy_from_slice(&qkv[width..]);
    }
    let mut out = vec![0.0; rows * width];
    let keys = position + 1;
    scratch::with(sweep::scratch_len(1, heads, keys), |scratch| {
        let lineage = lineage.map(|lineage| &lineage[..rows * capacity]);
        let step = Step { qkv, cache, lineage, position, spec, scratch, out: &mut out };
        dispatch_at(level, step);
    });
    out
}

struct Step<'a> {
    qkv: &'a [f32],
    cache: &'a [f32],
    lineage: Option<&'a [i32]>,
    position: usize,
    spec: &'a StepAttentionSpec,
    scratch: &'a mut [f32],
    out: &'a mut [f32],
}

impl Kernel for Step<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let StepAttentionSpec { rows, capacity, heads, head_dim } = *self.spec;
        let width = heads * head_dim;
        let cache_rows = self.cache.len() / (capacity * 2 * width);
        for (row, out) in self.out.chunks_exact_mut(width).enumerate().take(rows) {
            let place = |token: usize| {
                let row = match self.lineage {
                    Some(lineage) if token < self.position => {
                        let row = lineage[row * capacity + token] as usize;
                        if row < cache_rows { row } else { 0 }
                    }
                    _ => row,
                };
                (row * capacity + token) * 2 * width
            };
            let keys = self.position + 1;
            let sweep = Sweep {
                q: &self.qkv[row * 3 * width..][..width],
                q_stride: width,
                rows: 1,
                kv: self.cache,
                place,
                k_offset: 0,
                v_offset: width,
                heads,
                dim: head_dim,
                sight: Sight { keys, queries: 1, causal: None },
                pads: None,
            };
            sweep.run(simd, self.scratch, out);
        }
    }
}
