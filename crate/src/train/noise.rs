//! Dropout and stochastic depth (spec §1.2, §1.3): what a pass of training leaves out.

use std::cell::RefCell;

use burn::tensor::{Device, Distribution, Tensor, TensorData};

use super::draw::Draw;
use super::engine::NoiseRecipe;
use crate::nn::{Branch, Noise, NoiseSource};

/// The noise of one rank in one step; momentum networks have it as well (trap 46).
///
/// On the CPU it is drawn on the host, from a stream of the step, and is the same whatever else runs.
/// Elsewhere the device draws values, of which there are too many to be sent there; its generator is
/// seeded by the step, so that a run of one rank repeats exactly.
#[derive(Debug)]
pub struct PassNoise {
    rates: NoiseRecipe,
    draw: RefCell<Draw>,
    device: Device,
    on_host: bool,
}

impl PassNoise {
    /// Noise at these rates.
    pub fn new(rates: NoiseRecipe, mut draw: Draw, device: &Device) -> Self {
        let on_host = *device == Device::flex();
        if !on_host && rates != NoiseRecipe::default() {
            device.seed(draw.bits());
        }
        Self { rates, draw: RefCell::new(draw), device: device.clone(), on_host }
    }

    /// For a pass: nothing where all rates are 0.
    pub fn of_pass(&self) -> Noise<'_> {
        if self.rates == NoiseRecipe::default() { Noise::NONE } else { Noise::of(self) }
    }

    /// Factors that keep so many values, each with probability `1 − rate`.
    fn factors<const D: usize>(&self, shape: [usize; D], rate: f64) -> Tensor<D> {
        if self.on_host {
            let factors = self.draw.borrow_mut().kept(shape.iter().product(), rate);
            return Tensor::from_data(TensorData::new(factors, shape), &self.device);
        }
        let kept = Tensor::random(shape, Distribution::Bernoulli(1.0 - rate), &self.device);
        kept.div_scalar(1.0 - rate)
    }
}

/// The rate of a block: nothing at the first, all of it at the last (spec §1.2).
fn path_rate(rate: f64, block: usize, depth: usize) -> f64 {
    if depth > 1 { rate * block as f64 / (depth - 1) as f64 } else { 0.0 }
}

impl NoiseSource for PassNoise {
    fn thin(&self, branch: Branch, values: &Tensor<2>) -> Option<Tensor<2>> {
        let [rows, width] = values.dims();
        match branch {
            Branch::Text => {
                let rate = self.rates.dropout;
                (rate > 0.0).then(|| values.clone() * self.factors([rows, width], rate))
            }
            Branch::Image { block, depth, batch } => {
                let rate = path_rate(self.rates.drop_path, block, depth);
                (rate > 0.0).then(|| {
                    let factors = self.factors([batch, 1], rate);
                    let pictures = values.clone().reshape([batch, rows / batch * width]);
                    (pictures * factors).reshape([rows, width])
                })
            }
        }
    }

    fn shares(&self, count: usize) -> Option<Vec<f32>> {
        let rate = self.rates.attention_dropout;
        (rate > 0.0).then(|| self.draw.borrow_mut().kept(count, rate))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::block_on;
    use crate::kernels::read_floats;
    use crate::train::draw::Purpose;

    fn noise(dropout: f64, drop_path: f64) -> PassNoise {
        let rates = NoiseRecipe { dropout, attention_dropout: 0.0, drop_path };
        PassNoise::new(rates, Draw::new(1, Purpose::Noise, 0, 0), &Device::flex())
    }

    #[test]
    fn dropout_leaves_single_values_out_and_keeps_their_mean() {
        let thinned = noise(0.25, 0.0).thin(Branch::Text, &Tensor::ones([100, 40], &Device::flex()));
        let values = block_on(read_floats(thinned.unwrap())).unwrap();
        let out = values.iter().filter(|value| **value == 0.0).count();
        assert!((900..1100).contains(&out), "{out}");
        assert!(values.iter().all(|value| *value == 0.0 || (value - 4.0 / 3.0).abs() < 1e-6));
    }

    #[test]
    fn stochastic_depth_leaves_whole_pictures_out_the_more_the_deeper() {
        assert_eq!([0, 1, 3].map(|block| path_rate(0.3, block, 4)), [0.0, 0.3 / 3.0, 0.3]);
        assert_eq!(path_rate(0.3, 0, 1), 0.0);
        let branch = |block| Branch::Image { block, depth: 2, batch: 200 };
        let ones = Tensor::ones([600, 8], &Device::flex());
        assert!(noise(0.0, 0.5).thin(branch(0), &ones).is_none(), "the first block keeps everything");
        let thinned = noise(0.0, 0.5).thin(branch(1), &ones).unwrap();
        let values = block_on(read_floats(thinned)).unwrap();
        let pictures: Vec<&[f32]> = values.chunks_exact(3 * 8).collect();
        assert!(pictures.iter().all(|picture| picture.iter().all(|value| *value == picture[0])));
        let out = pictures.iter().filter(|picture| picture[0] == 0.0).count();
        assert!((70..130).contains(&out), "{out}");
    }
}
