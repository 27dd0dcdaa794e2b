//! Attention of queries over keys and values that stand side by side.
#![allow(unsafe_code, reason = "threads write different parts of one result")]

use std::ops::Range;
use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use super::super::super::contract::AttentionSpec;
use super::super::super::routing::Sight;
use super::super::exp::{HIDDEN, weigh};
use super::super::isa::{Isa, Kernel, dispatch};
use super::super::threads::{Shared, split};
use super::flat::{floats, tensor};
use super::product::{Plane, product_among, product_into};
use super::{Tracked, settled};

/// What the way back needs.
#[derive(Clone, Debug)]
struct State {
    q: FlexTensor,
    kv: FlexTensor,
    /// What every query gives to every key: `[batch, heads, queries, keys]`.
    shares: Arc<Vec<f32>>,
    /// What these are multiplied with, where some are left out.
    factors: Option<Arc<Vec<f32>>>,
    readers: Arc<Readers>,
    spec: AttentionSpec,
}

/// Which sequences of queries look at each sequence of keys.
#[derive(Debug)]
struct Readers(Vec<Vec<usize>>);

impl Readers {
    fn new(places: Option<&[u32]>, spec: &AttentionSpec) -> Self {
        let Some(places) = places else {
            return Self((0..spec.batch).map(|sequence| vec![sequence]).collect());
        };
        let mut readers = vec![Vec::new(); spec.kv_batch];
        for (sequence, place) in places.iter().enumerate() {
            readers[*place as usize].push(sequence);
        }
        Self(readers)
    }
}

/// Queries, keys and values that come from one tensor.
#[derive(Debug)]
struct SelfAttention;

/// Queries that come from another tensor than keys and values.
#[derive(Debug)]
struct CrossAttention;

/// See [`super::attention`].
pub(super) fn attention<C: CheckpointStrategy>(
    q: Tracked,
    kv: Tracked,
    pads: Option<Vec<i32>>,
    sight: &Sight<'_>,
    spec: AttentionSpec,
) -> Tracked {
    let own = q.id() == kv.id();
    let (q, q_node) = q.into_parts();
    let (kv, kv_node) = kv.into_parts();
    let (q, kv) = (settled(q), settled(kv));
    let readers = Readers::new(sight.places, &spec);
    let factors = sight.factors.as_deref();
    let (out, shares) = forward(floats(&q), floats(&kv), pads.as_deref(), factors, &readers, &spec);
    let out = tensor(out, [spec.batch * spec.queries, spec.heads * spec.head_dim]);
    let state = || State {
        q,
        kv,
        shares: Arc::new(shares),
        factors: sight.factors.clone().map(Arc::new),
        readers: Arc::new(readers),
        spec,
    };
    if own {
        match SelfAttention.prepare::<C>([q_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state(), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    } else {
        match CrossAttention.prepare::<C>([q_node, kv_node]).compute_bound().stateful() {
            OpsKind::Tracked(prep) => prep.finish(state(), out),
            OpsKind::UnTracked(prep) => prep.finish(out),
        }
    }
}

impl Backward<Flex, 1> for SelfAttention {
    type State = State;

    fn backward(self, ops: Ops<State, 1>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = settled(grads.consume::<Flex>(&ops.node));
        let state = ops.state;
        let shape = state.q.layout().shape().clone();
        // Every element is a query, a key or a value of some head, and is written.
        let mut of_both = vec![0.0; shape[0] * shape[1]];
        let both = Shared::new(&mut of_both);
        backward(&state, floats(&gradient), &both, &both);
        let [node] = ops.parents;
        if let Some(node) = node {
            grads.register::<Flex>(node.id, tensor(of_both, [shape[0], shape[1]]));
        }
    }
}

impl Backward<Flex, 2> for CrossAttention {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = settled(grads.consume::<Flex>(&ops.node));
        let state = ops.state;
        let (q, kv) = (state.q.layout().shape().clone(), state.kv.layout().shape().clone());
        let (mut of_q, mut of_kv) = (vec![0.0; q[0] * q[1]], vec![0.0; kv[0] * kv[1]]);
        backward(&state, floats(&gradient), &Shared::new(&mut of_q), &Shared::new(&mut of_kv));
        let [q_node, kv_node] = ops.parents;
        if let Some(node) = q_node {
            grads.register::<Flex>(node.id, tensor(of_q, [q[0], q[1]]));
        }
        if let Some(node) = kv_node {
            grads.register::<Flex>(node.id, tensor(of_kv, [kv[0], kv[1]]));
        }
    }
}

/// Where things of a head are.
#[derive(Clone, Copy)]
struct Head<'a> {
    spec: &'a AttentionSpec,
    /// The sequence of keys.
    place: usize,
    head: usize,
}

impl Head<'_> {
    fn from(&self) -> usize {
        self.head * self.spec.head_dim
    }

    /// The first query of a sequence.
    fn query(&self, sequence: usize) -> usize {
        sequence * self.spec.queries * self.spec.q_stride + self.spec.q_offset + self.from()
    }

    fn key(&self) -> usize {
        self.place * self.spec.kv_batch_stride + self.spec.k_offset + self.from()
    }

    fn value(&self) -> usize {
        self.place * self.spec.kv_batch_stride + self.spec.v_offset + self.from()
    }

    /// The first result of a sequence.
    fn result(&self, sequence: usize) -> usize {
        sequence * self.spec.queries * self.spec.heads * self.spec.head_dim + self.from()
    }

    /// What the queries of a sequence give to the keys.
    fn shares(&self, sequence: usize) -> Range<usize> {
        let size = self.spec.queries * self.spec.keys;
        let first = (sequence * self.spec.heads + self.head) * size;
        first..first + size
    }
}

/// Elements of `count` rows of `width` that begin `stride` apart.
fn span(first: usize, count: usize, stride: usize, width: usize) -> Range<usize> {
    first..first + (count - 1) * stride + width
}

/// Runs `work` for every head of every sequence of keys, on as many threads as there are.
fn each_head(readers: &Readers, spec: &AttentionSpec, work: impl Fn(Head<'_>, &[usize]) + Sync) {
    const WORTH: usize = 1 << 20;
    let tasks = spec.kv_batch * spec.heads;
    let size = 4 * spec.queries * spec.keys * spec.head_dim * spec.batch / spec.kv_batch.max(1);
    split(tasks, WORTH / size.max(1), |tasks| {
        for task in tasks {
            let (place, head) = (task / spec.heads, task % spec.heads);
            work(Head { spec, place, head }, &readers.0[place]);
        }
    });
}

/// The results, and what every query gives to every key.
fn forward(
    q: &[f32],
    kv: &[f32],
    pads: Option<&[i32]>,
    factors: Option<&[f32]>,
    readers: &Readers,
    spec: &AttentionSpec,
) -> (Vec<f32>, Vec<f32>) {
    let AttentionSpec { batch, queries, keys, heads, head_dim, .. } = *spec;
    let width = heads * head_dim;
    let mut out = vec![0.0; batch * queries * width];
    let mut shares = vec![0.0; batch * heads * queries * keys];
    let (all_out, all_shares) = (Shared::new(&mut out), Shared::new(&mut shares));
    // Scores in powers of two.
    let factor = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
    each_head(readers, spec, |head, readers| {
        let k = Plane::rows(&kv[span(head.key(), keys, spec.kv_stride, head_dim)], spec.kv_stride);
        let v = Plane::rows(&kv[span(head.value(), keys, spec.kv_stride, head_dim)], spec.kv_stride);
        for sequence in readers {
            let q =
                Plane::rows(&q[span(head.query(*sequence), queries, spec.q_stride, head_dim)], spec.q_stride);
            // SAFETY: the shares of this head in this sequence are nobody else's.
            let shares = unsafe { all_shares.part(head.shares(*sequence)) };
            product_into((queries, keys, head_dim), (&mut *shares, keys), false, q, k.transposed(), factor);
            let pads = pads.map(|pads| &pads[head.place * keys..][..keys]);
            dispatch(Softmax { scores: &mut *shares, keys, pads, causal: spec.causal });
            let thinned = factors.map(|factors| multiplied(shares, &factors[head.shares(*sequence)]));
            let shares = Plane::rows(thinned.as_deref().unwrap_or(shares), keys);
            let size = (queries, head_dim, keys);
            // SAFETY: the results of this head in this sequence are nobody else's.
            unsafe {
                product_among(size, (&all_out, head.result(*sequence), width), false, shares, v, 1.0);
            }
        }
    });
    (out, shares)
}

/// Adds the gradients of queries, keys and values.
fn backward(state: &State, gradient: &[f32], of_q: &Shared<'_, f32>, of_kv: &Shared<'_, f32>) {
    let State { q, kv, shares, factors, readers, spec } = state;
    let (q, kv) = (floats(q), floats(kv));
    let AttentionSpec { queries, keys, heads, head_dim, .. } = *spec;
    let width = heads * head_dim;
    let factor = 1.0 / (head_dim as f32).sqrt();
    each_head(readers, spec, |head, readers| {
        let (key, value) = (head.key(), head.value());
        let k = Plane::rows(&kv[span(key, keys, spec.kv_stride, head_dim)], spec.kv_stride);
        let v = Plane::rows(&kv[span(value, keys, spec.kv_stride, head_dim)], spec.kv_stride);
        let mut slopes = vec![0.0; queries * keys];
        for (nth, sequence) in readers.iter().enumerate() {
            let query = head.query(*sequence);
            let q = Plane::rows(&q[span(query, queries, spec.q_stride, head_dim)], spec.q_stride);
            let place = head.shares(*sequence);
            let shares = &shares[place.clone()];
            let factors = factors.as_ref().map(|factors| &factors[place]);
            let thinned = factors.map(|factors| multiplied(shares, factors));
            let back = &gradient[span(head.result(*sequence), queries, width, head_dim)];
            let back = Plane::rows(back, width);
            // More readers of one sequence of keys add up.
            let more = nth > 0;
            let plane = Plane::rows(thinned.as_deref().unwrap_or(shares), keys);
            let (size, of_v) = ((keys, head_dim, queries), (of_kv, value, spec.kv_stride));
            // SAFETY: here and below, what is written is this head's of this sequence of keys.
            unsafe { product_among(size, of_v, more, plane.transposed(), back, 1.0) };

            product_into((queries, keys, head_dim), (&mut slopes, keys), false, back, v.transposed(), 1.0);
            if let Some(factors) = factors {
                slopes.iter_mut().zip(factors).for_each(|(slope, factor)| *slope *= factor);
            }
            dispatch(SoftmaxBackward { shares, slopes: &mut slopes, keys });
            let slopes = Plane::rows(&slopes, keys);
            let (of_q, of_k) = ((of_q, query, spec.q_stride), (of_kv, key, spec.kv_stride));
            // SAFETY: as above.
            unsafe {
                product_among((queries, head_dim, keys), of_q, false, slopes, k, factor);
                product_among(size, of_k, more, slopes.transposed(), q, factor);
            }
        }
    });
}

fn multiplied(shares: &[f32], factors: &[f32]) -> Vec<f32> {
    shares.iter().zip(factors).map(|(share, factor)| share * factor).collect()
}

/// Scores in powers of two become shares that add up to 1.
struct Softmax<'a> {
    scores: &'a mut [f32],
    keys: usize,
    pads: Option<&'a [i32]>,
    causal: Option<usize>,
}

impl Kernel for Softmax<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        for (query, row) in self.scores.chunks_exact_mut(self.keys).enumerate() {
            // Of what comes later nothing is seen, and nothing computed.
            let seen = self.causal.map_or(self.keys, |past| (past + query + 1).min(self.keys));
            let (row, later) = row.split_at_mut(seen);
            later.fill(0.0);
            if let Some(pads) = self.pads {
                for (score, pad) in row.iter_mut().zip(pads) {
                    if *pad != 0 {
                        *score = HIDDEN;
                    }
                }
            }
            let inverse = 1.0 / weigh(simd, row);
            let factor = simd.splat(inverse);
            let mut vectors = row.chunks_exact_mut(S::LANES);
            for share in &mut vectors {
                simd.store(share, simd.mul(simd.load(share), factor));
            }
            vectors.into_remainder().iter_mut().for_each(|share| *share *= inverse);
        }
    }
}

/// The gradients of shares become those of scores: `share·(slope − Σ slope·share)`.
struct SoftmaxBackward<'a> {
    shares: &'a [f32],
    slopes: &'a mut [f32],
    keys: usize,
}

impl Kernel for SoftmaxBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let rows = self.shares.chunks_exact(self.keys).zip(self.slopes.chunks_exact_mut(self.keys));
        let whole = self.keys - self.keys % S::LANES;
        for (shares, slopes) in rows {
            let mut sums = simd.zero();
            for i in (0..whole).step_by(S::LANES) {
                sums = simd.fma(simd.load(&shares[i..]), simd.load(&slopes[i..]), sums);
            }
            let mut sum = simd.sum(sums);
            for i in whole..self.keys {
                sum += shares[i] * slopes[i];
            }
            let mean = simd.splat(sum);
            for i in (0..whole).step_by(S::LANES) {
                let slope = simd.sub(simd.load(&slopes[i..]), mean);
                simd.store(&mut slopes[i..], simd.mul(slope, simd.load(&shares[i..])));
            }
            for i in whole..self.keys {
                slopes[i] = (slopes[i] - sum) * shares[i];
            }
        }
    }
}
