//! Fine-tuning for questions: answers are generated from the states of a question that looks at the
//! image (paper §5.3, spec §9).

use super::lm::{SMOOTHING, language};
use super::{Learner, Losses, NETWORKS, Objective, Pass};
use crate::Result;
use crate::model::{Grounding, TextMode};
use crate::train::batch::{Questions, TaskTokens};

/// The LM loss of all answers, each with its weight; the sum over a question's answers, the mean over
/// questions.
#[derive(Clone, Copy, Debug)]
pub struct Vqa {
    /// First tokens.
    pub tokens: TaskTokens,
}

impl Objective for Vqa {
    type Batch = Questions;

    fn names(&self) -> &'static [&'static str] {
        &["lm"]
    }

    fn losses(&self, learner: &Learner, batch: Questions, pass: &mut Pass<'_>) -> Result<Losses> {
        let TaskTokens { enc, dec, .. } = self.tokens;
        let (model, device, noise) = (&learner.blip, pass.device, pass.noise.of_pass());
        let Questions { images, questions, about, answers, asked, weights } = batch;
        let encoder = model.text_encoder.as_ref().expect(NETWORKS);
        let tokens = pass.look(model, images.on(device));
        let image = Grounding::new(encoder.cross_kv(tokens).pick(about));
        let questions = questions.on(device, enc);
        let states = encoder.forward_noisy(
            questions.ids,
            questions.pads.clone(),
            Some(&image),
            TextMode::Grounded,
            noise,
        );

        // Every answer looks at its question, at the words of it and not at the padding.
        let kv = model.decoder().expect(NETWORKS).cross_kv(states).pick(asked);
        let question = Grounding { kv, pads: questions.pads };
        let lm = language(model, &question, &answers, &weights, (dec, SMOOTHING, noise), device);
        Ok(Losses::only("lm", lm))
    }
}
