//! Shares of right answers.

use serde::Serialize;

use super::interval::{Interval, wilson};

/// How many of how many are right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accuracy {
    /// The right ones.
    pub right: usize,
    /// All of them.
    pub total: usize,
}

/// [`Accuracy`] as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
struct Report {
    right: usize,
    total: usize,
    share: f64,
    interval: Interval,
}

impl Accuracy {
    /// Counts the answers.
    pub fn of(answers: impl IntoIterator<Item = bool>) -> Self {
        let mut accuracy = Self::default();
        for right in answers {
            accuracy.count(right);
        }
        accuracy
    }

    /// Counts one more answer.
    pub fn count(&mut self, right: bool) {
        self.right += usize::from(right);
        self.total += 1;
    }

    /// The share of the right ones, 0 to 1; of nothing 0.
    pub fn share(&self) -> f64 {
        self.right as f64 / self.total.max(1) as f64
    }

    /// Wilson's interval of the share.
    pub fn interval(&self) -> Interval {
        wilson(self.right, self.total)
    }
}

impl Serialize for Accuracy {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (right, total) = (self.right, self.total);
        Report { right, total, share: self.share(), interval: self.interval() }.serialize(serializer)
    }
}

/// Accuracy on hard negatives: how often the true text scores better than the false one that is nearly it.
/// An equal score is a mistake, and so is what is no number.
pub fn hard_negatives(pairs: impl IntoIterator<Item = (f32, f32)>) -> Accuracy {
    Accuracy::of(pairs.into_iter().map(|(truth, negative)| truth > negative))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_and_written_with_their_interval() {
        let accuracy = Accuracy::of([true, true, false, true]);
        assert_eq!((accuracy.right, accuracy.total, accuracy.share()), (3, 4, 0.75));
        let written = serde_json::to_value(accuracy).unwrap();
        assert_eq!((&written["right"], &written["share"]), (&3.into(), &0.75.into()));
        assert!((written["interval"]["low"].as_f64().unwrap() - 0.3006).abs() < 5e-5, "{written}");
        assert_eq!(Accuracy::default().share(), 0.0);
    }

    #[test]
    fn an_equal_score_is_no_victory() {
        let pairs = [(0.5, 0.4), (0.5, 0.5), (0.4, 0.5), (f32::NAN, 0.0), (0.0, f32::NAN)];
        assert_eq!(hard_negatives(pairs), Accuracy { right: 1, total: 5 });
    }
}
