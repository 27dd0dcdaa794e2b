//! Quantised products against f64, and every instruction set against the portable one.

use half::f16;

use super::activations::Activations;
use super::epilogue::Epilogue;
use super::isa::Level;
use super::pack::{Packed, PackedMatrix, Shape, pack};
use super::quantised::{linear_packed, product};
use super::samples::Samples;
use crate::kernels::{Activation, Format};

const SHAPES: [(Format, usize, usize, usize); 9] = [
    (Format::Q8, 64, 17, 768),
    (Format::Q8, 64, 5, 2000),
    (Format::Q8, 64, 50, 100),
    (Format::Q8, 32, 16, 32),
    (Format::Q8, 96, 33, 97),
    (Format::Q4, 32, 16, 768),
    (Format::Q4, 32, 31, 33),
    (Format::Q4, 64, 1, 190),
    (Format::Q4, 128, 48, 256),
];
const ROWS: [usize; 9] = [1, 2, 3, 4, 5, 6, 13, 24, 80];

/// A matrix of random codes, all that there are.
fn matrix(samples: &mut Samples, shape: Shape, scale: impl Fn(usize) -> f32) -> Packed {
    let row_bytes = shape.padded() * shape.bits() / 8;
    let mut codes = vec![0; shape.outputs * row_bytes];
    let (format, zero) = if shape.bits() == 4 { (Format::Q4, 8) } else { (Format::Q8, 0) };
    for row in codes.chunks_exact_mut(row_bytes) {
        for column in 0..shape.padded() {
            let padding = column >= shape.inputs;
            if shape.bits() == 4 {
                let code = if padding { zero } else { samples.index(16) as u8 };
                row[column / 2] |= code << (column % 2 * 4);
            } else {
                row[column] = if padding { zero } else { (samples.index(255) as i32 - 127) as u8 };
            }
        }
    }
    let scales: Vec<f16> =
        (0..shape.outputs * shape.groups()).map(|_| f16::from_f32(scale(samples.index(100)))).collect();
    pack(format, shape.group, shape.outputs, shape.inputs, &codes, &scales)
}

/// Calls `check(shape, rows, stride, samples)` for every case.
fn every_case(check: impl Fn(Shape, usize, usize, &mut Samples)) {
    let mut samples = Samples::new(7);
    for (format, group, outputs, inputs) in SHAPES {
        for rows in ROWS {
            let stride = inputs + if rows % 2 == 0 { 9 } else { 0 };
            check(Shape::new(format, group, outputs, inputs), rows, stride, &mut samples);
        }
    }
}

#[test]
fn where_rounding_has_no_part_every_level_gives_the_exact_product() {
    every_case(|shape, rows, stride, samples| {
        // Scales are powers of two, and so are those of activations, whose greatest is 63 of them.
        let packed = matrix(samples, shape, |i| [0.5, 0.25, 1.0][i % 3]);
        let matrix = PackedMatrix::new(shape, &packed.codes, &packed.scales);
        let mut x: Vec<f32> = (0..rows * stride).map(|_| samples.index(127) as f32 - 63.0).collect();
        for row in x.chunks_exact_mut(stride) {
            row[..shape.inputs].chunks_mut(shape.group).for_each(|group| group[0] = -63.0);
        }
        let codes = Activations::quantise(&x, stride, rows, shape.inputs, shape.group);
        assert!(codes.scales.iter().all(|scale| *scale == 1.0));
        let mut expected = vec![0.0; rows * shape.outputs];
        let mut weights = vec![0.0; shape.inputs];
        for output in 0..shape.outputs {
            matrix.row(output, &mut weights);
            for (row, x) in x.chunks_exact(stride).enumerate() {
                let sum: f64 = x.iter().zip(&weights).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum();
                expected[row * shape.outputs + output] = sum as f32;
            }
        }
        for level in Level::available() {
            let mut found = vec![f32::NAN; expected.len()];
            product(level, &codes, matrix, Epilogue::default(), &mut found);
            assert_eq!(found, expected, "{level:?} {shape:?} {rows} rows");
        }
    });
}

#[test]
fn products_stay_within_the_error_of_seven_bit_activations() {
    every_case(|shape, rows, stride, samples| {
        let packed = matrix(samples, shape, |i| 0.01 + i as f32 * 1e-4);
        let matrix = PackedMatrix::new(shape, &packed.codes, &packed.scales);
        let x = samples.floats((rows - 1) * stride + shape.inputs);
        let bias = samples.floats(shape.outputs);
        let residual = samples.floats(rows * shape.outputs);
        let epilogue =
            Epilogue { bias: Some(&bias), activation: Activation::None, residual: Some(&residual) };
        let mut found = vec![f32::NAN; rows * shape.outputs];
        linear_packed(&x, stride, rows, matrix, epilogue, &mut found);
        let mut weights = vec![0.0; shape.inputs];
        for (output, bias) in bias.iter().enumerate() {
            matrix.row(output, &mut weights);
            for row in 0..rows {
                let x = &x[row * stride..][..shape.inputs];
                let at = row * shape.outputs + output;
                let (mut exact, mut bound) = (f64::from(bias + residual[at]), 1e-6);
                for (x, w) in x.chunks(shape.group).zip(weights.chunks(shape.group)) {
                    let greatest = x.iter().fold(0.0f32, |a, x| a.max(x.abs()));
                    for (x, w) in x.iter().zip(w) {
                        exact += f64::from(*x) * f64::from(*w);
                        // Half a scale for each element, and the rounding of sums.
                        bound += f64::from(w.abs() * (greatest / 125.9 + x.abs() * 2e-6));
                    }
                }
                let found = f64::from(found[at]);
                assert!(
                    (found - exact).abs() <= bound,
                    "{shape:?} {row} {output}: {found}, not {exact} ± {bound}"
                );
            }
        }
    });
}

#[test]
fn every_level_rounds_within_a_few_units_of_the_portable_one() {
    every_case(|shape, rows, stride, samples| {
        let packed = matrix(samples, shape, |i| 0.001 + i as f32 * 1e-4);
        let matrix = PackedMatrix::new(shape, &packed.codes, &packed.scales);
        let x = samples.floats(rows * stride);
        let codes = Activations::quantise(&x, stride, rows, shape.inputs, shape.group);
        let bias = samples.floats(shape.outputs);
        let epilogue = Epilogue { bias: Some(&bias), activation: Activation::Gelu, residual: None };
        let mut expected = vec![f32::NAN; rows * shape.outputs];
        product(Level::Portable, &codes, matrix, epilogue, &mut expected);
        for level in Level::available() {
            let mut found = vec![f32::NAN; expected.len()];
            product(level, &codes, matrix, epilogue, &mut found);
            for (found, expected) in found.iter().zip(&expected) {
                // Elements of a group add up to some tens; the sum over groups may be smaller.
                let bound = 1e-5 + expected.abs() * 1e-6;
                assert!((found - expected).abs() <= bound, "{level:?} {shape:?}: {found}, not {expected}");
            }
        }
    });
}

#[test]
fn activations_that_are_zero_or_tiny_give_zero() {
    let shape = Shape::new(Format::Q8, 32, 3, 40);
    let packed = matrix(&mut Samples::new(1), shape, |_| 1.0);
    let matrix = PackedMatrix::new(shape, &packed.codes, &packed.scales);
    for (rows, value) in [(1, 0.0), (7, 0.0), (2, 1e-38), (6, -1e-42)] {
        let mut out = vec![f32::NAN; rows * 3];
        linear_packed(&vec![value; rows * 40], 40, rows, matrix, Epilogue::default(), &mut out);
        assert!(out.iter().all(|y| *y == 0.0), "{out:?}");
    }
}

#[test]
fn no_rows_are_no_work() {
    let shape = Shape::new(Format::Q8, 32, 3, 40);
    let packed = matrix(&mut Samples::new(1), shape, |_| 1.0);
    linear_packed(
        &[],
        40,
        0,
        PackedMatrix::new(shape, &packed.codes, &packed.scales),
        Epilogue::default(),
        &mut [],
    );
}
