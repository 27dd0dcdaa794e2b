//! Where the right one stands among scored candidates: of pictures, texts, or answers in a dialogue.

use serde::Serialize;

use super::mean;
use crate::{Error, ErrorKind, Result};

/// What ranks come to. Shares are in percent, as in the paper's tables.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RankSummary {
    /// How many ranks.
    pub count: usize,
    /// Shares that stand first, among the first five, and among the first ten.
    pub recall: [f64; 3],
    /// The mean of the three.
    pub mean_recall: f64,
    /// The mean rank; the best is 1.
    pub mean_rank: f64,
    /// The median rank; the mean of the middle two where there are two.
    pub median_rank: f64,
    /// The mean of one over the rank, in percent.
    pub mean_reciprocal_rank: f64,
}

/// The rank from 1 of the best of `right` when candidates are ordered by descending score; of equal ones
/// the earlier stands first, and what is no number stands last.
///
/// # Errors
/// `bad-option` when there is no right candidate, or it is none of those scored.
pub fn rank(scores: &[f32], right: &[usize]) -> Result<usize> {
    if right.is_empty() {
        return Err(Error::new(
            ErrorKind::BadOption,
            "metrics: no candidate is right, expected at least one",
        ));
    }
    if let Some(index) = right.iter().find(|&&index| index >= scores.len()) {
        let message = format!("metrics: candidate {index} is right, but there are {} scores", scores.len());
        return Err(Error::new(ErrorKind::BadOption, message));
    }
    let ahead = |&wanted: &usize| {
        let own = scores[wanted];
        let stands_before =
            |&(index, &score): &(usize, &f32)| beats(score, own) || index < wanted && !beats(own, score);
        scores.iter().enumerate().filter(stands_before).count()
    };
    let best = right.iter().map(ahead).min();
    Ok(1 + best.expect("there is a right candidate"))
}

/// Whether a score is better; what is no number is worse than any.
pub(super) fn beats(score: f32, other: f32) -> bool {
    score > other || other.is_nan() && !score.is_nan()
}

impl RankSummary {
    /// Summarises ranks, which begin with 1.
    ///
    /// # Errors
    /// `bad-option` when there are none, or one is 0.
    pub fn of(ranks: &[usize]) -> Result<Self> {
        if ranks.is_empty() || ranks.contains(&0) {
            let message = "metrics: ranks begin with 1, and there must be at least one";
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let mut sorted = ranks.to_vec();
        sorted.sort_unstable();
        let count = ranks.len();
        let within = |most| 100.0 * sorted.partition_point(|&rank| rank <= most) as f64 / count as f64;
        let recall = [1, 5, 10].map(within);
        let sum: f64 = ranks.iter().map(|&rank| rank as f64).sum();
        let reciprocal: f64 = ranks.iter().map(|&rank| 1.0 / rank as f64).sum();
        Ok(Self {
            count,
            recall,
            mean_recall: mean(&recall),
            mean_rank: sum / count as f64,
            median_rank: (sorted[(count - 1) / 2] + sorted[count / 2]) as f64 / 2.0,
            mean_reciprocal_rank: 100.0 * reciprocal / count as f64,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_of_the_right_ones_counts_and_of_equal_scores_the_earlier_stands_first() {
        let scores = [0.5, 0.9, 0.5, -1.0, 0.7];
        assert_eq!(rank(&scores, &[1]).unwrap(), 1);
        assert_eq!(rank(&scores, &[0]).unwrap(), 3);
        assert_eq!(rank(&scores, &[2]).unwrap(), 4);
        assert_eq!(rank(&scores, &[3, 2, 4]).unwrap(), 2);
        assert_eq!(rank(&[0.0, -0.0], &[1]).unwrap(), 2);
    }

    #[test]
    fn what_is_no_number_stands_last() {
        let scores = [f32::NAN, 0.1, f32::NEG_INFINITY, f32::NAN];
        assert_eq!([1, 2, 0, 3].map(|index| rank(&scores, &[index]).unwrap()), [1, 2, 3, 4]);
    }

    #[test]
    fn a_right_one_that_is_not_there_is_an_error() {
        assert_eq!(rank(&[0.1], &[]).unwrap_err().kind(), ErrorKind::BadOption);
        assert!(rank(&[0.1], &[0, 1]).unwrap_err().message().contains("candidate 1"));
        assert!(RankSummary::of(&[]).is_err() && RankSummary::of(&[1, 0]).is_err());
    }

    #[test]
    fn ranks_are_summed_up() {
        let summary = RankSummary::of(&[1, 2, 6, 20]).unwrap();
        assert_eq!(summary.recall, [25.0, 50.0, 75.0]);
        assert_eq!((summary.mean_recall, summary.mean_rank, summary.median_rank), (50.0, 7.25, 4.0));
        let reciprocal = 25.0 * (1.0 + 1.0 / 2.0 + 1.0 / 6.0 + 1.0 / 20.0);
        assert!((summary.mean_reciprocal_rank - reciprocal).abs() < 1e-12);
        assert_eq!(RankSummary::of(&[3, 1, 2]).unwrap().median_rank, 2.0);
    }
}
