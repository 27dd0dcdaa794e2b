//! Questions about a picture: answers that are generated, or ranked out of a list (spec §4.9, §4.10).

use burn::tensor::Tensor;
use serde::{Deserialize, Serialize};

use super::decoder::ModelDecoder;
use super::encode::{BATCH, sequence, some_of, stacked};
use super::matching::{Convention, cut, softmax, step};
use super::options;
use super::part::{Part, Task};
use super::picture::Picture;
use super::request::Event;
use super::session::Session;
use crate::generate::{Control, GenerateConfig, LengthRule, Progress, generate};
use crate::model::{Grounding, TextMode, integers};
use crate::tokenizer::pre_question;
use crate::{Error, ErrorKind, Result};

/// What to ask, and how.
#[derive(Clone, Debug, PartialEq)]
pub struct AskOptions {
    /// The question.
    pub question: String,
    /// The only answers there may be, to be ranked; generated ones when left out.
    pub answers: Option<Vec<String>>,
    /// Of a list, so many answers with the likeliest first pieces are ranked in full.
    pub candidates: usize,
    /// How the question is prepared: cleaned with `[ENC]` first, or as it is with `[CLS]`.
    pub convention: Convention,
    /// How the question looks at the frames of a clip.
    pub frames: Frames,
    /// How to search for a generated answer.
    pub generate: GenerateConfig,
}

/// How a question looks at the frames of a clip. The paper only says that their features are concatenated
/// (§5.6), which can be read in both ways (spec §6.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Frames {
    /// At all of them together: their image tokens are one sequence.
    #[default]
    Joint,
    /// At each by itself: the states of the question beside each frame are one sequence, which the answer
    /// decoder reads.
    Apart,
}

/// Candidates of the reference's evaluation.
const CANDIDATES: usize = 128;
/// Tokens of a question, special ones included, that the original keeps.
const LONGEST: usize = 35;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Own {
    question: String,
    #[serde(default)]
    answers: Option<Vec<String>>,
    #[serde(default)]
    candidates: Option<usize>,
    #[serde(default)]
    convention: Convention,
    #[serde(default)]
    frames: Frames,
}

impl AskOptions {
    /// A question with the reference's settings.
    pub fn new(question: &str) -> Self {
        let convention = Convention::default();
        Self {
            question: question.to_owned(),
            answers: None,
            candidates: CANDIDATES,
            convention,
            frames: Frames::default(),
            generate: search(convention),
        }
    }

    /// # Errors
    /// [`ErrorKind::BadOption`].
    pub(super) fn from_object(mut rest: options::Object) -> Result<Self> {
        let own = options::split(&mut rest, &["question", "answers", "candidates", "convention", "frames"]);
        let Own { question, answers, candidates, convention, frames } = options::read(own)?;
        let candidates = candidates.unwrap_or(CANDIDATES);
        let bad = |message: &str| Err(Error::new(ErrorKind::BadOption, message.to_owned()));
        if candidates == 0 {
            return bad("option candidates is 0, expected at least 1");
        }
        if answers.as_ref().is_some_and(Vec::is_empty) {
            return bad("option answers is empty; leave it out to have an answer generated");
        }
        let generate = options::generation(&search(convention), rest)?;
        Ok(Self { question, answers, candidates, convention, frames, generate })
    }
}

/// The search that a code base uses for answers.
fn search(convention: Convention) -> GenerateConfig {
    match convention {
        Convention::Hf => GenerateConfig { max_length: 20, ..GenerateConfig::default() },
        _ => GenerateConfig { length_rule: LengthRule::Orig, ..GenerateConfig::vqa() },
    }
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Answer {
    /// The words.
    pub text: String,
    /// Sum of the log-probabilities of its tokens, the end token included.
    pub log_prob: f32,
    /// Ranking: what it is ranked by, the negative loss with label smoothing (spec §4.10).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub score: Option<f32>,
    /// Ranking: softmax of the scores over the answers that were ranked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub probability: Option<f32>,
}

/// What is known about a question.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answers {
    /// The best answer.
    pub text: String,
    /// Best first.
    pub answers: Vec<Answer>,
}

impl Session {
    /// Answers a question about a picture.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] without a network for questions, [`ErrorKind::BadOption`] for
    /// options it cannot follow, [`ErrorKind::Aborted`] when cancelled, and what the device fails with.
    pub async fn ask(
        &self,
        picture: &Picture,
        options: &AskOptions,
        on_event: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> Result<Answers> {
        let part = self.part(Task::Vqa)?;
        let grounding = self.question(part, picture, options).await?;
        let answers = match &options.answers {
            Some(list) => {
                let mut on_step = |done, total| on_event(Event::Step { done, total });
                self.rank(part, &grounding, list, options.candidates, &mut on_step).await?
            }
            None => self.generate_answers(part, grounding, &options.generate, on_event).await?,
        };
        let text = answers.first().map(|answer| answer.text.clone()).unwrap_or_default();
        Ok(Answers { text, answers })
    }

    /// The question's states, looking at the picture, as keys and values of the answer decoder. Where each
    /// frame of a clip is looked at by itself, no frame's keys and values of the image are kept.
    async fn question(&self, part: &Part, picture: &Picture, options: &AskOptions) -> Result<Grounding> {
        let (Some(encoder), Some(decoder)) = (&part.model.text_encoder, part.model.decoder()) else {
            return Err(Error::new(ErrorKind::Internal, "a network for vqa has an encoder and a decoder"));
        };
        let (tokenizer, positions) = (&part.tokenizer, part.config.text_config.max_position_embeddings);
        let mut ids = match options.convention {
            Convention::Hf => tokenizer.encode(&options.question)?,
            _ => {
                let mut ids = tokenizer.encode(&pre_question(&options.question))?;
                ids[0] = tokenizer.enc();
                ids
            }
        };
        let longest = if options.convention == Convention::Hf { positions } else { LONGEST.min(positions) };
        cut(&mut ids, longest, tokenizer);
        let pad = part.config.text_config.pad_token_id;
        if options.frames == Frames::Joint || picture.frames() == 1 {
            let image = self.grounding(picture, part).await?;
            let (ids, _) = self.padded(&[ids], pad);
            let states = encoder.forward(ids, None, Some(&image), TextMode::Grounded);
            return Ok(Grounding::new(decoder.cross_kv(states)));
        }
        let tokens = self.tokens(picture, part).await?;
        let mut all: Option<Tensor<3>> = None;
        for first in (0..picture.frames()).step_by(BATCH) {
            // As many sequences as frames, each beside its own.
            let some = BATCH.min(picture.frames() - first);
            let image = Grounding::new(encoder.cross_kv(some_of(&tokens, first, some)));
            let (ids, _) = self.padded(&vec![ids.clone(); some], pad);
            let states = encoder.forward(ids, None, Some(&image), TextMode::Grounded);
            all = Some(match all {
                Some(before) => stacked(before, states),
                None => states,
            });
        }
        let states = all.ok_or_else(|| Error::new(ErrorKind::Internal, "a clip has frames"))?;
        Ok(Grounding::new(decoder.cross_kv(sequence(states))))
    }

    async fn generate_answers(
        &self,
        part: &Part,
        grounding: Grounding,
        config: &GenerateConfig,
        on_event: &mut dyn FnMut(Event<'_>) -> Control,
    ) -> Result<Vec<Answer>> {
        let text = &part.config.text_config;
        options::check_length(config, text)?;
        let mut decoder = ModelDecoder::new(&part.model, &self.device, grounding, text);
        let prompt = part.tokenizer.encode_prompt(None)?;
        let mut report = |progress: Progress<'_>| {
            let so_far = part.tokenizer.decode(progress.ids, true);
            on_event(Event::Token { text: &so_far, index: progress.index })
        };
        let found = generate(&mut decoder, &prompt, text.sep_token_id, config, &mut report).await?;
        let answer = |h: crate::generate::Hypothesis| Answer {
            text: part.tokenizer.decode(&h.ids, true),
            log_prob: h.log_prob,
            score: None,
            probability: None,
        };
        Ok(found.into_iter().map(answer).collect())
    }

    /// Ranks a closed list (spec §4.10): the candidates are those with the likeliest first pieces, of
    /// equals the earlier ones; each is scored in full.
    async fn rank(
        &self,
        part: &Part,
        grounding: &Grounding,
        list: &[String],
        candidates: usize,
        on_step: super::matching::OnStep<'_>,
    ) -> Result<Vec<Answer>> {
        let (tokenizer, text) = (&part.tokenizer, &part.config.text_config);
        let mut sequences = Vec::with_capacity(list.len());
        for answer in list {
            let mut ids = tokenizer.encode(answer)?;
            ids[0] = tokenizer.dec();
            cut(&mut ids, text.max_position_embeddings, tokenizer);
            sequences.push(ids);
        }
        let first = [vec![tokenizer.dec()]];
        let logits = self.lm_rows(part, grounding, &first).await?;
        let mut order: Vec<usize> = (0..list.len()).collect();
        // A stable sort: answers that share a first piece stay in their order.
        order.sort_by(|a, b| logits[sequences[*b][1] as usize].total_cmp(&logits[sequences[*a][1] as usize]));
        order.truncate(candidates);
        let mut scored = Vec::with_capacity(order.len());
        let mut waiting = &order[..];
        while !waiting.is_empty() {
            // As many side by side as a reading should hold.
            let mut count = 0;
            let mut longest = 0;
            while count < waiting.len() {
                let wider = sequences[waiting[count]].len().max(longest);
                if count > 0 && wider * (count + 1) > ROWS {
                    break;
                }
                (count, longest) = (count + 1, wider);
            }
            let (batch, later) = waiting.split_at(count);
            waiting = later;
            let rows: Vec<Vec<u32>> = batch.iter().map(|nth| sequences[*nth].clone()).collect();
            let logits = self.lm_rows(part, grounding, &rows).await?;
            let vocab = text.vocab_size;
            for (nth, (ids, logits)) in
                batch.iter().zip(rows.iter().zip(logits.chunks_exact(longest * vocab)))
            {
                let (mut log_prob, mut score) = (0.0, 0.0);
                for (target, logits) in ids[1..].iter().zip(logits.chunks_exact(vocab)) {
                    let (own, smoothed) = token_scores(logits, *target as usize);
                    (log_prob, score) = (log_prob + own, score + smoothed);
                }
                scored.push((*nth, log_prob, score));
            }
            step(on_step, scored.len(), order.len())?;
        }
        let probabilities = softmax(&scored.iter().map(|(_, _, score)| *score).collect::<Vec<_>>());
        let mut answers: Vec<Answer> = scored
            .into_iter()
            .zip(probabilities)
            .map(|((nth, log_prob, score), probability)| Answer {
                text: list[nth].clone(),
                log_prob: log_prob as f32,
                score: Some(score as f32),
                probability: Some(probability as f32),
            })
            .collect();
        answers.sort_by(|a, b| b.score.unwrap_or_default().total_cmp(&a.score.unwrap_or_default()));
        Ok(answers)
    }

    /// Logits after every token of some sequences, `[rows·longest, vocab]`.
    async fn lm_rows(&self, part: &Part, grounding: &Grounding, rows: &[Vec<u32>]) -> Result<Vec<f32>> {
        // Padding stands behind what is read, and no token sees what comes after it.
        let longest = rows.iter().map(Vec::len).max().unwrap_or_default();
        let pad = part.config.text_config.pad_token_id;
        let ids: Vec<i32> = rows
            .iter()
            .flat_map(|row| {
                let padding = std::iter::repeat_n(pad, longest - row.len());
                row.iter().copied().chain(padding).map(u32::cast_signed)
            })
            .collect();
        let ids = integers(ids, [rows.len(), longest], &self.device.device);
        self.read_finite(part.model.lm_logits(ids, None, grounding)).await
    }
}

/// Rows of logits in one reading: 64 of BERT's vocabulary are 8 MB.
const ROWS: usize = 64;
/// Label smoothing of the reference, which its ranking keeps.
const SMOOTHING: f64 = 0.1;

/// The log-probability of a token, and the same with label smoothing: `(1 - ε)·log p + ε/K·Σ log p`.
fn token_scores(logits: &[f32], target: usize) -> (f64, f64) {
    let highest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let (mut sum, mut exponentials) = (0.0, 0.0);
    for logit in logits {
        sum += f64::from(*logit);
        exponentials += f64::from((logit - highest).exp());
    }
    let (count, log_sum) = (logits.len() as f64, f64::from(highest) + exponentials.ln());
    let own = f64::from(logits[target]) - log_sum;
    let all = sum - count * log_sum;
    (own, (1.0 - SMOOTHING) * own + SMOOTHING / count * all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_is_its_definition() {
        let logits = [0.5f32, -1.0, 2.0, 0.0];
        let log_sum = logits.iter().map(|x| f64::from(*x).exp()).sum::<f64>().ln();
        let log_probs: Vec<f64> = logits.iter().map(|x| f64::from(*x) - log_sum).collect();
        let (own, smoothed) = token_scores(&logits, 2);
        assert!((own - log_probs[2]).abs() < 1e-6);
        let expected = 0.9 * log_probs[2] + 0.1 / 4.0 * log_probs.iter().sum::<f64>();
        assert!((smoothed - expected).abs() < 1e-6);
    }

    #[test]
    fn options_start_from_the_reference_and_keep_what_is_said() {
        let read = |json: &str| AskOptions::from_object(options::object(json)?);
        let plain = read(r#"{"question":"what?"}"#).unwrap();
        assert_eq!(plain, AskOptions::new("what?"));
        assert_eq!((plain.generate.num_beams, plain.generate.max_length), (3, 10));
        let hf = read(r#"{"question":"what?","convention":"hf","maxLength":12}"#).unwrap();
        assert_eq!((hf.generate.num_beams, hf.generate.max_length), (1, 12));
        let apart = read(r#"{"question":"what?","frames":"apart"}"#).unwrap();
        assert_eq!(apart, AskOptions { frames: Frames::Apart, ..plain });
        for json in [
            "{}",
            r#"{"question":"a","answers":[]}"#,
            r#"{"question":"a","candidates":0}"#,
            r#"{"question":"a","frames":"each"}"#,
        ] {
            assert_eq!(read(json).unwrap_err().code(), "bad-option", "{json}");
        }
    }
}
