//! Whether a statement about two pictures is true (NLVR2, paper §5.4, spec §6.1).

use serde::{Deserialize, Serialize};

use super::encode::sequence;
use super::matching::{OnStep, cut, probability, step};
use super::part::Task;
use super::picture::Picture;
use super::session::Session;
use crate::model::{Grounding, TextMode, integers};
use crate::tokenizer::pre_caption;
use crate::{Error, ErrorKind, Result};

/// What to judge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Nlvr2Options {
    /// The statement, such as "each image shows one dog".
    pub statement: String,
}

/// What the model thinks of a statement.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Nlvr2Answer {
    /// That the statement is true: softmax of the two logits.
    pub probability: f32,
    /// Of false and true.
    pub logits: [f32; 2],
    /// Whether true is more likely.
    pub answer: bool,
}

/// Words of a statement that the reference reads.
const WORDS: usize = 40;

impl Session {
    /// Judges a statement about two pictures, the left one first.
    ///
    /// The statement is cleaned as the reference does it, and `[ENC]` takes the place of `[CLS]`.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] without a network for NLVR2, [`ErrorKind::BadOption`] for text
    /// longer than the tokenizer reads, [`ErrorKind::Aborted`] when cancelled, and what the device
    /// fails with.
    pub async fn nlvr2(
        &self,
        [first, second]: [&Picture; 2],
        options: &Nlvr2Options,
        on_step: OnStep<'_>,
    ) -> Result<Nlvr2Answer> {
        let part = self.part(Task::Nlvr2)?;
        let (Some(encoder), Some(head)) = (&part.model.text_encoder, &part.model.nlvr2) else {
            return Err(Error::new(ErrorKind::Internal, "a network for nlvr2 has an encoder and its head"));
        };
        let mut ids = part.tokenizer.encode(&pre_caption(&options.statement, WORDS))?;
        cut(&mut ids, part.config.text_config.max_position_embeddings, &part.tokenizer);
        ids[0] = part.tokenizer.enc();
        let first = sequence(self.tokens(first, part).await?);
        let second = sequence(self.tokens(second, part).await?);
        step(on_step, 1, 2)?;
        let grounding = Grounding::new(encoder.cross_kv_pair(first, second));
        let shape = [1, ids.len()];
        let ids = ids.into_iter().map(u32::cast_signed).collect();
        let ids = integers(ids, shape, &self.device.device);
        let states = encoder.forward(ids, None, Some(&grounding), TextMode::Grounded);
        let logits = self.read_finite(head.forward(states)).await?;
        step(on_step, 2, 2)?;
        let [no, yes] = [logits[0], logits[1]];
        Ok(Nlvr2Answer { probability: probability([no, yes]), logits: [no, yes], answer: yes > no })
    }
}
