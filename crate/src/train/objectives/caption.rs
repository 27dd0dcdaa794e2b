//! Fine-tuning for captions, and of CapFilt's captioner: language modelling behind a prompt (spec §9).

use super::lm::language;
use super::{Learner, Losses, NETWORKS, Objective, Pass};
use crate::Result;
use crate::model::Grounding;
use crate::train::batch::Captions;

/// The LM loss of captions.
#[derive(Clone, Copy, Debug)]
pub struct Captioning {
    /// `[DEC]`.
    pub dec: u32,
    /// Label smoothing.
    pub smoothing: f64,
}

impl Objective for Captioning {
    type Batch = Captions;

    fn names(&self) -> &'static [&'static str] {
        &["lm"]
    }

    fn losses(&self, learner: &Learner, batch: Captions, pass: &mut Pass<'_>) -> Result<Losses> {
        let (model, device, noise) = (&learner.blip, pass.device, pass.noise.of_pass());
        let Captions { images, texts, weights } = batch;
        let tokens = pass.look(model, images.on(device));
        let grounding = Grounding::new(model.decoder().expect(NETWORKS).cross_kv(tokens));
        let lm = language(model, &grounding, &texts, &weights, (self.dec, self.smoothing, noise), device);
        Ok(Losses::only("lm", lm))
    }
}
