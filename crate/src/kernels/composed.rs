//! The operations as compositions of burn's own, differentiable ones.
//!
//! Slow and plain on purpose: the oracle that the kernels are tested against, what training runs,
//! and the way for devices without kernels of ours. Not part of the browser module.

use burn::tensor::activation::{gelu, log_softmax, relu, softmax};
use burn::tensor::module::linear as linear_op;
use burn::tensor::{Bool, Int, Tensor, TensorData};

use super::contract::{
    Activation, AdvanceSpec, AttentionSpec, EmbedSpec, LinearSpec, Normed, Place, StepAttentionSpec, state,
};
use super::routing::MatrixView;

pub(super) fn linear(
    x: Tensor<2>,
    matrix: MatrixView,
    bias: Option<Tensor<1>>,
    norm: Option<Tensor<2>>,
    residual: Option<Tensor<2>>,
    spec: LinearSpec,
) -> Tensor<2> {
    let mut x = strided(x, spec.rows, spec.row_stride, spec.inputs);
    let mut residual = residual;
    match (spec.normed, norm) {
        (Normed::Input { epsilon }, Some(norm)) => x = layer_norm(x, norm, epsilon),
        (Normed::Residual { epsilon }, Some(norm)) => {
            residual = residual.map(|residual| layer_norm(residual, norm, epsilon));
        }
        (Normed::Neither, None) => {}
        (normed, norm) => panic!("{normed:?} with the norm {:?}", norm.map(|norm| norm.dims())),
    }
    let MatrixView::Float(weight) = matrix else {
        panic!("packed matrices live on WebGPU and the CPU only; elsewhere they are widened at load");
    };
    let (wide, narrow) = (x.dtype(), weight.dtype());
    let y = if wide == narrow {
        linear_op(x, weight.transpose(), bias)
    } else {
        // Mixed precision: the product is computed as the weight is stored.
        let y = x.cast(narrow).matmul(weight.transpose()).cast(wide);
        match bias {
            Some(bias) => y + bias.unsqueeze(),
            None => y,
        }
    };
    let y = match spec.activation {
        Activation::None => y,
        Activation::Gelu => gelu(y),
        Activation::Relu => relu(y),
        Activation::Half => y.mul_scalar(0.5),
    };
    match residual {
        Some(residual) => y + residual,
        None => y,
    }
}

pub(super) fn layer_norm(x: Tensor<2>, norm: Tensor<2>, epsilon: f32) -> Tensor<2> {
    let [_, width] = x.dims();
    let scale = norm.clone().slice([0..1, 0..width]).reshape([width]);
    let shift = norm.slice([1..2, 0..width]).reshape([width]);
    burn::tensor::module::layer_norm(x, scale, Some(shift), f64::from(epsilon))
}

pub(super) fn normalise(x: Tensor<2>) -> Tensor<2> {
    let length = x.clone().powi_scalar(2).sum_dim(1).sqrt().clamp_min(1e-12);
    x / length
}

pub(super) fn attention(
    q: Tensor<2>,
    kv: Tensor<2>,
    pads: Option<Tensor<2, Int>>,
    spec: AttentionSpec,
) -> Tensor<2> {
    attention_with(q, kv, pads, None, spec)
}

/// With factors of what queries give to keys, `[batch, heads, queries, keys]`.
pub(super) fn attention_with(
    q: Tensor<2>,
    kv: Tensor<2>,
    pads: Option<Tensor<2, Int>>,
    factors: Option<Tensor<4>>,
    spec: AttentionSpec,
) -> Tensor<2> {
    let AttentionSpec { batch, kv_batch, queries, keys, heads, head_dim, .. } = spec;
    let width = heads * head_dim;
    assert_eq!(spec.kv_batch_stride, spec.keys * spec.kv_stride, "sequences of keys stand side by side");
    let part = |x: Tensor<2>, stride: usize, offset: usize, batch: usize, rows: usize| {
        x.reshape([batch, rows, stride])
            .narrow(2, offset, width)
            .reshape([batch, rows, heads, head_dim])
            .swap_dims(1, 2)
    };
    let q = part(q, spec.q_stride, spec.q_offset, batch, queries);
    let k = part(kv.clone(), spec.kv_stride, spec.k_offset, kv_batch, keys);
    let v = part(kv, spec.kv_stride, spec.v_offset, kv_batch, keys);
    let hidden = hidden(pads, &spec, &q.device());
    let context = attend(q, k, v, hidden, factors);
    context.swap_dims(1, 2).reshape([batch * queries, width])
}

pub(super) fn step_attention(
    qkv: Tensor<2>,
    cache: Tensor<3>,
    state: Tensor<1, Int>,
    lineage: Option<Tensor<2, Int>>,
    spec: StepAttentionSpec,
) -> (Tensor<2>, Tensor<3>) {
    let StepAttentionSpec { rows, capacity, heads, head_dim } = spec;
    let width = heads * head_dim;
    let position = state.slice([state::POSITION..=state::POSITION]).into_scalar::<i32>() as usize;
    let new = qkv.clone().narrow(1, width, 2 * width).reshape([rows, 1, 2 * width]);
    let cache = cache.slice_assign([0..rows, position..position + 1, 0..2 * width], new);
    // Row r's past token t stands in row lineage[r][t] of the cache.
    let past = match lineage {
        None => cache.clone().narrow(0, 0, rows),
        Some(lineage) => {
            let all = cache.dims()[0];
            let own: Vec<i32> = (0..rows * capacity)
                .map(|i| if i % capacity == position { (i / capacity) as i32 } else { -1 })
                .collect();
            let own = Tensor::<2, Int>::from_data(TensorData::new(own, [rows, capacity]), &cache.device());
            let lineage = lineage.narrow(0, 0, rows);
            let row = own.clone().mask_where(own.lower_elem(0), lineage);
            let token: Vec<i32> = (0..rows * capacity).map(|i| (i % capacity) as i32).collect();
            let token =
                Tensor::<2, Int>::from_data(TensorData::new(token, [rows, capacity]), &cache.device());
            let flat = (row * capacity as i32 + token).reshape([rows * capacity]);
            cache.clone().reshape([all * capacity, 2 * width]).select(0, flat).reshape([
                rows,
                capacity,
                2 * width,
            ])
        }
    };
    let past = past.narrow(1, 0, position + 1).reshape([rows * (position + 1), 2 * width]);
    let spec = AttentionSpec {
        batch: rows,
        kv_batch: rows,
        queries: 1,
        keys: position + 1,
        heads,
        head_dim,
        q_stride: 3 * width,
        q_offset: 0,
        kv_stride: 2 * width,
        kv_batch_stride: (position + 1) * 2 * width,
        k_offset: 0,
        v_offset: width,
        causal: None,
    };
    (attention(qkv, past, None, spec), cache)
}

pub(super) fn embed(
    ids: Tensor<1, Int>,
    table: MatrixView,
    positions: Tensor<2>,
    spec: EmbedSpec,
) -> Tensor<2> {
    let MatrixView::Float(table) = table else {
        panic!("packed tables live on WebGPU and the CPU only; elsewhere they are widened at load");
    };
    let (ids, places) = match spec.place {
        Place::Sequence { seq, past } => {
            let rows = spec.tokens / seq;
            let places = positions.narrow(0, past, seq).unsqueeze::<3>().expand([rows, seq, spec.width]);
            (ids, places.reshape([spec.tokens, spec.width]))
        }
        Place::State => {
            let position = ids.clone().slice([state::POSITION..=state::POSITION]).into_scalar::<i32>();
            let places = positions.narrow(0, position as usize, 1).expand([spec.tokens, spec.width]);
            (ids.narrow(0, state::TOKENS, spec.tokens), places)
        }
    };
    table.select(0, ids) + places
}

pub(super) fn assemble(
    patches: Tensor<2>,
    class: Tensor<1>,
    positions: Tensor<2>,
    batch: usize,
) -> Tensor<2> {
    let [rows, width] = patches.dims();
    let patches = patches.reshape([batch, rows / batch, width]);
    let class = class.reshape([1, 1, width]).expand([batch, 1, width]);
    let tokens = Tensor::cat(vec![class, patches], 1) + positions.unsqueeze::<3>();
    tokens.reshape([rows + batch, width])
}

pub(super) fn rows(x: Tensor<2>, first: usize, count: usize) -> Tensor<2> {
    x.narrow(0, first, count)
}

pub(super) fn join(a: Tensor<2>, b: Tensor<2>) -> Tensor<2> {
    Tensor::cat(vec![a, b], 1)
}

pub(super) fn top_k(logits: Tensor<2>, k: usize) -> Tensor<2> {
    let [rows, vocab] = logits.dims();
    let norm = logits.clone().narrow(1, 0, 1) - log_softmax(logits.clone(), 1).narrow(1, 0, 1);
    let (mut values, ids) = logits.topk_with_indices(k.min(vocab), 1);
    let mut ids = ids.float();
    if k > vocab {
        let device = values.device();
        let missing = Tensor::full([rows, k - vocab], f32::NEG_INFINITY, &device);
        values = Tensor::cat(vec![values, missing], 1);
        ids = Tensor::cat(vec![ids, Tensor::zeros([rows, k - vocab], &device)], 1);
    }
    Tensor::cat(vec![values, ids, norm], 1)
}

pub(super) fn advance(
    logits: Tensor<2>,
    state: Tensor<1, Int>,
    history: Tensor<3, Int>,
    spec: AdvanceSpec,
) -> (Tensor<1, Int>, Tensor<3, Int>) {
    // Through the host: this is the reading of the contract, not a fast path.
    let device = logits.device();
    let values: Vec<f32> = logits.into_data().iter::<f32>().collect();
    let mut now: Vec<i32> = state.into_data().iter::<i32>().collect();
    let mut past: Vec<i32> = history.into_data().iter::<i32>().collect();
    let position = now[state::POSITION] as usize;
    for (row, logits) in values.chunks_exact(spec.vocab).enumerate() {
        let finished = now[state::TOKENS + spec.rows + row] != 0;
        let banned = position + 1 < spec.min_length;
        let mut best: Option<(usize, f32)> = None;
        for (id, value) in logits.iter().copied().enumerate() {
            let open = !(banned && id == spec.eos as usize);
            if open && value > best.map_or(f32::NEG_INFINITY, |(_, value)| value) {
                best = Some((id, value));
            }
        }
        let (mut token, value) = best.map_or((0, f32::NEG_INFINITY), |(id, value)| (id as i32, value));
        let top = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let norm = top + logits.iter().map(|value| (value - top).exp()).sum::<f32>().ln();
        let mut log_prob = value - norm;
        if finished {
            (token, log_prob) = (spec.eos.cast_signed(), 0.0);
        }
        let place = (position * spec.rows + row) * 2;
        past[place] = token;
        past[place + 1] = log_prob.to_bits().cast_signed();
        now[state::TOKENS + row] = token;
        now[state::TOKENS + spec.rows + row] = i32::from(finished || token == spec.eos.cast_signed());
    }
    now[state::POSITION] += 1;
    let length = now.len();
    (
        Tensor::from_data(TensorData::new(now, [length]), &device),
        Tensor::from_data(TensorData::new(past, [spec.capacity, spec.rows, 2]), &device),
    )
}

/// `softmax(q·kᵀ/√head_dim)·v`, `[batch, heads, rows, head_dim]` each.
fn attend(
    q: Tensor<4>,
    k: Tensor<4>,
    v: Tensor<4>,
    hidden: Option<Tensor<4, Bool>>,
    factors: Option<Tensor<4>>,
) -> Tensor<4> {
    let [batch, heads, queries, head_dim] = q.dims();
    let keys = k.dims()[2];
    let spread = |x: Tensor<4>| x.expand([batch, heads, keys, head_dim]);
    let scale = 1.0 / (head_dim as f64).sqrt();
    let mut scores = q.mul_scalar(scale).matmul(spread(k).swap_dims(2, 3));
    if let Some(hidden) = hidden {
        // A finite value instead of -inf: a row whose keys are all hidden stays a number.
        scores = scores.mask_fill(hidden.expand([batch, heads, queries, keys]), -1e9);
    }
    let mut shares = softmax(scores, 3);
    if let Some(factors) = factors {
        shares = shares * factors;
    }
    shares.matmul(spread(v))
}

/// `[batch or 1, 1, queries or 1, keys]`, true where a key must not be seen.
fn hidden(
    pads: Option<Tensor<2, Int>>,
    spec: &AttentionSpec,
    device: &burn::tensor::Device,
) -> Option<Tensor<4, Bool>> {
    let pads = pads.map(|pads| pads.not_equal_elem(0).reshape([spec.kv_batch, 1, 1, spec.keys]));
    let Some(past) = spec.causal.filter(|past| spec.queries > 1 || past + 1 < spec.keys) else { return pads };
    let later = |index: usize| index % spec.keys > past + index / spec.keys;
    let later: Vec<bool> = (0..spec.queries * spec.keys).map(later).collect();
    let later = Tensor::<4, Bool>::from_data(TensorData::new(later, [1, 1, spec.queries, spec.keys]), device);
    let shape = [spec.batch, 1, spec.queries, spec.keys];
    Some(match pads {
        Some(pads) => later.expand(shape).bool_or(pads.expand(shape)),
        None => later,
    })
}

/// Rows `stride` elements apart, `width` wide.
fn strided(x: Tensor<2>, rows: usize, stride: usize, width: usize) -> Tensor<2> {
    if stride == width {
        return x;
    }
    x.reshape([rows, stride]).narrow(1, 0, width)
}
