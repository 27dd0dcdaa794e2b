//! Timings with what disturbed them, and their summary.

use serde_json::{Value, json};

/// More of the processors than this used by others, and a timing does not count; as in `bench/run.mjs`.
const DISTURBED: f64 = 0.15;

/// One timing.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Milliseconds.
    pub ms: f64,
    /// Processors that others used meanwhile; nothing where the system does not say.
    pub other_cores: Option<f64>,
}

/// Several timings of one thing.
#[derive(Clone, Debug, PartialEq)]
pub struct Summary {
    /// Timings that count.
    pub runs: usize,
    /// The shortest of them.
    pub min: f64,
    /// The middle one, or the mean of the two in the middle.
    pub median: f64,
    /// The longest.
    pub max: f64,
    /// Timings that were thrown away because others were at work.
    pub disturbed: usize,
    /// The most that others used during the timings that count.
    pub other_cores: f64,
    /// Whether enough timings were undisturbed; otherwise all of them count.
    pub quiet: bool,
}

impl Summary {
    /// Summarises; nothing of nothing.
    pub fn of(samples: &[Sample]) -> Option<Self> {
        let others = |sample: &Sample| sample.other_cores.unwrap_or(0.0);
        let clean: Vec<Sample> = samples.iter().copied().filter(|s| others(s) <= DISTURBED).collect();
        // One clean timing beside many disturbed ones is luck; of one timing in all it is all there is.
        let quiet = clean.len() >= samples.len().min(2);
        let kept: &[Sample] = if quiet { &clean } else { samples };
        let mut times: Vec<f64> = kept.iter().map(|sample| sample.ms).collect();
        times.sort_by(f64::total_cmp);
        let (first, last) = (*times.first()?, *times.last()?);
        let middle = times.len() / 2;
        let median = if times.len() % 2 == 1 {
            times[middle]
        } else {
            f64::midpoint(times[middle - 1], times[middle])
        };
        Some(Self {
            runs: times.len(),
            min: first,
            median,
            max: last,
            disturbed: samples.len() - clean.len(),
            other_cores: kept.iter().map(others).fold(0.0, f64::max),
            quiet,
        })
    }

    /// As it stands in the report.
    pub fn json(&self) -> Value {
        json!({
            "n": self.runs,
            "min": self.min,
            "median": self.median,
            "max": self.max,
            "disturbed": self.disturbed,
            "otherCores": self.other_cores,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(values: &[(f64, f64)]) -> Vec<Sample> {
        values.iter().map(|&(ms, others)| Sample { ms, other_cores: Some(others) }).collect()
    }

    #[test]
    fn disturbed_timings_are_thrown_away() {
        let summary = Summary::of(&samples(&[(10.0, 0.0), (90.0, 1.0), (20.0, 0.1), (30.0, 0.0)]));
        let summary = summary.expect("there are timings");
        assert_eq!((summary.runs, summary.median, summary.disturbed), (3, 20.0, 1));
        assert_eq!((summary.min, summary.max, summary.quiet), (10.0, 30.0, true));
    }

    #[test]
    fn when_hardly_any_was_quiet_all_count_and_it_says_so() {
        let summary =
            Summary::of(&samples(&[(10.0, 0.0), (90.0, 1.0), (80.0, 0.9)])).expect("there are timings");
        assert_eq!((summary.runs, summary.median, summary.quiet), (3, 80.0, false));
    }

    #[test]
    fn a_single_quiet_timing_is_enough_when_there_is_one() {
        assert!(Summary::of(&samples(&[(10.0, 0.0)])).is_some_and(|summary| summary.quiet));
        assert!(Summary::of(&samples(&[(10.0, 0.5)])).is_some_and(|summary| !summary.quiet));
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        let summary = Summary::of(&samples(&[(1.0, 0.0), (4.0, 0.0)])).expect("there are timings");
        assert_eq!(summary.median, 2.5);
    }
}
