//! Decoding: from scored tokens to sequences, without knowing what a model is.
//!
//! [`generate`] drives anything that implements [`Decoder`]: greedy search, beam search with the
//! length rule of either reference, or nucleus sampling. The order in which scores are processed is
//! that of the references: repetition penalty, then minimum length, then (when sampling) temperature,
//! top-k and top-p. Beam search processes log-probabilities and adds up the processed values; greedy
//! search and sampling process raw logits.
//!
//! Everything is deterministic. Equal scores are decided for the lower row, then the lower token id;
//! exponentials and logarithms are computed by this module, so that the same logits and the same
//! seed give the same tokens on every machine, in the browser too.

mod ahead;
mod beam;
mod config;
mod elementary;
mod finished;
mod nucleus;
mod scores;
mod single;

#[cfg(test)]
mod goldens;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod toy;

pub use config::{GenerateConfig, LengthRule};

use crate::{Error, ErrorKind, Result};

/// A model that continues a sequence token by token and keeps its own caches.
///
/// The first call is [`prefill`](Self::prefill), every later one [`step`](Self::step).
#[allow(async_fn_in_trait, reason = "the browser has one thread, so the futures need not be Send")]
pub trait Decoder {
    /// Runs the whole prompt as one row; returns the raw logits of its last position.
    /// Nothing that follows needs more than `room`.
    ///
    /// # Errors
    /// Whatever the model fails with; the search ends with the same error.
    async fn prefill(&mut self, prompt: &[u32], room: Room) -> Result<Logits>;

    /// Appends one token to each row; returns their raw logits.
    ///
    /// New row `i` continues row `parents[i]` of the call before (row 0 after `prefill`) with
    /// `tokens[i]`, so caches are re-ordered by `parents` first. The two slices are equally long,
    /// a parent may occur several times or not at all, and the number of rows may change each time.
    ///
    /// # Errors
    /// Whatever the model fails with; the search ends with the same error.
    async fn step(&mut self, parents: &[usize], tokens: &[u32]) -> Result<Logits>;

    /// How many logits a row has.
    fn vocab_size(&self) -> usize;

    /// Whether plain greedy search may be left to [`run_ahead`](Self::run_ahead).
    fn runs_ahead(&self) -> bool {
        false
    }

    /// Plain greedy search of one row without the scores leaving the device.
    ///
    /// `on_chosen` gets each token and its log-probability in order, some time after the device
    /// chose it, and ends the search by returning `false`; it ends by itself when `room` is full.
    ///
    /// # Errors
    /// Whatever the model fails with, and what `on_chosen` returns.
    async fn run_ahead(
        &mut self,
        prompt: &[u32],
        room: Room,
        rule: EndRule,
        on_chosen: &mut dyn FnMut(u32, f32) -> Result<bool>,
    ) -> Result<()> {
        let _ = (prompt, room, rule, on_chosen);
        Err(Error::new(ErrorKind::Internal, "this decoder does not run ahead"))
    }
}

/// When a greedy search may end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndRule {
    /// The token that ends a sequence.
    pub eos: u32,
    /// It is not chosen while the sequence, prompt included, is shorter.
    pub min_length: usize,
}

/// How much a search will ask of a decoder, so that caches are made once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Room {
    /// Sequences side by side, at most.
    pub rows: usize,
    /// Tokens of a sequence, the prompt included, at most.
    pub tokens: usize,
    /// How many of each row's best scores suffice; `None` when all are needed.
    pub best: Option<usize>,
}

/// Raw scores of some rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Logits {
    /// `[rows, vocab]`, row-major.
    All(Vec<f32>),
    /// The best of each row, which spares a device from handing out the rest.
    Best {
        /// How many of each row.
        count: usize,
        /// `[rows, 2·count + 1]`: values from the highest down (of equals the lower id first), their
        /// ids, and the log-sum-exp of the whole row.
        packed: Vec<f32>,
    },
}

/// One generated sequence.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The generated tokens: neither the prompt nor the end token is among them.
    pub ids: Vec<u32>,
    /// Sum of the model's own log-probabilities of the generated tokens, the end token included
    /// when it was reached. Penalties, temperature and filters do not enter.
    pub log_prob: f32,
    /// What the search ranked by: for beam search the sum of the processed log-probabilities over
    /// the length divisor of [`LengthRule`]; otherwise equal to `log_prob`.
    pub score: f32,
    /// Whether the end token was reached; `false` where the maximum length cut the sequence.
    pub finished: bool,
}

/// What a search has so far, reported after every token.
#[derive(Clone, Copy, Debug)]
pub struct Progress<'a> {
    /// Which of several samples this is; always 0 for greedy and beam search.
    pub index: usize,
    /// The tokens generated so far, without prompt and end token. In beam search those of the best
    /// open beam, which another beam may replace in the next report; the last report carries the
    /// sequence that will be returned first.
    pub ids: &'a [u32],
    /// Sum of the model's own log-probabilities of these tokens.
    pub log_prob: f32,
    /// Whether this sequence is complete: the end token or the maximum length was reached.
    pub done: bool,
}

/// The answer of a progress callback.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub enum Control {
    /// Go on.
    #[default]
    Continue,
    /// Stop now; [`generate`] returns [`ErrorKind::Aborted`].
    Cancel,
}

/// Continues `prompt` until `eos` or the maximum length.
///
/// Returns [`GenerateConfig::num_captions`] sequences: of beam search the best ones, best first;
/// of sampling independent draws in order of their index. Beam search may return fewer where the
/// vocabulary leaves fewer than that many continuations.
///
/// # Errors
/// - [`ErrorKind::BadOption`]: `config` is out of range, or `prompt` is empty, holds a token outside
///   the vocabulary, or leaves no room below the maximum length;
/// - [`ErrorKind::BadVocabulary`]: `eos` is outside the vocabulary;
/// - [`ErrorKind::Gpu`]: the decoder returned logits that are NaN, +∞, or −∞ for every token allowed;
/// - [`ErrorKind::Internal`]: the decoder returned another number of logits than it should;
/// - [`ErrorKind::Aborted`]: `on_progress` cancelled;
/// - whatever the decoder itself fails with.
pub async fn generate<D: Decoder>(
    decoder: &mut D,
    prompt: &[u32],
    eos: u32,
    config: &GenerateConfig,
    on_progress: &mut dyn FnMut(Progress<'_>) -> Control,
) -> Result<Vec<Hypothesis>> {
    config.validate()?;
    check_prompt(prompt, decoder.vocab_size(), config)?;
    if eos as usize >= decoder.vocab_size() {
        let found =
            format!("the end token {eos} is outside the vocabulary of {} tokens", decoder.vocab_size());
        return Err(Error::new(ErrorKind::BadVocabulary, found));
    }
    let mut task = Task { decoder, prompt, eos, config, on_progress };
    if config.num_beams > 1 {
        beam::search(&mut task).await
    } else if config.is_plain_greedy() && task.decoder.runs_ahead() {
        ahead::search(&mut task).await
    } else {
        single::search(&mut task).await
    }
}

/// What both searches work with.
struct Task<'a, D> {
    decoder: &'a mut D,
    prompt: &'a [u32],
    eos: u32,
    config: &'a GenerateConfig,
    on_progress: &'a mut dyn FnMut(Progress<'_>) -> Control,
}

impl<D> Task<'_, D> {
    /// Reports; `ids` are without the prompt.
    fn report(&mut self, index: usize, ids: &[u32], log_prob: f64, done: bool) -> Result<()> {
        report(self.on_progress, index, ids, log_prob, done)
    }
}

fn report(
    on_progress: &mut dyn FnMut(Progress<'_>) -> Control,
    index: usize,
    ids: &[u32],
    log_prob: f64,
    done: bool,
) -> Result<()> {
    match on_progress(Progress { index, ids, log_prob: log_prob as f32, done }) {
        Control::Continue => Ok(()),
        Control::Cancel => {
            let message = format!("generation was cancelled after {} tokens", ids.len());
            Err(Error::new(ErrorKind::Aborted, message))
        }
    }
}

fn check_prompt(prompt: &[u32], vocab: usize, config: &GenerateConfig) -> Result<()> {
    let bad = |message: String| Err(Error::new(ErrorKind::BadOption, message));
    if prompt.is_empty() {
        return bad("the prompt is empty; it holds at least the token that starts a caption".to_owned());
    }
    if let Some(id) = prompt.iter().find(|id| **id as usize >= vocab) {
        return bad(format!("the prompt has token {id}, outside the vocabulary of {vocab} tokens"));
    }
    if prompt.len() >= config.max_length {
        return bad(format!(
            "option maxLength is {}, but the prompt alone has {} tokens; maxLength counts both and must be larger",
            config.max_length,
            prompt.len()
        ));
    }
    Ok(())
}
