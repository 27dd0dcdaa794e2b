//! Pre-training: contrast, matching and language modelling at once (paper §3.2, spec §7.1).

use super::itc::{contrast, features, fresh};
use super::itm::{Negatives, matching};
use super::lm::{SMOOTHING, language};
use super::{Learner, Losses, NETWORKS, Objective, Pass};
use crate::Result;
use crate::model::Grounding;
use crate::train::batch::{Pairs, TaskTokens};
use crate::train::momentum::among_constants;
use crate::train::negatives::Rule;

/// The three objectives of pre-training, equally weighted.
///
/// One pass of the image encoder serves all three; keys and values of cross-attention, which encoder and
/// decoder share, are computed once for matching and language modelling.
#[derive(Clone, Copy, Debug)]
pub struct Pretraining {
    /// First tokens.
    pub tokens: TaskTokens,
}

impl Objective for Pretraining {
    type Batch = Pairs;

    fn names(&self) -> &'static [&'static str] {
        &["itc", "itm", "lm"]
    }

    fn losses(&self, learner: &Learner, batch: Pairs, pass: &mut Pass<'_>) -> Result<Losses> {
        let TaskTokens { cls, enc, dec } = self.tokens;
        let (model, device, noise) = (&learner.blip, pass.device, pass.noise.of_pass());
        let memory = pass.memory.expect(NETWORKS);
        let temperature = learner.contrast.as_ref().expect(NETWORKS).temperature();
        let Pairs { images, texts, ids, nearly } = batch;
        let pixels = images.on(device);

        let tokens = pass.look(model, pixels.clone());
        let student = features(model, tokens.clone(), texts.on(device, cls), noise);
        let teacher = {
            let momentum = among_constants(&memory.momentum, device);
            let tokens = momentum.vision.forward_noisy(pixels, noise);
            features(&momentum, tokens, texts.on(device, cls), noise).detached()
        };
        let contrasted = contrast(&student, &teacher, &memory.queues, temperature, pass.softness, None);

        let count = texts.len();
        let negatives = Negatives::draw(
            contrasted.image_to_text.narrow(1, 0, count),
            contrasted.text_to_image.narrow(1, 0, count),
            Rule::PRETRAINING,
            &mut pass.negatives,
        )?;
        let shared = model.text_encoder.as_ref().expect(NETWORKS).cross_kv(tokens);
        let itm = matching(model, &shared, (&texts, &nearly), &negatives, (enc, noise), device);

        let weights = texts.mean(0);
        let lm = language(model, &Grounding::new(shared), &texts, &weights, (dec, SMOOTHING, noise), device);

        let parts = vec![("itc", contrasted.loss), ("itm", itm), ("lm", lm)];
        Ok(Losses { parts, fresh: Some(fresh(teacher, ids)) })
    }
}
