//! Where parameters come from.

use burn::module::Param;
use burn::nn::Initializer;
use burn::tensor::{Device, Tensor};

use super::Matrix;

/// Makes the parameters of a model, each asked for once by its path.
///
/// A model is built by asking a source for every parameter in order, so that fresh models and stored
/// ones have one definition of what there is.
pub trait Source {
    /// The device that parameters are made on.
    fn device(&self) -> &Device;

    /// A matrix `[outputs, inputs]`, of whatever precision.
    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Matrix;

    /// A table of `[rows, width]` that stays float, such as positions.
    fn table(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>>;

    /// A bias, or another vector that stays float.
    fn vector(&mut self, path: &str, len: usize) -> Param<Tensor<1>>;

    /// Scale and shift of a LayerNorm, `[2, width]`.
    fn norm(&mut self, path: &str, width: usize) -> Param<Tensor<2>>;
}

/// How every weight matrix and table starts: normal with the reference's deviation.
const INIT: Initializer = Initializer::Normal { mean: 0.0, std: 0.02 };

/// Freshly initialised parameters, as the reference does it: weights normal(0, 0.02), biases 0,
/// norms 1 and 0.
#[derive(Debug)]
pub struct RandomSource {
    device: Device,
}

impl RandomSource {
    /// Parameters on `device`, drawn from its generator.
    pub fn new(device: &Device) -> Self {
        Self { device: device.clone() }
    }
}

impl Source for RandomSource {
    fn device(&self) -> &Device {
        &self.device
    }

    fn matrix(&mut self, _: &str, shape: [usize; 2]) -> Matrix {
        Matrix::from_parameter(INIT.init(shape, &self.device))
    }

    fn table(&mut self, _: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        INIT.init(shape, &self.device)
    }

    fn vector(&mut self, path: &str, len: usize) -> Param<Tensor<1>> {
        let init = if path.ends_with(".bias") { Initializer::Zeros } else { INIT };
        init.init([len], &self.device)
    }

    fn norm(&mut self, _: &str, width: usize) -> Param<Tensor<2>> {
        let fresh: Vec<f32> = [vec![1.0; width], vec![0.0; width]].concat();
        let fresh = Tensor::<1>::from_floats(fresh.as_slice(), &self.device).reshape([2, width]);
        Param::from_tensor(fresh)
    }
}
