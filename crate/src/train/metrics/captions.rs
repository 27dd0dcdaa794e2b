//! Generated captions beside what people wrote.

use serde::Serialize;

use super::{Scores, bleu, cider, ptb, rouge};
use crate::{Error, ErrorKind, Result};

/// The captions of one picture, as tokens with spaces between them.
#[derive(Clone, Debug, PartialEq)]
pub struct Captioned {
    candidate: String,
    references: Vec<String>,
}

/// Every metric of a set of captions.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CaptionScores {
    /// BLEU-1 to BLEU-4.
    pub bleu: Scores<[f64; 4]>,
    /// ROUGE-L.
    pub rouge_l: Scores<f64>,
    /// CIDEr.
    pub cider: Scores<f64>,
}

impl Captioned {
    /// Tokenises a caption and the references it is measured by.
    pub fn new<S: AsRef<str>>(candidate: &str, references: &[S]) -> Self {
        Self {
            candidate: ptb::tokenise(candidate),
            references: references.iter().map(|text| ptb::tokenise(text.as_ref())).collect(),
        }
    }

    /// Captions that are tokens already.
    pub fn tokenised(candidate: String, references: Vec<String>) -> Self {
        Self { candidate, references }
    }

    /// The caption to be judged.
    pub fn candidate(&self) -> &str {
        &self.candidate
    }

    /// What it is measured by.
    pub fn references(&self) -> &[String] {
        &self.references
    }
}

/// Every metric of a set of captions.
///
/// # Errors
/// `bad-option` when there are no captions, or one has no references.
pub fn score(captions: &[Captioned]) -> Result<CaptionScores> {
    Ok(CaptionScores {
        bleu: bleu::bleu(captions)?,
        rouge_l: rouge::rouge_l(captions)?,
        cider: cider::cider(captions)?,
    })
}

/// Refuses what no metric is defined for.
pub(super) fn check(captions: &[Captioned]) -> Result<()> {
    if captions.is_empty() {
        return Err(Error::new(ErrorKind::BadOption, "metrics: no captions to score, expected at least one"));
    }
    match captions.iter().position(|caption| caption.references.is_empty()) {
        None => Ok(()),
        Some(index) => Err(Error::new(
            ErrorKind::BadOption,
            format!("metrics: caption {index} has no references, expected at least one"),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_corpus_scores_what_each_metric_has_as_its_best() {
        let captions =
            [("A red ball.", "a red ball"), ("Two dogs run", "two dogs run"), ("One tree", "one tree!")];
        let captions: Vec<_> = captions.map(|(made, truth)| Captioned::new(made, &[truth])).into();
        let scores = score(&captions).unwrap();
        assert!(scores.bleu.corpus[..2].iter().all(|bleu| (bleu - 1.0).abs() < 1e-6), "{scores:?}");
        assert_eq!(scores.rouge_l.corpus, 1.0);
        // The third caption has two words: no triples, no quadruples, half of the score.
        let quadruples = [7.5, 7.5, 5.0];
        assert!(scores.cider.each.iter().zip(quadruples).all(|(score, best)| (score - best).abs() < 1e-9));
    }

    #[test]
    fn no_captions_and_no_references_are_errors() {
        assert_eq!(score(&[]).unwrap_err().kind(), ErrorKind::BadOption);
        let captions = [Captioned::new("a dog", &["a dog"]), Captioned::new("a cat", &[""; 0])];
        let error = score(&captions).unwrap_err();
        assert!(error.kind() == ErrorKind::BadOption && error.message().contains("caption 1"), "{error}");
    }
}
