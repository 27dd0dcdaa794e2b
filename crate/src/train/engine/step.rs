//! One step of a run.

use burn::tensor::Tensor;

use super::gradients::{Computed, Step, clipped, compute, divided, hold};
use super::state::Trainer;
use crate::Result;
use crate::train::contrast::Contrast;
use crate::train::momentum::follow;
use crate::train::objectives::Objective;

/// The losses of a step by their names, as means over its ranks: `[1]` each, not read back yet.
pub type StepLosses = Vec<(&'static str, Tensor<1>)>;

impl Trainer {
    /// Takes a step: one batch a rank.
    ///
    /// In this order (spec §7.1): the temperature comes back into its range; momentum networks follow the
    /// weights; losses and gradients; AdamW; features go into the queues; the average follows.
    ///
    /// # Errors
    /// What the objective fails with; the step is not taken then, and the run is lost. In mixed precision a
    /// step whose gradients are too large is counted, but not taken, and has no losses.
    pub fn step<O: Objective>(mut self, objective: &O, batches: Vec<O::Batch>) -> Result<(Self, StepLosses)> {
        let at = self.position();
        let recipe = &self.meta.recipe;
        self.learner.contrast = self.learner.contrast.map(Contrast::clamped);
        if let (Some(memory), Some(contrast)) = (&mut self.memory, recipe.contrast) {
            memory.momentum = follow(memory.momentum.clone(), &self.learner.blip, contrast.momentum);
        }
        let step = Step {
            devices: &self.devices,
            memory: self.memory.as_ref(),
            softness: recipe.softness(at),
            noise: recipe.noise,
            seed: recipe.seed,
            step: self.meta.step,
            workers: recipe.workers,
            frozen_vision: recipe.frozen_vision,
            mixed: recipe.mixed,
            scale: self.meta.scale.map_or(1.0, |scale| scale.factor),
        };
        let Computed { mut gradients, losses, fresh } = compute(objective, &self.learner, batches, &step)?;
        if let (Some(mixed), Some(scale)) = (recipe.mixed, self.meta.scale) {
            let (divided, are_finite) = divided(gradients, &self.learner, scale.factor)?;
            self.meta.scale = Some(mixed.next(scale, are_finite)?);
            if !are_finite {
                self.meta.step += 1;
                return Ok((self, Vec::new()));
            }
            gradients = divided;
        }
        let mut gradients = clipped(gradients, &self.learner, recipe.clip);
        if self.meta.step < recipe.stem.fixed_steps {
            let (filters, positions) = self.learner.blip.vision.stem();
            hold(&mut gradients, &[filters, positions]);
        }
        self.learner = self.optimizer.0.step(recipe.schedule.rate(at), self.learner, gradients);
        if let Some(memory) = &mut self.memory {
            fresh.iter().for_each(|fresh| memory.queues.push(fresh));
        }
        if let Some(decay) = recipe.average {
            self.average = self.average.map(|average| follow(average, &self.learner.blip, decay));
        }
        self.meta.step += 1;
        Ok((self, losses))
    }
}
