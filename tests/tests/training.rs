//! Training: the loop learns, and a run that was interrupted ends where an uninterrupted one does.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use blip_tests::icons::icons;
use blip_web::config::BlipConfig;
use blip_web::model::Blip;
use blip_web::tokenizer::Tokenizer;
use blip_web::train::caption::{CaptionTraining, Report, RunOptions, train};
use blip_web::train::scenes::SceneWorld;
use blip_web::train::vocabulary::vocabulary;
use blip_web::weights::named_tensors;
use burn::tensor::Device;

/// A model that takes milliseconds a step.
fn small(tokenizer: &Tokenizer) -> BlipConfig {
    let mut config = BlipConfig::tiny(tokenizer.vocab_size(), tokenizer.dec(), tokenizer.sep());
    (config.vision_config.hidden_size, config.text_config.hidden_size) = (32, 32);
    (config.vision_config.intermediate_size, config.text_config.intermediate_size) = (64, 64);
    (config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers) = (2, 1);
    (config.vision_config.image_size, config.vision_config.patch_size) = (48, 12);
    config
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// The device has one random generator for the process: two runs at a time would mix their draws.
static ONE_RUN: Mutex<()> = Mutex::new(());

fn run(steps: usize, name: &Path, resume: bool, icons: &Path) -> blip_web::Result<(Blip, Vec<f64>)> {
    let _turn = ONE_RUN.lock().unwrap_or_else(PoisonError::into_inner);
    let world = Arc::new(SceneWorld::load(icons)?);
    let vocab = vocabulary(&world.words()).join("\n");
    let tokenizer = Arc::new(Tokenizer::from_vocab(vocab.as_bytes())?);
    let config = small(&tokenizer);
    let training = CaptionTraining {
        steps,
        batch: 8,
        peak_lr: 2e-3,
        warmup: 4,
        decay: 0,
        stem_fixed: 8,
        ..CaptionTraining::default()
    };
    let options = RunOptions { folder: name, resume, save_every: 1000, report_every: 5 };
    let mut losses = Vec::new();
    let mut report = |report: Report| losses.push(report.loss);
    let model = train(&training, &config, world, tokenizer, &Device::flex(), &options, &mut report)?;
    Ok((model, losses))
}

#[test]
fn the_loss_falls_on_scenes() {
    let Some(icons) = icons() else { return };
    let (_, losses) = run(60, &folder("learns"), false, &icons).unwrap();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(first > 4.5 && last < first - 1.0, "{losses:?}");
}

#[test]
fn a_resumed_run_ends_where_an_uninterrupted_one_does() {
    let Some(icons) = icons() else { return };
    let (whole, parts) = (folder("whole"), folder("parts"));
    let (expected, _) = run(12, &whole, false, &icons).unwrap();
    run(5, &parts, false, &icons).unwrap();
    let (resumed, _) = run(12, &parts, true, &icons).unwrap();
    let (expected, resumed) = (named_tensors(&expected).unwrap(), named_tensors(&resumed).unwrap());
    for (name, (_, values)) in &expected {
        let off = values.iter().zip(&resumed[name].1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        // Whatever a checkpoint forgot (a moment, the data position, the schedule) is off by a part of
        // a step, some 1e-3.
        assert!(off < 1e-6, "{name} differs by {off}");
    }
}

#[test]
fn a_crash_between_two_renames_loses_nothing() {
    let Some(icons) = icons() else { return };
    let name = folder("crash");
    run(3, &name, false, &icons).unwrap();
    std::fs::rename(name.join("checkpoint"), name.join("previous")).unwrap();
    let (_, losses) = run(4, &name, true, &icons).unwrap();
    assert_eq!(losses.len(), 1, "one step was left");
    run(5, &name, true, &icons).unwrap();
}

#[test]
fn another_runs_checkpoint_is_refused() {
    let Some(icons) = icons() else { return };
    let name = folder("other");
    run(2, &name, false, &icons).unwrap();
    assert_eq!(run(2, &name, false, &icons).unwrap_err().code(), "bad-option");
    std::fs::write(name.join("checkpoint/meta.json"), b"{}").unwrap();
    assert_eq!(run(2, &name, true, &icons).unwrap_err().code(), "io");
}
