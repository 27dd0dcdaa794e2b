//! Hard negatives of image-text matching: pairs that do not belong together and look as if they did
//! (paper §3.2, spec §7.1 and §9).

use super::draw::Draw;
use crate::{Error, ErrorKind, Result};

/// Which candidates may be drawn, and how likely.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule<'a> {
    /// Added to every probability, so that none is out of reach: 1e-4 in pre-training, 0 in retrieval.
    pub floor: f64,
    /// Which image row `i` and candidate `j` belong to; equal ones are no negatives. Where it is left
    /// out, every row has an image of its own and only its own candidate is none.
    pub images: Option<Images<'a>>,
}

/// The images of rows and of candidates.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Images<'a> {
    /// One a row.
    pub rows: &'a [u64],
    /// One a candidate.
    pub candidates: &'a [u64],
}

impl Rule<'_> {
    /// The rule of pre-training.
    pub const PRETRAINING: Self = Self { floor: 1e-4, images: None };

    /// The weight of every candidate of row `row`: softmax of its similarities, plus the floor, and
    /// nothing for a match.
    pub fn weights(&self, row: usize, similarities: &[f32]) -> Vec<f64> {
        let highest = similarities.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f64> = similarities.iter().map(|s| f64::from(s - highest).exp()).collect();
        let sum: f64 = exponentials.iter().sum();
        let is_match = |candidate: usize| match self.images {
            Some(images) => images.rows[row] == images.candidates[candidate],
            None => row == candidate,
        };
        let weight = |(candidate, exponential): (usize, f64)| {
            if is_match(candidate) { 0.0 } else { exponential / sum + self.floor }
        };
        exponentials.into_iter().enumerate().map(weight).collect()
    }

    /// One candidate for every row of `similarities: [rows, candidates]`.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when all candidates of a row match, as in a batch of one image.
    pub fn draw(&self, similarities: &[f32], candidates: usize, draw: &mut Draw) -> Result<Vec<usize>> {
        let rows = similarities.chunks_exact(candidates).enumerate();
        rows.map(|(row, similarities)| {
            pick(&self.weights(row, similarities), draw).ok_or_else(|| {
                let message = "a batch has no pair that does not belong together: it needs at least two \
                               different images a rank";
                Error::new(ErrorKind::BadOption, message)
            })
        })
        .collect()
    }
}

/// An index, as likely as its weight says; none when all weights are 0.
pub fn pick(weights: &[f64], draw: &mut Draw) -> Option<usize> {
    let mut left = draw.uniform() * weights.iter().sum::<f64>();
    let mut last = None;
    for (index, weight) in weights.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
        last = Some(index);
        if left < *weight {
            return last;
        }
        left -= weight;
    }
    // Rounding may leave a little of the sum.
    last
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::draw::Purpose;

    fn stream() -> Draw {
        Draw::new(3, Purpose::Negatives, 0, 0)
    }

    #[test]
    fn weights_are_a_softmax_without_the_matches() {
        let similarities = [1.0f32, 3.0, 2.0];
        let sum: f64 = similarities.iter().map(|s| f64::from(*s).exp()).sum();
        let weights = Rule::PRETRAINING.weights(1, &similarities);
        assert_eq!(weights[1], 0.0);
        assert!((weights[0] - (1f64.exp() / sum + 1e-4)).abs() < 1e-12);
        let images = Images { rows: &[7, 8], candidates: &[8, 7, 8] };
        let weights = Rule { floor: 0.0, images: Some(images) }.weights(1, &similarities);
        assert!((weights[1] - 3f64.exp() / sum).abs() < 1e-12);
        assert_eq!([weights[0], weights[2]], [0.0, 0.0]);
    }

    #[test]
    fn draws_are_as_frequent_as_their_weights() {
        const DRAWS: usize = 20_000;
        let similarities = [2.0f32, 0.0, 1.0, 1.5, -4.0];
        let weights = Rule::PRETRAINING.weights(2, &similarities);
        let total: f64 = weights.iter().sum();
        let (mut counts, mut draw) = ([0usize; 5], stream());
        for _ in 0..DRAWS {
            counts[pick(&weights, &mut draw).unwrap()] += 1;
        }
        assert_eq!(counts[2], 0, "a pair is no negative of itself");
        let chi_square: f64 = (0..5)
            .filter(|index| *index != 2)
            .map(|index| {
                let expected = DRAWS as f64 * weights[index] / total;
                (counts[index] as f64 - expected).powi(2) / expected
            })
            .sum();
        // The 99.9 % point of three degrees of freedom.
        assert!(chi_square < 16.27, "{chi_square}: {counts:?} for {weights:?}");
    }

    #[test]
    fn a_batch_of_one_image_is_an_error() {
        assert_eq!(Rule::PRETRAINING.draw(&[0.5], 1, &mut stream()).unwrap_err().code(), "bad-option");
        let images = Images { rows: &[4, 4], candidates: &[4, 4] };
        let rule = Rule { floor: 0.0, images: Some(images) };
        assert_eq!(rule.draw(&[0.1, 0.2, 0.3, 0.4], 2, &mut stream()).unwrap_err().code(), "bad-option");
        assert_eq!(Rule::PRETRAINING.draw(&[0.1, 0.2, 0.3, 0.4], 2, &mut stream()).unwrap(), [1, 0]);
    }
}
