//! How well a model does: every task of the paper over any [`Dataset`](super::data::Dataset).
//!
//! Each measure is a function of a [`Session`](crate::tasks::Session) and [`Examples`], and returns what it
//! counted, to be written as JSON; the numbers themselves are those of [`metrics`](super::metrics). Examples
//! that cannot be read, or lack what the measure is about, are counted and left out. A record with the frames
//! of a clip is seen as one picture, without training for it (paper §5.6).

mod captions;
mod dialogues;
mod examples;
mod pairs;
mod questions;
mod ranked;
mod retrieval;
mod scenes;

pub use captions::{CaptionReport, Measured, Said, captions};
pub use dialogues::{DialogueReport, dialogues};
pub use examples::{CLIP_FRAMES, Examples, Left, OnExample};
pub use pairs::{NegativeReport, StatementReport, hard_negatives, statements};
pub use questions::{Answered, QuestionOptions, QuestionReport, Reply, answer_list, questions};
pub use ranked::Ranked;
pub use retrieval::{Directions, RetrievalOptions, RetrievalReport, retrieval};
pub use scenes::{SceneScore, Share, score};
