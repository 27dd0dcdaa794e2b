//! Which random numbers belong to a scene.

use super::{Split, World};
use crate::train::random::Random;

/// What the random numbers decide; each purpose has its own stream, so that one never moves another.
#[derive(Clone, Copy, Debug)]
pub(in crate::train) enum Purpose {
    /// What is in the scene and where.
    Plan = 0,
    /// Tints and background.
    Paint = 1,
    /// Questions and their answers.
    Questions = 2,
    /// Sentences that are nearly true.
    Negatives = 3,
    /// Two pictures and a statement about them.
    Pair = 4,
    /// A clip: what happens in it.
    Clip = 5,
    /// A dialogue.
    Dialogue = 6,
    /// What the web says about a scene.
    Web = 7,
}

/// The stream that belongs to (world, split, seed, index) and nothing else.
pub(in crate::train) fn stream(
    world: World,
    split: Split,
    seed: u64,
    index: u64,
    purpose: Purpose,
) -> Random {
    let kind = split as u64 | (purpose as u64) << 8 | (world as u64) << 16;
    Random::keyed([seed, index, kind, 0])
}
