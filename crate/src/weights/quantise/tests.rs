//! Properties that hold for any numbers.

use super::*;

/// Numbers from -1 to 1 out of a counter, the same everywhere.
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    }

    /// Like weights: many small ones, few large ones.
    fn weights(&mut self, len: usize, size: f32) -> Vec<f32> {
        (0..len).map(|_| (self.next() + self.next() + self.next()) * self.next().abs() * size).collect()
    }
}

const FORMATS: [Format; 2] = [Format::Q8, Format::Q4];

fn parts(stored: &Stored) -> (&[u8], &[f16]) {
    match stored {
        Stored::Quantised { codes, scales, .. } => (codes, scales),
        Stored::Float { .. } => panic!("not quantised"),
    }
}

/// Sum of squared differences.
fn loss(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum()
}

#[test]
fn groups_are_those_of_the_format() {
    assert_eq!([64, 160, 432, 768, 31].map(|k| group_of(Format::Q8, k)), [64, 32, 32, 64, 32]);
    assert_eq!([64, 160, 432].map(|k| group_of(Format::Q4, k)), [32; 3]);
    assert_eq!((row_sizes(Format::Q8, 432), row_sizes(Format::Q4, 432)), ((448, 14), (224, 14)));
    assert_eq!((row_sizes(Format::Q8, 768), row_sizes(Format::Q4, 768)), ((768, 12), (384, 24)));
}

#[test]
fn no_element_is_further_off_than_half_a_step_unless_it_is_cut_off() {
    let mut draw = Draw(1);
    for inputs in [1, 31, 32, 33, 64, 96, 160, 192] {
        let values = draw.weights(7 * inputs, 0.1);
        for format in FORMATS {
            let stored = quantise("w", &values, inputs, format).unwrap();
            let back = dequantise(&stored);
            assert_eq!(back.len(), values.len());
            let (group, (_, scales)) = (group_of(format, inputs), parts(&stored));
            for (index, (value, back)) in values.iter().zip(&back).enumerate() {
                let row = index / inputs;
                let scale = scales[row * inputs.div_ceil(group) + index % inputs / group].to_f32();
                let cut_off = format == Format::Q4 && back.abs() >= 6.9 * scale && value.abs() > back.abs();
                let limit = if cut_off { 3.0 * scale } else { 0.5001 * scale };
                assert!((value - back).abs() <= limit, "{format:?} {inputs} {index}: {value} {back} {scale}");
            }
        }
    }
}

#[test]
fn a_q4_scale_loses_no_more_than_the_one_that_lets_every_value_in() {
    let mut draw = Draw(2);
    let (mut searched, mut plain) = (0.0, 0.0);
    for _ in 0..300 {
        let values = draw.weights(32, 0.05);
        let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        let step = f16::from_f32(largest / 7.0).to_f32();
        let simple: Vec<f32> = values.iter().map(|value| (value / step).round() * step).collect();
        let (best, simple) = (
            loss(&dequantise(&quantise("w", &values, 32, Format::Q4).unwrap()), &values),
            loss(&simple, &values),
        );
        assert!(best <= simple * 1.01, "{best} {simple}");
        (searched, plain) = (searched + best, plain + simple);
    }
    assert!(searched < 0.92 * plain, "the search pays: {searched} {plain}");
}

#[test]
fn what_was_quantised_before_stays_what_it_is() {
    let mut draw = Draw(3);
    for size in [1e-6, 3e-4, 1e-3, 0.02, 1.0, 300.0, 1e5] {
        for inputs in [32, 64, 70] {
            let values = draw.weights(40 * inputs, size);
            for format in FORMATS {
                let once = quantise("w", &values, inputs, format).unwrap();
                let twice = quantise("w", &dequantise(&once), inputs, format).unwrap();
                assert_eq!(once, twice, "{format:?} {inputs} {size}");
            }
        }
    }
}

#[test]
fn codes_and_scales_are_in_their_ranges_and_padding_is_zero() {
    let mut draw = Draw(4);
    for size in [1e-9, 1e-4, 1.0, 1e5] {
        let values = draw.weights(9 * 70, size);
        let stored = quantise("w", &values, 70, Format::Q8).unwrap();
        let (codes, scales) = parts(&stored);
        assert!(codes.iter().all(|code| *code != 128));
        assert!(codes.chunks(96).all(|row| row[70..].iter().all(|code| *code == 0)));
        assert!(
            scales.iter().all(|scale| scale.is_finite() && (scale.to_f32() == 0.0 || *scale >= LEAST_SCALE))
        );
        let stored = quantise("w", &values, 70, Format::Q4).unwrap();
        let (codes, scales) = parts(&stored);
        assert!(codes.chunks(48).all(|row| row[35..].iter().all(|code| *code == 0x88)));
        assert!(
            scales.iter().all(|scale| scale.is_finite() && (scale.to_f32() == 0.0 || *scale >= LEAST_SCALE))
        );
    }
}

#[test]
fn zeros_stay_zeros() {
    for format in FORMATS {
        let stored = quantise("w", &[0.0; 96], 48, format).unwrap();
        assert!(parts(&stored).1.iter().all(|scale| *scale == f16::ZERO));
        assert_eq!(dequantise(&stored), [0.0; 96]);
    }
}

#[test]
fn constant_rows_lose_what_the_scale_loses() {
    for value in [0.3f32, -0.3, 7.0, -0.02] {
        for format in FORMATS {
            let back = dequantise(&quantise("w", &[value; 64], 64, format).unwrap());
            assert!(
                back.iter().all(|back| (back - value).abs() <= value.abs() / 1024.0),
                "{value} {}",
                back[0]
            );
        }
    }
}

#[test]
fn numbers_of_both_extremes_of_q4_are_exact() {
    let values: Vec<f32> = (0..32).map(|index| (index % 16 - 8) as f32 * 0.25).collect();
    assert_eq!(dequantise(&quantise("w", &values, 32, Format::Q4).unwrap()), values);
}

#[test]
fn the_first_of_two_nibbles_is_the_low_one() {
    let mut values = [0.0; 32];
    (values[0], values[1], values[31]) = (7.0, -8.0, 1.0);
    let stored = quantise("w", &values, 32, Format::Q4).unwrap();
    let (codes, scales) = parts(&stored);
    assert_eq!((codes[0], codes[1], codes[15], scales[0].to_f32()), (0x0F, 0x88, 0x98, 1.0));
}

#[test]
fn tiny_numbers_are_off_by_less_than_any_device_would_notice() {
    for format in FORMATS {
        let values = [1e-6, -2e-5, 5e-5, 1e-20, f32::MIN_POSITIVE, 0.0, 3e-5, -3e-5];
        let back = dequantise(&quantise("w", &values, 8, format).unwrap());
        for (value, back) in values.iter().zip(back) {
            assert!((value - back).abs() <= LEAST_SCALE.to_f32() / 2.0, "{format:?} {value} {back}");
        }
    }
}

#[test]
fn what_no_scale_can_hold_is_an_error_that_names_the_matrix() {
    for (value, word) in [
        (f32::NAN, "NaN"),
        (f32::INFINITY, "inf"),
        (f32::NEG_INFINITY, "-inf"),
        (1e30, "f16"),
        (f32::MAX, "f16"),
    ] {
        for format in FORMATS {
            let mut values = vec![0.1; 50 * 64];
            values[1234] = value;
            let error = quantise("some.weight", &values, 64, format).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::WeightsNotFinite);
            assert!(error.to_string().contains("some.weight") && error.to_string().contains(word), "{error}");
            if !value.is_finite() {
                assert!(error.to_string().contains("1234"), "{error}");
            }
        }
    }
    let large = quantise("w", &[65504.0 * 6.0; 64], 64, Format::Q8).unwrap();
    assert!((dequantise(&large)[0] / (65504.0 * 6.0) - 1.0).abs() < 1e-3);
}

#[test]
fn many_rows_on_many_threads_are_the_same_as_one_by_one() {
    let values = Draw(5).weights(1001 * 64, 0.02);
    for format in FORMATS {
        let whole = quantise("w", &values, 64, format).unwrap();
        let rows = values.chunks(64).map(|row| quantise("w", row, 64, format).unwrap()).collect();
        assert_eq!(Stored::concatenate(rows).unwrap(), whole);
    }
    assert_eq!(quantise("w", &[], 64, Format::Q4).unwrap().shape(), [0, 64]);
}
