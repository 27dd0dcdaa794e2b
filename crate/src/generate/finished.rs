//! The best complete sequences of a beam search, and the two rules that rank them.

use super::elementary::power;
use super::{GenerateConfig, Hypothesis, LengthRule};

/// At most `num_beams` complete sequences, best first; of equal scores the one found first leads.
pub(super) struct Finished {
    kept: Vec<(f64, Hypothesis)>,
    limit: usize,
    rule: LengthRule,
    length_penalty: f64,
    early_stopping: bool,
    prompt: usize,
}

impl Finished {
    pub fn new(config: &GenerateConfig, prompt: usize) -> Self {
        Self {
            kept: Vec::with_capacity(config.num_beams + 1),
            limit: config.num_beams,
            rule: config.length_rule,
            length_penalty: config.length_penalty,
            early_stopping: config.early_stopping,
            prompt,
        }
    }

    /// Offers a sequence; `sum` is the sum of its processed log-probabilities.
    pub fn offer(&mut self, sum: f32, ids: &[u32], log_prob: f64, finished: bool) {
        // The end token counts as a generated token in one rule, and not at all in the other.
        let score = match self.rule {
            LengthRule::Hf => self.rank(sum, ids.len() + usize::from(finished)),
            LengthRule::Orig => self.rank(sum, self.prompt + ids.len()),
        };
        // One that is not better than the worst of a full list is cut off again at once.
        let at = self.kept.partition_point(|(kept, _)| *kept >= score);
        let (ids, log_prob) = (ids.to_vec(), log_prob as f32);
        self.kept.insert(at, (score, Hypothesis { ids, log_prob, score: score as f32, finished }));
        self.kept.truncate(self.limit);
    }

    /// Whether the search is over after a step that continued sequences of `length` tokens, prompt
    /// included. `best` is the best sum of all candidates of the step, `best_open` that of the
    /// candidates that go on.
    pub fn is_settled(&self, length: usize, best: f32, best_open: f32) -> bool {
        if !self.is_full() {
            return false;
        }
        if self.early_stopping {
            return true;
        }
        // Both estimate what an open beam could still reach by what it would score at this length.
        match self.rule {
            LengthRule::Hf => self.rank(best_open, length + 1 - self.prompt) <= self.worst(),
            LengthRule::Orig => self.rank(best, length) <= self.worst(),
        }
    }

    /// The best sequence so far.
    pub fn best(&self) -> Option<&Hypothesis> {
        self.kept.first().map(|(_, hypothesis)| hypothesis)
    }

    /// The best `count` sequences, best first.
    pub fn into_best(self, count: usize) -> Vec<Hypothesis> {
        self.kept.into_iter().take(count).map(|(_, hypothesis)| hypothesis).collect()
    }

    fn is_full(&self) -> bool {
        self.kept.len() == self.limit
    }

    fn worst(&self) -> f64 {
        self.kept.last().map_or(f64::NEG_INFINITY, |(score, _)| *score)
    }

    fn rank(&self, sum: f32, length: usize) -> f64 {
        let divisor = power(length, self.length_penalty);
        match self.rule {
            // transformers divides tensors of single precision here, and plain Python numbers there.
            LengthRule::Hf => f64::from(sum / divisor as f32),
            LengthRule::Orig => f64::from(sum) / divisor,
        }
    }
}
