//! The logits of one step: checked, normalised, and processed in the order of the references.

use super::GenerateConfig;
use super::elementary::{exp, ln};
use crate::{Error, ErrorKind, Result};

/// Scores `[rows, vocab]` of one step, which remember what processing changed.
pub(super) struct Scores {
    values: Vec<f32>,
    vocab: usize,
    /// Flat index and value before processing, for the few entries that processing touched.
    altered: Vec<(usize, f32)>,
}

/// The rules that apply to every kind of search.
pub(super) struct Rules {
    pub repetition_penalty: f32,
    pub min_length: usize,
    pub eos: u32,
}

impl Rules {
    pub fn new(config: &GenerateConfig, eos: u32) -> Self {
        Self { repetition_penalty: config.repetition_penalty as f32, min_length: config.min_length, eos }
    }
}

impl Scores {
    /// Takes over the logits a decoder returned for `rows` rows.
    pub fn new(values: Vec<f32>, rows: usize, vocab: usize) -> Result<Self> {
        if values.len() != rows * vocab {
            let message = format!(
                "the decoder returned {} logits, expected {rows} rows of a vocabulary of {vocab}",
                values.len()
            );
            return Err(Error::new(ErrorKind::Internal, message));
        }
        Ok(Self { values, vocab, altered: Vec::new() })
    }

    /// The current scores of one row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.vocab..(row + 1) * self.vocab]
    }

    /// Replaces the logits of every row by log-probabilities.
    pub fn log_softmax(&mut self) -> Result<()> {
        for row in self.values.chunks_exact_mut(self.vocab) {
            let norm = log_sum_exp(row)?;
            for value in row {
                *value = (f64::from(*value) - norm) as f32;
            }
        }
        Ok(())
    }

    /// Applies repetition penalty, then minimum length, to a row that continues `sequence`
    /// (prompt included).
    pub fn process(&mut self, row: usize, sequence: &[u32], rules: &Rules) {
        let start = row * self.vocab;
        if rules.repetition_penalty != 1.0 {
            let first = self.altered.len();
            for &id in sequence {
                let at = start + id as usize;
                if self.altered[first..].iter().any(|(seen, _)| *seen == at) {
                    continue;
                }
                let score = self.values[at];
                self.altered.push((at, score));
                let penalty = rules.repetition_penalty;
                self.values[at] = if score < 0.0 { score * penalty } else { score / penalty };
            }
        }
        if sequence.len() < rules.min_length {
            let at = start + rules.eos as usize;
            // If the penalty recorded the end token already, that older entry is found first.
            self.altered.push((at, self.values[at]));
            self.values[at] = f32::NEG_INFINITY;
        }
    }

    /// The score of a token before [`process`](Self::process).
    pub fn original(&self, row: usize, token: u32) -> f32 {
        let at = row * self.vocab + token as usize;
        let altered = self.altered.iter().find(|(index, _)| *index == at);
        altered.map_or(self.values[at], |(_, value)| *value)
    }
}

/// `ln Σ e^x` over one row of logits, which also proves that they can be ranked.
pub(super) fn log_sum_exp(row: &[f32]) -> Result<f64> {
    let max = row.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
    let max = f64::from(max);
    // With an infinite maximum the differences are NaN, so one check of the sum covers everything.
    let sum: f64 = row.iter().map(|&x| exp(f64::from(x) - max)).sum();
    if sum.is_finite() {
        return Ok(max + ln(sum));
    }
    let nan = row.iter().filter(|x| x.is_nan()).count();
    let high = row.iter().filter(|x| **x == f32::INFINITY).count();
    let message = format!(
        "the model returned logits that cannot be ranked: of {} values, {nan} are NaN and {high} are +infinity, \
         and the largest is {max}",
        row.len()
    );
    Err(Error::new(ErrorKind::Gpu, message))
}

/// The error for a step at which every token has a score of minus infinity.
pub(super) fn nothing_to_continue_with() -> Error {
    Error::new(ErrorKind::Gpu, "the model gave every token that the options allow a score of minus infinity")
}

/// The best token of one row; of equal ones the lowest. `None` if all are minus infinity.
pub(super) fn arg_max(row: &[f32]) -> Option<u32> {
    let mut best = (f32::NEG_INFINITY, None);
    for (id, &score) in row.iter().enumerate() {
        if score > best.0 {
            best = (score, Some(id as u32));
        }
    }
    best.1
}

/// A way to continue: beam `row` with `token`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub row: usize,
    pub token: u32,
    pub score: f32,
}

/// Collects the best continuations into `best`, best first, without sorting the vocabulary.
///
/// A candidate's score is that of the token plus `totals[row]`. Of equal scores the lower row wins,
/// then the lower token. Minus infinity is no continuation, so there may be fewer than `limit`.
pub(super) fn best_candidates(scores: &Scores, totals: &[f32], limit: usize, best: &mut Vec<Candidate>) {
    best.clear();
    let mut threshold = f32::NEG_INFINITY;
    for (row, total) in totals.iter().enumerate() {
        for (token, score) in scores.row(row).iter().enumerate() {
            let score = score + total;
            // Almost every token of a large vocabulary ends here.
            if score > threshold {
                let at = best.partition_point(|kept| kept.score >= score);
                best.truncate(limit - 1);
                best.insert(at, Candidate { row, token: token as u32, score });
                if best.len() == limit {
                    threshold = best[limit - 1].score;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_softmax_sums_to_one_and_keeps_masked_tokens_masked() {
        let mut scores = Scores::new(vec![1.0, f32::NEG_INFINITY, -2.0, 800.0, 801.0, 799.5], 2, 3).unwrap();
        scores.log_softmax().unwrap();
        for row in 0..2 {
            let sum: f32 = scores.row(row).iter().map(|x| x.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-6, "row {row} sums to {sum}");
        }
        assert_eq!(scores.row(0)[1], f32::NEG_INFINITY);
    }

    #[test]
    fn the_penalty_hits_each_seen_token_once_and_depends_on_the_sign() {
        let mut scores = Scores::new(vec![2.0, -2.0, 3.0, 0.0], 1, 4).unwrap();
        let rules = Rules { repetition_penalty: 2.0, min_length: 0, eos: 3 };
        scores.process(0, &[0, 1, 0, 1, 3], &rules);
        assert_eq!(scores.row(0), [1.0, -4.0, 3.0, 0.0]);
        assert_eq!([0, 1, 2, 3].map(|id| scores.original(0, id)), [2.0, -2.0, 3.0, 0.0]);
    }

    #[test]
    fn the_minimum_length_forbids_the_end_and_the_original_survives_both_rules() {
        let rules = Rules { repetition_penalty: 2.0, min_length: 3, eos: 1 };
        let mut scores = Scores::new(vec![2.0, 4.0, 2.0, 4.0], 2, 2).unwrap();
        scores.process(0, &[1, 1], &rules);
        scores.process(1, &[1, 1, 0], &rules);
        assert_eq!(scores.row(0), [2.0, f32::NEG_INFINITY]);
        assert_eq!(scores.row(1), [1.0, 2.0]);
        assert_eq!(scores.original(0, 1), 4.0);
        assert_eq!(scores.original(1, 1), 4.0);
    }

    #[test]
    fn logits_that_cannot_be_ranked_are_a_gpu_error() {
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        for row in [[nan, 1.0], [nan, nan], [inf, 1.0], [inf, -inf], [-inf, -inf], [nan, -inf]] {
            assert_eq!(log_sum_exp(&row).unwrap_err().kind(), ErrorKind::Gpu, "{row:?}");
        }
        assert_eq!(log_sum_exp(&[-inf, 2.0]).unwrap(), 2.0);
    }

    #[test]
    fn candidates_equal_a_full_stable_sort() {
        let rows = 3;
        let vocab = 50;
        // Few distinct values, so that ties are common.
        let values: Vec<f32> = (0..rows * vocab).map(|i| ((i * 7919 + i / 3) % 11) as f32).collect();
        let totals = [0.0, 1.0, -1.0];
        let mut all: Vec<Candidate> = (0..rows * vocab)
            .map(|i| Candidate {
                row: i / vocab,
                token: (i % vocab) as u32,
                score: values[i] + totals[i / vocab],
            })
            .collect();
        all.sort_by(|a, b| b.score.total_cmp(&a.score));
        let scores = Scores::new(values, rows, vocab).unwrap();
        let mut best = Vec::new();
        for limit in [1, 2, 6, 32, 200] {
            best_candidates(&scores, &totals, limit, &mut best);
            assert_eq!(best, all[..limit.min(all.len())], "limit {limit}");
        }
    }
}
