//! Attention of queries over keys and values that stand side by side.

use super::super::contract::AttentionSpec;
use super::isa::{Isa, Kernel, Level, dispatch_at};
use super::scratch;
use super::sweep::{self, Sweep};
use super::threads::{Shared, split};
use super::tiles::{self, Head, Sight};

/// From this many queries over the same keys on, repacking the keys is worth it.
const MANY: usize = 16;

/// `softmax(q·kᵀ/√head_dim)·v`: `[batch·queries, heads·head_dim]`; see
/// [`Kernels::attention`](super::super::Kernels::attention).
///
/// # Panics
/// When the spec reaches beyond a slice.
pub fn attention(q: &[f32], kv: &[f32], pads: Option<&[i32]>, spec: &AttentionSpec) -> Vec<f32> {
    attention_at(Level::best(), MANY, q, kv, pads, spec)
}

/// With the instruction set and the bound between the two ways.
pub(super) fn attention_at(
    level: Level,
    many: usize,
    q: &[f32],
    kv: &[f32],
    pads: Option<&[i32]>,
    spec: &AttentionSpec,
) -> Vec<f32> {
    let AttentionSpec { batch, kv_batch, queries, keys, heads, head_dim, .. } = *spec;
    assert!(kv_batch == batch || kv_batch == 1, "each sequence has its keys, or all share one");
    assert!(keys > 0, "a query sees something");
    assert!(pads.is_none_or(|pads| pads.len() == kv_batch * keys), "a flag for every key");
    let width = heads * head_dim;
    let mut out = vec![0.0; batch * queries * width];
    if out.is_empty() {
        return out;
    }
    // Queries over the same keys; where all sequences share them, their queries are one long list.
    let rows = batch * queries / kv_batch;
    let sight = Sight { keys, queries, causal: spec.causal };
    let sequence = |sequence: usize| {
        let q = &q[sequence * rows * spec.q_stride + spec.q_offset..];
        let kv = &kv[sequence * spec.kv_batch_stride..];
        (q, kv, pads.map(|pads| &pads[sequence * keys..][..keys]))
    };
    if rows < many {
        for (index, out) in out.chunks_exact_mut(rows * width).enumerate() {
            let (q, kv, pads) = sequence(index);
            let sweep = Sweep {
                q,
                q_stride: spec.q_stride,
                rows,
                kv,
                place: |key: usize| key * spec.kv_stride,
                k_offset: spec.k_offset,
                v_offset: spec.v_offset,
                heads,
                dim: head_dim,
                sight,
                pads,
            };
            scratch::with(sweep::scratch_len(rows, heads, keys), |scratch| {
                dispatch_at(level, Few { sweep, scratch, out });
            });
        }
        return out;
    }
    // What a thread should find to do when it is woken.
    const WORTH: usize = 1 << 20;
    let shared = &Shared::new(&mut out);
    split(kv_batch * heads, WORTH / (2 * rows * keys * head_dim), |tasks| {
        for task in tasks {
            let (index, head) = (task / heads, task % heads);
            let (q, kv, pads) = sequence(index);
            let from = head * head_dim;
            scratch::with(tiles::scratch_len(keys, head_dim), |scratch| {
                let head = Head {
                    q: &q[from..],
                    q_stride: spec.q_stride,
                    k: &kv[spec.k_offset + from..],
                    v: &kv[spec.v_offset + from..],
                    kv_stride: spec.kv_stride,
                    keys,
                    dim: head_dim,
                    pads,
                    sight,
                    rows,
                    out: shared,
                    out_first: index * rows * width + from,
                    out_stride: width,
                    scratch,
                };
                dispatch_at(level, head);
            });
        }
    });
    out
}

/// A sweep with its memory.
struct Few<'a, R> {
    sweep: Sweep<'a, R>,
    scratch: &'a mut [f32],
    out: &'a mut [f32],
}

impl<R: Fn(usize) -> usize> Kernel for Few<'_, R> {
    type Output = ();
    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        self.sweep.run(simd, self.scratch, self.out);
    }
}
