//! The operations against their compositions: values and gradients.

use burn::tensor::{Device, Int, Tensor, TensorData};

use super::super::super::composed;
use super::super::super::contract::{Activation, AttentionSpec, Format, LinearSpec, Normed};
use super::super::super::routing::{MatrixView, Sight};
use super::super::samples::Samples;

fn graph() -> Device {
    Device::flex().autodiff()
}

/// A leaf with numbers of its own.
fn leaf<const D: usize>(samples: &mut Samples, shape: [usize; D], device: &Device) -> Tensor<D> {
    let values = samples.floats(shape.iter().product());
    Tensor::from_data(TensorData::new(values, shape), device).require_grad()
}

/// The same numbers as a leaf of another graph.
fn again<const D: usize>(x: &Tensor<D>) -> Tensor<D> {
    Tensor::from_data(x.clone().inner().into_data(), &x.device()).require_grad()
}

fn values<const D: usize>(x: Tensor<D>) -> Vec<f32> {
    x.inner().into_data().iter::<f32>().collect()
}

#[track_caller]
fn close<const D: usize>(what: &str, got: Tensor<D>, expected: Tensor<D>) {
    assert_eq!(got.dims(), expected.dims(), "{what}");
    let (got, expected) = (values(got), values(expected));
    let largest = expected.iter().fold(1e-3f32, |largest, x| largest.max(x.abs()));
    for (index, (got, expected)) in got.iter().zip(&expected).enumerate() {
        assert!((got - expected).abs() <= 3e-5 * largest, "{what}[{index}]: {got}, expected {expected}");
    }
}

/// A loss in which every element counts otherwise.
fn mixed(x: Tensor<2>) -> Tensor<1> {
    let [rows, width] = x.dims();
    let factors: Vec<f32> = (0..rows * width).map(|i| ((i * 37) % 17) as f32 / 17.0 - 0.4).collect();
    (x.clone() * Tensor::from_data(TensorData::new(factors, [rows, width]), &x.device())).sum()
}

#[test]
fn the_linear_layer_is_its_composition() {
    for device in [graph(), graph().gradient_checkpointing()] {
        let mut samples = Samples::new(1);
        for (rows, inputs, outputs, activation, with_bias, with_residual, every) in [
            (5, 7, 9, Activation::None, true, false, 1),
            (5, 7, 9, Activation::None, false, false, 1),
            (33, 40, 17, Activation::Gelu, true, false, 1),
            (33, 40, 17, Activation::None, true, true, 1),
            (3, 8, 8, Activation::None, false, true, 1),
            // The first of every four rows.
            (6, 16, 5, Activation::None, true, false, 4),
        ] {
            let spec = LinearSpec {
                rows,
                inputs,
                outputs,
                row_stride: every * inputs,
                format: Format::Float,
                group: 0,
                activation,
                normed: Normed::Neither,
            };
            let x = leaf(&mut samples, [rows * every, inputs], &device);
            let weight = leaf(&mut samples, [outputs, inputs], &device);
            let bias = with_bias.then(|| leaf(&mut samples, [outputs], &device));
            let residual = with_residual.then(|| leaf(&mut samples, [rows, outputs], &device));
            let got = super::linear(&x, &weight, bias.as_ref(), residual.as_ref(), spec).unwrap();
            let others = (again(&x), again(&weight), bias.as_ref().map(again), residual.as_ref().map(again));
            let (x2, weight2, bias2, residual2) = others;
            let matrix = MatrixView::Float(weight2.clone());
            let expected = composed::linear(x2.clone(), matrix, bias2.clone(), None, residual2.clone(), spec);
            close("values", got.clone(), expected.clone());
            let (found, wanted) = (mixed(got).backward(), mixed(expected).backward());
            close("x", x.grad(&found).unwrap(), x2.grad(&wanted).unwrap());
            close("weight", weight.grad(&found).unwrap(), weight2.grad(&wanted).unwrap());
            if let (Some(bias), Some(other)) = (bias, bias2) {
                close("bias", bias.grad(&found).unwrap(), other.grad(&wanted).unwrap());
            }
            if let (Some(residual), Some(other)) = (residual, residual2) {
                close("residual", residual.grad(&found).unwrap(), other.grad(&wanted).unwrap());
            }
        }
    }
}

#[test]
fn layer_norm_is_its_composition() {
    let mut samples = Samples::new(2);
    for (rows, width) in [(1, 5), (9, 16), (4, 160), (3, 37)] {
        let x = leaf(&mut samples, [rows, width], &graph());
        let norm = leaf(&mut samples, [2, width], &graph());
        let got = super::layer_norm(&x, &norm, 1e-5).unwrap();
        let (x2, norm2) = (again(&x), again(&norm));
        let expected = composed::layer_norm(x2.clone(), norm2.clone(), 1e-5);
        close("values", got.clone(), expected.clone());
        let (found, wanted) = (mixed(got).backward(), mixed(expected).backward());
        close("x", x.grad(&found).unwrap(), x2.grad(&wanted).unwrap());
        close("norm", norm.grad(&found).unwrap(), norm2.grad(&wanted).unwrap());
    }
}

#[test]
fn attention_to_oneself_is_its_composition() {
    let mut samples = Samples::new(3);
    for (batch, seq, heads, dim, causal) in [(1, 1, 1, 4, false), (3, 7, 2, 8, false), (2, 19, 3, 4, true)] {
        let mut spec = AttentionSpec::packed(batch, seq, heads, dim);
        spec.causal = causal.then_some(0);
        let pads = (!causal).then(|| pads(batch, seq));
        let qkv = leaf(&mut samples, [batch * seq, 3 * heads * dim], &graph());
        let got = super::attention(&qkv, &qkv, pads.as_ref(), &Sight::default(), spec).unwrap();
        let other = again(&qkv);
        let expected = composed::attention(other.clone(), other.clone(), pads, spec);
        close("values", got.clone(), expected.clone());
        let (found, wanted) = (mixed(got).backward(), mixed(expected).backward());
        close("qkv", qkv.grad(&found).unwrap(), other.grad(&wanted).unwrap());
    }
}

#[test]
fn attention_to_others_is_its_composition() {
    let mut samples = Samples::new(4);
    for (batch, queries, keys, heads, dim) in [(3, 5, 11, 2, 8), (2, 1, 3, 1, 4)] {
        let spec = AttentionSpec::crossed(batch, queries, batch, keys, heads, dim);
        let q = leaf(&mut samples, [batch * queries, heads * dim], &graph());
        let kv = leaf(&mut samples, [batch * keys, 2 * heads * dim], &graph());
        let pads = pads(batch, keys);
        let got = super::attention(&q, &kv, Some(&pads), &Sight::default(), spec).unwrap();
        let (q2, kv2) = (again(&q), again(&kv));
        let expected = composed::attention(q2.clone(), kv2.clone(), Some(pads), spec);
        close("values", got.clone(), expected.clone());
        let (found, wanted) = (mixed(got).backward(), mixed(expected).backward());
        close("q", q.grad(&found).unwrap(), q2.grad(&wanted).unwrap());
        close("kv", kv.grad(&found).unwrap(), kv2.grad(&wanted).unwrap());
    }
}

#[test]
fn several_texts_that_look_at_one_image_add_up() {
    let mut samples = Samples::new(5);
    let (images, queries, keys, heads, dim) = (3, 4, 6, 2, 4);
    let places = [2u32, 0, 2, 2, 0];
    let q = leaf(&mut samples, [places.len() * queries, heads * dim], &graph());
    let kv = leaf(&mut samples, [images * keys, 2 * heads * dim], &graph());
    let spec = AttentionSpec::crossed(places.len(), queries, images, keys, heads, dim);
    let got = super::attention(&q, &kv, None, &Sight { places: Some(&places), factors: None }, spec).unwrap();
    let (q2, kv2) = (again(&q), again(&kv));
    let rows: Vec<i32> = places.iter().map(|place| *place as i32).collect();
    let rows = Tensor::<1, Int>::from_data(TensorData::new(rows, [places.len()]), &graph());
    let gathered = kv2.clone().reshape([images, keys * 2 * heads * dim]).select(0, rows);
    let gathered = gathered.reshape([places.len() * keys, 2 * heads * dim]);
    let spec = AttentionSpec::crossed(places.len(), queries, places.len(), keys, heads, dim);
    let expected = composed::attention(q2.clone(), gathered, None, spec);
    close("values", got.clone(), expected.clone());
    let (found, wanted) = (mixed(got).backward(), mixed(expected).backward());
    close("q", q.grad(&found).unwrap(), q2.grad(&wanted).unwrap());
    close("kv", kv.grad(&found).unwrap(), kv2.grad(&wanted).unwrap());
}

#[test]
fn keys_that_are_left_out_get_nothing_and_give_nothing_back() {
    let mut samples = Samples::new(6);
    let (batch, seq, heads, dim) = (2, 9, 2, 4);
    let spec = AttentionSpec::packed(batch, seq, heads, dim);
    let qkv = leaf(&mut samples, [batch * seq, 3 * heads * dim], &graph());
    let count = batch * heads * seq * seq;
    let factors: Vec<f32> = (0..count).map(|i| if i * 31 % 7 < 2 { 0.0 } else { 1.4 }).collect();
    let sight = Sight { places: None, factors: Some(factors.clone()) };
    let got = super::attention(&qkv, &qkv, None, &sight, spec).unwrap();
    let other = again(&qkv);
    let factors = Tensor::from_data(TensorData::new(factors, [batch, heads, seq, seq]), &graph());
    let expected = composed::attention_with(other.clone(), other.clone(), None, Some(factors), spec);
    close("values", got.clone(), expected.clone());
    let (found, wanted) = (mixed(got).backward(), mixed(expected).backward());
    close("qkv", qkv.grad(&found).unwrap(), other.grad(&wanted).unwrap());
}

/// The last keys of every other sequence are padding.
fn pads(batch: usize, keys: usize) -> Tensor<2, Int> {
    let flags: Vec<i32> =
        (0..batch * keys).map(|i| i32::from(i / keys % 2 == 1 && i % keys > keys / 2)).collect();
    Tensor::from_data(TensorData::new(flags, [batch, keys]), &graph())
}
