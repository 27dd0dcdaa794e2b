//! Learning rates and other values that change in the course of a run: pure functions of the step.

use serde::{Deserialize, Serialize};

/// Where in a run a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Position {
    /// Steps done before.
    pub step: usize,
    /// Steps of an epoch.
    pub epoch_steps: usize,
    /// Epochs of the run.
    pub epochs: usize,
}

impl Position {
    /// The epoch of the step, from 0.
    pub fn epoch(&self) -> usize {
        self.step / self.epoch_steps.max(1)
    }

    /// Steps of the run.
    pub fn steps(&self) -> usize {
        self.epoch_steps * self.epochs
    }
}

/// How the learning rate changes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Schedule {
    /// Pre-training (spec §7.2): linear from `start` to `peak` over `warmup` steps, but within the first
    /// epoch only; from then on `peak·decay^epoch`, never below `floor`.
    Epochs {
        /// The highest rate.
        peak: f64,
        /// The first rate.
        start: f64,
        /// The lowest rate.
        floor: f64,
        /// Steps of the rise.
        warmup: usize,
        /// Factor from one epoch to the next: 0.9 in the reference's code, 0.85 in the paper.
        decay: f64,
    },
    /// Fine-tuning (spec §9): half a cosine over the epochs, constant within each.
    Cosine {
        /// The first rate.
        peak: f64,
        /// What it goes down to.
        floor: f64,
    },
    /// Linear warm-up, then half a cosine over all remaining steps.
    CosineSteps {
        /// The highest rate.
        peak: f64,
        /// What it goes down to.
        floor: f64,
        /// Steps of the rise.
        warmup: usize,
    },
    /// Linear warm-up, a plateau, and a linear fall to zero: as long as it is on the plateau, a run can
    /// be prolonged.
    Plateau {
        /// The rate of the plateau.
        peak: f64,
        /// Steps of the rise.
        warmup: usize,
        /// Steps of the fall.
        decay: usize,
    },
}

impl Schedule {
    /// The learning rate of a step.
    pub fn rate(&self, at: Position) -> f64 {
        let rise = |warmup: usize| (at.step + 1) as f64 / warmup.max(1) as f64;
        match *self {
            Self::Epochs { peak, start, warmup, .. } if at.epoch() == 0 => {
                (start + (peak - start) * at.step as f64 / warmup.max(1) as f64).min(peak)
            }
            Self::Epochs { peak, floor, decay, .. } => (peak * decay.powi(at.epoch() as i32)).max(floor),
            Self::Cosine { peak, floor } => {
                half_cosine(peak, floor, at.epoch() as f64 / at.epochs.max(1) as f64)
            }
            Self::CosineSteps { peak, warmup, .. } if at.step < warmup => peak * rise(warmup).min(1.0),
            Self::CosineSteps { peak, floor, warmup } => {
                let rest = at.steps().saturating_sub(warmup).max(1) as f64;
                half_cosine(peak, floor, (at.step - warmup) as f64 / rest)
            }
            Self::Plateau { peak, warmup, decay } => {
                let falling = at.steps().saturating_sub(at.step) as f64 / decay.max(1) as f64;
                peak * rise(warmup).min(falling).min(1.0)
            }
        }
    }
}

fn half_cosine(peak: f64, floor: f64, share: f64) -> f64 {
    0.5 * (peak - floor) * (1.0 + (std::f64::consts::PI * share).cos()) + floor
}

/// A value that rises linearly from 0 to `full` within the first `epochs`: how much momentum features
/// soften the targets of contrast (`α`; spec §7.1 and §9).
pub fn ramp(at: Position, full: f64, epochs: f64) -> f64 {
    let length = epochs * at.epoch_steps as f64;
    if length > 0.0 { full * (at.step as f64 / length).min(1.0) } else { full }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schedule: Schedule, epoch_steps: usize, epochs: usize, expected: &[(usize, f64)]) {
        for (step, expected) in expected {
            let rate = schedule.rate(Position { step: *step, epoch_steps, epochs });
            assert!((rate - expected).abs() < 1e-9, "{schedule:?} at {step}: {rate}, expected {expected}");
        }
    }

    #[test]
    fn pretraining_rises_within_the_first_epoch_and_falls_by_epochs() {
        let schedule = Schedule::Epochs { peak: 3e-4, start: 1e-6, floor: 1e-6, warmup: 3000, decay: 0.9 };
        check(
            schedule,
            5000,
            20,
            &[
                (0, 1e-6),
                (1500, 1.505e-4),
                (3000, 3e-4),
                (4999, 3e-4),
                (5000, 2.7e-4),
                (25_000, 1.77147e-4),
                (99_999, 4.052_555e-5),
            ],
        );
        // An epoch that is shorter than the rise never reaches the peak (trap 44).
        check(schedule, 1000, 20, &[(999, 1e-6 + 2.99e-4 * 0.333), (1000, 2.7e-4)]);
    }

    #[test]
    fn fine_tuning_follows_half_a_cosine_by_epochs() {
        let schedule = Schedule::Cosine { peak: 1e-5, floor: 0.0 };
        for (epoch, expected) in [1e-5, 9.045e-6, 6.545e-6, 3.455e-6, 9.549e-7].into_iter().enumerate() {
            let rate = schedule.rate(Position { step: 10 * epoch + 7, epoch_steps: 10, epochs: 5 });
            assert!((rate - expected).abs() < 1e-9, "{epoch}: {rate}");
        }
    }

    #[test]
    fn a_cosine_over_steps_ends_at_its_floor() {
        let schedule = Schedule::CosineSteps { peak: 1e-3, floor: 1e-5, warmup: 10 };
        check(schedule, 110, 1, &[(0, 1e-4), (9, 1e-3), (10, 1e-3), (60, 5.05e-4), (110, 1e-5)]);
    }

    #[test]
    fn a_plateau_rises_stays_and_falls_to_zero() {
        let schedule = Schedule::Plateau { peak: 1e-3, warmup: 100, decay: 200 };
        check(
            schedule,
            1000,
            1,
            &[(0, 1e-5), (49, 5e-4), (99, 1e-3), (500, 1e-3), (800, 1e-3), (900, 5e-4), (1000, 0.0)],
        );
    }

    #[test]
    fn softness_rises_over_two_epochs_of_pretraining_and_one_of_retrieval() {
        let at = |step| Position { step, epoch_steps: 100, epochs: 5 };
        for (epochs, step, expected) in [
            (2.0, 0, 0.0),
            (2.0, 100, 0.2),
            (2.0, 200, 0.4),
            (2.0, 450, 0.4),
            (1.0, 50, 0.2),
            (1.0, 100, 0.4),
        ] {
            assert!((ramp(at(step), 0.4, epochs) - expected).abs() < 1e-12, "{epochs} {step}");
        }
        assert_eq!(ramp(at(0), 0.4, 0.0), 0.4);
    }
}
