//! Beam search over one prompt, by the rule of either reference.
//!
//! Each step takes the best 2B continuations of B beams, so that B open ones remain even if every
//! beam's best token is the end. Complete sequences count only from among the best B.

use super::finished::Finished;
use super::scores::{Candidate, Rules, Scores, best_candidates, nothing_to_continue_with};
use super::{Decoder, Hypothesis, LengthRule, Room, Task};
use crate::Result;

/// The most that a device is asked to rank in a row.
const BEST_MAX: usize = 32;

/// An open sequence.
struct Beam {
    /// Prompt and generated tokens.
    ids: Vec<u32>,
    /// Sum of the processed log-probabilities; the search ranks by it.
    sum: f32,
    /// Sum of the model's own log-probabilities.
    log_prob: f64,
}

pub(super) async fn search<D: Decoder>(task: &mut Task<'_, D>) -> Result<Vec<Hypothesis>> {
    let (config, prompt) = (task.config, task.prompt);
    let (width, vocab) = (config.num_beams, task.decoder.vocab_size());
    let rules = Rules::new(config, task.eos);
    let mut finished = Finished::new(config, prompt.len());
    let mut beams = vec![Beam { ids: prompt.to_vec(), sum: 0.0, log_prob: 0.0 }];
    let mut best = Vec::with_capacity(2 * width);
    // Of one row no more can be among the best; the end token may be banned from the list.
    let enough = 2 * width + 1;
    let best_of_row = (config.repetition_penalty == 1.0 && enough <= BEST_MAX).then_some(enough);
    let mut logits = task
        .decoder
        .prefill(prompt, Room { rows: width, tokens: config.max_length, best: best_of_row })
        .await?;
    loop {
        let mut scores = Scores::new(logits, beams.len(), vocab)?;
        scores.log_softmax()?;
        for (row, beam) in beams.iter().enumerate() {
            scores.process(row, &beam.ids, &rules);
        }
        let sums: Vec<f32> = beams.iter().map(|beam| beam.sum).collect();
        best_candidates(&scores, &sums, 2 * width, &mut best);
        let length = beams[0].ids.len();
        let last = length + 1 == config.max_length;

        let cut = last && config.length_rule == LengthRule::Hf;
        let mut open: Vec<Candidate> = Vec::with_capacity(width);
        for (rank, candidate) in best.iter().enumerate() {
            let ended = candidate.token == task.eos;
            if ended || cut {
                if rank < width {
                    let parent = &beams[candidate.row];
                    let log_prob =
                        parent.log_prob + f64::from(scores.original(candidate.row, candidate.token));
                    let mut ids = parent.ids[prompt.len()..].to_vec();
                    ids.extend((!ended).then_some(candidate.token));
                    finished.offer(candidate.score, &ids, log_prob, ended);
                }
            } else if open.len() < width {
                open.push(*candidate);
            }
        }

        let settled = match (best.first(), open.first()) {
            (Some(best), Some(open)) => finished.is_settled(length, best.score, open.score),
            _ => true,
        };
        beams = open.iter().map(|candidate| beams[candidate.row].extended(candidate, &scores)).collect();
        if !settled && last {
            // Only the original rule has open beams left at the maximum length.
            for beam in &beams {
                finished.offer(beam.sum, &beam.ids[prompt.len()..], beam.log_prob, false);
            }
        }
        if settled || last {
            let first = finished.best().ok_or_else(nothing_to_continue_with)?;
            task.report(0, &first.ids, f64::from(first.log_prob), true)?;
            return Ok(finished.into_best(config.num_captions));
        }
        task.report(0, &beams[0].ids[prompt.len()..], beams[0].log_prob, false)?;
        let parents: Vec<usize> = open.iter().map(|candidate| candidate.row).collect();
        let tokens: Vec<u32> = open.iter().map(|candidate| candidate.token).collect();
        logits = task.decoder.step(&parents, &tokens).await?;
    }
}

impl Beam {
    fn extended(&self, candidate: &Candidate, scores: &Scores) -> Self {
        let mut ids = Vec::with_capacity(self.ids.len() + 1);
        ids.extend_from_slice(&self.ids);
        ids.push(candidate.token);
        let log_prob = self.log_prob + f64::from(scores.original(candidate.row, candidate.token));
        Self { ids, sum: candidate.score, log_prob }
    }
}
