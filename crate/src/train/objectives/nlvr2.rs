//! Fine-tuning for statements about two images (paper §5.4, spec §6.1).

use super::{Learner, Losses, NETWORKS, Objective, Pass};
use crate::Result;
use crate::model::{Grounding, TextMode, integers};
use crate::train::batch::Statements;
use crate::train::loss::cross_entropy;

/// The cross-entropy of true and false.
#[derive(Clone, Copy, Debug)]
pub struct Nlvr2 {
    /// `[ENC]`.
    pub enc: u32,
}

impl Objective for Nlvr2 {
    type Batch = Statements;

    fn names(&self) -> &'static [&'static str] {
        &["nlvr2"]
    }

    fn losses(&self, learner: &Learner, batch: Statements, pass: &mut Pass<'_>) -> Result<Losses> {
        let (model, device, noise) = (&learner.blip, pass.device, pass.noise.of_pass());
        let Statements { images, texts, labels } = batch;
        let encoder = model.text_encoder.as_ref().expect(NETWORKS);
        let count = labels.len();
        // Both pictures of all pairs in one pass.
        let tokens = pass.look(model, images.on(device));
        let (first, second) = (tokens.clone().narrow(0, 0, count), tokens.narrow(0, count, count));
        let grounding = Grounding::new(encoder.cross_kv_pair(first, second));
        let texts = texts.on(device, self.enc);
        let states =
            encoder.forward_noisy(texts.ids, texts.pads, Some(&grounding), TextMode::Grounded, noise);
        let logits = model.nlvr2.as_ref().expect(NETWORKS).forward(states);
        let loss = cross_entropy(logits, integers(labels, [count], device));
        Ok(Losses::only("nlvr2", loss))
    }
}
