//! `blip train`.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use blip_web::config::BlipConfig;
use blip_web::convert::ModelDirectory;
use blip_web::tokenizer::Tokenizer;
use blip_web::train::caption::{CaptionTraining, Report, RunOptions, train};
use blip_web::train::scenes::{SceneWorld, knowledge};
use blip_web::train::vocabulary::vocabulary;
use blip_web::weights::{Precision, Quantisation, named_tensors};
use burn::tensor::Device;
use clap::{Args, Subcommand};

use super::convert::write_model;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// A captioner with a plain LM loss, on composed scenes.
    Caption(Arguments),
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// The `@iconify-json` folder of an npm installation.
    #[arg(long)]
    icons: PathBuf,
    /// Folder of the run: checkpoint and log.
    #[arg(long)]
    run: PathBuf,
    /// Where to write the finished model directory.
    #[arg(long)]
    out: PathBuf,
    /// Go on from the run's checkpoint if there is one.
    #[arg(long)]
    resume: bool,
    /// Optimiser steps.
    #[arg(long, default_value_t = CaptionTraining::default().steps)]
    steps: usize,
    /// Scenes a step.
    #[arg(long, default_value_t = CaptionTraining::default().batch)]
    batch: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = CaptionTraining::default().peak_lr)]
    lr: f64,
    /// Steps of linear decay at the end.
    #[arg(long, default_value_t = CaptionTraining::default().decay)]
    decay: usize,
    /// Seed of parameters and scenes.
    #[arg(long, default_value_t = CaptionTraining::default().seed)]
    seed: u64,
    /// Steps between checkpoints.
    #[arg(long, default_value_t = 250)]
    save_every: usize,
    /// Steps between reports.
    #[arg(long, default_value_t = 50)]
    report_every: usize,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let Command::Caption(arguments) = command;
    let world = Arc::new(SceneWorld::load(&arguments.icons)?);
    let vocab = vocabulary(&world.words()).join("\n") + "\n";
    let tokenizer = Arc::new(Tokenizer::from_vocab(vocab.as_bytes())?);
    let config = BlipConfig::tiny(tokenizer.vocab_size(), tokenizer.dec(), tokenizer.sep());
    let training = CaptionTraining {
        steps: arguments.steps,
        batch: arguments.batch,
        peak_lr: arguments.lr,
        decay: arguments.decay,
        seed: arguments.seed,
        ..CaptionTraining::default()
    };
    println!("{}", serde_json::to_string(&training)?);
    println!("{}", serde_json::to_string(&config)?);
    let options = RunOptions {
        folder: &arguments.run,
        resume: arguments.resume,
        save_every: arguments.save_every.max(1),
        report_every: arguments.report_every.max(1),
    };
    let mut report = |r: Report| {
        println!("step {:>6}  loss {:.4}  lr {:.2e}  {:.0} s", r.step, r.loss, r.lr, r.seconds);
    };
    let model = train(&training, &config, world, tokenizer, &Device::flex(), &options, &mut report)?;
    let directory = ModelDirectory {
        id: "tiny".to_owned(),
        config,
        tasks: Some(vec!["caption".to_owned()]),
        licence: "MIT OR Apache-2.0".to_owned(),
        knows: Some(known_words()),
    };
    let checkpoint = named_tensors(&model)?.into();
    let half = Quantisation::uniform(Precision::F16);
    write_model(&arguments.out, &directory, &checkpoint, vocab.as_bytes(), half)
        .with_context(|| format!("cannot write {}", arguments.out.display()))?;
    Ok(())
}

/// What the model was shown, as lists of words that a page can print.
fn known_words() -> serde_json::Value {
    let known = knowledge();
    serde_json::json!({
        "nouns": known.nouns,
        "colours": known.colours,
        "places": known.places,
        "relations": known.relations,
        "heldOut": known.held_out,
    })
}
