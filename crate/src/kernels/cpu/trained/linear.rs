//! The linear layer: `activation(x·Wᵀ + bias) + residual`.

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use super::super::super::contract::LinearSpec;
use super::flat::{floats, floats_mut, tensor};
use super::lanes::{add_rows, gelu_backward, gelu_in_place, gelu_of};
use super::product::{Plane, product, product_into};
use super::{Tracked, settled};

/// What the way back needs.
#[derive(Clone, Debug)]
struct State {
    x: FlexTensor,
    weight: FlexTensor,
    /// What went into GELU, where there is one.
    before: Option<FlexTensor>,
    spec: LinearSpec,
}

/// The parents are x, the matrix, and then the bias and the residual, as far as they are there.
#[derive(Debug)]
struct Linear<const BIAS: bool, const RESIDUAL: bool>;

/// See [`super::linear`].
pub(super) fn linear<C: CheckpointStrategy>(
    x: Tracked,
    weight: Tracked,
    bias: Option<Tracked>,
    residual: Option<Tracked>,
    gelu: bool,
    spec: LinearSpec,
) -> Tracked {
    let (x, x_node) = x.into_parts();
    let (weight, weight_node) = weight.into_parts();
    let (x, weight) = (settled(x), settled(weight));
    let (bias, bias_node) = bias.map(Tracked::into_parts).unzip();
    let (residual, residual_node) = residual.map(Tracked::into_parts).unzip();
    let out = forward(&x, &weight, bias, residual, spec);
    let state = |before| State { x, weight, before, spec };
    macro_rules! record {
        ($op:expr, $nodes:expr) => {
            match $op.prepare::<C>($nodes).compute_bound().stateful() {
                OpsKind::Tracked(prep) if gelu => {
                    let after = gelu_of(&out);
                    let before = tensor(out, [spec.rows, spec.outputs]);
                    prep.finish(state(Some(before)), tensor(after, [spec.rows, spec.outputs]))
                }
                OpsKind::Tracked(prep) => prep.finish(state(None), tensor(out, [spec.rows, spec.outputs])),
                OpsKind::UnTracked(prep) => {
                    let mut out = out;
                    if gelu {
                        gelu_in_place(&mut out);
                    }
                    prep.finish(tensor(out, [spec.rows, spec.outputs]))
                }
            }
        };
    }
    match (bias_node, residual_node) {
        (None, None) => record!(Linear::<false, false>, [x_node, weight_node]),
        (Some(bias), None) => record!(Linear::<true, false>, [x_node, weight_node, bias]),
        (None, Some(residual)) => record!(Linear::<false, true>, [x_node, weight_node, residual]),
        (Some(bias), Some(residual)) => {
            record!(Linear::<true, true>, [x_node, weight_node, bias, residual])
        }
    }
}

/// `x·Wᵀ + bias + residual`.
fn forward(
    x: &FlexTensor,
    weight: &FlexTensor,
    bias: Option<FlexTensor>,
    residual: Option<FlexTensor>,
    spec: LinearSpec,
) -> Vec<f32> {
    let LinearSpec { rows, inputs, outputs, row_stride, .. } = spec;
    let x = Plane::rows(floats(x), row_stride);
    let weight = Plane::rows(floats(weight), inputs).transposed();
    // What is added stands there before the product comes on top of it.
    let mut out = match (residual.map(settled), bias.map(settled)) {
        (None, None) => return product(rows, outputs, inputs, x, weight),
        (None, Some(bias)) => floats(&bias).repeat(rows),
        (Some(residual), None) => floats(&residual).to_vec(),
        (Some(residual), Some(bias)) => {
            let mut out = Vec::with_capacity(rows * outputs);
            for row in floats(&residual).chunks_exact(outputs) {
                out.extend(row.iter().zip(floats(&bias)).map(|(value, bias)| value + bias));
            }
            out
        }
    };
    product_into((rows, outputs, inputs), (&mut out, outputs), true, x, weight, 1.0);
    out
}

/// The gradients of x, the matrix and the bias, as far as they are wanted, and what comes back through
/// the activation.
fn backward(
    state: State,
    gradient: FlexTensor,
    wanted: [bool; 3],
) -> (Option<FlexTensor>, Option<FlexTensor>, Option<FlexTensor>, FlexTensor) {
    let LinearSpec { rows, inputs, outputs, row_stride, .. } = state.spec;
    let mut gradient = settled(gradient);
    if let Some(before) = &state.before {
        gelu_backward(floats(before), floats_mut(&mut gradient));
    }
    let back = Plane::rows(floats(&gradient), outputs);
    let of_x = wanted[0].then(|| {
        let weight = Plane::rows(floats(&state.weight), inputs);
        if row_stride == inputs {
            return tensor(product(rows, inputs, outputs, back, weight), [rows, inputs]);
        }
        // The rows between those that were picked have no part in the result.
        let shape = state.x.layout().shape().clone();
        let mut of_x = vec![0.0; shape[0] * shape[1]];
        product_into((rows, inputs, outputs), (&mut of_x, row_stride), false, back, weight, 1.0);
        tensor(of_x, [shape[0], shape[1]])
    });
    let of_weight = wanted[1].then(|| {
        let x = Plane::rows(floats(&state.x), row_stride);
        tensor(product(outputs, inputs, rows, back.transposed(), x), [outputs, inputs])
    });
    let of_bias = wanted[2].then(|| {
        let mut sum = vec![0.0; outputs];
        add_rows(floats(&gradient), &mut sum);
        tensor(sum, [outputs])
    });
    (of_x, of_weight, of_bias, gradient)
}

macro_rules! backward {
    ($bias:literal, $residual:literal, $parents:literal) => {
        impl Backward<Flex, $parents> for Linear<$bias, $residual> {
            type State = State;

            fn backward(self, ops: Ops<State, $parents>, grads: &mut Gradients, _: &mut Checkpointer) {
                let gradient = grads.consume::<Flex>(&ops.node);
                let mut parents = ops.parents.into_iter();
                let mut next = || parents.next().flatten();
                let (x, weight) = (next(), next());
                let bias = if $bias { next() } else { None };
                let residual = if $residual { next() } else { None };
                let wanted = [x.is_some(), weight.is_some(), bias.is_some()];
                let (of_x, of_weight, of_bias, rest) = backward(ops.state, gradient, wanted);
                let found = [(x, of_x), (weight, of_weight), (bias, of_bias), (residual, Some(rest))];
                for (node, gradient) in found {
                    if let (Some(node), Some(gradient)) = (node, gradient) {
                        grads.register::<Flex>(node.id, gradient);
                    }
                }
            }
        }
    };
}

backward!(false, false, 2);
backward!(true, false, 3);
backward!(false, true, 3);
backward!(true, true, 4);
