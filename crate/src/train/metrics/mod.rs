//! How good a model is: metrics as pure functions of answers and truths, tied to the reference code.
//!
//! | file | what | the same as |
//! |---|---|---|
//! | [`ptb`] | the tokens captions are compared by | Stanford's PTB tokeniser, as `pycocoevalcap` 1.2 calls it |
//! | [`captions`] | all metrics of captions at once | `pycocoevalcap` 1.2 |
//! | [`bleu`], [`rouge`], [`cider`] | BLEU-1 to 4, ROUGE-L, CIDEr | the same |
//! | [`vqa`] | VQA accuracy with its normalisation of answers | the official code, as LAVIS 1.0.2 has it |
//! | [`retrieval`] | re-ranking, recall, ranks in both directions | the evaluation of the original BLIP code |
//! | [`ranks`] | recall, mean and median rank, MRR; for dialogues also | |
//! | [`accuracy`], [`interval`] | shares of right answers, intervals | |
//!
//! The reference's results are in `tests/fixtures/metrics`. Floats agree to a relative 1e-9; no more,
//! because sums run in another order.
//!
//! METEOR is not here. It needs WordNet's synonyms and a table of paraphrases, and crates.io has no
//! library for it. SPICE is not here either: it parses sentences.

pub mod accuracy;
pub mod bleu;
pub mod captions;
pub mod cider;
pub mod interval;
mod ngrams;
pub mod ptb;
pub mod ranks;
pub mod retrieval;
pub mod rouge;
pub mod vqa;

use serde::Serialize;

/// A metric of a whole corpus, and of each example in it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scores<T> {
    /// Of the corpus; not always the mean of the others.
    pub corpus: T,
    /// Of each example, in order.
    pub each: Vec<T>,
}

/// The mean; of nothing 0.
fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len().max(1) as f64
}
