//! Fine-tuning for retrieval, and of CapFilt's filter: contrast and matching, where several texts may
//! belong to one image (spec §9).

use super::itc::{contrast, features, fresh, matches};
use super::itm::{Negatives, matching};
use super::{Learner, Losses, NETWORKS, Objective, Pass};
use crate::Result;
use crate::train::batch::{Pairs, TaskTokens};
use crate::train::momentum::among_constants;
use crate::train::negatives::{Images, Rule};

/// Contrast and matching, equally weighted.
#[derive(Clone, Copy, Debug)]
pub struct Retrieval {
    /// First tokens.
    pub tokens: TaskTokens,
}

impl Objective for Retrieval {
    type Batch = Pairs;

    fn names(&self) -> &'static [&'static str] {
        &["itc", "itm"]
    }

    fn losses(&self, learner: &Learner, batch: Pairs, pass: &mut Pass<'_>) -> Result<Losses> {
        let TaskTokens { cls, enc, .. } = self.tokens;
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
        let truth = matches(&ids, &memory.queues, &device.clone().inner());
        let contrasted =
            contrast(&student, &teacher, &memory.queues, temperature.clone(), pass.softness, Some(truth));

        // Negatives are those that the student itself mistakes, momentum features apart.
        let image_to_text =
            student.images.matmul(student.texts.transpose()).inner() / temperature.inner().unsqueeze();
        let rule = Rule { floor: 0.0, images: Some(Images { rows: &ids, candidates: &ids }) };
        let negatives =
            Negatives::draw(image_to_text.clone(), image_to_text.transpose(), rule, &mut pass.negatives)?;
        let images = model.text_encoder.as_ref().expect(NETWORKS).cross_kv(tokens);
        let itm = matching(model, &images, (&texts, &nearly), &negatives, (enc, noise), device);

        let parts = vec![("itc", contrasted.loss), ("itm", itm)];
        Ok(Losses { parts, fresh: Some(fresh(teacher, ids)) })
    }
}
