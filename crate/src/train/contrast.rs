//! The temperature of image-text contrast.

use burn::module::{Module, Param};
use burn::tensor::{Device, Tensor};

/// The learned temperature, by which similarities are divided (spec §1.5).
///
/// It is trained like any other parameter, weight decay included, and no part of the finished model:
/// evaluation compares cosines as they are.
#[derive(Module, Debug)]
pub struct Contrast {
    temperature: Param<Tensor<1>>,
}

/// Where it starts.
const START: f32 = 0.07;
/// Where it may go.
const RANGE: [f32; 2] = [0.001, 0.5];

impl Contrast {
    /// The temperature that training starts with.
    pub fn new(device: &Device) -> Self {
        Self { temperature: Param::from_tensor(Tensor::from_floats([START], device)) }
    }

    /// The temperature, brought back into its range: what every step begins with.
    #[must_use]
    pub fn clamped(self) -> Self {
        // A parameter is a leaf of the graph; what is computed from one is not, and would never train.
        let leaf = |value: Tensor<1>| {
            let trained = value.is_require_grad();
            value.detach().clamp(RANGE[0], RANGE[1]).detach().set_require_grad(trained)
        };
        Self { temperature: self.temperature.map(leaf) }
    }

    /// The temperature, `[1]`.
    pub fn temperature(&self) -> Tensor<1> {
        self.temperature.val()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clamped_temperature_is_in_its_range_and_still_trained() {
        let device = Device::flex().autodiff();
        let with =
            |value: f32| Contrast { temperature: Param::from_tensor(Tensor::from_floats([value], &device)) };
        for (value, expected) in [(0.07, 0.07), (0.9, 0.5), (-1.0, 0.001)] {
            let clamped = with(value).clamped();
            assert!(clamped.temperature().is_require_grad());
            let gradients = clamped.temperature().mul_scalar(3.0).backward();
            let gradient = clamped.temperature().grad(&gradients).unwrap();
            assert_eq!(gradient.into_scalar::<f32>(), 3.0);
            assert_eq!(clamped.temperature().inner().into_scalar::<f32>(), expected);
        }
    }
}
