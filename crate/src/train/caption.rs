//! Captioning with a plain LM loss: how `models/tiny` v0 is made. Read top to bottom.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use burn::grad_clipping::GradientClippingConfig;
use burn::module::Module;
use burn::optim::{AdamWConfig, GradientsAccumulator, GradientsParams, ModuleOptimizer};
use burn::tensor::{Device, Tensor};
use serde::{Deserialize, Serialize};

use super::batch::{Batch, HostBatch, scene_batches};
use super::checkpoint::CheckpointFiles;
use super::loss::lm_loss;
use super::scenes::SceneWorld;
use super::schedule::warmup_plateau_decay;
use crate::config::BlipConfig;
use crate::model::{Blip, Grounding, Networks};
use crate::tokenizer::Tokenizer;
use crate::{Error, ErrorKind, Result};

/// What a run is made of; kept in its checkpoint, and what resuming compares with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CaptionTraining {
    /// Optimiser steps; a run that is still on the plateau can be prolonged.
    pub steps: usize,
    /// Scenes a step.
    pub batch: usize,
    /// Peak learning rate.
    pub peak_lr: f64,
    /// Steps of linear warm-up.
    pub warmup: usize,
    /// Steps of linear decay at the end.
    pub decay: usize,
    /// AdamW's weight decay, on every parameter as in the reference.
    pub weight_decay: f32,
    /// Label smoothing of the LM loss.
    pub label_smoothing: f64,
    /// Steps at the start in which patch filters and positions stay as they were prepared: a fixed
    /// projection lets the blocks above it settle first.
    pub stem_fixed: usize,
    /// Threads that each take a part of a step's scenes; the gradients are averaged.
    pub workers: usize,
    /// Seed of the parameters and of the scenes.
    pub seed: u64,
}

impl Default for CaptionTraining {
    fn default() -> Self {
        Self {
            steps: 4800,
            batch: 32,
            peak_lr: 1e-3,
            warmup: 400,
            decay: 1500,
            weight_decay: 0.05,
            label_smoothing: 0.1,
            stem_fixed: 2000,
            workers: 2,
            seed: 1,
        }
    }
}

/// The state of a run between two steps.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Meta {
    training: CaptionTraining,
    config: BlipConfig,
    step: usize,
    seconds: f64,
}

/// What the loop reports.
#[derive(Clone, Copy, Debug)]
pub struct Report {
    /// Steps done.
    pub step: usize,
    /// Mean LM loss since the last report.
    pub loss: f64,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Training time of the whole run, resumed parts included, in seconds.
    pub seconds: f64,
}

/// Where a run lives and how often it saves and reports.
#[derive(Debug)]
pub struct RunOptions<'a> {
    /// Folder of the checkpoint.
    pub folder: &'a Path,
    /// Continue from the folder's checkpoint.
    pub resume: bool,
    /// Steps between checkpoints.
    pub save_every: usize,
    /// Steps between reports.
    pub report_every: usize,
}

/// Trains a captioner on scenes, from nothing or from the run's checkpoint, and returns it.
///
/// # Errors
/// [`ErrorKind::BadOption`] when a checkpoint of another run is in the way, [`ErrorKind::Io`] when
/// the folder cannot be used, [`ErrorKind::Internal`] when the loss stops being a number.
pub fn train(
    training: &CaptionTraining,
    config: &BlipConfig,
    world: Arc<SceneWorld>,
    tokenizer: Arc<Tokenizer>,
    device: &Device,
    options: &RunOptions<'_>,
    report: &mut dyn FnMut(Report),
) -> Result<Blip> {
    let files = CheckpointFiles::in_folder(options.folder)?;
    let device = device.clone().autodiff();
    device.seed(training.seed);
    let networks = Networks::caption(config.vision_config.hidden_size);
    let mut model = Blip::init(config, &networks, &device);
    model.vision = model.vision.prepared_for_training();
    let mut optimizer = optimizer(training);
    let mut meta = Meta { training: training.clone(), config: config.clone(), step: 0, seconds: 0.0 };
    if files.exist() && !options.resume {
        let message = "the folder holds the checkpoint of a run: resume it, or use another folder";
        return Err(Error::new(ErrorKind::BadOption, message));
    }
    if files.exist() {
        let saved: Meta;
        (model, optimizer, saved) = files.load(model, optimizer)?;
        let length = |t: &CaptionTraining| CaptionTraining { steps: 0, decay: 0, ..t.clone() };
        if length(&saved.training) != length(training) || saved.config != *config {
            let message = "the folder holds a checkpoint of a run with other settings: use another folder";
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        let decayed = saved.training.steps.saturating_sub(saved.training.decay) < saved.step;
        if decayed && saved.training != *training {
            let message =
                "the learning rate of this run is falling already: its length cannot change any more";
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        meta = Meta { training: training.clone(), ..saved };
    }
    let start = (meta.step * training.batch) as u64;
    let batches = scene_batches(
        world,
        tokenizer,
        config.vision_config.image_size,
        training.batch,
        training.seed,
        start,
    );

    let mut clock = Instant::now();
    let mut losses = Vec::new();
    while meta.step < training.steps {
        let batch = batches
            .recv()
            .map_err(|e| Error::new(ErrorKind::Internal, "the scene thread ended").with_source(e))??;
        let lr = warmup_plateau_decay(
            meta.step,
            training.steps,
            training.warmup,
            training.decay,
            training.peak_lr,
        );
        let (mut gradients, loss) =
            gradients(&model, batch.split(training.workers), &device, training.label_smoothing)?;
        losses.push(loss);
        if meta.step < training.stem_fixed {
            let (filters, positions) = model.vision.stem();
            gradients.remove::<2>(filters);
            gradients.remove::<2>(positions);
        }
        model = optimizer.step(lr, model, gradients);
        meta.step += 1;

        let done = meta.step == training.steps;
        if meta.step.is_multiple_of(options.report_every) || done {
            // Reading the losses waits for the device, so it happens once a report.
            let loss = mean(std::mem::take(&mut losses))?;
            meta.seconds += clock.elapsed().as_secs_f64();
            clock = Instant::now();
            report(Report { step: meta.step, loss, lr, seconds: meta.seconds });
        }
        if meta.step.is_multiple_of(options.save_every) || done {
            files.save(&model, &optimizer, &meta)?;
        }
    }
    Ok(model.valid())
}

/// The gradients of the mean loss of some parts of a batch, computed side by side, and that loss.
///
/// The CPU device runs little but matrix products on several threads, so a step on one thread would
/// leave cores idle; the parts are added up in their order, so the result does not depend on timing.
fn gradients(
    model: &Blip,
    parts: Vec<HostBatch>,
    device: &Device,
    smoothing: f64,
) -> Result<(GradientsParams, Tensor<1>)> {
    let count = parts.len() as f64;
    let one = |part: HostBatch| {
        // Leaves of its own: two backward passes cannot share a graph.
        let model = model.clone().fork(device);
        let loss = caption_loss(&model, part.on(device), smoothing).div_scalar(count);
        (GradientsParams::from_grads(loss.backward(), &model), loss.inner())
    };
    let results = std::thread::scope(|scope| {
        let one = &one;
        let threads: Vec<_> = parts.into_iter().map(|part| scope.spawn(move || one(part))).collect();
        threads.into_iter().map(std::thread::ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let mut sum = GradientsAccumulator::new();
    let mut losses = Vec::new();
    for result in results {
        let failed = |_| Error::new(ErrorKind::Internal, "a training thread panicked");
        let (gradients, loss) = result.map_err(failed)?;
        sum.accumulate(model, gradients);
        losses.push(loss);
    }
    Ok((sum.grads(), Tensor::cat(losses, 0).sum()))
}

/// The LM loss of a batch of images and captions.
pub fn caption_loss(model: &Blip, batch: Batch, smoothing: f64) -> Tensor<1> {
    let image = model.vision.forward(batch.pixels);
    let decoder = model.decoder().expect("a captioner has a decoder");
    let grounding = Grounding::new(decoder.cross_kv(image));
    // Padding stands at the end, where no real token looks: the causal mask hides it already.
    let logits = model.lm_logits(batch.ids.clone(), None, &grounding);
    lm_loss(logits, batch.ids, batch.pads, smoothing)
}

fn optimizer(training: &CaptionTraining) -> ModuleOptimizer {
    AdamWConfig::new()
        .with_beta_2(0.98)
        .with_epsilon(1e-8)
        .with_weight_decay(training.weight_decay)
        .with_grad_clipping(Some(GradientClippingConfig::Norm(1.0)))
        .init()
}

fn mean(losses: Vec<Tensor<1>>) -> Result<f64> {
    let count = losses.len();
    let total = losses.into_iter().map(|loss| f64::from(loss.into_scalar::<f32>())).sum::<f64>();
    let mean = total / count.max(1) as f64;
    if mean.is_finite() {
        return Ok(mean);
    }
    Err(Error::new(ErrorKind::Internal, "the loss is not a number any more: lower the learning rate"))
}
