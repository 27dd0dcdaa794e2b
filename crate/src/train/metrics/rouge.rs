//! ROUGE-L (Lin 2004) as `pycocoevalcap` computes it.

use super::captions::{Captioned, check};
use super::{Scores, mean};
use crate::Result;

/// How much more recall counts than precision.
const BETA: f64 = 1.2;

/// ROUGE-L: the F-measure of the longest common subsequence.
///
/// Precision and recall are each the best that any reference gives, not necessarily the same one. The
/// corpus' score is the mean. A caption without tokens counts as one empty word, as in the original.
///
/// # Errors
/// `bad-option` when there are no captions, or one has no references.
pub fn rouge_l(captions: &[Captioned]) -> Result<Scores<f64>> {
    check(captions)?;
    let each: Vec<_> = captions.iter().map(one).collect();
    Ok(Scores { corpus: mean(&each), each })
}

fn one(caption: &Captioned) -> f64 {
    let candidate: Vec<_> = caption.candidate().split(' ').collect();
    let (mut precision, mut recall) = (0.0, 0.0);
    for reference in caption.references() {
        let reference: Vec<_> = reference.split(' ').collect();
        let common = longest_common(&candidate, &reference) as f64;
        precision = f64::max(precision, common / candidate.len() as f64);
        recall = f64::max(recall, common / reference.len() as f64);
    }
    if precision == 0.0 || recall == 0.0 {
        return 0.0;
    }
    (1.0 + BETA.powi(2)) * precision * recall / (recall + BETA.powi(2) * precision)
}

/// The length of the longest common subsequence.
fn longest_common(a: &[&str], b: &[&str]) -> usize {
    // `best[j]`: of what of `a` has been seen and the first `j` of `b`.
    let mut best = vec![0; b.len() + 1];
    for word in a {
        let mut diagonal = 0;
        for (j, other) in b.iter().enumerate() {
            let above = best[j + 1];
            best[j + 1] = if word == other { diagonal + 1 } else { above.max(best[j]) };
            diagonal = above;
        }
    }
    best[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn score(candidate: &str, references: &[&str]) -> f64 {
        rouge_l(&[Captioned::new(candidate, references)]).unwrap().corpus
    }

    #[test]
    fn the_order_of_words_counts_but_not_what_stands_between() {
        // a c e of a b c d e, and a c e of e a c e: 3 words each.
        assert_eq!(longest_common(&["a", "b", "c", "d", "e"], &["e", "a", "c", "e"]), 3);
        assert_eq!(longest_common(&["a", "b"], &["b", "a"]), 1);
        assert_eq!(longest_common(&[], &["a"]), 0);
    }

    #[test]
    fn the_f_measure_has_its_closed_form() {
        // 2 of 2 words, 2 of 4.
        let expected = 2.44 * 1.0 * 0.5 / (0.5 + 1.44);
        assert!((score("a c", &["a b c d"]) - expected).abs() < 1e-12);
        assert_eq!(score("a b", &["a b"]), 1.0);
        assert_eq!(score("a b", &["c d"]), 0.0);
    }

    #[test]
    fn precision_and_recall_are_the_best_of_all_references() {
        // Precision 1 by the first reference, recall 1 by the second.
        assert_eq!(score("a b", &["a x b y", "b"]), 1.0);
    }

    #[test]
    fn an_empty_caption_is_like_an_empty_reference_alone() {
        assert_eq!((score("", &["."]), score("", &["a"]), score("a", &[""])), (1.0, 0.0, 0.0));
    }
}
