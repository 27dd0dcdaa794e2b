//! What a run is made of: every number that decides how the weights come out.

use serde::{Deserialize, Serialize};

use super::mixed::Mixed;
use crate::train::schedule::{Position, Schedule, ramp};
use crate::{Error, ErrorKind, Result};

/// A stage's numbers; kept in its checkpoints, and what resuming compares with.
///
/// The defaults of a stage are those of the reference (spec §7.2, §9); whoever trains something small on
/// two cores changes most of them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Passes over the data.
    pub epochs: usize,
    /// Steps of an epoch, where it is not one pass over the data.
    pub epoch_steps: Option<usize>,
    /// Examples a step.
    pub batch: usize,
    /// Parts of a step that are computed by themselves, as by so many GPUs of the reference: negatives
    /// and contrast stay within a part and the queues, gradients are averaged.
    pub ranks: usize,
    /// Threads that compute ranks side by side; with fewer than ranks, gradients accumulate. It changes
    /// no number.
    pub workers: usize,
    /// Seed of fresh parameters, of the order of examples and of every draw.
    pub seed: u64,
    /// The learning rate.
    pub schedule: Schedule,
    /// The optimiser.
    pub adam: Adam,
    /// Gradient clipping; none in the reference.
    pub clip: Option<Clip>,
    /// What contrast remembers; only stages that contrast have it.
    pub contrast: Option<ContrastRecipe>,
    /// Tokens of a text that are kept, special ones included.
    pub longest: usize,
    /// Dropout and stochastic depth.
    pub noise: NoiseRecipe,
    /// Decay of a moving average of the weights, which is what the run ends with.
    pub average: Option<f64>,
    /// Recompute what is cheap on the way back instead of keeping it.
    pub gradient_checkpointing: bool,
    /// How fresh weights begin.
    pub stem: Stem,
    /// The image encoder stays as it is, so that the networks of several stages can be put over one; no
    /// stage of the reference does so.
    #[serde(default)]
    pub frozen_vision: bool,
    /// Matrix products in halves, where the device has them.
    #[serde(default)]
    pub mixed: Option<Mixed>,
}

/// AdamW, on every parameter alike (spec §7.2).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Adam {
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
    /// Decay of the weights.
    pub weight_decay: f32,
}

/// What a gradient's length is limited to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Clip {
    /// Of all parameters together, as `torch.nn.utils.clip_grad_norm_` does it.
    Total {
        /// The longest length.
        norm: f32,
    },
    /// Of every parameter by itself.
    Each {
        /// The longest length.
        norm: f32,
    },
}

/// What contrast remembers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ContrastRecipe {
    /// Features in each queue.
    pub queue: usize,
    /// How slowly momentum networks follow.
    pub momentum: f64,
    /// How much momentum features soften the targets in the end (`α`).
    pub softness: f64,
    /// Epochs over which that rises from 0.
    pub softness_epochs: f64,
}

/// Rates of what is left out at random while training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NoiseRecipe {
    /// Of the values a text sub-layer adds, and of the embeddings: 0.1 in the reference.
    pub dropout: f64,
    /// Of the places a text looks at: 0.1 in the reference.
    pub attention_dropout: f64,
    /// Of the last block of the image encoder for whole pictures; it rises linearly from 0 at the first.
    pub drop_path: f64,
}

/// How the image encoder begins when it is trained from nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stem {
    /// Patch filters without a mean and positions that are waves, see
    /// [`VisionModel::prepared_for_training`](crate::model::VisionModel::prepared_for_training).
    pub prepared: bool,
    /// Steps in which filters and positions stay as they are, so that the blocks above settle first.
    pub fixed_steps: usize,
}

impl Recipe {
    /// Pre-training on 224-pixel images (spec §7).
    pub fn pretraining() -> Self {
        Self {
            epochs: 20,
            epoch_steps: None,
            batch: 600,
            ranks: 8,
            workers: 1,
            seed: 42,
            schedule: Schedule::Epochs { peak: 3e-4, start: 1e-6, floor: 1e-6, warmup: 3000, decay: 0.9 },
            adam: Adam { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.05 },
            clip: None,
            contrast: Some(ContrastRecipe {
                queue: 57_600,
                momentum: 0.995,
                softness: 0.4,
                softness_epochs: 2.0,
            }),
            longest: 30,
            noise: NoiseRecipe { dropout: 0.1, attention_dropout: 0.1, drop_path: 0.0 },
            average: None,
            gradient_checkpointing: false,
            stem: Stem::default(),
            frozen_vision: false,
            mixed: None,
        }
    }

    /// Captions, and CapFilt's captioner (spec §9).
    pub fn captioning() -> Self {
        Self { contrast: None, longest: 40, ..Self::fine_tuning(1e-5, 5, 256) }
    }

    /// Retrieval, and CapFilt's filter (spec §9).
    pub fn retrieval() -> Self {
        let contrast = ContrastRecipe { queue: 57_600, momentum: 0.995, softness: 0.4, softness_epochs: 1.0 };
        Self { contrast: Some(contrast), longest: 35, ..Self::fine_tuning(1e-5, 6, 256) }
    }

    /// Questions (spec §9).
    pub fn vqa() -> Self {
        let recipe = Self { longest: 35, ..Self::fine_tuning(2e-5, 10, 256) };
        Self { ranks: 16, noise: NoiseRecipe { drop_path: 0.1, ..recipe.noise }, ..recipe }
    }

    /// Statements about two images (spec §9).
    pub fn nlvr2() -> Self {
        let recipe = Self { longest: 512, ..Self::fine_tuning(3e-5, 15, 256) };
        Self { ranks: 16, noise: NoiseRecipe { drop_path: 0.1, ..recipe.noise }, ..recipe }
    }

    /// Dialogues (spec §9, from the paper).
    pub fn dialogue() -> Self {
        Self { longest: 512, ..Self::fine_tuning(2e-5, 20, 240) }
    }

    fn fine_tuning(peak: f64, epochs: usize, batch: usize) -> Self {
        Self {
            epochs,
            batch,
            schedule: Schedule::Cosine { peak, floor: 0.0 },
            contrast: None,
            ..Self::pretraining()
        }
    }

    /// Where a step is in a run whose data has so many examples.
    pub fn position(&self, step: usize, examples: usize) -> Position {
        let epoch_steps = self.epoch_steps.unwrap_or(examples / self.batch.max(1)).max(1);
        Position { step, epoch_steps, epochs: self.epochs }
    }

    /// How much momentum features soften targets at a step.
    pub fn softness(&self, at: Position) -> f64 {
        self.contrast.map_or(0.0, |contrast| ramp(at, contrast.softness, contrast.softness_epochs))
    }

    /// Checks that such a run can be.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] names the number, and what is expected.
    pub fn validate(&self) -> Result<()> {
        let bad = |message: String| Err(Error::new(ErrorKind::BadOption, format!("recipe: {message}")));
        let counts = [
            ("epochs", self.epochs),
            ("batch", self.batch),
            ("ranks", self.ranks),
            ("workers", self.workers),
            ("epoch_steps", self.epoch_steps.unwrap_or(1)),
            ("contrast.queue", self.contrast.map_or(1, |contrast| contrast.queue)),
        ];
        for (name, count) in counts {
            if count == 0 {
                return bad(format!("{name} is 0, expected at least 1"));
            }
        }
        if !self.batch.is_multiple_of(self.ranks) {
            return bad(format!("batch is {}, expected a multiple of ranks ({})", self.batch, self.ranks));
        }
        if self.longest < 3 {
            return bad(format!(
                "longest is {}, expected at least 3: a word between two marks",
                self.longest
            ));
        }
        let NoiseRecipe { dropout, attention_dropout, drop_path } = self.noise;
        let rates = [
            ("noise.dropout", dropout),
            ("noise.attention_dropout", attention_dropout),
            ("noise.drop_path", drop_path),
            ("contrast.momentum", self.contrast.map_or(0.0, |contrast| contrast.momentum)),
            ("average", self.average.unwrap_or(0.0)),
        ];
        for (name, rate) in rates {
            if !(0.0..1.0).contains(&rate) {
                return bad(format!("{name} is {rate}, expected 0 to less than 1"));
            }
        }
        if let Some(mixed) = self.mixed {
            mixed.validate()?;
        }
        if let Some(contrast) = self.contrast
            && !(0.0..=1.0).contains(&contrast.softness)
        {
            return bad(format!("contrast.softness is {}, expected 0 to 1", contrast.softness));
        }
        Ok(())
    }

    /// Checks that a run of `saved`, which has done so many steps, can go on with these numbers.
    ///
    /// What has no part in the steps that were done may differ: how long the run is, as long as the
    /// learning rate so far does not depend on it, and how many threads there are.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`].
    pub fn check_continues(&self, saved: &Self, done: usize, examples: usize) -> Result<()> {
        let fixed = |recipe: &Self| Self {
            epochs: 0,
            epoch_steps: None,
            workers: 0,
            schedule: Schedule::Cosine { peak: 0.0, floor: 0.0 },
            ..recipe.clone()
        };
        let bad = |message: &str| Err(Error::new(ErrorKind::BadOption, message.to_owned()));
        if fixed(self) != fixed(saved) {
            return bad("the folder holds a checkpoint of a run with other settings: use another folder");
        }
        let course = |recipe: &Self, step| {
            let at = recipe.position(step, examples);
            [recipe.schedule.rate(at), recipe.softness(at)]
        };
        if (0..done).any(|step| course(self, step) != course(saved, step)) {
            return bad(
                "the learning rate so far would have been another with these settings: the length and \
                 the schedule of this run cannot change any more",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stages_of_the_reference_are_valid_and_survive_json() {
        for recipe in [
            Recipe::pretraining(),
            Recipe::captioning(),
            Recipe::retrieval(),
            Recipe::vqa(),
            Recipe::nlvr2(),
            Recipe::dialogue(),
        ] {
            recipe.validate().unwrap();
            let json = serde_json::to_string(&recipe).unwrap();
            assert_eq!(serde_json::from_str::<Recipe>(&json).unwrap(), recipe);
        }
    }

    #[test]
    fn what_cannot_be_names_the_number() {
        type Edit = fn(&mut Recipe);
        let edits: [(Edit, &str); 6] = [
            (|r| r.batch = 0, "batch"),
            (|r| r.ranks = 7, "ranks"),
            (|r| r.noise.dropout = 1.0, "noise.dropout"),
            (|r| r.average = Some(-0.5), "average"),
            (|r| r.longest = 2, "longest"),
            (|r| r.epoch_steps = Some(0), "epoch_steps"),
        ];
        for (edit, name) in edits {
            let mut recipe = Recipe::pretraining();
            edit(&mut recipe);
            let error = recipe.validate().unwrap_err();
            assert!(error.code() == "bad-option" && error.to_string().contains(name), "{error}");
        }
    }

    #[test]
    fn a_run_on_its_plateau_can_be_prolonged_and_a_falling_one_cannot() {
        let run = |steps| Recipe {
            epochs: 1,
            epoch_steps: Some(steps),
            schedule: Schedule::Plateau { peak: 1e-3, warmup: 10, decay: 50 },
            contrast: None,
            ..Recipe::pretraining()
        };
        run(300).check_continues(&run(200), 140, 0).unwrap();
        assert!(run(300).check_continues(&run(200), 160, 0).is_err());
        let threads = Recipe { workers: 7, ..run(200) };
        threads.check_continues(&run(200), 160, 0).unwrap();
        let other = Recipe { seed: 7, ..run(200) };
        assert!(other.check_continues(&run(200), 0, 0).is_err());
    }
}
