//! The engine: one loop for every stage of training.
//!
//! A run is a [`Recipe`], an [`Objective`] and records in an order ([`Feed`]). Each step computes the
//! losses of a few ranks side by side, averages their gradients, lets AdamW take a step, and lets what
//! follows the weights follow them. Everything that a run is goes into its checkpoint, and what is drawn
//! at random is a function of the step, so that a resumed run is the unbroken one, bit for bit, on one
//! device.

mod board;
mod feed;
mod gradients;
mod journal;
mod mixed;
mod plot;
mod recipe;
mod settings;
mod state;
mod step;

use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use burn::tensor::{Device, Tensor};

pub use feed::{Feed, FeedSteps, Shuffled};
pub use journal::{Journal, METRICS, PLOT};
pub use mixed::{Half, Mixed};
pub use plot::{Curve, line_chart};
pub use recipe::{Adam, Clip, ContrastRecipe, NoiseRecipe, Recipe, Stem};
pub use settings::{Origin, Resolved, overlaid, resolve};

pub use state::Trainer;
pub use step::StepLosses;

use self::feed::batches;
use super::batch::{Batch, Preparation};
use super::checkpoint::CheckpointFiles;
use super::data::Skipped;
use super::objectives::{Learner, Objective};
use crate::config::BlipConfig;
use crate::device::block_on;
use crate::kernels::read_floats;
use crate::model::Blip;
use crate::{Error, ErrorKind, Result};

/// What a run is given.
#[derive(Debug)]
pub struct Run<'a, O: Objective> {
    /// The stage's name, which its checkpoints carry.
    pub stage: &'a str,
    /// What is minimised.
    pub objective: &'a O,
    /// The numbers.
    pub recipe: &'a Recipe,
    /// The dimensions of the model.
    pub config: &'a BlipConfig,
    /// How records become batches.
    pub preparation: &'a Preparation,
    /// What the stage's batches need to know beside it.
    pub options: <O::Batch as Batch>::Options,
    /// Where to compute; without automatic differentiation, which the engine switches on. Weights live on
    /// the first, and ranks take turns: with several devices, each computes its share of a step.
    pub devices: &'a [Device],
    /// Where the run lives.
    pub folder: RunFolder<'a>,
}

/// Where a run lives, and how often it saves and reports.
#[derive(Clone, Copy, Debug)]
pub struct RunFolder<'a> {
    /// The folder of its checkpoint.
    pub path: &'a Path,
    /// Go on from the folder's checkpoint, where there is one.
    pub resume: bool,
    /// Steps between checkpoints.
    pub save_every: usize,
    /// Steps between reports.
    pub report_every: usize,
}

/// What happens in a run.
#[derive(Debug)]
pub enum Event<'a> {
    /// It begins, or goes on after so many steps.
    Started {
        /// Steps done.
        step: usize,
        /// Steps of the whole run.
        steps: usize,
    },
    /// How it goes.
    Report(&'a Report),
    /// A checkpoint was written.
    Saved {
        /// Steps done.
        step: usize,
    },
    /// Records were left out: all of them so far.
    Skipped(&'a Skipped),
    /// A checkpoint could not be written, the one before is still there, and the run goes on.
    NotSaved {
        /// Steps done.
        step: usize,
        /// Why.
        error: &'a Error,
    },
}

/// How a run goes.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Steps done.
    pub step: usize,
    /// Steps of the whole run.
    pub steps: usize,
    /// Epochs begun.
    pub epoch: usize,
    /// Means since the last report, by the names of the losses.
    pub losses: Vec<(&'static str, f64)>,
    /// Learning rate of the last step.
    pub lr: f64,
    /// The temperature of contrast, where there is one.
    pub temperature: Option<f64>,
    /// What the loss is multiplied by, in mixed precision.
    pub scale: Option<f64>,
    /// Training time of the whole run, resumed parts included, in seconds.
    pub seconds: f64,
    /// Examples a second since the last report.
    pub rate: f64,
    /// Seconds that the rest of the run takes at this rate.
    pub remaining: f64,
}

impl Report {
    /// The sum of the losses.
    pub fn loss(&self) -> f64 {
        self.losses.iter().map(|(_, loss)| loss).sum()
    }
}

/// Trains a stage from `start` or from the run's checkpoint, and returns the model; before its end, when
/// `observer` breaks off.
///
/// # Errors
/// [`ErrorKind::BadOption`] for a recipe that cannot be, or when a checkpoint of another run is in the
/// way; [`ErrorKind::Io`] when the folder cannot be used, or the last checkpoint cannot be written;
/// [`ErrorKind::Internal`] when the loss stops being a number; and what reading the data fails with.
pub fn train<O: Objective>(
    run: &Run<'_, O>,
    start: Learner,
    data: &dyn Feed,
    observer: &mut dyn FnMut(Event<'_>) -> ControlFlow<()>,
) -> Result<Blip> {
    let Run { recipe, folder, .. } = run;
    recipe.validate()?;
    let Some(home) = run.devices.first() else {
        return Err(Error::new(ErrorKind::BadOption, "a run needs a device"));
    };
    for device in run.devices {
        recipe.mixed.map_or(Ok(()), |mixed| mixed.check_device(device))?;
    }
    let files = CheckpointFiles::in_folder(folder.path)?;
    if files.exist() && !folder.resume {
        let message = "the folder holds the checkpoint of a run: resume it, or use another folder";
        return Err(Error::new(ErrorKind::BadOption, message));
    }
    let mut trainer =
        Trainer::new(run.stage, recipe, run.config, start, data.examples(), home).over(run.devices);
    if files.exist() {
        trainer = trainer.resumed(&files)?;
    }
    let steps = trainer.position().steps();
    if observer(Event::Started { step: trainer.steps_done(), steps }).is_break() {
        return Ok(trainer.outcome());
    }
    let batches = batches::<O::Batch>(run, data, trainer.steps_done())?;
    let mut tally = Tally::new();
    let mut skipped = Skipped::default();
    while trainer.steps_done() < steps {
        let batch = batches.recv().map_err(|e| {
            Error::new(ErrorKind::Internal, "the thread that reads records ended").with_source(e)
        })??;
        if batch.skipped != skipped {
            skipped = batch.skipped;
            _ = observer(Event::Skipped(&skipped));
        }
        let losses;
        (trainer, losses) = trainer.step(run.objective, batch.ranks)?;
        tally.steps += 1;
        tally.losses.extend((!losses.is_empty()).then_some(losses));

        let step = trainer.steps_done();
        let done = step == steps;
        if step.is_multiple_of(folder.report_every) || done {
            let report = tally.report(&mut trainer)?;
            if observer(Event::Report(&report)).is_break() {
                trainer.save(&files)?;
                break;
            }
        }
        if step.is_multiple_of(folder.save_every) || done {
            tally.count_time(&mut trainer);
            match trainer.save(&files) {
                Ok(()) => _ = observer(Event::Saved { step }),
                // A full disk may have room again before the run ends.
                Err(error) if !done => _ = observer(Event::NotSaved { step, error: &error }),
                Err(error) => return Err(error),
            }
        }
    }
    Ok(trainer.outcome())
}

/// What was counted since the last report.
struct Tally {
    losses: Vec<StepLosses>,
    steps: usize,
    clock: Instant,
    seconds: f64,
}

impl Tally {
    fn new() -> Self {
        Self { losses: Vec::new(), steps: 0, clock: Instant::now(), seconds: 0.0 }
    }

    /// Adds the time since the last count to the run's.
    fn count_time(&mut self, trainer: &mut Trainer) {
        let passed = self.clock.elapsed().as_secs_f64();
        self.clock = Instant::now();
        self.seconds += passed;
        trainer.meta.seconds += passed;
    }

    /// The report of the steps since the last one.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a loss is not a number any more.
    fn report(&mut self, trainer: &mut Trainer) -> Result<Report> {
        let counted = std::mem::take(&mut self.losses);
        let steps = std::mem::take(&mut self.steps);
        let mut means: Vec<(&'static str, f64)> = Vec::new();
        // Reading waits for the device, so it happens once a report.
        for losses in &counted {
            for (index, (name, loss)) in losses.iter().enumerate() {
                let share = read(loss.clone())? / counted.len() as f64;
                match means.get_mut(index) {
                    Some((_, mean)) => *mean += share,
                    None => means.push((name, share)),
                }
            }
        }
        if let Some((name, _)) = means.iter().find(|(_, mean)| !mean.is_finite()) {
            let message = format!("the loss `{name}` is not a number any more: lower the learning rate");
            return Err(Error::new(ErrorKind::Internal, message));
        }
        let temperature = match &trainer.learner.contrast {
            Some(contrast) => Some(read(contrast.temperature().inner())?),
            None => None,
        };
        self.count_time(trainer);
        let seconds = std::mem::take(&mut self.seconds);
        let recipe = &trainer.meta.recipe;
        let last = recipe.position(trainer.meta.step - 1, trainer.meta.examples);
        Ok(Report {
            step: trainer.meta.step,
            steps: last.steps(),
            epoch: last.epoch() + 1,
            losses: means,
            lr: recipe.schedule.rate(last),
            temperature,
            scale: trainer.meta.scale.map(|scale| scale.factor),
            seconds: trainer.meta.seconds,
            rate: (steps * recipe.batch) as f64 / seconds.max(f64::MIN_POSITIVE),
            remaining: seconds / steps.max(1) as f64 * (last.steps() - trainer.meta.step) as f64,
        })
    }
}

fn read(scalar: Tensor<1>) -> Result<f64> {
    let values = block_on(read_floats(scalar));
    let values = values
        .map_err(|cause| Error::new(ErrorKind::Internal, "a loss cannot be read").with_source(cause))?;
    Ok(values.first().copied().map_or(f64::NAN, f64::from))
}
