//! Copies of a model that follow it slowly: the momentum networks of image-text contrast, and the
//! averaged weights that evaluation may use (paper §3.2, spec §7.1).

use burn::module::{Module, ModuleMapper, ModuleVisitor, Param, ParamId};
use burn::tensor::container::TensorContainer;
use burn::tensor::{Device, GradientCheckpointingStrategy, Tensor};

use crate::model::Blip;

/// A copy of the networks that image and text features are made with, outside any graph.
///
/// It keeps the identities of the parameters it was copied from; that is how [`follow`] finds them.
pub fn copy_for_features(model: &Blip) -> Blip {
    let copy = model.valid();
    Blip { text_decoder: None, lm: None, itm: None, nlvr2: None, ..copy }
}

/// A module among the tensors of a graph on `device`, as constants: a copy then computes as its model does.
#[must_use]
pub fn among_constants<M: Module>(module: &M, device: &Device) -> M {
    module.valid().map(&mut Constants(device.gradient_checkpointing_strategy()))
}

/// A tensor that was computed outside any graph, among those of a graph on `device`.
pub fn constant<const D: usize>(value: Tensor<D>, device: &Device) -> Tensor<D> {
    constant_for(value, device.gradient_checkpointing_strategy())
}

fn constant_for<const D: usize>(
    value: Tensor<D>,
    strategy: Option<GradientCheckpointingStrategy>,
) -> Tensor<D> {
    match strategy {
        Some(strategy) => value.autodiff().with_gradient_checkpointing_strategy(strategy),
        None => value,
    }
}

struct Constants(Option<GradientCheckpointingStrategy>);

impl ModuleMapper for Constants {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let strategy = self.0;
        param.map(|value| constant_for(value, strategy))
    }
}

/// `copy ← momentum·copy + (1 − momentum)·model`, for every parameter of the copy.
///
/// # Panics
/// When the copy has a parameter that the model has not.
#[must_use]
pub fn follow<M: Module>(copy: M, model: &impl Module, momentum: f64) -> M {
    let mut values = Values::default();
    model.visit(&mut values);
    copy.map(&mut Blend { values, momentum })
}

/// The values of parameters, by their identity.
#[derive(Default)]
struct Values(TensorContainer<ParamId>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.register(param.id, param.val().inner());
    }
}

struct Blend {
    values: Values,
    momentum: f64,
}

impl ModuleMapper for Blend {
    fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
        let value: Tensor<D> =
            self.values.0.remove(&param.id).expect("a copy has the parameters of its model");
        let momentum = self.momentum;
        param.map(|copy| copy.mul_scalar(momentum) + value.mul_scalar(1.0 - momentum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::block_on;
    use crate::kernels::read_floats;
    use crate::train::contrast::Contrast;

    fn value(module: &Contrast) -> f32 {
        block_on(read_floats(module.temperature().inner())).unwrap()[0]
    }

    #[test]
    fn a_copy_follows_by_a_share_of_the_difference() {
        let model = Contrast::new(&Device::flex().autodiff());
        let mut copy = model.valid();
        // The same identities with other values.
        let far = model.clone().map(&mut Fill(0.5));
        for expected in [0.07 * 0.9 + 0.5 * 0.1, (0.07 * 0.9 + 0.5 * 0.1) * 0.9 + 0.5 * 0.1] {
            copy = follow(copy, &far, 0.9);
            assert!((value(&copy) - expected).abs() < 1e-6);
        }
        assert!((value(&follow(copy, &far, 0.0)) - 0.5).abs() < 1e-6);
        assert!((value(&model) - 0.07).abs() < 1e-6, "the model stays as it was");
    }

    struct Fill(f32);

    impl ModuleMapper for Fill {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let value = self.0;
            param.map(|old| old.full_like(value))
        }
    }
}
