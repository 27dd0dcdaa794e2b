//! Attention against f64, on every instruction set and by both ways.

use super::super::contract::{AttentionSpec, StepAttentionSpec};
use super::attention::attention_at;
use super::isa::Level;
use super::samples::Samples;
use super::step_attention::step_attention_at;

/// The context of one query and head over the keys at `places`, each with whether it is hidden.
fn exact(q: &[f32], kv: &[f32], places: &[(usize, bool)], k_offset: usize, v_offset: usize) -> Vec<f64> {
    let dim = q.len();
    let scores: Vec<f64> = places
        .iter()
        .map(|(place, hidden)| {
            let k = &kv[place + k_offset..][..dim];
            let dot: f64 = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum();
            if *hidden { -1e9 } else { dot / (dim as f64).sqrt() }
        })
        .collect();
    let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
    let total: f64 = weights.iter().sum();
    (0..dim)
        .map(|i| {
            let sum: f64 =
                places.iter().zip(&weights).map(|((at, _), w)| w * f64::from(kv[at + v_offset + i])).sum();
            sum / total
        })
        .collect()
}

fn oracle(q: &[f32], kv: &[f32], pads: Option<&[i32]>, spec: &AttentionSpec) -> Vec<f64> {
    let mut out = Vec::new();
    for row in 0..spec.batch * spec.queries {
        let (sequence, query) = (row / spec.queries, row % spec.queries);
        let shared = if spec.kv_batch == 1 { 0 } else { sequence };
        let seen = spec.causal.map_or(spec.keys, |past| spec.keys.min(past + query + 1));
        let places: Vec<(usize, bool)> = (0..seen)
            .map(|key| {
                let place = shared * spec.kv_batch_stride + key * spec.kv_stride;
                (place, pads.is_some_and(|pads| pads[shared * spec.keys + key] != 0))
            })
            .collect();
        for head in 0..spec.heads {
            let from = head * spec.head_dim;
            let q = &q[row * spec.q_stride + spec.q_offset + from..][..spec.head_dim];
            out.extend(exact(q, kv, &places, spec.k_offset + from, spec.v_offset + from));
        }
    }
    out
}

/// Both ways, on every instruction set.
fn assert_attention(samples: &mut Samples, pads: Option<&[i32]>, spec: &AttentionSpec) {
    let q = samples.floats(spec.batch * spec.queries * spec.q_stride);
    let kv = samples.floats(spec.kv_batch * spec.kv_batch_stride);
    let exact = oracle(&q, &kv, pads, spec);
    for level in Level::available() {
        for many in [0, usize::MAX] {
            let out = attention_at(level, many, &q, &kv, pads, spec);
            assert_eq!(out.len(), exact.len());
            for (i, (out, exact)) in out.iter().zip(&exact).enumerate() {
                let error = (f64::from(*out) - exact).abs();
                assert!(error < 5e-6, "{level:?}, many {many}, element {i}: {out} {exact}, {spec:?}");
            }
        }
    }
}

/// Queries, keys and values side by side in one row, as the vision transformer has them.
fn packed(batch: usize, seq: usize, heads: usize, head_dim: usize) -> AttentionSpec {
    AttentionSpec::packed(batch, seq, heads, head_dim)
}

/// Queries of their own over keys and values side by side.
fn crossed(
    batch: usize,
    queries: usize,
    kv_batch: usize,
    keys: usize,
    heads: usize,
    head_dim: usize,
) -> AttentionSpec {
    AttentionSpec::crossed(batch, queries, kv_batch, keys, heads, head_dim)
}

#[test]
fn self_attention_is_that_of_f64_for_every_width_of_a_head() {
    let mut samples = Samples::new(11);
    for head_dim in [4, 8, 40, 64, 96, 128] {
        for seq in [1, 2, 7, 33] {
            assert_attention(&mut samples, None, &packed(2, seq, 3, head_dim));
        }
    }
    assert_attention(&mut samples, None, &packed(1, 130, 2, 64));
}

#[test]
fn one_key_gives_its_value() {
    let mut samples = Samples::new(12);
    let spec = crossed(2, 3, 2, 1, 2, 8);
    assert_attention(&mut samples, None, &spec);
    let kv = samples.floats(2 * 32);
    let out = attention_at(Level::best(), 0, &samples.floats(6 * 16), &kv, None, &spec);
    for (out, value) in out[..16].iter().zip(&kv[16..32]) {
        assert!((out - value).abs() < 1e-6);
    }
}

#[test]
fn sequences_may_share_their_keys() {
    let mut samples = Samples::new(13);
    for queries in [1, 2, 9] {
        assert_attention(&mut samples, None, &crossed(3, queries, 1, 50, 2, 16));
        // Any number but zero hides a key.
        let pads: Vec<i32> = (0..50).map(|i| i % 7 / 5 * (i % 3 * 2 - 3)).collect();
        assert_attention(&mut samples, Some(&pads), &crossed(3, queries, 1, 50, 2, 16));
    }
}

#[test]
fn queries_see_the_past_and_nothing_later() {
    let mut samples = Samples::new(14);
    for (queries, past) in [(1, 0), (5, 0), (5, 3), (40, 1), (1, 30)] {
        for (batch, kv_batch) in [(2, 2), (3, 1)] {
            let mut spec = crossed(batch, queries, kv_batch, past + queries, 2, 12);
            spec.causal = Some(past);
            assert_attention(&mut samples, None, &spec);
        }
    }
    // A past beyond the keys hides nothing.
    let mut spec = crossed(1, 4, 1, 3, 1, 8);
    spec.causal = Some(usize::MAX / 2);
    assert_attention(&mut samples, None, &spec);
}

#[test]
fn padded_keys_are_not_seen() {
    let mut samples = Samples::new(15);
    for keys in [3, 20, 65] {
        let pads: Vec<i32> = (0..2 * keys).map(|i| i32::from(i % keys > i / keys)).collect();
        let mut spec = packed(2, keys, 2, 8);
        assert_attention(&mut samples, Some(&pads), &spec);
        spec.causal = Some(0);
        assert_attention(&mut samples, Some(&pads), &spec);
    }
}

#[test]
fn without_any_key_to_see_a_query_gets_the_mean() {
    let mut samples = Samples::new(16);
    assert_attention(&mut samples, Some(&[1; 60]), &packed(2, 30, 2, 16));
    assert_attention(&mut samples, Some(&[-1]), &crossed(1, 2, 1, 1, 2, 4));
}

#[test]
fn rows_may_hold_other_things_between_queries_and_keys() {
    let mut samples = Samples::new(17);
    let spec = AttentionSpec {
        q_stride: 100,
        q_offset: 5,
        kv_stride: 90,
        kv_batch_stride: 12 * 90 + 17,
        // Values before keys.
        k_offset: 41,
        v_offset: 3,
        ..packed(2, 12, 2, 16)
    };
    assert_attention(&mut samples, None, &spec);
}

#[test]
fn large_scores_do_not_overflow() {
    let spec = packed(1, 20, 1, 64);
    let mut qkv = Samples::new(18).floats(20 * 192);
    qkv.iter_mut().for_each(|x| *x *= 40.0);
    let exact = oracle(&qkv, &qkv, None, &spec);
    for level in Level::available() {
        for many in [0, usize::MAX] {
            let out = attention_at(level, many, &qkv, &qkv, None, &spec);
            assert!(out.iter().zip(&exact).all(|(x, y)| (f64::from(*x) - y).abs() < 1e-1), "{level:?}");
        }
    }
}

/// A step at `position`, on a cache with `cache_rows`, against f64; then the cache itself.
fn assert_step(
    samples: &mut Samples,
    position: usize,
    cache_rows: usize,
    lineage: Option<&[i32]>,
    spec: &StepAttentionSpec,
) {
    let width = spec.heads * spec.head_dim;
    let qkv = samples.floats(spec.rows * 3 * width);
    let before = samples.floats(cache_rows * spec.capacity * 2 * width);
    let mut expected = before.clone();
    for row in 0..spec.rows {
        let place = (row * spec.capacity + position) * 2 * width;
        expected[place..place + 2 * width].copy_from_slice(&qkv[row * 3 * width + width..][..2 * width]);
    }
    for level in Level::available() {
        let mut cache = before.clone();
        let out = step_attention_at(level, &qkv, &mut cache, position, lineage, spec);
        assert_eq!(cache, expected, "{level:?}: only the new tokens are written");
        for row in 0..spec.rows {
            let places: Vec<(usize, bool)> = (0..=position)
                .map(|token| {
                    let from = match lineage {
                        Some(lineage) if token < position => lineage[row * spec.capacity + token] as usize,
                        _ => row,
                    };
                    ((from * spec.capacity + token) * 2 * width, false)
                })
                .collect();
            for head in 0..spec.heads {
                let from = head * spec.head_dim;
                let q = &qkv[row * 3 * width + from..][..spec.head_dim];
                let exact = exact(q, &expected, &places, from, width + from);
                for (out, exact) in out[row * width + from..].iter().zip(&exact) {
                    assert!((f64::from(*out) - exact).abs() < 5e-6, "{level:?} {row} {head}: {out} {exact}");
                }
            }
        }
    }
}

#[test]
fn a_step_attends_to_its_own_row_from_the_first_to_the_last_position() {
    let mut samples = Samples::new(19);
    for (heads, head_dim) in [(2, 8), (1, 40), (3, 64), (1, 96)] {
        let spec = StepAttentionSpec { rows: 3, capacity: 9, heads, head_dim };
        for position in [0, 1, 4, 8] {
            assert_step(&mut samples, position, 3, None, &spec);
        }
    }
}

#[test]
fn beams_read_their_past_where_their_lineage_says() {
    let mut samples = Samples::new(20);
    let spec = StepAttentionSpec { rows: 3, capacity: 8, heads: 2, head_dim: 16 };
    for _ in 0..10 {
        let lineage: Vec<i32> = (0..24).map(|_| samples.index(4) as i32).collect();
        let position = samples.index(8);
        assert_step(&mut samples, position, 4, Some(&lineage), &spec);
    }
    let rotated: Vec<i32> = (0..24).map(|i| (i / 8 + 1) % 3).collect();
    assert_step(&mut samples, 7, 3, Some(&rotated), &spec);
}

#[test]
fn a_lineage_that_names_no_row_reads_the_first() {
    let mut samples = Samples::new(21);
    let spec = StepAttentionSpec { rows: 1, capacity: 4, heads: 1, head_dim: 4 };
    let (qkv, cache) = (samples.floats(12), samples.floats(4 * 8));
    let run = |lineage: [i32; 4]| {
        step_attention_at(Level::best(), &qkv, &mut cache.clone(), 3, Some(&lineage), &spec)
    };
    assert_eq!(run([-1, 7, i32::MIN, 9]), run([0; 4]));
}

#[test]
#[should_panic(expected = "position 4 of a cache for 4 tokens")]
fn a_full_cache_takes_no_more() {
    let spec = StepAttentionSpec { rows: 1, capacity: 4, heads: 1, head_dim: 4 };
    step_attention_at(Level::best(), &[0.0; 12], &mut [0.0; 32], 4, None, &spec);
}
