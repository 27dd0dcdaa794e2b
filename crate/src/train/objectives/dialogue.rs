//! Fine-tuning for dialogues: whether an answer goes with image, caption and what was said
//! (paper §5.5, spec §6.2).

use burn::tensor::Tensor;

use super::itm::logits;
use super::{Learner, Losses, NETWORKS, Objective, Pass};
use crate::Result;
use crate::model::{Grounding, TextMode, integers};
use crate::train::batch::{Dialogues, TaskTokens};
use crate::train::loss::cross_entropy;

/// Matching of dialogues with image tokens and, behind them, the states of the caption.
#[derive(Clone, Copy, Debug)]
pub struct DialogueRanking {
    /// First tokens.
    pub tokens: TaskTokens,
}

impl Objective for DialogueRanking {
    type Batch = Dialogues;

    fn names(&self) -> &'static [&'static str] {
        &["itm"]
    }

    fn losses(&self, learner: &Learner, batch: Dialogues, pass: &mut Pass<'_>) -> Result<Losses> {
        let TaskTokens { cls, enc, .. } = self.tokens;
        let (model, device, noise) = (&learner.blip, pass.device, pass.noise.of_pass());
        let labels = batch.labels();
        let Dialogues { images, captions, texts } = batch;
        let encoder = model.text_encoder.as_ref().expect(NETWORKS);
        let tokens = pass.look(model, images.on(device));
        let captions = captions.on(device, cls);
        let states =
            encoder.forward_noisy(captions.ids, captions.pads.clone(), None, TextMode::Unimodal, noise);

        let [dialogues, count, _] = tokens.dims();
        let rows = texts.len();
        let pads = captions.pads.map(|pads| {
            let seen = integers(vec![0; dialogues * count], [dialogues, count], device);
            Tensor::cat(vec![seen, pads], 1)
        });
        // Image and caption are read as one sequence.
        let both = encoder.cross_kv(Tensor::cat(vec![tokens, states], 1));
        let grounding = Grounding { kv: both.pick((0..rows).map(|row| row % dialogues)), pads };
        let logits = logits(model, texts, &grounding, (enc, noise), device);
        let loss = cross_entropy(logits, integers(labels, [rows], device));
        Ok(Losses::only("itm", loss))
    }
}
