//! Every formula against differences of what it is the gradient of, in double precision.

use super::*;

/// Numbers without a pattern between -1 and 1.
fn numbers(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    };
    (0..count).map(|_| next()).collect()
}

fn close(got: &[f32], expected: &[f32], allowed: f32) {
    assert_eq!(got.len(), expected.len());
    for (got, expected) in got.iter().zip(expected) {
        assert!((got - expected).abs() <= allowed, "{got} {expected}");
    }
}

/// Differences of `f` around `x` in every direction, weighed with the gradient of what comes out.
fn differences(x: &[f32], gradient: &[f32], f: impl Fn(&[f64]) -> Vec<f64>) -> Vec<f32> {
    const STEP: f64 = 1e-5;
    let weighed = |index: usize, by: f64| {
        let mut x: Vec<f64> = x.iter().map(|x| f64::from(*x)).collect();
        x[index] += by;
        f(&x).iter().zip(gradient).map(|(y, gradient)| y * f64::from(*gradient)).sum::<f64>()
    };
    (0..x.len()).map(|at| ((weighed(at, STEP) - weighed(at, -STEP)) / (2.0 * STEP)) as f32).collect()
}

#[test]
fn a_gradient_passes_a_matrix() {
    for (rows, outputs, inputs) in [(1, 4, 3), (3, 7, 5), (2, 1, 9)] {
        let (matrix, gradient) = (numbers(outputs * inputs, 1), numbers(rows * outputs, 2));
        let expected = differences(&numbers(rows * inputs, 3), &gradient, |x| {
            let row = |x: &[f64]| -> Vec<f64> {
                let output = |w: &[f32]| w.iter().zip(x).map(|(w, x)| f64::from(*w) * x).sum();
                matrix.chunks(inputs).map(output).collect()
            };
            x.chunks(inputs).flat_map(row).collect()
        });
        close(&through(&gradient, &matrix, inputs), &expected, 1e-5);
    }
}

#[test]
fn a_gradient_passes_a_norm() {
    let (x, norm, mut gradient) = (numbers(24, 4), numbers(16, 5), numbers(24, 6));
    let expected = differences(&x, &gradient, |x| {
        let row = |x: &[f64]| -> Vec<f64> {
            let mean = x.iter().sum::<f64>() / 8.0;
            let variance = x.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 8.0;
            let normed = x.iter().map(|x| (x - mean) / (variance + 1e-3).sqrt());
            normed.zip(&norm).map(|(x, scale)| x * f64::from(*scale)).collect()
        };
        x.chunks(8).flat_map(row).collect()
    });
    back_through_norm(&mut gradient, &x, &norm, 1e-3);
    close(&gradient, &expected, 1e-4);
}

#[test]
fn gelu_has_its_slope() {
    // Φ(x) + x·φ(x) from tables of the normal distribution.
    for (x, slope) in [
        (0.0, 0.5),
        (1.0, 1.083_315_5),
        (-1.0, -0.083_315_47),
        (2.5, 1.037_61),
        (5.9, 1.0),
        (-6.5, 0.0),
        (7.0, 1.0),
    ] {
        assert!((gelu_slope(x) - slope).abs() < 1e-5, "{x}: {}", gelu_slope(x));
    }
}

const TOKENS: usize = 3;
const HEADS: usize = 2;
const DIM: usize = 4;
const WIDTH: usize = HEADS * DIM;

#[test]
fn a_gradient_passes_self_attention() {
    let (qkv, gradient) = (numbers(TOKENS * 3 * WIDTH, 7), numbers(TOKENS * WIDTH, 8));
    let expected = differences(&qkv, &gradient, |x| {
        let at =
            |row: usize, part: usize, head: usize| &x[row * 3 * WIDTH + part * WIDTH + head * DIM..][..DIM];
        let mut out = vec![0.0; TOKENS * WIDTH];
        for head in 0..HEADS {
            for query in 0..TOKENS {
                let score = |key| -> f64 {
                    let pairs = at(query, 0, head).iter().zip(at(key, 1, head));
                    (pairs.map(|(q, k)| q * k).sum::<f64>() / (DIM as f64).sqrt()).exp()
                };
                let sum: f64 = (0..TOKENS).map(score).sum();
                for key in 0..TOKENS {
                    let weight = score(key) / sum;
                    for (lane, v) in at(key, 2, head).iter().enumerate() {
                        out[query * WIDTH + head * DIM + lane] += weight * v;
                    }
                }
            }
        }
        out
    });
    let attention = Attention {
        q: (&qkv, 3 * WIDTH),
        k: (&qkv[WIDTH..], 3 * WIDTH),
        v: (&qkv[2 * WIDTH..], 3 * WIDTH),
        heads: HEADS,
        head_dim: DIM,
        queries: TOKENS,
        keys: TOKENS,
    };
    let packed = attention.back_to_packed(&gradient);
    close(&packed, &expected, 1e-4);
    let queries: Vec<f32> = packed.chunks(3 * WIDTH).flat_map(|row| row[..WIDTH].to_vec()).collect();
    close(&attention.back_to_query(&gradient), &queries, 1e-6);
}
