//! How far a measured value may be from the true one.

use serde::Serialize;

use super::mean;
use crate::train::random::Random;

/// The 97.5 % quantile of the normal distribution: 95 % lie within.
const Z: f64 = 1.959_963_984_540_054;

/// Where the true value is, with 95 % confidence.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// Wilson's score interval for a share: right also for few tries and for shares near 0 and 1. Of no tries
/// nothing is known.
pub fn wilson(successes: usize, tries: usize) -> Interval {
    if tries == 0 {
        return Interval { low: 0.0, high: 1.0 };
    }
    let n = tries as f64;
    let share = successes as f64 / n;
    let middle = share + Z * Z / (2.0 * n);
    let half = Z * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
    let scale = 1.0 + Z * Z / n;
    Interval { low: ((middle - half) / scale).max(0.0), high: ((middle + half) / scale).min(1.0) }
}

/// The percentile bootstrap of a mean: for scores of examples that are neither right nor wrong, as CIDEr's.
/// The same values and seed give the same interval everywhere. Of no values it is 0 to 0.
pub fn bootstrap(values: &[f64], resamples: usize, seed: u64) -> Interval {
    let mut random = Random::keyed([seed, 0, 0, 0]);
    let mut resample = |_| {
        let drawn: Vec<_> = values.iter().map(|_| values[random.below(values.len())]).collect();
        mean(&drawn)
    };
    let mut means =
        if resamples == 0 { vec![mean(values)] } else { (0..resamples).map(&mut resample).collect() };
    means.sort_by(f64::total_cmp);
    let at = |share: f64| means[(share * (means.len() - 1) as f64).round() as usize];
    Interval { low: at(0.025), high: at(0.975) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wilsons_interval_has_its_known_values() {
        // Newcombe 1998, table I, method 3: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        for (successes, tries, low, high) in [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
            (20, 20, 0.8389, 1.0),
        ] {
            let interval = wilson(successes, tries);
            let close = (interval.low - low).abs() < 5e-5 && (interval.high - high).abs() < 5e-5;
            assert!(close, "{successes} of {tries}: {interval:?}");
        }
        assert_eq!(wilson(0, 0), Interval { low: 0.0, high: 1.0 });
    }

    #[test]
    fn the_bootstrap_of_many_values_is_about_the_normal_interval() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i % 10)).collect();
        let interval = bootstrap(&values, 2000, 7);
        // Mean 4.5, standard deviation 2.872: 4.5 ± 1.96 · 2.872 / √1000.
        assert!((interval.low - 4.322).abs() < 0.02 && (interval.high - 4.678).abs() < 0.02, "{interval:?}");
        assert_eq!(interval, bootstrap(&values, 2000, 7));
        assert_ne!(interval, bootstrap(&values, 2000, 8));
    }

    #[test]
    fn few_values_have_an_interval_too() {
        assert_eq!(bootstrap(&[2.0], 100, 0), Interval { low: 2.0, high: 2.0 });
        assert_eq!(bootstrap(&[], 100, 0), Interval { low: 0.0, high: 0.0 });
        assert_eq!(bootstrap(&[1.0, 3.0], 0, 0), Interval { low: 2.0, high: 2.0 });
    }
}
