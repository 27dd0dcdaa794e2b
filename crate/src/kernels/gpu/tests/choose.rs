//! From logits to tokens.

use super::super::choose::{advance, top_k};
use super::super::launch::Float;
use super::{Gpu, Noise, assert_close, read, read_ints};
use crate::kernels::{AdvanceSpec, state};

/// Ids in the order of their logits, those that are not numbers left out.
fn order(logits: &[f64]) -> Vec<usize> {
    let mut ids: Vec<usize> = (0..logits.len()).filter(|id| !logits[*id].is_nan()).collect();
    ids.sort_by(|a, b| logits[*b].partial_cmp(&logits[*a]).unwrap().then(a.cmp(b)));
    ids
}

fn log_sum_exp(logits: &[f64]) -> f64 {
    let numbers = || logits.iter().filter(|x| !x.is_nan());
    let top = numbers().copied().fold(f64::NEG_INFINITY, f64::max);
    top + numbers().map(|x| (x - top).exp()).sum::<f64>().ln()
}

/// Logits with equals, and now and then something that is no finite number.
fn logits(noise: &mut Noise, count: usize, kind: usize) -> Vec<f32> {
    (0..count)
        .map(|_| match kind {
            0 => noise.float() * 12.0,
            1 => noise.below(5) as f32 - 2.0,
            2 => 0.25,
            3 if noise.below(4) == 0 => f32::NAN,
            3 if noise.below(4) == 0 => f32::NEG_INFINITY,
            3 => -1000.0 - noise.float(),
            _ => [0.0, -0.0][noise.below(2)],
        })
        .collect()
}

#[test]
fn top_k_is_the_sorted_start_with_the_lower_id_first() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(8);
    for (rows, vocab, k) in
        [(1, 1, 1), (2, 7, 32), (1, 50, 32), (3, 1025, 6), (2, 30524, 32), (1, 30524, 1), (1, 70001, 5)]
    {
        for kind in 0..5 {
            for (float, adapter) in gpu.kinds() {
                adapter.set();
                let (x, x64) = gpu.floats(&logits(&mut noise, rows * vocab, kind), float);
                let found = read(&top_k(x, rows, vocab, k));
                for (row, logits) in x64.chunks_exact(vocab).enumerate() {
                    let what =
                        format!("{rows} x {vocab}, k {k}, kind {kind}, {float:?}, {adapter:?}, row {row}");
                    let found = &found[row * (2 * k + 1)..(row + 1) * (2 * k + 1)];
                    let best = order(logits);
                    for i in 0..k {
                        let (value, id) = best.get(i).map_or((f64::NEG_INFINITY, 0), |id| (logits[*id], *id));
                        assert_eq!((found[i], found[k + i]), (value, id as f64), "{what}, place {i}");
                    }
                    if best.iter().any(|id| logits[*id].is_finite()) {
                        assert_close(&found[2 * k..], &[log_sum_exp(logits)], Float::F32, &what);
                    } else {
                        assert_eq!(found[2 * k], f64::NEG_INFINITY, "{what}");
                    }
                }
            }
        }
    }
}

#[test]
fn advance_chooses_records_and_moves_on() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(9);
    for (rows, vocab) in [(1, 3), (2, 100), (3, 2049), (2, 30524)] {
        for kind in 0..5 {
            for position in [0, 3, 5] {
                for (float, adapter) in gpu.kinds() {
                    adapter.set();
                    let eos = 2;
                    let spec = AdvanceSpec { rows, vocab, eos, min_length: 5, capacity: 6 };
                    let mut values = logits(&mut noise, rows * vocab, kind);
                    // The end token would win in the first row.
                    values[eos as usize] = 1e3;
                    let (x, x64) = gpu.floats(&values, float);
                    let mut now = vec![position, 0, 0, 0];
                    now.extend((0..rows).map(|_| noise.below(vocab) as i32));
                    now.extend((0..rows).map(|row| i32::from(row == 1)));
                    let past: Vec<i32> = (0..6 * rows * 2).map(|_| noise.below(1000) as i32).collect();
                    let (found, history) = advance(x, gpu.ints(&now), gpu.ints(&past), spec);

                    let what = format!("{spec:?} kind {kind} at {position}, {float:?}, {adapter:?}");
                    let history = read_ints(&history);
                    let mut expected = now.clone();
                    let mut recorded = past.clone();
                    expected[state::POSITION] += 1;
                    for (row, logits) in x64.chunks_exact(vocab).enumerate() {
                        let finished = now[state::TOKENS + rows + row] != 0;
                        let short = position + 1 < 5;
                        let best = order(logits).into_iter().find(|id| !(short && *id == eos as usize));
                        let token = if finished { eos as i32 } else { best.map_or(0, |id| id as i32) };
                        expected[state::TOKENS + row] = token;
                        expected[state::TOKENS + rows + row] = i32::from(finished || token == eos as i32);
                        let at = (position as usize * rows + row) * 2;
                        recorded[at] = token;
                        recorded[at + 1] = history[at + 1];
                        let score = f64::from(f32::from_bits(history[at + 1].cast_unsigned()));
                        if finished {
                            assert_eq!(score, 0.0, "{what}");
                        } else if best.is_some_and(|id| logits[id].is_finite()) {
                            let exact = logits[best.unwrap()] - log_sum_exp(logits);
                            assert_close(&[score], &[exact], Float::F32, &what);
                        }
                    }
                    assert_eq!(read_ints(&found), expected, "{what}");
                    assert_eq!(history, recorded, "{what}");
                }
            }
        }
    }
}
