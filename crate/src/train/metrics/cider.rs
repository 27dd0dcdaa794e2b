//! CIDEr (Vedantam et al. 2015) as `pycocoevalcap` computes it.
//!
//! What it calls CIDEr is the paper's CIDEr-D: counts clipped to the reference's and a Gaussian of the
//! difference in length; it has no other. Two things differ from the paper: the length is the number of
//! pairs of words, and candidates are not stemmed.

use super::captions::{Captioned, check};
use super::ngrams::{Counts, LONGEST, Ngrams, common};
use super::{Scores, mean};
use crate::Result;

/// The standard deviation of the Gaussian, in words.
const SIGMA: f64 = 6.0;
/// A perfect caption scores this.
const SCALE: f64 = 10.0;

/// CIDEr: how similar a caption is to its references in n-grams that are rare among the references of
/// other pictures.
///
/// The more pictures, the more it says: with a single one, every n-gram is in all of them and the score
/// is 0. The corpus' score is the mean.
///
/// # Errors
/// `bad-option` when there are no captions, or one has no references.
pub fn cider(captions: &[Captioned]) -> Result<Scores<f64>> {
    check(captions)?;
    let mut ngrams = Ngrams::default();
    let counted: Vec<_> = captions
        .iter()
        .map(|caption| {
            let references: Vec<_> = caption.references().iter().map(|text| ngrams.count(text)).collect();
            (ngrams.count(caption.candidate()), references)
        })
        .collect();
    let rarity = rarity(&ngrams, &counted);
    let each: Vec<_> = counted
        .iter()
        .map(|(candidate, references)| {
            let own = norms(&ngrams, &rarity, candidate);
            let similarities = references.iter().map(|reference| {
                let norms = norms(&ngrams, &rarity, reference);
                similarity(&ngrams, &rarity, (candidate, &own), (reference, &norms))
            });
            SCALE * similarities.sum::<f64>() / references.len() as f64
        })
        .collect();
    Ok(Scores { corpus: mean(&each), each })
}

/// The weight of each n-gram: the logarithm of how many times more pictures there are than pictures with
/// the n-gram in a reference. One that no reference has counts as if one picture had it.
fn rarity(ngrams: &Ngrams<'_>, counted: &[(Counts, Vec<Counts>)]) -> Vec<f64> {
    let mut pictures = vec![0u32; ngrams.len()];
    // The last picture that was counted for an n-gram, from 1.
    let mut last = vec![0; ngrams.len()];
    for (picture, (_, references)) in counted.iter().enumerate() {
        for &(number, _) in references.iter().flat_map(|reference| &reference.grams) {
            if last[number as usize] != picture + 1 {
                last[number as usize] = picture + 1;
                pictures[number as usize] += 1;
            }
        }
    }
    let all = (counted.len() as f64).ln();
    pictures.into_iter().map(|count| all - f64::from(count.max(1)).ln()).collect()
}

/// The lengths of a caption's vectors of weighted counts, by order.
fn norms(ngrams: &Ngrams<'_>, rarity: &[f64], counts: &Counts) -> [f64; LONGEST] {
    let mut squares = [0.0; LONGEST];
    for &(number, count) in &counts.grams {
        squares[ngrams.order(number)] += (f64::from(count) * rarity[number as usize]).powi(2);
    }
    squares.map(f64::sqrt)
}

/// The mean over orders of clipped cosines, times the Gaussian of the difference in length.
fn similarity(
    ngrams: &Ngrams<'_>,
    rarity: &[f64],
    (candidate, own): (&Counts, &[f64; LONGEST]),
    (reference, norms): (&Counts, &[f64; LONGEST]),
) -> f64 {
    let mut products = [0.0; LONGEST];
    for (number, count, other) in common(candidate, reference) {
        let weight = rarity[number as usize].powi(2);
        products[ngrams.order(number)] += f64::from(count.min(other)) * f64::from(other) * weight;
    }
    let cosines = (0..LONGEST).map(|order| match own[order] * norms[order] {
        0.0 => 0.0,
        norm => products[order] / norm,
    });
    let pairs = |counts: &Counts| counts.words.saturating_sub(1) as f64;
    let difference = pairs(candidate) - pairs(reference);
    cosines.sum::<f64>() / LONGEST as f64 * (-difference.powi(2) / (2.0 * SIGMA.powi(2))).exp()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(captions: &[(&str, &[&str])]) -> Vec<f64> {
        let captioned = |(candidate, references): &(&str, &[&str])| Captioned::new(candidate, references);
        cider(&captions.iter().map(captioned).collect::<Vec<_>>()).unwrap().each
    }

    #[test]
    fn a_caption_of_four_words_that_is_its_reference_scores_ten() {
        let each = scores(&[("a b c d", &["a b c d"]), ("e f g h", &["e f g h"])]);
        assert!(each.iter().all(|score| (score - 10.0).abs() < 1e-12), "{each:?}");
    }

    #[test]
    fn words_that_all_pictures_share_say_nothing() {
        // "a" weighs nothing, "dog" and "cat" ln 2: only the second word of the first caption counts.
        let each = scores(&[("a dog", &["a dog"]), ("a dog", &["a cat"])]);
        assert!((each[0] - 5.0).abs() < 1e-12, "{each:?}");
        assert_eq!(each[1], 0.0);
        assert_eq!(scores(&[("a dog", &["a dog"])]), [0.0]);
    }

    #[test]
    fn repeating_a_word_is_clipped_and_a_wrong_length_is_punished() {
        // Candidate vector (3), reference (1): min(3, 1) · 1 / (3 · 1), and pairs 2 and 0.
        let each = scores(&[("dog dog dog", &["dog"]), ("x", &["cat"])]);
        let expected = 10.0 / 4.0 / 3.0 * (-4.0f64 / 72.0).exp();
        assert!((each[0] - expected).abs() < 1e-12, "{each:?} {expected}");
    }

    #[test]
    fn several_references_are_averaged() {
        let each = scores(&[("dog", &["dog", "ball"]), ("x", &["cat"])]);
        assert!((each[0] - 10.0 / 4.0 / 2.0).abs() < 1e-12, "{each:?}");
    }
}
