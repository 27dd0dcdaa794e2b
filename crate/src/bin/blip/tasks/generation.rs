//! How to search for text.

use clap::Args;
use serde::Serialize;

/// Options of a search, named as in the SDK; what is left out is the task's own setting.
#[derive(Args, Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Generation {
    /// Beams; 1 is greedy.
    #[arg(long, visible_alias = "beams")]
    num_beams: Option<usize>,
    /// Sample instead of searching.
    #[arg(long)]
    sample: bool,
    /// Seed of sampling.
    #[arg(long)]
    seed: Option<u64>,
    /// Sampling: keep so many of the best tokens, 0 for all.
    #[arg(long)]
    top_k: Option<usize>,
    /// Sampling: of those, the fewest whose probabilities add up to this.
    #[arg(long)]
    top_p: Option<f64>,
    /// Sampling: what logits are divided by.
    #[arg(long)]
    temperature: Option<f64>,
    /// Texts a picture.
    #[arg(long, visible_alias = "captions")]
    num_captions: Option<usize>,
    /// Shortest sequence in tokens, prompt included.
    #[arg(long)]
    min_length: Option<usize>,
    /// Longest sequence in tokens, prompt included.
    #[arg(long)]
    max_length: Option<usize>,
    /// How much repeated tokens lose.
    #[arg(long)]
    repetition_penalty: Option<f64>,
    /// Exponent of the length that beams are divided by.
    #[arg(long, allow_negative_numbers = true)]
    length_penalty: Option<f64>,
    /// Which length that is: `hf` (current transformers) or `orig` (the original repository).
    #[arg(long)]
    length_rule: Option<String>,
    /// Stop as soon as there are as many whole texts as beams.
    #[arg(long)]
    early_stopping: bool,
}
