//! What a model is trained to do: the losses of the paper, and the stages that combine them.
//!
//! [`itc`], [`itm`] and [`lm`] are one loss each: pure functions of the model and a batch. A stage is an
//! [`Objective`]: it says what a batch of it is, and adds up the losses of one rank's.

pub mod itc;
pub mod itm;
pub mod lm;

mod caption;
mod dialogue;
mod nlvr2;
mod pretrain;
mod retrieval;
mod vqa;

use burn::module::Module;
use burn::tensor::{Device, Tensor};

pub use caption::Captioning;
pub use dialogue::DialogueRanking;
pub use nlvr2::Nlvr2;
pub use pretrain::Pretraining;
pub use retrieval::Retrieval;
pub use vqa::Vqa;

use super::batch::Batch;
use super::contrast::Contrast;
use super::draw::Draw;
use super::momentum::constant;
use super::noise::PassNoise;
use super::queue::{Fresh, Queues};
use crate::Result;
use crate::model::{Blip, VisionModel};

/// What is trained: a model, and the temperature of contrast where the stage has it.
#[derive(Module, Debug)]
pub struct Learner {
    /// The model.
    pub blip: Blip,
    /// The temperature.
    pub contrast: Option<Contrast>,
}

/// What contrast remembers between steps.
#[derive(Module, Debug)]
pub struct Memory {
    /// The momentum networks.
    pub momentum: Blip,
    /// Their features of earlier batches.
    pub queues: Queues,
}

/// What a rank needs beside its batch.
#[derive(Debug)]
pub struct Pass<'a> {
    /// Where the learner is.
    pub device: &'a Device,
    /// What contrast remembers, as it was before the step.
    pub memory: Option<&'a Memory>,
    /// How much momentum features soften targets (`α`).
    pub softness: f64,
    /// Which hard negatives are taken.
    pub negatives: Draw,
    /// What is left out.
    pub noise: PassNoise,
    /// The image encoder, outside the graph, where it stays as it is.
    pub frozen_vision: Option<VisionModel>,
}

impl Pass<'_> {
    /// What the image encoder sees: `[batch, tokens, width]` of `[batch, 3, size, size]`.
    ///
    /// A frozen one computes as in inference, outside the graph, and nothing is left out in it.
    fn look(&self, model: &Blip, pixels: Tensor<4>) -> Tensor<3> {
        match &self.frozen_vision {
            None => model.vision.forward_noisy(pixels, self.noise.of_pass()),
            Some(vision) => constant(vision.forward(pixels.inner()), self.device),
        }
    }
}

/// The losses of one rank's batch.
#[derive(Debug)]
pub struct Losses {
    /// Each by its name; their sum is what is minimised.
    pub parts: Vec<(&'static str, Tensor<1>)>,
    /// Features for the queues.
    pub fresh: Option<Fresh>,
}

impl Losses {
    /// A single loss.
    fn only(name: &'static str, loss: Tensor<1>) -> Self {
        Self { parts: vec![(name, loss)], fresh: None }
    }

    /// What is minimised.
    pub fn total(&self) -> Tensor<1> {
        let mut parts = self.parts.iter().map(|(_, loss)| loss.clone());
        let first = parts.next().expect("a stage has at least one loss");
        parts.fold(first, |sum, loss| sum + loss)
    }
}

/// A stage of training.
pub trait Objective: Send + Sync {
    /// What a rank learns from in one step.
    type Batch: Batch;

    /// The names of its losses, in the order in which [`losses`](Self::losses) returns them.
    fn names(&self) -> &'static [&'static str];

    /// The losses of one rank's batch, for a learner whose parameters are leaves of their own.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`](crate::ErrorKind::BadOption) when the batch cannot be learned from.
    ///
    /// # Panics
    /// When the learner has not the networks that the stage trains.
    fn losses(&self, learner: &Learner, batch: Self::Batch, pass: &mut Pass<'_>) -> Result<Losses>;
}

const NETWORKS: &str = "the model was built for this stage";
