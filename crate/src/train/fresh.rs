//! Fresh parameters that are the same on every run: each is drawn from a stream of its own.

use burn::module::Param;
use burn::tensor::{Device, Tensor, TensorData};

use super::draw::{Draw, Purpose};
use crate::nn::{Matrix, Source};

/// The deviation of fresh weights in the reference.
const DEVIATION: f32 = 0.02;

/// Parameters as the reference begins them: weights normal(0, 0.02), biases 0, norms 1 and 0.
///
/// burn's own initialisers draw from one generator of the whole process; these are a function of the seed
/// and the parameter's path, whatever else is built in the process, or in the same model.
#[derive(Debug)]
pub struct FreshParameters {
    seed: u64,
    device: Device,
}

impl FreshParameters {
    /// Parameters on `device`.
    pub fn new(seed: u64, device: &Device) -> Self {
        Self { seed, device: device.clone() }
    }

    fn drawn<const D: usize>(&self, path: &str, shape: [usize; D]) -> Param<Tensor<D>> {
        let path = path.bytes().fold(0xCBF2_9CE4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
        });
        let mut values = Draw::new(self.seed, Purpose::Parameters, 0, path).normals(shape.iter().product());
        values.iter_mut().for_each(|value| *value *= DEVIATION);
        Param::from_tensor(Tensor::from_data(TensorData::new(values, shape), &self.device))
    }
}

impl Source for FreshParameters {
    fn device(&self) -> &Device {
        &self.device
    }

    fn matrix(&mut self, path: &str, shape: [usize; 2]) -> Matrix {
        Matrix::from_parameter(self.drawn(path, shape))
    }

    fn table(&mut self, path: &str, shape: [usize; 2]) -> Param<Tensor<2>> {
        self.drawn(path, shape)
    }

    fn vector(&mut self, path: &str, len: usize) -> Param<Tensor<1>> {
        match path.ends_with(".bias") {
            true => Param::from_tensor(Tensor::zeros([len], &self.device)),
            false => self.drawn(path, [len]),
        }
    }

    fn norm(&mut self, _: &str, width: usize) -> Param<Tensor<2>> {
        let values = [vec![1.0f32; width], vec![0.0; width]].concat();
        Param::from_tensor(Tensor::from_data(TensorData::new(values, [2, width]), &self.device))
    }
}
