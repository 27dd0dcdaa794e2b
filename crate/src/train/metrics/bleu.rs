//! BLEU (Papineni et al. 2002) as `pycocoevalcap` computes it.

use std::collections::HashMap;

use super::Scores;
use super::captions::{Captioned, check};
use super::ngrams::{Counts, LONGEST, Ngrams};
use crate::Result;

/// Keeps a product of precisions from being exactly 0, and a precision of nothing from being 0 / 0.
const TINY: f64 = 1e-15;
/// Added to what is divided by.
const SMALL: f64 = 1e-9;

/// What BLEU is computed from; corpora are sums of these.
#[derive(Clone, Copy, Debug, Default)]
struct Tally {
    /// Words of the candidate.
    words: usize,
    /// Words of the reference nearest in length, the shorter of two that are equally near.
    nearest: usize,
    /// N-grams of the candidate, by order.
    guessed: [usize; LONGEST],
    /// Those of them that one of the references has; as often as there, at most.
    correct: [usize; LONGEST],
}

/// BLEU-1 to BLEU-4: geometric means of clipped precisions, times the brevity penalty.
///
/// The corpus' score comes from sums over the corpus, so it is not the mean of the others.
///
/// # Errors
/// `bad-option` when there are no captions, or one has no references.
pub fn bleu(captions: &[Captioned]) -> Result<Scores<[f64; 4]>> {
    check(captions)?;
    let mut ngrams = Ngrams::default();
    let mut corpus = Tally::default();
    let mut each = Vec::with_capacity(captions.len());
    for caption in captions {
        let candidate = ngrams.count(caption.candidate());
        let references: Vec<_> = caption.references().iter().map(|text| ngrams.count(text)).collect();
        let tally = tally(&ngrams, &candidate, &references);
        each.push(tally.score());
        corpus.add(&tally);
    }
    Ok(Scores { corpus: corpus.score(), each })
}

fn tally(ngrams: &Ngrams<'_>, candidate: &Counts, references: &[Counts]) -> Tally {
    let mut most: HashMap<u32, u32> = HashMap::new();
    for &(number, count) in references.iter().flat_map(|reference| &reference.grams) {
        let known = most.entry(number).or_default();
        *known = count.max(*known);
    }
    let mut correct = [0; LONGEST];
    for &(number, count) in &candidate.grams {
        let clipped = most.get(&number).map_or(0, |&most| count.min(most));
        correct[ngrams.order(number)] += clipped as usize;
    }
    let lengths = references.iter().map(|reference| reference.words);
    let nearest = lengths.min_by_key(|&words| (words.abs_diff(candidate.words), words));
    Tally {
        words: candidate.words,
        nearest: nearest.expect("the references were counted"),
        guessed: std::array::from_fn(|order| candidate.words.saturating_sub(order)),
        correct,
    }
}

impl Tally {
    fn add(&mut self, other: &Self) {
        self.words += other.words;
        self.nearest += other.nearest;
        for order in 0..LONGEST {
            self.guessed[order] += other.guessed[order];
            self.correct[order] += other.correct[order];
        }
    }

    fn score(&self) -> [f64; LONGEST] {
        let ratio = (self.words as f64 + TINY) / (self.nearest as f64 + SMALL);
        let brevity = if ratio < 1.0 { (1.0 - 1.0 / ratio).exp() } else { 1.0 };
        let mut product = 1.0;
        std::array::from_fn(|order| {
            product *= (self.correct[order] as f64 + TINY) / (self.guessed[order] as f64 + SMALL);
            f64::powf(product, 1.0 / (order + 1) as f64) * brevity
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scores(captions: &[(&str, &[&str])]) -> Scores<[f64; 4]> {
        let captioned = |(candidate, references): &(&str, &[&str])| Captioned::new(candidate, references);
        bleu(&captions.iter().map(captioned).collect::<Vec<_>>()).unwrap()
    }

    fn close(got: f64, expected: f64) {
        assert!((got - expected).abs() < 1e-6, "{got} {expected}");
    }

    #[test]
    fn a_word_counts_as_often_as_in_one_reference() {
        // The example of the paper: seven times "the", which the first reference has twice.
        let references: &[&str] = &["the cat is on the mat", "there is a cat on the mat"];
        let scores = scores(&[("the the the the the the the", references)]);
        close(scores.corpus[0], 2.0 / 7.0);
        close(scores.each[0][1], 0.0);
    }

    #[test]
    fn short_captions_are_punished_by_the_nearest_length() {
        // Three words beside five and two: two is nearer. Three beside five alone: exp(1 - 5/3).
        close(scores(&[("a b c", &["a b c d e", "a b"])]).corpus[0], 1.0);
        close(scores(&[("a b c", &["a b c d e"])]).corpus[0], (-2.0f64 / 3.0).exp());
        // Four beside three and five: the shorter of the equally near.
        close(scores(&[("a b c d", &["a b c d e", "a b c"])]).corpus[0], 1.0);
    }

    #[test]
    fn a_corpus_is_no_mean_of_its_captions() {
        // 2 of 2 words and 1 of 4.
        let scores = scores(&[("a b", &["a b"]), ("a x y z", &["a b c d"])]);
        close(scores.each[0][0], 1.0);
        close(scores.each[1][0], 0.25);
        close(scores.corpus[0], 0.5);
        // Pairs: 1 of 1 and 0 of 3.
        close(scores.corpus[1], (0.5f64 * 0.25).sqrt());
    }

    #[test]
    fn an_empty_caption_scores_nothing() {
        assert!(scores(&[("", &["a dog"])]).corpus.iter().all(|score| *score < 1e-6));
    }
}
