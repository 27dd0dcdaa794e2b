//! Gradients of a step: ranks computed side by side, averaged, and clipped.

use burn::module::{Module, ModuleVisitor, Param, ParamId};
use burn::optim::{GradientsAccumulator, GradientsParams};
use burn::tensor::{Device, Tensor};

use super::mixed::Mixed;
use super::recipe::{Clip, NoiseRecipe};
use crate::device::block_on;
use crate::kernels::read_floats;
use crate::train::draw::{Draw, Purpose};
use crate::train::noise::PassNoise;
use crate::train::objectives::{Learner, Memory, Objective, Pass};
use crate::train::queue::Fresh;
use crate::{Error, ErrorKind, Result};

/// What a step computes before anything changes.
pub(super) struct Computed {
    /// The mean over ranks.
    pub gradients: GradientsParams,
    /// The means over ranks, each loss by its name; not read back yet.
    pub losses: Vec<(&'static str, Tensor<1>)>,
    /// Features of all ranks, in their order.
    pub fresh: Vec<Fresh>,
}

/// What all ranks of a step have in common.
pub(super) struct Step<'a> {
    /// With automatic differentiation; what is returned is on the first.
    pub devices: &'a [Device],
    pub memory: Option<&'a Memory>,
    pub softness: f64,
    pub noise: NoiseRecipe,
    pub seed: u64,
    pub step: usize,
    pub workers: usize,
    pub frozen_vision: bool,
    pub mixed: Option<Mixed>,
    /// What losses are multiplied by before the way back.
    pub scale: f64,
}

struct RankResult {
    gradients: GradientsParams,
    losses: Vec<(&'static str, Tensor<1>)>,
    fresh: Option<Fresh>,
}

impl RankResult {
    /// The same on another device.
    fn moved(self, device: &Device, learner: &Learner) -> Self {
        let moved = |(name, loss): (&'static str, Tensor<1>)| (name, loss.to_device(device));
        let fresh = self.fresh.map(|Fresh { images, texts, ids }| Fresh {
            images: images.to_device(device),
            texts: texts.to_device(device),
            ids,
        });
        Self {
            gradients: self.gradients.to_device(device, learner),
            losses: self.losses.into_iter().map(moved).collect(),
            fresh,
        }
    }
}

fn plain(device: &Device) -> Device {
    device.clone().inner()
}

/// The gradients of the mean loss of all ranks.
///
/// The CPU device runs little but matrix products on several threads, so ranks on threads of their own
/// are what keeps the cores busy. They are added up in their order: the result does not depend on timing,
/// nor on how many threads there are.
///
/// # Errors
/// The first rank's that failed; [`ErrorKind::Internal`] when one panicked.
pub(super) fn compute<O: Objective>(
    objective: &O,
    learner: &Learner,
    batches: Vec<O::Batch>,
    step: &Step<'_>,
) -> Result<Computed> {
    let ranks = batches.len();
    let one = |(rank, batch): (usize, O::Batch)| -> Result<RankResult> {
        // Leaves of its own: two backward passes cannot share a graph.
        let (home, device) = (&step.devices[0], &step.devices[rank % step.devices.len()]);
        let is_away = device != home;
        let learner = learner.clone().fork(device);
        let memory = step.memory.filter(|_| is_away).map(|memory| memory.clone().to_device(&plain(device)));
        let draw = |purpose| Draw::new(step.seed, purpose, step.step as u64, rank as u64);
        let mut pass = Pass {
            device,
            memory: memory.as_ref().or(step.memory),
            softness: step.softness,
            negatives: draw(Purpose::Negatives),
            noise: PassNoise::new(step.noise, draw(Purpose::Noise), device),
            frozen_vision: step.frozen_vision.then(|| learner.blip.vision.valid()),
        };
        let working = step.mixed.map(|mixed| mixed.working_copy(&learner));
        let losses = objective.losses(working.as_ref().unwrap_or(&learner), batch, &mut pass)?;
        let gradients = losses.total().mul_scalar(step.scale / ranks as f64).backward();
        let inner = |(name, loss): (&'static str, Tensor<1>)| (name, loss.inner());
        let mut result = RankResult {
            gradients: GradientsParams::from_grads(gradients, &learner),
            losses: losses.parts.into_iter().map(inner).collect(),
            fresh: losses.fresh,
        };
        if is_away {
            result = result.moved(&plain(home), &learner);
        }
        Ok(result)
    };
    let mut sum = GradientsAccumulator::new();
    let mut losses: Vec<(&'static str, Tensor<1>)> = Vec::new();
    let mut fresh = Vec::new();
    let mut waiting = batches.into_iter().enumerate();
    loop {
        // As many at a time as there are threads: what is waiting to be added up takes memory.
        let side_by_side: Vec<_> = waiting.by_ref().take(step.workers).collect();
        if side_by_side.is_empty() {
            break;
        }
        let results = std::thread::scope(|scope| {
            let one = &one;
            let threads: Vec<_> =
                side_by_side.into_iter().map(|rank| scope.spawn(move || one(rank))).collect();
            threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
        });
        for result in results {
            let failed = |_| Error::new(ErrorKind::Internal, "a training thread panicked");
            let result = result.map_err(failed)??;
            sum.accumulate(learner, result.gradients);
            for (index, (name, loss)) in result.losses.into_iter().enumerate() {
                let share = loss.div_scalar(ranks as f64);
                match losses.get_mut(index) {
                    Some((_, sum)) => *sum = sum.clone() + share,
                    None => losses.push((name, share)),
                }
            }
            fresh.extend(result.fresh);
        }
    }
    Ok(Computed { gradients: sum.grads(), losses, fresh })
}

/// The gradients with their length limited, and that length where it was computed: `[1]`.
pub(super) fn clipped(gradients: GradientsParams, learner: &Learner, clip: Option<Clip>) -> GradientsParams {
    let Some(Clip::Total { norm }) = clip else { return gradients };
    let mut squares = Squares { gradients: &gradients, sum: None };
    learner.visit(&mut squares);
    let Some(sum) = squares.sum else { return gradients };
    // As torch's, which adds 1e-6 so as never to divide by nothing.
    let factor = (sum.sqrt().add_scalar(1e-6)).recip().mul_scalar(norm).clamp_max(1.0);
    let mut scaled = Scaled { gradients, factor, out: GradientsParams::new() };
    learner.visit(&mut scaled);
    scaled.out
}

/// The gradients over a factor, and whether all of them are finite.
///
/// # Errors
/// [`ErrorKind::Internal`] when the device cannot be read.
pub(super) fn divided(
    gradients: GradientsParams,
    learner: &Learner,
    factor: f64,
) -> Result<(GradientsParams, bool)> {
    let mut squares = Squares { gradients: &gradients, sum: None };
    learner.visit(&mut squares);
    let Some(sum) = squares.sum else { return Ok((gradients, true)) };
    let device = sum.device();
    let sum = block_on(read_floats(sum.div_scalar(factor).div_scalar(factor)))
        .map_err(|cause| Error::new(ErrorKind::Internal, "gradients cannot be read").with_source(cause))?;
    let factor = Tensor::from_floats([(1.0 / factor) as f32], &device);
    let mut scaled = Scaled { gradients, factor, out: GradientsParams::new() };
    learner.visit(&mut scaled);
    Ok((scaled.out, sum.iter().all(|sum| sum.is_finite())))
}

struct Squares<'a> {
    gradients: &'a GradientsParams,
    sum: Option<Tensor<1>>,
}

impl ModuleVisitor for Squares<'_> {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.get::<D>(param.id) {
            let square = gradient.square().sum();
            self.sum = Some(match self.sum.take() {
                Some(sum) => sum + square,
                None => square,
            });
        }
    }
}

struct Scaled {
    gradients: GradientsParams,
    factor: Tensor<1>,
    out: GradientsParams,
}

impl ModuleVisitor for Scaled {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        if let Some(gradient) = self.gradients.remove::<D>(param.id) {
            self.out.register(param.id, gradient * self.factor.clone().unsqueeze());
        }
    }
}

/// Leaves parameters as they are: without a gradient, the optimiser passes them by.
pub(super) fn hold(gradients: &mut GradientsParams, planes: &[ParamId]) {
    for id in planes {
        gradients.remove::<2>(*id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BlipConfig;
    use crate::model::{Blip, Networks};
    use crate::train::fresh::FreshParameters;

    #[test]
    fn all_gradients_together_are_no_longer_than_the_limit() {
        let mut config = BlipConfig::tiny(20, 5, 3);
        (config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers) = (1, 1);
        let device = Device::flex().autodiff();
        let networks = Networks::caption(config.vision_config.hidden_size);
        let blip = Blip::build(&mut FreshParameters::new(1, &device), &config, &networks);
        let learner = Learner { blip, contrast: None };
        let ones = |value: f32| {
            let mut gradients = GradientsParams::new();
            struct Fill<'a>(&'a mut GradientsParams, f32);
            impl ModuleVisitor for Fill<'_> {
                fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
                    self.0.register(param.id, param.val().inner().full_like(self.1));
                }
            }
            learner.visit(&mut Fill(&mut gradients, value));
            gradients
        };
        let length = |gradients: &GradientsParams| {
            let mut squares = Squares { gradients, sum: None };
            learner.visit(&mut squares);
            block_on(read_floats(squares.sum.unwrap())).unwrap()[0].sqrt()
        };
        let total = Some(Clip::Total { norm: 1.0 });
        assert!((length(&clipped(ones(0.5), &learner, total)) - 1.0).abs() < 1e-3);
        let short = length(&ones(1e-6));
        assert!(short < 0.1 && (length(&clipped(ones(1e-6), &learner, total)) - short).abs() < 1e-6);
        assert!((length(&clipped(ones(0.5), &learner, None)) - length(&ones(0.5))).abs() < 1e-3);
    }
}
