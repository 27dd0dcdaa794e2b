//! The trait on burn's tensors against the composition of burn's own operations.

use burn::backend::Flex;
use burn::tensor::{Device, Int, Tensor, TensorData};
use half::f16;

use super::super::contract::*;
use super::super::{MatrixView, composed};
use super::pack::{self, PackedMatrix};
use super::samples::Samples;

fn device() -> Device {
    Device::flex()
}

fn random<const D: usize>(samples: &mut Samples, shape: [usize; D]) -> Tensor<D> {
    let values = samples.floats(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), &device())
}

fn integers<const D: usize>(values: Vec<i32>, shape: [usize; D]) -> Tensor<D, Int> {
    Tensor::from_data(TensorData::new(values, shape), &device())
}

fn float<const D: usize>(x: Tensor<D>) -> burn::backend::tensor::FloatTensor<Flex> {
    x.try_into_primitive::<Flex>().unwrap()
}

fn int<const D: usize>(x: Tensor<D, Int>) -> burn::backend::tensor::IntTensor<Flex> {
    x.try_into_primitive::<Flex>().unwrap()
}

fn raise<const D: usize>(x: burn::backend::tensor::FloatTensor<Flex>) -> Tensor<D> {
    Tensor::from_primitive::<Flex>(x)
}

fn raise_int<const D: usize>(x: burn::backend::tensor::IntTensor<Flex>) -> Tensor<D, Int> {
    Tensor::from_primitive::<Flex>(x)
}

fn values<const D: usize>(x: &Tensor<D>) -> Vec<f32> {
    x.to_data().try_into_vec().unwrap()
}

fn numbers<const D: usize>(x: &Tensor<D, Int>) -> Vec<i32> {
    x.to_data().iter::<i32>().collect()
}

/// Same shape, and elements within `tolerance`.
fn assert_close<const D: usize>(ours: &Tensor<D>, theirs: &Tensor<D>, tolerance: f32, what: &str) {
    assert_eq!(ours.dims(), theirs.dims(), "{what}");
    for (i, (a, b)) in values(ours).iter().zip(values(theirs)).enumerate() {
        assert!((a - b).abs() <= tolerance, "{what}, element {i}: {a} {b}");
    }
}

fn spec(rows: usize, inputs: usize, outputs: usize) -> LinearSpec {
    LinearSpec {
        rows,
        inputs,
        outputs,
        row_stride: inputs,
        format: Format::Float,
        group: 0,
        activation: Activation::None,
        normed: Normed::Neither,
    }
}

#[test]
fn a_linear_layer_norms_what_its_spec_names() {
    let mut samples = Samples::new(31);
    for (rows, inputs, outputs) in [(1, 32, 5), (3, 64, 64), (7, 40, 33)] {
        for normed in [Normed::Neither, Normed::Input { epsilon: 1e-5 }, Normed::Residual { epsilon: 1e-12 }]
        {
            for activation in [Activation::None, Activation::Gelu, Activation::Relu, Activation::Half] {
                for extra in [0, 9] {
                    let row_stride = inputs + extra;
                    let spec = LinearSpec { row_stride, activation, normed, ..spec(rows, inputs, outputs) };
                    let width = if matches!(normed, Normed::Input { .. }) { inputs } else { outputs };
                    let x = random(&mut samples, [rows, row_stride]);
                    let weight = random(&mut samples, [outputs, inputs]);
                    let bias = Some(random(&mut samples, [outputs]));
                    let norm = (normed != Normed::Neither).then(|| random(&mut samples, [2, width]));
                    let residual = Some(random(&mut samples, [rows, outputs]));
                    let ours = Flex::linear(
                        float(x.clone()),
                        MatrixTensors::Float(float(weight.clone())),
                        bias.clone().map(float),
                        norm.clone().map(float),
                        residual.clone().map(float),
                        spec,
                    );
                    let view = MatrixView::Float(weight);
                    let theirs = composed::linear(x, view, bias, norm, residual, spec);
                    assert_close(&raise::<2>(ours), &theirs, 2e-4, &format!("{spec:?}"));
                }
            }
        }
    }
}

/// A random packed matrix as tensors, and the numbers it stands for.
fn packed(
    samples: &mut Samples,
    format: Format,
    group: usize,
    outputs: usize,
    inputs: usize,
) -> (MatrixTensors<Flex>, Vec<f32>) {
    let padded = inputs.next_multiple_of(group);
    let bytes = if format == Format::Q4 { padded / 2 } else { padded };
    let zero = if format == Format::Q4 { 0x88 } else { 0 };
    let used = bytes * inputs / padded;
    let codes: Vec<u8> = (0..outputs * bytes)
        .map(|i| if i % bytes < used { samples.index(255) as u8 } else { zero })
        .collect();
    let scales: Vec<f16> = (0..outputs * padded / group)
        .map(|_| f16::from_f32(0.001 + samples.index(100) as f32 * 1e-4))
        .collect();
    let matrix = pack::pack(format, group, outputs, inputs, &codes, &scales);
    let shape = pack::Shape::new(format, group, outputs, inputs);
    let mut dense = vec![0.0; outputs * inputs];
    let borrowed = PackedMatrix::new(shape, &matrix.codes, &matrix.scales);
    for (row, to) in dense.chunks_exact_mut(inputs).enumerate() {
        borrowed.row(row, to);
    }
    let words = |words: Vec<u32>| {
        let len = words.len();
        let words: Vec<i32> = words.into_iter().map(u32::cast_signed).collect();
        int(integers(words, [len]))
    };
    (MatrixTensors::Packed(words(matrix.codes), Some(words(matrix.scales))), dense)
}

#[test]
fn a_quantised_layer_is_the_float_one_within_the_steps_of_its_activations() {
    let mut samples = Samples::new(32);
    for (format, group) in [(Format::Q8, 64), (Format::Q8, 32), (Format::Q4, 32)] {
        for (rows, inputs, outputs) in [(1, 64, 20), (9, 128, 33)] {
            let (matrix, dense) = packed(&mut samples, format, group, outputs, inputs);
            let norm = random(&mut samples, [2, inputs]);
            let x = random(&mut samples, [rows, inputs]);
            let spec = LinearSpec {
                format,
                group,
                normed: Normed::Input { epsilon: 1e-5 },
                ..spec(rows, inputs, outputs)
            };
            let normed = composed::layer_norm(x.clone(), norm.clone(), 1e-5);
            let ours = Flex::linear(float(x), matrix, None, Some(float(norm)), None, spec);
            let (ours, normed) = (values(&raise::<2>(ours)), values(&normed));
            for row in 0..rows {
                let x = &normed[row * inputs..][..inputs];
                let step = x.iter().fold(0.0f32, |top, x| top.max(x.abs())) / 63.0;
                for output in 0..outputs {
                    let w = &dense[output * inputs..][..inputs];
                    let exact: f32 = x.iter().zip(w).map(|(x, w)| x * w).sum();
                    let bound = w.iter().map(|w| w.abs()).sum::<f32>() * step * 0.51 + 1e-4;
                    let got = ours[row * outputs + output];
                    assert!((got - exact).abs() < bound, "{spec:?} {row} {output}: {got} {exact} ± {bound}");
                }
            }
        }
    }
}

#[test]
fn norms_are_burns() {
    let mut samples = Samples::new(33);
    let (x, norm) = (random(&mut samples, [5, 48]), random(&mut samples, [2, 48]));
    let ours = Flex::layer_norm(float(x.clone()), float(norm.clone()), 5, 48, 1e-6);
    assert_close(&raise::<2>(ours), &composed::layer_norm(x.clone(), norm, 1e-6), 1e-5, "layer norm");
    let ours = Flex::normalise(float(x.clone()), 5, 48);
    assert_close(&raise::<2>(ours), &composed::normalise(x), 1e-6, "unit length");
}

#[test]
fn attention_is_burns() {
    let mut samples = Samples::new(34);
    for causal in [None, Some(0)] {
        for queries in [3, 30] {
            let mut spec = AttentionSpec::packed(2, queries, 2, 16);
            spec.causal = causal;
            let qkv = random(&mut samples, [2 * queries, 96]);
            let pads: Vec<i32> = (0..2 * queries).map(|i| i32::from(i % queries > 1 + i / queries)).collect();
            for pads in [None, Some(integers(pads, [2, queries]))] {
                let ours =
                    Flex::attention(float(qkv.clone()), float(qkv.clone()), pads.clone().map(int), spec);
                let theirs = composed::attention(qkv.clone(), qkv.clone(), pads, spec);
                assert_close(&raise::<2>(ours), &theirs, 1e-5, &format!("{spec:?}"));
            }
        }
    }
    let (q, kv) = (random(&mut samples, [6, 32]), random(&mut samples, [20, 64]));
    let spec = AttentionSpec::crossed(3, 2, 1, 20, 2, 16);
    let ours = Flex::attention(float(q.clone()), float(kv.clone()), None, spec);
    assert_close(&raise::<2>(ours), &composed::attention(q, kv, None, spec), 1e-5, "shared keys");
}

/// A state of three rows.
fn state(position: i32) -> Tensor<1, Int> {
    integers(vec![position, 0, 0, 0, 5, 6, 7, 0, 1, 0], [10])
}

const STEP: StepAttentionSpec = StepAttentionSpec { rows: 3, capacity: 6, heads: 2, head_dim: 8 };

#[test]
fn a_decoding_step_is_burns() {
    let mut samples = Samples::new(35);
    for position in [0, 3, 5] {
        let lineage: Vec<i32> = (0..18).map(|_| samples.index(4) as i32).collect();
        for lineage in [None, Some(integers(lineage, [3, 6]))] {
            // One row more than is decoded: a beam that ended.
            let (qkv, cache) = (random(&mut samples, [3, 48]), random(&mut samples, [4, 6, 32]));
            let (ours, ours_cache) = Flex::step_attention(
                float(qkv.clone()),
                float(cache.clone()),
                int(state(position)),
                lineage.clone().map(int),
                STEP,
            );
            let (theirs, theirs_cache) = composed::step_attention(qkv, cache, state(position), lineage, STEP);
            assert_close(&raise::<2>(ours), &theirs, 1e-5, "context");
            assert_close(&raise::<3>(ours_cache), &theirs_cache, 0.0, "cache");
        }
    }
}

#[test]
fn a_cache_that_nobody_else_holds_is_written_where_it_stands() {
    let mut samples = Samples::new(36);
    let qkv = random(&mut samples, [3, 48]);
    let mut cache = float(random(&mut samples, [3, 6, 32]));
    for position in 0..3 {
        let place = cache.storage::<f32>().as_ptr();
        (_, cache) = Flex::step_attention(float(qkv.clone()), cache, int(state(position)), None, STEP);
        assert_eq!(cache.storage::<f32>().as_ptr(), place, "no copy at position {position}");
    }
    let before = cache.clone();
    let kept = before.storage::<f32>().to_vec();
    let (_, cache) = Flex::step_attention(float(qkv), cache, int(state(3)), None, STEP);
    assert_eq!(before.storage::<f32>(), kept, "another holder's cache stays as it was");
    assert_ne!(cache.storage::<f32>(), kept);
}

#[test]
fn embeddings_are_burns_from_every_kind_of_table() {
    let mut samples = Samples::new(37);
    let positions = random(&mut samples, [9, 40]);
    let places = [(Place::Sequence { seq: 3, past: 2 }, 6), (Place::State, 3)];
    for (place, tokens) in places {
        let ids = match place {
            Place::State => state(4),
            Place::Sequence { .. } => integers(vec![0, 9, 4, 4, 1, 8], [6]),
        };
        for (format, group) in [(Format::Float, 0), (Format::Q8, 32), (Format::Q4, 32)] {
            let spec = EmbedSpec { tokens, width: 40, format, group, vocab: 10, place };
            let (table, dense) = if format == Format::Float {
                let table = random(&mut samples, [10, 40]);
                (MatrixTensors::Float(float(table.clone())), table)
            } else {
                let (table, dense) = packed(&mut samples, format, group, 10, 40);
                (table, Tensor::from_data(TensorData::new(dense, [10, 40]), &device()))
            };
            let ours = Flex::embed(int(ids.clone()), table, float(positions.clone()), spec);
            let theirs = composed::embed(ids.clone(), MatrixView::Float(dense), positions.clone(), spec);
            assert_close(&raise::<2>(ours), &theirs, 1e-6, &format!("{spec:?}"));
        }
    }
}

#[test]
fn image_tokens_are_assembled_as_burn_does() {
    let mut samples = Samples::new(38);
    let (patches, class) = (random(&mut samples, [8, 12]), random(&mut samples, [12]));
    let positions = random(&mut samples, [5, 12]);
    let ours = Flex::assemble(float(patches.clone()), float(class.clone()), float(positions.clone()), 2, 12);
    assert_close(&raise::<2>(ours), &composed::assemble(patches, class, positions, 2), 1e-6, "tokens");
}

#[test]
fn the_best_tokens_are_burns() {
    let mut samples = Samples::new(39);
    for (vocab, k) in [(200, 6), (20, 32)] {
        let logits = random(&mut samples, [3, vocab]);
        let ours = raise::<2>(Flex::top_k(float(logits.clone()), 3, vocab, k));
        let theirs = composed::top_k(logits, k);
        assert_eq!(ours.dims(), theirs.dims());
        for (a, b) in values(&ours).iter().zip(values(&theirs)) {
            assert!(*a == b || (a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}

#[test]
fn a_greedy_step_is_burns_and_happens_in_place() {
    let mut samples = Samples::new(40);
    for min_length in [0, 20] {
        let spec = AdvanceSpec { rows: 3, vocab: 50, eos: 2, min_length, capacity: 8 };
        let mut logits = samples.floats(150);
        logits[2] = 5.0;
        let logits = Tensor::<2>::from_data(TensorData::new(logits, [3, 50]), &device());
        let history = integers((0..48).collect(), [8, 3, 2]);
        let (now, past) = (int(state(6)), int(integers((0..48).collect(), [8, 3, 2])));
        let places = (now.storage::<i32>().as_ptr(), past.storage::<i32>().as_ptr());
        let (now, past) = Flex::advance(float(logits.clone()), now, past, spec);
        assert_eq!((now.storage::<i32>().as_ptr(), past.storage::<i32>().as_ptr()), places);
        let (theirs, theirs_past) = composed::advance(logits, state(6), history, spec);
        assert_eq!(numbers(&raise_int::<1>(now)), numbers(&theirs));
        let (ours, theirs) = (numbers(&raise_int::<3>(past)), numbers(&theirs_past));
        for (i, (a, b)) in ours.iter().zip(&theirs).enumerate() {
            let probabilities = (36..42).contains(&i) && i % 2 == 1;
            let close =
                || (f32::from_bits(a.cast_unsigned()) - f32::from_bits(b.cast_unsigned())).abs() < 1e-5;
            assert!(a == b || probabilities && close(), "element {i}: {a} {b}");
        }
    }
}

#[test]
fn a_view_has_the_same_elements() {
    let x = float(random(&mut Samples::new(41), [4, 6]));
    let place = x.storage::<f32>().as_ptr();
    let y = super::view(x, &[2, 2, 6]);
    assert_eq!(y.storage::<f32>().as_ptr(), place, "no copy");
    assert_eq!(raise::<3>(y).dims(), [2, 2, 6]);
}
