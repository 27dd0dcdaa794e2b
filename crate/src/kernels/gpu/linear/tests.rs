//! Every format on both kinds of adapter against the definition in f64, over shapes without a pattern.
//!
//! Tolerances are those of `assert_close`: 2e-5 of the value or of one for f32, 1e-3 for f16.

use burn::tensor::DType;
use half::f16;

use super::super::launch::Shader;
use super::super::tests::{Gpu, Noise, assert_close, read};
use super::*;
use crate::kernels::Activation;

const EPSILON: f32 = 1e-5;

/// A matrix on the device, and what it means.
struct Matrix {
    tensors: MatrixTensors<CubeBackend>,
    values: Vec<f64>,
}

fn matrix(gpu: &Gpu, noise: &mut Noise, spec: &LinearSpec, float: Float) -> Matrix {
    let LinearSpec { inputs, outputs, format, group, .. } = *spec;
    match format {
        Format::Float => {
            let (tensor, values) = gpu.floats(&noise.floats(outputs * inputs, 0.2), float);
            Matrix { tensors: MatrixTensors::Float(tensor), values }
        }
        Format::F16 => {
            let halves: Vec<f16> =
                noise.floats(outputs * inputs, 0.2).into_iter().map(f16::from_f32).collect();
            let words: Vec<i32> = halves.chunks_exact(2).map(|pair| pack(pair, 16, f16_bits)).collect();
            let values = halves.iter().copied().map(f64::from).collect();
            Matrix { tensors: MatrixTensors::Packed(gpu.ints(&words), None), values }
        }
        Format::Q8 | Format::Q4 => {
            let (least, most, bits) = if format == Format::Q8 { (-127, 127, 8) } else { (-8, 7, 4) };
            let padded = inputs.next_multiple_of(group);
            let groups = padded / group;
            let (mut codes, mut scales, mut values) = (Vec::new(), Vec::new(), Vec::new());
            for _ in 0..outputs {
                let mut row: Vec<f16> =
                    (0..groups).map(|_| f16::from_f32((1.1 + noise.float()) * 0.2 / most as f32)).collect();
                for column in 0..padded {
                    let any = least + noise.below((most - least + 1) as usize) as i32;
                    let code = if column < inputs { any } else { 0 };
                    codes.push(if format == Format::Q8 { code } else { code + 8 });
                    if column < inputs {
                        values.push(f64::from(code) * f64::from(row[column / group]));
                    }
                }
                row.resize(groups.next_multiple_of(2), f16::NAN);
                scales.extend(row);
            }
            let codes: Vec<i32> =
                codes.chunks_exact(32 / bits).map(|codes| pack(codes, bits, |code| code as u32)).collect();
            let scales: Vec<i32> = scales.chunks_exact(2).map(|pair| pack(pair, 16, f16_bits)).collect();
            let tensors = MatrixTensors::Packed(gpu.ints(&codes), Some(gpu.ints(&scales)));
            Matrix { tensors, values }
        }
    }
}

fn f16_bits(half: f16) -> u32 {
    half.to_bits().into()
}

/// A word of some numbers, the first in the lowest bits.
fn pack<T: Copy>(numbers: &[T], bits: usize, code: impl Fn(T) -> u32) -> i32 {
    let mask = (1u32 << bits) - 1;
    let word = numbers.iter().enumerate().fold(0, |word, (i, &n)| word | (code(n) & mask) << (i * bits));
    word as i32
}

/// The error function by its series, to the last places of an f64 where |z| < 5.
fn erf(z: f64) -> f64 {
    let (mut term, mut sum) = (z, z);
    for n in 1..200 {
        term *= -z * z / f64::from(n);
        sum += term / f64::from(2 * n + 1);
    }
    if z.abs() < 5.0 { sum * std::f64::consts::FRAC_2_SQRT_PI } else { z.signum() }
}

fn normalise(row: &mut [f64], norm: &[f64]) {
    let width = row.len() as f64;
    let mean = row.iter().sum::<f64>() / width;
    let variance = row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / width;
    let (scale, shift) = norm.split_at(row.len());
    for ((v, scale), shift) in row.iter_mut().zip(scale).zip(shift) {
        *v = (*v - mean) / (variance + f64::from(EPSILON)).sqrt() * scale + shift;
    }
}

/// Which optional operands there are.
#[derive(Clone, Copy, Debug)]
struct Operands {
    bias: bool,
    residual: bool,
}

/// Runs one product and compares it with its definition.
fn agrees(gpu: &Gpu, noise: &mut Noise, spec: LinearSpec, operands: Operands, float: Float) {
    let LinearSpec { rows, inputs, outputs, row_stride, .. } = spec;
    let Matrix { tensors, values: w } = matrix(gpu, noise, &spec, float);
    // Away from zero, so that a norm has a mean to find.
    let mut plain: Vec<f32> = noise.floats(rows * row_stride, 1.0).iter().map(|v| v + 0.7).collect();
    if matches!(spec.normed, Normed::Neither) {
        // What stands between rows is not ours.
        for row in plain.chunks_mut(row_stride) {
            row[inputs..].fill(f32::NAN);
        }
    }
    let (x, x_values) = gpu.floats(&plain, float);
    let bias = operands.bias.then(|| gpu.floats(&noise.floats(outputs, 1.0), Float::F32));
    let residual = operands.residual.then(|| gpu.floats(&noise.floats(rows * outputs, 2.0), float));
    let width = match spec.normed {
        Normed::Neither => None,
        Normed::Input { .. } => Some(inputs),
        Normed::Residual { .. } => Some(outputs),
    };
    let norm = width.map(|width| {
        let mut values: Vec<f32> = noise.floats(2 * width, 0.3);
        values[..width].iter_mut().for_each(|scale| *scale += 1.0);
        gpu.floats(&values, Float::F32)
    });

    let mut expected = Vec::with_capacity(rows * outputs);
    for r in 0..rows {
        let mut x = x_values[r * row_stride..r * row_stride + inputs].to_vec();
        let mut added = residual.as_ref().map(|(_, values)| values[r * outputs..][..outputs].to_vec());
        match (spec.normed, &norm, &mut added) {
            (Normed::Input { .. }, Some((_, norm)), _) => normalise(&mut x, norm),
            (Normed::Residual { .. }, Some((_, norm)), Some(added)) => normalise(added, norm),
            _ => {}
        }
        if rows > FEW && float == Float::F16 {
            // Of many rows the norm is a launch of its own, which stores halves.
            let round = |v: &mut f64| *v = f64::from(f16::from_f64(*v));
            x.iter_mut().for_each(round);
            added.iter_mut().flatten().for_each(round);
        }
        for n in 0..outputs {
            let product = x.iter().zip(&w[n * inputs..]).map(|(x, w)| x * w).sum::<f64>();
            let sum = product + bias.as_ref().map_or(0.0, |(_, values)| values[n]);
            let active = match spec.activation {
                Activation::None => sum,
                Activation::Gelu => sum * 0.5 * (1.0 + erf(sum * std::f64::consts::FRAC_1_SQRT_2)),
                Activation::Relu => sum.max(0.0),
                Activation::Half => sum / 2.0,
            };
            expected.push(active + added.as_ref().map_or(0.0, |values| values[n]));
        }
    }
    let tensor = |pair: Option<(CubeTensor, Vec<f64>)>| pair.map(|(tensor, _)| tensor);
    let y = linear(x, tensors, tensor(bias), tensor(norm), tensor(residual), spec);
    assert_eq!(y.dtype, if float == Float::F16 { DType::F16 } else { DType::F32 });
    let what = format!("{spec:?} {operands:?} {float:?} {:?}", Adapter::current());
    assert_close(&read(&y), &expected, float, &what);
}

/// Every combination of operands once, with few and with many rows, in a format.
fn format_agrees(format: Format, groups: &[usize]) {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(format as u64 + 11);
    let combinations = [
        (Activation::None, false, false, Normed::Neither),
        (Activation::Gelu, true, false, Normed::Input { epsilon: EPSILON }),
        (Activation::None, true, true, Normed::Residual { epsilon: EPSILON }),
        (Activation::Gelu, true, true, Normed::Neither),
        (Activation::Relu, true, false, Normed::Neither),
        (Activation::Half, true, true, Normed::Residual { epsilon: EPSILON }),
    ];
    for (float, adapter) in gpu.kinds() {
        adapter.set();
        for (round, &(activation, bias, residual, normed)) in combinations.iter().enumerate() {
            // f16 differs in loads and stores only: half of the combinations hold all of those.
            if float == Float::F16 && round % 2 == 0 {
                continue;
            }
            for few in [true, false] {
                let rows = if few { 1 + noise.below(8) } else { 9 + noise.below(80) };
                let group = groups[noise.below(groups.len())];
                let inputs = [32, 36, 64, 96, 100, 128, 192, 260][noise.below(8)];
                let outputs = [1, 2, 33, 64, 70, 130, 257][noise.below(7)];
                let row_stride = if round == 0 { inputs + 12 } else { inputs };
                let spec =
                    LinearSpec { rows, inputs, outputs, row_stride, format, group, activation, normed };
                agrees(&gpu, &mut noise, spec, Operands { bias, residual }, float);
            }
        }
    }
    Adapter::Hardware.set();
}

#[test]
fn plain_matrices_agree_with_the_definition() {
    format_agrees(Format::Float, &[0]);
}

#[test]
fn matrices_of_halves_agree_with_the_definition() {
    format_agrees(Format::F16, &[0]);
}

#[test]
fn bytes_agree_with_the_definition() {
    format_agrees(Format::Q8, &[32, 64]);
}

#[test]
fn nibbles_agree_with_the_definition() {
    format_agrees(Format::Q4, &[32, 64]);
}

#[test]
fn tiles_that_pass_numbers_between_neighbours_agree_with_the_definition() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(5);
    Adapter::Software.set();
    for (format, group) in [(Format::Q8, 64), (Format::Q4, 32), (Format::F16, 0), (Format::Float, 0)] {
        let spec = LinearSpec {
            rows: 50,
            inputs: 192,
            outputs: 270,
            row_stride: 196,
            format,
            group,
            activation: Activation::None,
            normed: Normed::Neither,
        };
        agrees(&gpu, &mut noise, spec, Operands { bias: true, residual: false }, Float::F32);
    }
    Adapter::Hardware.set();
}

#[test]
fn a_wide_product_of_every_count_of_few_rows_agrees_with_the_definition() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(6);
    for adapter in [Adapter::Hardware, Adapter::Software] {
        adapter.set();
        for rows in 1..=8 {
            let spec = LinearSpec {
                rows,
                inputs: 64,
                outputs: 8200,
                row_stride: 64,
                format: Format::Q4,
                group: 32,
                activation: Activation::None,
                normed: Normed::Neither,
            };
            agrees(&gpu, &mut noise, spec, Operands { bias: true, residual: false }, Float::F32);
        }
    }
    Adapter::Hardware.set();
}

#[test]
fn the_normalised_input_of_many_rows_may_be_rows_apart() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(7);
    let spec = LinearSpec {
        rows: 11,
        inputs: 64,
        outputs: 20,
        row_stride: 3 * 64,
        format: Format::Q8,
        group: 64,
        activation: Activation::None,
        normed: Normed::Input { epsilon: EPSILON },
    };
    agrees(&gpu, &mut noise, spec, Operands { bias: false, residual: false }, Float::F32);
}

#[test]
fn no_kernel_needs_more_than_16_kib_of_workgroup_memory() {
    let normed = [Normed::Neither, Normed::Input { epsilon: EPSILON }, Normed::Residual { epsilon: EPSILON }];
    for normed in normed {
        for (rows, inputs, outputs) in (1..=9).flat_map(|rows| [(rows, 32, 64), (rows, 768, 30_524)]) {
            for adapter in [Adapter::Hardware, Adapter::Software] {
                let spec = LinearSpec {
                    rows,
                    inputs,
                    outputs,
                    row_stride: inputs,
                    format: Format::Q4,
                    group: 32,
                    activation: Activation::None,
                    normed,
                };
                let shader = shader(&spec, choose(&spec, adapter, 8), Float::F32, [true, true]);
                let bytes: u32 = shader.source().lines().filter_map(workgroup_bytes).sum();
                assert!(bytes <= 16_384, "{bytes} bytes: {shader:?}");
            }
        }
    }
}

/// What a line declares of workgroup memory.
fn workgroup_bytes(line: &str) -> Option<u32> {
    let (_, array) = line.strip_prefix("var<workgroup> ")?.split_once("array<")?;
    let (element, count) = array.trim_end_matches(">;").split_once(", ")?;
    let size = match element {
        "f32" => 4,
        "vec2<f32>" => 8,
        "vec3<f32>" | "vec4<f32>" => 16,
        other => panic!("an array of {other}"),
    };
    Some(size * count.parse::<u32>().unwrap())
}

#[test]
#[should_panic(expected = "scales")]
fn a_matrix_whose_scales_do_not_fit_is_a_mistake() {
    let Some(gpu) = Gpu::open() else { panic!("no scales without an adapter") };
    let x = gpu.floats(&[0.0; 64], Float::F32).0;
    let spec = LinearSpec {
        rows: 1,
        inputs: 64,
        outputs: 4,
        row_stride: 64,
        format: Format::Q4,
        group: 32,
        activation: Activation::None,
        normed: Normed::Neither,
    };
    let tensors = MatrixTensors::Packed(gpu.ints(&[0; 32]), Some(gpu.ints(&[0; 3])));
    linear(x, tensors, None, None, None, spec);
}
