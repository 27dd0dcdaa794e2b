//! LayerNorm.

use std::sync::Arc;

use burn::backend::Flex;
use burn::backend::autodiff::checkpoint::base::Checkpointer;
use burn::backend::autodiff::checkpoint::strategy::CheckpointStrategy;
use burn::backend::autodiff::grads::Gradients;
use burn::backend::autodiff::ops::{Backward, Ops, OpsKind};
use burn_flex::FlexTensor;

use super::super::isa::{Isa, Kernel, dispatch};
use super::super::norm::{sum, sum_of_squares};
use super::flat::{floats, tensor};
use super::{Tracked, settled};

/// What the way back needs.
#[derive(Clone, Debug)]
struct State {
    x: FlexTensor,
    norm: FlexTensor,
    /// Of each row the mean, and one over the deviation.
    rows: Arc<[[f32; 2]]>,
}

#[derive(Debug)]
struct LayerNorm;

/// See [`super::layer_norm`].
pub(super) fn layer_norm<C: CheckpointStrategy>(x: Tracked, norm: Tracked, epsilon: f32) -> Tracked {
    let (x, x_node) = x.into_parts();
    let (norm, norm_node) = norm.into_parts();
    let (x, norm) = (settled(x), settled(norm));
    let shape = x.layout().shape().clone();
    let (out, rows) = dispatch(Forward { x: floats(&x), norm: floats(&norm), epsilon });
    let out = tensor(out, [shape[0], shape[1]]);
    match LayerNorm.prepare::<C>([x_node, norm_node]).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(State { x, norm, rows: rows.into() }, out),
        OpsKind::UnTracked(prep) => prep.finish(out),
    }
}

impl Backward<Flex, 2> for LayerNorm {
    type State = State;

    fn backward(self, ops: Ops<State, 2>, grads: &mut Gradients, _: &mut Checkpointer) {
        let gradient = settled(grads.consume::<Flex>(&ops.node));
        let State { x, norm, rows } = ops.state;
        let shape = x.layout().shape().clone();
        let back = Back { x: floats(&x), norm: floats(&norm), rows: &rows, gradient: floats(&gradient) };
        let (of_x, of_norm) = dispatch(back);
        let [x_node, norm_node] = ops.parents;
        if let Some(node) = x_node {
            grads.register::<Flex>(node.id, tensor(of_x, [shape[0], shape[1]]));
        }
        if let Some(node) = norm_node {
            grads.register::<Flex>(node.id, tensor(of_norm, [2, shape[1]]));
        }
    }
}

struct Forward<'a> {
    x: &'a [f32],
    norm: &'a [f32],
    epsilon: f32,
}

impl Kernel for Forward<'_> {
    type Output = (Vec<f32>, Vec<[f32; 2]>);

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> Self::Output {
        let width = self.norm.len() / 2;
        let (scale, shift) = self.norm.split_at(width);
        let mut out = vec![0.0; self.x.len()];
        let mut rows = Vec::with_capacity(self.x.len() / width.max(1));
        for (x, out) in self.x.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
            let mean = sum(simd, x) / width as f32;
            let variance = sum_of_squares(simd, x, mean) / width as f32;
            let inverse = 1.0 / (variance + self.epsilon).sqrt();
            rows.push([mean, inverse]);
            let (middle, factor) = (simd.splat(mean), simd.splat(inverse));
            let whole = width - width % S::LANES;
            for i in (0..whole).step_by(S::LANES) {
                let x = simd.mul(simd.sub(simd.load(&x[i..]), middle), factor);
                simd.store(&mut out[i..], simd.fma(x, simd.load(&scale[i..]), simd.load(&shift[i..])));
            }
            for i in whole..width {
                out[i] = (x[i] - mean) * inverse * scale[i] + shift[i];
            }
        }
        (out, rows)
    }
}

struct Back<'a> {
    x: &'a [f32],
    norm: &'a [f32],
    rows: &'a [[f32; 2]],
    gradient: &'a [f32],
}

impl Kernel for Back<'_> {
    /// The gradients of x and of scale and shift.
    type Output = (Vec<f32>, Vec<f32>);

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> Self::Output {
        let width = self.norm.len() / 2;
        let scale = &self.norm[..width];
        let mut of_norm = vec![0.0; 2 * width];
        let (of_scale, of_shift) = of_norm.split_at_mut(width);
        let mut of_x = vec![0.0; self.x.len()];
        let whole = width - width % S::LANES;
        let rows = self.x.chunks_exact(width).zip(self.gradient.chunks_exact(width)).zip(self.rows);
        for (((x, gradient), [mean, inverse]), out) in rows.zip(of_x.chunks_exact_mut(width)) {
            // With y the normalised row and g the gradient times the scale:
            // (g − mean(g) − y·mean(g·y)) over the deviation.
            let (middle, factor) = (simd.splat(*mean), simd.splat(*inverse));
            let (mut sums, mut products) = (simd.zero(), simd.zero());
            let (mut sum, mut product) = (0.0, 0.0);
            for i in (0..whole).step_by(S::LANES) {
                let y = simd.mul(simd.sub(simd.load(&x[i..]), middle), factor);
                let back = simd.load(&gradient[i..]);
                let (scales, shifts) = (simd.load(&of_scale[i..]), simd.load(&of_shift[i..]));
                simd.store(&mut of_scale[i..], simd.fma(back, y, scales));
                simd.store(&mut of_shift[i..], simd.add(back, shifts));
                let g = simd.mul(back, simd.load(&scale[i..]));
                sums = simd.add(sums, g);
                products = simd.fma(g, y, products);
            }
            for i in whole..width {
                let y = (x[i] - mean) * inverse;
                of_scale[i] += gradient[i] * y;
                of_shift[i] += gradient[i];
                sum += gradient[i] * scale[i];
                product += gradient[i] * scale[i] * y;
            }
            sum = (sum + simd.sum(sums)) / width as f32;
            product = (product + simd.sum(products)) / width as f32;
            let (mean_of_g, mean_of_product) = (simd.splat(sum), simd.splat(-product));
            for i in (0..whole).step_by(S::LANES) {
                let y = simd.mul(simd.sub(simd.load(&x[i..]), middle), factor);
                let g = simd.mul(simd.load(&gradient[i..]), simd.load(&scale[i..]));
                let rest = simd.fma(y, mean_of_product, simd.sub(g, mean_of_g));
                simd.store(&mut out[i..], simd.mul(rest, factor));
            }
            for i in whole..width {
                let y = (x[i] - mean) * inverse;
                out[i] = (gradient[i] * scale[i] - sum - y * product) * inverse;
            }
        }
        (of_x, of_norm)
    }
}
