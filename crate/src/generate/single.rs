//! Searches whose rows do not compete: greedy, and independent samples.

use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::SeedableRng;

use super::nucleus::Nucleus;
use super::scores::{Rules, Scores, arg_max, log_sum_exp, nothing_to_continue_with};
use super::{Decoder, Hypothesis, Room, Task};
use crate::Result;

/// A sequence that is still growing.
struct Open {
    index: usize,
    /// Prompt and generated tokens.
    ids: Vec<u32>,
    log_prob: f64,
    random: ChaCha12Rng,
}

pub(super) async fn search<D: Decoder>(task: &mut Task<'_, D>) -> Result<Vec<Hypothesis>> {
    let (config, prompt) = (task.config, task.prompt);
    let vocab = task.decoder.vocab_size();
    let rules = Rules::new(config, task.eos);
    let mut nucleus = config.sample.then(|| Nucleus::new(config.temperature, config.top_k, config.top_p));
    let mut open: Vec<Open> =
        (0..config.num_captions).map(|index| Open::new(index, prompt, config.seed)).collect();
    let mut done: Vec<Option<Hypothesis>> = vec![None; config.num_captions];
    let mut logits = task
        .decoder
        .prefill(prompt, Room { rows: config.num_captions, tokens: config.max_length, best: None })
        .await?;
    // All samples share the one row of the prompt; afterwards each has its own.
    let mut rows = 1;
    loop {
        let mut scores = Scores::new(logits, rows, vocab)?;
        let norms = (0..rows).map(|row| log_sum_exp(scores.row(row))).collect::<Result<Vec<f64>>>()?;
        for (row, sequence) in open.iter().enumerate().take(rows) {
            scores.process(row, &sequence.ids, &rules);
        }
        let (mut parents, mut tokens) = (Vec::with_capacity(open.len()), Vec::with_capacity(open.len()));
        let mut still_open = Vec::with_capacity(open.len());
        for (position, mut sequence) in open.into_iter().enumerate() {
            let row = if rows == 1 { 0 } else { position };
            let token = match &mut nucleus {
                Some(nucleus) => nucleus.draw(scores.row(row), &mut sequence.random),
                None => arg_max(scores.row(row)),
            };
            let token = token.ok_or_else(nothing_to_continue_with)?;
            sequence.log_prob += f64::from(scores.original(row, token)) - norms[row];
            let finished = token == task.eos;
            if !finished {
                sequence.ids.push(token);
            }
            let complete = finished || sequence.ids.len() == config.max_length;
            let ids = &sequence.ids[prompt.len()..];
            task.report(sequence.index, ids, sequence.log_prob, complete)?;
            if complete {
                let log_prob = sequence.log_prob as f32;
                done[sequence.index] =
                    Some(Hypothesis { ids: ids.to_vec(), log_prob, score: log_prob, finished });
            } else {
                parents.push(row);
                tokens.push(token);
                still_open.push(sequence);
            }
        }
        if still_open.is_empty() {
            return Ok(done.into_iter().flatten().collect());
        }
        open = still_open;
        rows = open.len();
        logits = task.decoder.step(&parents, &tokens).await?;
    }
}

impl Open {
    fn new(index: usize, prompt: &[u32], seed: u64) -> Self {
        // One stream a sample, so that a sample does not depend on how many others there are.
        let mut random = ChaCha12Rng::seed_from_u64(seed);
        random.set_stream(index as u64);
        Self { index, ids: prompt.to_vec(), log_prob: 0.0, random }
    }
}
