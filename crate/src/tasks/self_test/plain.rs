//! The operations written down as their formulas: what the self-test takes for the truth.

use crate::kernels::{Activation, AttentionSpec, LinearSpec, Normed, StepAttentionSpec};

/// `activation(norm(x)·Wᵀ + bias) + norm(residual)`; `weights: [outputs, inputs]`.
pub(super) fn linear(
    x: &[f32],
    weights: &[f32],
    bias: &[f32],
    norm: Option<&[f32]>,
    residual: Option<&[f32]>,
    spec: &LinearSpec,
) -> Vec<f32> {
    let mut x = x.to_vec();
    let mut residual = residual.map(<[f32]>::to_vec);
    match (spec.normed, norm, &mut residual) {
        (Normed::Input { epsilon }, Some(norm), _) => x = layer_norm(&x, norm, epsilon),
        (Normed::Residual { epsilon }, Some(norm), Some(residual)) => {
            *residual = layer_norm(residual, norm, epsilon);
        }
        _ => {}
    }
    let mut out = Vec::with_capacity(spec.rows * spec.outputs);
    for row in x.chunks_exact(spec.inputs) {
        for (weights, bias) in weights.chunks_exact(spec.inputs).zip(bias) {
            let y = dot(row, weights) + bias;
            out.push(match spec.activation {
                Activation::None => y,
                Activation::Gelu => gelu(y),
                Activation::Relu => y.max(0.0),
                Activation::Half => y / 2.0,
            });
        }
    }
    for (y, residual) in out.iter_mut().zip(residual.unwrap_or_default()) {
        *y += residual;
    }
    out
}

/// Rows as wide as half of `norm`, which is scale then shift.
pub(super) fn layer_norm(x: &[f32], norm: &[f32], epsilon: f32) -> Vec<f32> {
    let width = norm.len() / 2;
    let (scale, shift) = norm.split_at(width);
    let mut out = Vec::with_capacity(x.len());
    for row in x.chunks_exact(width) {
        let mean = row.iter().sum::<f32>() / width as f32;
        let variance = row.iter().map(|x| (x - mean) * (x - mean)).sum::<f32>() / width as f32;
        let deviation = (variance + epsilon).sqrt();
        let normed = row.iter().zip(scale.iter().zip(shift));
        out.extend(normed.map(|(x, (scale, shift))| (x - mean) / deviation * scale + shift));
    }
    out
}

/// `softmax(q·kᵀ/√head_dim)·v` by head, every key seen.
pub(super) fn attention(q: &[f32], kv: &[f32], spec: &AttentionSpec) -> Vec<f32> {
    let mut out = vec![0.0; spec.batch * spec.queries * spec.heads * spec.head_dim];
    for (query, out) in out.chunks_exact_mut(spec.heads * spec.head_dim).enumerate() {
        // Either each sequence of queries has its keys, or all share one.
        let batch = (query / spec.queries).min(spec.kv_batch - 1) * spec.kv_batch_stride;
        for (head, out) in out.chunks_exact_mut(spec.head_dim).enumerate() {
            let at = |row: usize, offset: usize| row + offset + head * spec.head_dim;
            let q = &q[at(query * spec.q_stride, spec.q_offset)..][..spec.head_dim];
            let k = |key: usize| &kv[at(batch + key * spec.kv_stride, spec.k_offset)..][..spec.head_dim];
            let v = |key: usize| &kv[at(batch + key * spec.kv_stride, spec.v_offset)..][..spec.head_dim];
            attend(q, spec.keys, k, v, out);
        }
    }
    out
}

/// A step of cached attention, and the cache with the new keys and values.
pub(super) fn step_attention(
    qkv: &[f32],
    cache: &[f32],
    position: usize,
    lineage: Option<&[i32]>,
    spec: &StepAttentionSpec,
) -> (Vec<f32>, Vec<f32>) {
    let width = spec.heads * spec.head_dim;
    let mut cache = cache.to_vec();
    for (row, qkv) in qkv.chunks_exact(3 * width).enumerate() {
        let place = (row * spec.capacity + position) * 2 * width;
        cache[place..][..2 * width].copy_from_slice(&qkv[width..]);
    }
    let mut out = vec![0.0; spec.rows * width];
    for (row, out) in out.chunks_exact_mut(width).enumerate() {
        let token = |key: usize| {
            let own = lineage
                .filter(|_| key < position)
                .map_or(row, |from| from[row * spec.capacity + key] as usize);
            (own * spec.capacity + key) * 2 * width
        };
        for (head, out) in out.chunks_exact_mut(spec.head_dim).enumerate() {
            let offset = head * spec.head_dim;
            let q = &qkv[row * 3 * width + offset..][..spec.head_dim];
            let k = |key: usize| &cache[token(key) + offset..][..spec.head_dim];
            let v = |key: usize| &cache[token(key) + width + offset..][..spec.head_dim];
            attend(q, position + 1, k, v, out);
        }
    }
    (out, cache)
}

/// The `k` highest of each row, their ids, and the logarithm of the sum of exponentials.
pub(super) fn top_k(logits: &[f32], vocab: usize, k: usize) -> Vec<f32> {
    let mut out = Vec::new();
    for row in logits.chunks_exact(vocab) {
        let mut ids: Vec<usize> = (0..vocab).collect();
        // Stable: of equals the lower id stays first.
        ids.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
        ids.truncate(k);
        out.extend(ids.iter().map(|id| row[*id]));
        out.extend(ids.iter().map(|id| *id as f32));
        let greatest = row[ids[0]];
        out.push(greatest + row.iter().map(|x| (x - greatest).exp()).sum::<f32>().ln());
    }
    out
}

fn attend<'a>(
    q: &[f32],
    keys: usize,
    k: impl Fn(usize) -> &'a [f32],
    v: impl Fn(usize) -> &'a [f32],
    out: &mut [f32],
) {
    let scale = (q.len() as f32).sqrt();
    let scores: Vec<f32> = (0..keys).map(|key| dot(q, k(key)) / scale).collect();
    let greatest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights: Vec<f32> = scores.iter().map(|score| (score - greatest).exp()).collect();
    let sum: f32 = weights.iter().sum();
    for (key, weight) in weights.iter().enumerate() {
        for (out, v) in out.iter_mut().zip(v(key)) {
            *out += weight / sum * v;
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `x·Φ(x)`; Φ by its power series, which converges fast for the |x| < 6 that matter.
fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    if x.abs() > 6.0 {
        return x.max(0.0) as f32;
    }
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term.abs() > 1e-12 {
        n += 1.0;
        // The series of erf(x/√2)·√(π/2): (-1)ⁿ·x²ⁿ⁺¹ / (2ⁿ·n!·(2n+1)).
        term *= -x * x / (2.0 * n) * (2.0 * n - 1.0) / (2.0 * n + 1.0);
        sum += term;
    }
    let phi = 0.5 + sum / (2.0 * std::f64::consts::PI).sqrt();
    (x * phi) as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gelu_has_its_known_values() {
        for (x, y) in [(0.0, 0.0), (1.0, 0.841_344_7), (-1.0, -0.158_655_25), (3.0, 2.995_95), (7.0, 7.0)] {
            assert!((gelu(x) - y).abs() < 1e-6, "{x}: {}", gelu(x));
        }
        assert!(gelu(-5.9).abs() < 1e-6);
    }
}
