//! The operations as training runs them on the CPU: one node of the graph each, with its derivative
//! written down.
//!
//! burn's automatic differentiation takes a composition apart: a LayerNorm becomes a dozen operations
//! forward and two dozen back, each a walk through memory. These do the same in a few, on matrix products
//! of the `gemm` crate, which is what burn's CPU device uses. They are tested against the compositions,
//! values and gradients.

mod attention;
mod flat;
mod lanes;
mod linear;
mod norm;
mod product;

use burn::backend::autodiff::checkpoint::strategy::{
    BalancedCheckpointing, CheckpointStrategy, NoCheckpointing,
};
use burn::backend::{Autodiff, DispatchDevice, DispatchKindConversion, DispatchTensor, Flex};
use burn::tensor::{Device, GradientCheckpointingStrategy, Int, Tensor};
use burn_flex::FlexTensor;

use super::super::contract::{Activation, AttentionSpec, LinearSpec};
use super::super::routing::Sight;

/// A float tensor with its place in a graph.
type Tracked = burn::backend::tensor::FloatTensor<Autodiff<Flex>>;

/// How the graph of a CPU device keeps what it needs; none for any other device.
fn strategy(device: &Device) -> Option<GradientCheckpointingStrategy> {
    match device.as_dispatch() {
        DispatchDevice::Autodiff(_) => match device.clone().without_autodiff().as_dispatch() {
            DispatchDevice::Flex(_) => device.gradient_checkpointing_strategy(),
            _ => None,
        },
        _ => None,
    }
}

/// Runs an operation for the strategy of the device's graph; nothing where there is none on the CPU.
macro_rules! tracked {
    ($device:expr, $strategy:ident => $run:expr) => {
        match strategy($device) {
            Some(GradientCheckpointingStrategy::Disabled) => {
                type $strategy = NoCheckpointing;
                Some($run)
            }
            Some(GradientCheckpointingStrategy::Balanced) => {
                type $strategy = BalancedCheckpointing;
                Some($run)
            }
            None => None,
        }
    };
}

/// `activation(x·Wᵀ + bias) + residual`; nothing where another route is to be taken.
pub(in crate::kernels) fn linear(
    x: &Tensor<2>,
    weight: &Tensor<2>,
    bias: Option<&Tensor<1>>,
    residual: Option<&Tensor<2>>,
    spec: LinearSpec,
) -> Option<Tensor<2>> {
    let gelu = match (spec.activation, residual) {
        (Activation::None, _) => false,
        (Activation::Gelu, None) => true,
        _ => return None,
    };
    tracked!(&x.device(), C => {
        let x = lower::<C, 2>(x.clone());
        let weight = lower::<C, 2>(weight.clone());
        let bias = bias.map(|bias| lower::<C, 1>(bias.clone()));
        let residual = residual.map(|residual| lower::<C, 2>(residual.clone()));
        raise::<C, 2>(linear::linear::<C>(x, weight, bias, residual, gelu, spec))
    })
}

/// LayerNorm with `norm: [2, width]`, scale then shift; nothing where another route is to be taken.
pub(in crate::kernels) fn layer_norm(x: &Tensor<2>, norm: &Tensor<2>, epsilon: f32) -> Option<Tensor<2>> {
    tracked!(&x.device(), C => {
        let (x, norm) = (lower::<C, 2>(x.clone()), lower::<C, 2>(norm.clone()));
        raise::<C, 2>(norm::layer_norm::<C>(x, norm, epsilon))
    })
}

/// Attention, see [`Kernels::attention`](crate::kernels::Kernels::attention); nothing where another route is to be
/// taken.
pub(in crate::kernels) fn attention(
    q: &Tensor<2>,
    kv: &Tensor<2>,
    pads: Option<&Tensor<2, Int>>,
    sight: &Sight<'_>,
    spec: AttentionSpec,
) -> Option<Tensor<2>> {
    let sequences = sight.places.map_or(spec.kv_batch, <[u32]>::len);
    if sequences != spec.batch || spec.kv_batch_stride != spec.keys * spec.kv_stride {
        return None;
    }
    tracked!(&q.device(), C => {
        let pads = pads.map(|pads| pads.clone().into_data().iter::<i32>().collect::<Vec<i32>>());
        let (q, kv) = (lower::<C, 2>(q.clone()), lower::<C, 2>(kv.clone()));
        raise::<C, 2>(attention::attention::<C>(q, kv, pads, sight, spec))
    })
}

const ROUTED: &str = "a tensor of a graph on the CPU";

/// A strategy as a type and as a value.
trait Strategy: CheckpointStrategy {
    const VALUE: GradientCheckpointingStrategy;
}

impl Strategy for NoCheckpointing {
    const VALUE: GradientCheckpointingStrategy = GradientCheckpointingStrategy::Disabled;
}

impl Strategy for BalancedCheckpointing {
    const VALUE: GradientCheckpointingStrategy = GradientCheckpointingStrategy::Balanced;
}

fn lower<C: Strategy, const D: usize>(x: Tensor<D>) -> Tracked
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    // A constant among tensors of a graph, such as features of another network.
    let x = if x.is_autodiff() { x } else { x.autodiff().with_gradient_checkpointing_strategy(C::VALUE) };
    x.try_into_primitive::<Autodiff<Flex, C>>().expect(ROUTED)
}

fn raise<C: Strategy, const D: usize>(x: Tracked) -> Tensor<D>
where
    DispatchTensor: DispatchKindConversion<Autodiff<Flex, C>>,
{
    Tensor::from_primitive::<Autodiff<Flex, C>>(x)
}

/// The tensor row-major and without gaps.
fn settled(x: FlexTensor) -> FlexTensor {
    x.to_contiguous()
}

#[cfg(test)]
mod tests;
