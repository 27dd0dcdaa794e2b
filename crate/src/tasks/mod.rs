//! What a user asks of a model: the public Rust API.
//!
//! A [`Session`] holds models, their tokenizers and a device; the tasks are its methods. A picture is
//! encoded once ([`Picture`]) and asked as often as wanted. [`Request`] is the same as JSON.

mod ask;
mod caption;
mod classify;
mod decoder;
mod dialogue;
mod embed;
mod encode;
mod explain;
mod features;
mod gallery;
mod matching;
mod nlvr2;
mod options;
mod overlay;
mod part;
mod picture;
mod request;
mod self_test;
mod session;
mod steps;
mod video;
mod warm_up;

pub use ask::{Answer as AskAnswer, Answers, AskOptions, Frames};
pub use caption::{Caption, CaptionOptions, CaptionProgress, Captions, Timings};
pub use classify::{ClassifyOptions, Label};
pub use decoder::ModelDecoder;
#[cfg(feature = "train")]
pub(crate) use dialogue::dialogue_ids;
pub use dialogue::{DialogueOptions, Reply, Turn};
pub use embed::{EmbedKind, EmbedOptions, EmbedOutput, Embedding};
pub use encode::{BATCH, FRAMES};
pub use explain::{ExplainOptions, ExplainedToken, ExplainedWord, Explanation, Maps};
pub use gallery::Reranked;
pub use matching::{Convention, Head, ItmScore, Match, MatchOptions};
pub use nlvr2::{Nlvr2Answer, Nlvr2Options};
pub use overlay::{OverlayOptions, Shown, overlay, overlay_pixels};
pub use part::{ModelLoader, Part, Task};
pub use picture::Picture;
pub use request::{Answer, Event, Request};
pub use self_test::{Check, SelfTest};
pub use session::Session;
pub use video::{Sampling, frame_indices};
