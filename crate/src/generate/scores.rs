//! The logits of one step: checked, normalised, and processed in the order of the references.

use super::elementary::{exp, ln};
use super::{GenerateConfig, Logits};
use crate::{Error, ErrorKind, Result};

/// Scores of one step, `[rows, columns]`, which remember what processing changed.
pub(super) struct Scores {
    values: Vec<f32>,
    columns: usize,
    /// Where only the best of each row are known: which tokens they are, and each row's log-sum-exp.
    best: Option<(Vec<u32>, Vec<f64>)>,
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
    pub fn new(logits: Logits, rows: usize, vocab: usize) -> Result<Self> {
        let (values, width) = match &logits {
            Logits::All(values) => (values, vocab),
            Logits::Best { count, packed } => (packed, 2 * count + 1),
        };
        if values.len() != rows * width {
            let message =
                format!("the decoder returned {} scores, expected {rows} rows of {width}", values.len());
            return Err(Error::new(ErrorKind::Internal, message));
        }
        match logits {
            Logits::All(values) => Ok(Self { values, columns: vocab, best: None, altered: Vec::new() }),
            Logits::Best { count, packed } => {
                let (mut values, mut ids, mut norms) = (Vec::new(), Vec::new(), Vec::new());
                for row in packed.chunks_exact(width) {
                    values.extend_from_slice(&row[..count]);
                    ids.extend(row[count..2 * count].iter().map(|id| *id as u32));
                    norms.push(f64::from(row[2 * count]));
                    if !row[0].is_finite() || !row[2 * count].is_finite() {
                        return Err(unrankable(row[0], row[2 * count]));
                    }
                }
                Ok(Self { values, columns: count, best: Some((ids, norms)), altered: Vec::new() })
            }
        }
    }

    /// The current scores of one row.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.values[row * self.columns..(row + 1) * self.columns]
    }

    /// Replaces the logits of every row by log-probabilities.
    pub fn log_softmax(&mut self) -> Result<()> {
        for (index, row) in self.values.chunks_exact_mut(self.columns).enumerate() {
            let norm = match &self.best {
                Some((_, norms)) => norms[index],
                None => log_sum_exp(row)?,
            };
            for value in row {
                *value = (f64::from(*value) - norm) as f32;
            }
        }
        Ok(())
    }

    /// Applies repetition penalty, then minimum length, to a row that continues `sequence`
    /// (prompt included).
    pub fn process(&mut self, row: usize, sequence: &[u32], rules: &Rules) {
        let start = row * self.columns;
        if rules.repetition_penalty != 1.0 {
            assert!(self.best.is_none(), "a penalty may lift any token, so all scores are needed");
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
        if sequence.len() < rules.min_length
            && let Some(at) = self.find(row, rules.eos)
        {
            // If the penalty recorded the end token already, that older entry is found first.
            self.altered.push((at, self.values[at]));
            self.values[at] = f32::NEG_INFINITY;
        }
    }

    /// The score of a token before [`process`](Self::process).
    pub fn original(&self, row: usize, token: u32) -> f32 {
        let at = self.find(row, token).expect("a token that was chosen has a score");
        let altered = self.altered.iter().find(|(index, _)| *index == at);
        altered.map_or(self.values[at], |(_, value)| *value)
    }

    /// The token of a column of a row.
    fn token(&self, row: usize, column: usize) -> u32 {
        self.best.as_ref().map_or(column as u32, |(ids, _)| ids[row * self.columns + column])
    }

    /// Flat index of a token's score; `None` if it is not among the best.
    fn find(&self, row: usize, token: u32) -> Option<usize> {
        let start = row * self.columns;
        match &self.best {
            None => Some(start + token as usize),
            Some((ids, _)) => {
                ids[start..start + self.columns].iter().position(|id| *id == token).map(|at| start + at)
            }
        }
    }
}

fn unrankable(best: f32, norm: f32) -> Error {
    let message = format!(
        "the model returned logits that cannot be ranked: the best of a row is {best}, the log-sum-exp {norm}"
    );
    Error::new(ErrorKind::Gpu, message)
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
        for (column, score) in scores.row(row).iter().enumerate() {
            let score = score + total;
            // Almost every token of a large vocabulary ends here.
            if score > threshold {
                let at = best.partition_point(|kept| kept.score >= score);
                best.truncate(limit - 1);
                best.insert(at, Candidate { row, token: scores.token(row, column), score });
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
        let mut scores =
            Scores::new(Logits::All(vec![1.0, f32::NEG_INFINITY, -2.0, 800.0, 801.0, 799.5]), 2, 3).unwrap();
        scores.log_softmax().unwrap();
        for row in 0..2 {
            let sum: f32 = scores.row(row).iter().map(|x| x.exp()).sum();
            assert!((sum - 1.0).abs() < 1e-6, "row {row} sums to {sum}");
        }
        assert_eq!(scores.row(0)[1], f32::NEG_INFINITY);
    }

    #[test]
    fn the_penalty_hits_each_seen_token_once_and_depends_on_the_sign() {
        let mut scores = Scores::new(Logits::All(vec![2.0, -2.0, 3.0, 0.0]), 1, 4).unwrap();
        let rules = Rules { repetition_penalty: 2.0, min_length: 0, eos: 3 };
        scores.process(0, &[0, 1, 0, 1, 3], &rules);
        assert_eq!(scores.row(0), [1.0, -4.0, 3.0, 0.0]);
        assert_eq!([0, 1, 2, 3].map(|id| scores.original(0, id)), [2.0, -2.0, 3.0, 0.0]);
    }

    #[test]
    fn the_minimum_length_forbids_the_end_and_the_original_survives_both_rules() {
        let rules = Rules { repetition_penalty: 2.0, min_length: 3, eos: 1 };
        let mut scores = Scores::new(Logits::All(vec![2.0, 4.0, 2.0, 4.0]), 2, 2).unwrap();
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
    fn the_best_of_each_row_give_the_same_candidates_as_all_scores() {
        let (rows, vocab, count, eos) = (3, 50, 7, 5);
        let values: Vec<f32> = (0..rows * vocab).map(|i| ((i * 7919 + i / 3) % 131) as f32 / 16.0).collect();
        let mut packed = Vec::new();
        for row in values.chunks_exact(vocab) {
            let mut ids: Vec<usize> = (0..vocab).collect();
            ids.sort_by(|a, b| row[*b].total_cmp(&row[*a]));
            packed.extend(ids[..count].iter().map(|id| row[*id]));
            packed.extend(ids[..count].iter().map(|id| *id as f32));
            packed.push(log_sum_exp(row).unwrap() as f32);
        }
        let rules = Rules { repetition_penalty: 1.0, min_length: 3, eos };
        let totals = [0.0, 1.0, -1.0];
        let found = [Logits::All(values), Logits::Best { count, packed }].map(|logits| {
            let mut scores = Scores::new(logits, rows, vocab).unwrap();
            scores.log_softmax().unwrap();
            for row in 0..rows {
                scores.process(row, &[1], &rules);
            }
            let mut best = Vec::new();
            best_candidates(&scores, &totals, count - 1, &mut best);
            best
        });
        assert_eq!(found[0].len(), count - 1);
        for (all, best) in found[0].iter().zip(&found[1]) {
            assert_eq!((all.row, all.token), (best.row, best.token));
            assert!((all.score - best.score).abs() < 1e-5);
        }
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
        let scores = Scores::new(Logits::All(values), rows, vocab).unwrap();
        let mut best = Vec::new();
        for limit in [1, 2, 6, 32, 200] {
            best_candidates(&scores, &totals, limit, &mut best);
            assert_eq!(best, all[..limit.min(all.len())], "limit {limit}");
        }
    }
}
