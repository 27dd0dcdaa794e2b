//! Greedy search that the decoder does by itself, on its device; here its tokens become a sequence.

use super::{Decoder, EndRule, Hypothesis, Room, Task};
use crate::{Error, ErrorKind, Result};

pub(super) async fn search<D: Decoder>(task: &mut Task<'_, D>) -> Result<Vec<Hypothesis>> {
    let (config, prompt, eos, vocab) = (task.config, task.prompt, task.eos, task.decoder.vocab_size());
    let room = Room { rows: 1, tokens: config.max_length, best: None };
    let rule = EndRule { eos, min_length: config.min_length };
    let mut ids: Vec<u32> = Vec::with_capacity(config.max_length);
    let (mut log_prob, mut finished) = (0.0f64, false);
    let Task { decoder, on_progress, .. } = task;
    let mut on_chosen = |token: u32, token_log_prob: f32| {
        if !token_log_prob.is_finite() || token as usize >= vocab {
            let message = format!("the decoder chose token {token} with log-probability {token_log_prob}");
            return Err(Error::new(ErrorKind::Gpu, message));
        }
        log_prob += f64::from(token_log_prob);
        finished = token == eos;
        if !finished {
            ids.push(token);
        }
        let complete = finished || prompt.len() + ids.len() == config.max_length;
        super::report(on_progress, 0, &ids, log_prob, complete)?;
        Ok(!complete)
    };
    decoder.run_ahead(prompt, room, rule, &mut on_chosen).await?;
    let log_prob = log_prob as f32;
    Ok(vec![Hypothesis { ids, log_prob, score: log_prob, finished }])
}
