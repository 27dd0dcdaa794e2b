//! Ranks, with intervals.

use serde::Serialize;

use crate::Result;
use crate::train::metrics::interval::{Interval, wilson};
use crate::train::metrics::ranks::RankSummary;

/// What ranks come to, with Wilson's intervals.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ranked {
    /// The numbers.
    #[serde(flatten)]
    pub summary: RankSummary,
    /// Of the three recalls, in percent.
    pub recall_intervals: [Interval; 3],
}

impl From<RankSummary> for Ranked {
    fn from(summary: RankSummary) -> Self {
        let interval = |recall: f64| {
            let within = (recall / 100.0 * summary.count as f64).round() as usize;
            let Interval { low, high } = wilson(within, summary.count);
            Interval { low: 100.0 * low, high: 100.0 * high }
        };
        Self { recall_intervals: summary.recall.map(interval), summary }
    }
}

impl Ranked {
    /// Of ranks, which begin with 1.
    ///
    /// # Errors
    /// As [`RankSummary::of`].
    pub fn of(ranks: &[usize]) -> Result<Self> {
        RankSummary::of(ranks).map(Self::from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_recall_lies_in_its_interval() {
        let ranked = Ranked::of(&[1, 2, 6, 20]).unwrap();
        for (recall, interval) in ranked.summary.recall.iter().zip(ranked.recall_intervals) {
            assert!(interval.low < *recall && *recall < interval.high, "{recall} {interval:?}");
        }
        let json = serde_json::to_value(ranked).unwrap();
        assert_eq!(json["meanRank"], 7.25);
        assert!(json["recallIntervals"][0]["low"].is_number());
    }
}
