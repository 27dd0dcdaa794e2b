//! Attention of many, few and single queries.

use super::super::attention::{attention, step_attention};
use super::{Gpu, Noise, assert_close, read};
use crate::kernels::{AttentionSpec, StepAttentionSpec};

#[test]
fn attention_is_its_definition_for_every_option() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(1);
    let mut specs = Vec::new();
    for (batch, seq, heads, head_dim) in
        [(2, 5, 2, 8), (1, 37, 1, 40), (2, 70, 3, 64), (1, 130, 2, 96), (1, 67, 1, 128)]
    {
        specs.push(packed(batch, seq, heads, head_dim));
        specs.push(AttentionSpec { causal: Some(0), ..packed(batch, seq, heads, head_dim) });
    }
    for (batch, queries, kv_batch, keys, heads, head_dim) in [
        (1, 1, 1, 1, 1, 8),
        (3, 1, 1, 577, 2, 64),
        (3, 5, 3, 33, 2, 40),
        (2, 20, 1, 1100, 1, 64),
        (1, 2, 1, 1100, 1, 64),
        (2, 17, 2, 3, 2, 96),
        (2, 1, 2, 9, 1, 128),
    ] {
        specs.push(crossed(batch, queries, kv_batch, keys, heads, head_dim));
    }
    for (queries, past) in [(1, 6), (3, 4), (30, 9), (9, 0)] {
        let crossed = crossed(2, queries, 2, past + queries, 2, 40);
        specs.push(AttentionSpec { causal: Some(past), ..crossed });
        // Keys from the future are there too.
        let long = super::attention::crossed(2, queries, 1, past + queries + 11, 1, 8);
        specs.push(AttentionSpec { causal: Some(past), ..long });
    }
    for (index, spec) in specs.into_iter().enumerate() {
        for padded in [false, true] {
            // Each combination is a pipeline, and software compiles slowly.
            for (float, adapter) in gpu.kinds_of(index + usize::from(padded)) {
                adapter.set();
                let q_len = spec.batch * spec.queries * spec.q_stride;
                let (q, q64) = gpu.floats(&noise.floats(q_len, 3.0), float);
                let kv_len = spec.kv_batch * spec.kv_batch_stride;
                let (kv, kv64) = gpu.floats(&noise.floats(kv_len, 3.0), float);
                let flags: Vec<i32> =
                    (0..spec.kv_batch * spec.keys).map(|_| i32::from(noise.below(3) == 0)).collect();
                let pads = padded.then(|| gpu.ints(&flags));
                let found = read(&attention(q, kv, pads, spec));
                let flags = padded.then_some(flags.as_slice());
                let expected = definition(&q64, &kv64, flags, &spec);
                let what = format!("{spec:?} {float:?} {adapter:?}, padded {padded}");
                let width = spec.heads * spec.head_dim;
                for (row, expected) in expected.iter().enumerate() {
                    let found = &found[row * width..(row + 1) * width];
                    match expected {
                        Some(expected) => assert_close(found, expected, float, &format!("{what}, row {row}")),
                        None => assert!(found.iter().all(|x| x.is_finite()), "{what}, row {row}"),
                    }
                }
            }
        }
    }
}

#[test]
fn attention_to_padding_only_is_finite() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(2);
    for queries in [1, 5, 70] {
        for (float, adapter) in gpu.kinds() {
            adapter.set();
            let spec = crossed(1, queries, 1, 50, 1, 64);
            let (q, _) = gpu.floats(&noise.floats(queries * 64, 20.0), float);
            let (kv, _) = gpu.floats(&noise.floats(50 * 128, 20.0), float);
            let found = read(&attention(q, kv, Some(gpu.ints(&[1; 50])), spec));
            assert!(found.iter().all(|x| x.abs() <= 20.0), "{queries} {float:?} {adapter:?}");
        }
    }
}

#[test]
fn scores_far_apart_do_not_overflow() {
    let Some(gpu) = Gpu::open() else { return };
    for queries in [1, 30] {
        for (float, adapter) in gpu.kinds() {
            adapter.set();
            // Scores of key i: 100·i, rising, so that every block of keys outweighs all before it.
            let spec = crossed(1, queries, 1, 40, 1, 4);
            let q: Vec<f32> = [200.0, 0.0, 0.0, 0.0].repeat(queries);
            let kv: Vec<f32> =
                (0..40).flat_map(|i| [i as f32, 0.0, 0.0, 0.0, i as f32, 1.0, -1.0, 0.5]).collect();
            let found = read(&attention(gpu.floats(&q, float).0, gpu.floats(&kv, float).0, None, spec));
            let expected = [39.0, 1.0, -1.0, 0.5].repeat(queries);
            assert_close(&found, &expected, float, &format!("{queries} {float:?} {adapter:?}"));
        }
    }
}

#[test]
fn a_step_writes_its_keys_and_attends_to_all_before() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(3);
    for (rows, capacity, heads, head_dim) in
        [(1, 9, 2, 8), (3, 40, 2, 40), (2, 33, 3, 64), (2, 12, 1, 96), (1, 20, 1, 128), (1, 700, 1, 64)]
    {
        for position in [0, 1, capacity / 2, capacity - 1] {
            for with_lineage in [false, true] {
                for (float, adapter) in gpu.kinds_of(position + usize::from(with_lineage)) {
                    adapter.set();
                    let width = heads * head_dim;
                    let (qkv, qkv64) = gpu.floats(&noise.floats(rows * 3 * width, 2.0), float);
                    let (cache, mut cache64) =
                        gpu.floats(&noise.floats(rows * capacity * 2 * width, 2.0), float);
                    let mut state = vec![0; crate::kernels::state::len(rows)];
                    state[0] = position as i32;
                    let named: Vec<i32> = (0..rows * capacity).map(|_| noise.below(rows) as i32).collect();
                    let lineage = with_lineage.then(|| gpu.ints(&named));
                    let spec = StepAttentionSpec { rows, capacity, heads, head_dim };
                    let (found, cache) = step_attention(qkv, cache, gpu.ints(&state), lineage, spec);

                    for row in 0..rows {
                        let at = (row * capacity + position) * 2 * width;
                        cache64[at..at + 2 * width]
                            .copy_from_slice(&qkv64[row * 3 * width + width..(row + 1) * 3 * width]);
                    }
                    let what = format!("{spec:?} at {position} {float:?} {adapter:?} {with_lineage}");
                    assert_eq!(read(&cache), cache64, "{what}");
                    let mut expected = Vec::new();
                    for row in 0..rows {
                        let past: Vec<f64> = (0..=position)
                            .flat_map(|token| {
                                let named = named[row * capacity + token] as usize;
                                let from = if with_lineage && token < position { named } else { row };
                                let at = (from * capacity + token) * 2 * width;
                                cache64[at..at + 2 * width].to_vec()
                            })
                            .collect();
                        let spec = crossed(1, 1, 1, position + 1, heads, head_dim);
                        let q = &qkv64[row * 3 * width..];
                        let row = definition(q, &past, None, &spec).remove(0);
                        expected.extend(row.expect("a token sees itself"));
                    }
                    assert_close(&read(&found), &expected, float, &what);
                }
            }
        }
    }
}

fn packed(batch: usize, seq: usize, heads: usize, head_dim: usize) -> AttentionSpec {
    let width = heads * head_dim;
    AttentionSpec {
        q_stride: 3 * width,
        kv_stride: 3 * width,
        kv_batch_stride: seq * 3 * width,
        k_offset: width,
        v_offset: 2 * width,
        ..crossed(batch, seq, batch, seq, heads, head_dim)
    }
}

fn crossed(
    batch: usize,
    queries: usize,
    kv_batch: usize,
    keys: usize,
    heads: usize,
    head_dim: usize,
) -> AttentionSpec {
    let width = heads * head_dim;
    AttentionSpec {
        batch,
        kv_batch,
        queries,
        keys,
        heads,
        head_dim,
        q_stride: width,
        q_offset: 0,
        kv_stride: 2 * width,
        kv_batch_stride: keys * 2 * width,
        k_offset: 0,
        v_offset: width,
        causal: None,
    }
}

/// `softmax(q·kᵀ/√head_dim)·v` for each row; `None` for a query that may see nothing.
fn definition(q: &[f64], kv: &[f64], pads: Option<&[i32]>, spec: &AttentionSpec) -> Vec<Option<Vec<f64>>> {
    let AttentionSpec { batch, kv_batch, queries, keys, heads, head_dim, .. } = *spec;
    let mut rows = Vec::new();
    for row in 0..batch * queries {
        let sequence = if kv_batch == 1 { 0 } else { row / queries };
        let seen = |key: &usize| {
            pads.is_none_or(|pads| pads[sequence * keys + key] == 0)
                && spec.causal.is_none_or(|past| *key <= past + row % queries)
        };
        let seen: Vec<usize> = (0..keys).filter(seen).collect();
        if seen.is_empty() {
            rows.push(None);
            continue;
        }
        let mut out = Vec::new();
        for head in 0..heads {
            let q = &q[row * spec.q_stride + spec.q_offset + head * head_dim..][..head_dim];
            let at = |key: usize, offset: usize| {
                &kv[sequence * spec.kv_batch_stride + key * spec.kv_stride + offset + head * head_dim..]
                    [..head_dim]
            };
            let score = |key: &usize| {
                let dot: f64 = q.iter().zip(at(*key, spec.k_offset)).map(|(a, b)| a * b).sum();
                dot / (head_dim as f64).sqrt()
            };
            let scores: Vec<f64> = seen.iter().map(score).collect();
            let top = scores.iter().copied().fold(f64::MIN, f64::max);
            let total: f64 = scores.iter().map(|score| (score - top).exp()).sum();
            out.extend((0..head_dim).map(|i| {
                let weighted = seen
                    .iter()
                    .zip(&scores)
                    .map(|(key, score)| (score - top).exp() / total * at(*key, spec.v_offset)[i]);
                weighted.sum::<f64>()
            }));
        }
        rows.push(Some(out));
    }
    rows
}
