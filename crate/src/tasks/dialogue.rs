//! Answers in a dialogue about a picture (VisDial, paper §5.5, spec §6.2).
//!
//! The picture's caption is encoded as text, and its states stand behind the image tokens where
//! cross-attention looks. The dialogue so far with one candidate answer is the text that looks, and the
//! ITM head says how well it fits.

use serde::{Deserialize, Serialize};

use super::matching::{OnStep, cut, probability, step};
use super::part::{Part, Task};
use super::picture::Picture;
use super::session::Session;
use crate::model::{Grounding, TextMode, integers};
use crate::tokenizer::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// What was said, and what may be said next.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DialogueOptions {
    /// What the picture shows, in words.
    pub caption: String,
    /// Earlier turns, the oldest first.
    #[serde(default)]
    pub history: Vec<Turn>,
    /// What is asked now.
    pub question: String,
    /// The answers to choose from.
    pub candidates: Vec<String>,
}

/// A question and its answer.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// What was asked.
    pub question: String,
    /// What was answered.
    pub answer: String,
}

/// How well a candidate fits.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Reply {
    /// The candidate.
    pub text: String,
    /// That it fits: softmax of the ITM head's two logits.
    pub probability: f32,
    /// The logit of a match.
    pub logit: f32,
}

/// Candidates that are scored side by side.
const BATCH: usize = 16;

impl Session {
    /// Ranks candidates for the next answer, the best first.
    ///
    /// Texts are read as they are: neither the paper nor the authors' words about it clean them (spec §6.2),
    /// and a dialogue has the marks that cleaning would take out of a caption. Where caption or dialogue are
    /// longer than the model reads, the caption loses its end and the dialogue its oldest turns.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] without a network for ITM, or with one whose text states are not
    /// as wide as its image tokens (ViT-L: nothing could look at both); [`ErrorKind::BadOption`]
    /// without a candidate, [`ErrorKind::Aborted`] when cancelled, and what the device fails with.
    pub async fn dialogue(
        &self,
        picture: &Picture,
        options: &DialogueOptions,
        on_step: OnStep<'_>,
    ) -> Result<Vec<Reply>> {
        if options.candidates.is_empty() {
            return Err(Error::new(ErrorKind::BadOption, "option candidates is empty"));
        }
        let part = self.part(Task::Itm)?;
        let (Some(encoder), Some(head)) = (&part.model.text_encoder, &part.model.itm) else {
            return Err(Error::new(ErrorKind::Internal, "a network for itm has an encoder and its head"));
        };
        let (image, text) = (part.config.vision_config.hidden_size, part.config.text_config.hidden_size);
        if image != text {
            let message = format!(
                "a dialogue needs text states as wide as image tokens; this model has {text} and {image}"
            );
            return Err(Error::new(ErrorKind::TaskUnsupported, message));
        }
        let candidates = candidate_ids(part, options)?;
        let picture = self.grounding(picture, part).await?;
        let caption = caption_ids(part, &options.caption)?;
        let shape = [1, caption.len()];
        let caption = integers(caption, shape, &self.device.device);
        let caption = encoder.forward(caption, None, None, TextMode::Unimodal);
        let grounding = Grounding::new(picture.kv.join(&encoder.cross_kv(caption)));
        let mut logits = Vec::with_capacity(candidates.len());
        for batch in candidates.chunks(BATCH) {
            let (ids, pads) = self.padded(batch, part.config.text_config.pad_token_id);
            let states = encoder.forward(ids, pads, Some(&grounding), TextMode::Grounded);
            let found = self.read_finite(head.forward(states)).await?;
            logits.extend_from_slice(found.as_chunks::<2>().0);
            step(on_step, logits.len(), candidates.len())?;
        }
        let reply = |(text, logits): (&String, [f32; 2])| Reply {
            text: text.clone(),
            probability: probability(logits),
            logit: logits[1],
        };
        let mut replies: Vec<Reply> = options.candidates.iter().zip(logits).map(reply).collect();
        // Stable: of equals the one that was named first.
        replies.sort_by(|a, b| b.probability.total_cmp(&a.probability).then(b.logit.total_cmp(&a.logit)));
        Ok(replies)
    }
}

/// `[CLS]`, the caption, `[SEP]`.
fn caption_ids(part: &Part, caption: &str) -> Result<Vec<i32>> {
    let mut ids = part.tokenizer.encode(caption)?;
    cut(&mut ids, part.config.text_config.max_position_embeddings, &part.tokenizer);
    Ok(ids.into_iter().map(u32::cast_signed).collect())
}

/// `[ENC]`, the dialogue with each candidate at its end, `[SEP]`.
fn candidate_ids(part: &Part, options: &DialogueOptions) -> Result<Vec<Vec<u32>>> {
    let longest = part.config.text_config.max_position_embeddings;
    let said: Vec<[&str; 2]> = options.history.iter().map(|turn| [&*turn.question, &*turn.answer]).collect();
    let ids =
        |candidate: &String| dialogue_ids(&part.tokenizer, longest, &said, &options.question, candidate);
    options.candidates.iter().map(ids).collect()
}

/// `[ENC]`, what was said so far (questions and answers, the oldest first), the question, an answer,
/// `[SEP]`; at most `longest` tokens, for which the oldest turns are left out.
///
/// # Errors
/// [`ErrorKind::BadOption`] when question and answer alone are too long.
pub(crate) fn dialogue_ids(
    tokenizer: &Tokenizer,
    longest: usize,
    said: &[[&str; 2]],
    question: &str,
    answer: &str,
) -> Result<Vec<u32>> {
    let pieces = |text: &str| -> Result<Vec<u32>> {
        let mut ids = tokenizer.encode(text)?;
        ids.pop();
        ids.remove(0);
        Ok(ids)
    };
    let (question, answer) = (pieces(question)?, pieces(answer)?);
    let fixed = 2 + question.len() + answer.len();
    if fixed > longest {
        let message =
            format!("question and candidate are {fixed} tokens, this model reads at most {longest}");
        return Err(Error::new(ErrorKind::BadOption, message));
    }
    let mut room = longest - fixed;
    let mut kept = Vec::new();
    for [question, answer] in said.iter().rev() {
        let turn = [pieces(question)?, pieces(answer)?].concat();
        let Some(left) = room.checked_sub(turn.len()) else { break };
        room = left;
        kept.push(turn);
    }
    let mut ids = vec![tokenizer.enc()];
    ids.extend(kept.into_iter().rev().flatten());
    ids.extend(question);
    ids.extend(answer);
    ids.push(tokenizer.sep());
    Ok(ids)
}
