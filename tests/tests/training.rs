//! Training: the engine learns, and a run that was interrupted ends where an uninterrupted one does, bit
//! for bit.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blip_tests::icons::icons;
use blip_web::config::BlipConfig;
use blip_web::model::{Blip, DecoderNetwork, Networks};
use blip_web::tokenizer::Tokenizer;
use blip_web::train::batch::{Batch, Preparation, TaskTokens};
use blip_web::train::contrast::Contrast;
use blip_web::train::data::{SceneDataset, SceneKind};
use blip_web::train::engine::{
    ContrastRecipe, Event, NoiseRecipe, Recipe, Run, RunFolder, Shuffled, Stem, train,
};
use blip_web::train::fresh::FreshParameters;
use blip_web::train::objectives::{Captioning, Learner, Objective, Pretraining};
use blip_web::train::scenes::{SceneWorld, Split};
use blip_web::train::schedule::Schedule;
use blip_web::train::vocabulary::vocabulary;
use burn::module::{Module, ModuleVisitor, Param};
use burn::tensor::{Device, Tensor};

/// A model that takes milliseconds a step.
fn small(tokenizer: &Tokenizer) -> BlipConfig {
    let mut config = BlipConfig::tiny(tokenizer.vocab_size(), tokenizer.dec(), tokenizer.sep());
    (config.vision_config.hidden_size, config.text_config.hidden_size) = (32, 32);
    (config.vision_config.intermediate_size, config.text_config.intermediate_size) = (64, 64);
    (config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers) = (2, 1);
    (config.vision_config.image_size, config.vision_config.patch_size) = (48, 12);
    config
}

/// Two ranks on two threads, dropout, an average, a stem that is fixed at first.
fn recipe(steps: usize) -> Recipe {
    Recipe {
        epochs: 1,
        epoch_steps: Some(steps),
        batch: 8,
        ranks: 2,
        workers: 2,
        seed: 1,
        schedule: Schedule::Plateau { peak: 2e-3, warmup: 4, decay: 0 },
        contrast: None,
        noise: NoiseRecipe { dropout: 0.1, attention_dropout: 0.1, drop_path: 0.1 },
        stem: Stem { prepared: true, fixed_steps: 8 },
        ..Recipe::pretraining()
    }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

/// What every run of these tests has in common.
struct World {
    scenes: Arc<SceneWorld>,
    tokenizer: Arc<Tokenizer>,
    config: BlipConfig,
}

impl World {
    fn load(icons: &Path) -> Self {
        let scenes = Arc::new(SceneWorld::load(icons).unwrap());
        let vocab = vocabulary(&scenes.words()).join("\n");
        let tokenizer = Arc::new(Tokenizer::from_vocab(vocab.as_bytes()).unwrap());
        let config = small(&tokenizer);
        Self { scenes, tokenizer, config }
    }

    fn run<O: Objective>(
        &self,
        objective: &O,
        options: <O::Batch as Batch>::Options,
        networks: &Networks,
        recipe: &Recipe,
        (path, resume): (&Path, bool),
    ) -> blip_web::Result<(Blip, Vec<f64>)> {
        let device = Device::flex();
        let source = &mut FreshParameters::new(recipe.seed, &device.clone().autodiff());
        let mut blip = Blip::build(source, &self.config, networks);
        blip.vision = blip.vision.prepared_for_training();
        let contrast = recipe.contrast.map(|_| Contrast::new(&device.clone().autodiff()));
        let data = SceneDataset::new(self.scenes.clone(), Split::Train, 1, 0, 4096, SceneKind::Single)?;
        let feed = Shuffled { data: Arc::new(data), window: 4096, augment: None, seed: 1, workers: 1 };
        let run = Run {
            stage: "test",
            objective,
            recipe,
            config: &self.config,
            preparation: &Preparation::new(self.tokenizer.clone(), &self.config, 20),
            options,
            device: &device,
            folder: RunFolder { path, resume, save_every: 1000, report_every: 5 },
        };
        let mut losses = Vec::new();
        let mut observer = |event: Event<'_>| {
            if let Event::Report(report) = event {
                losses.push(report.loss());
            }
            ControlFlow::Continue(())
        };
        let model = train(&run, Learner { blip, contrast }, &feed, &mut observer)?;
        Ok((model, losses))
    }

    fn caption(&self, steps: usize, place: (&Path, bool)) -> blip_web::Result<(Blip, Vec<f64>)> {
        let objective = Captioning { dec: self.tokenizer.dec(), smoothing: 0.1 };
        let networks = Networks::caption(self.config.vision_config.hidden_size);
        self.run(&objective, String::new(), &networks, &recipe(steps), place)
    }

    fn pretrain(&self, steps: usize, place: (&Path, bool)) -> blip_web::Result<(Blip, Vec<f64>)> {
        self.pretrain_with(recipe(steps), steps, place)
    }

    fn pretrain_with(
        &self,
        recipe: Recipe,
        steps: usize,
        place: (&Path, bool),
    ) -> blip_web::Result<(Blip, Vec<f64>)> {
        let networks = Networks {
            text_encoder: true,
            decoder: Some(DecoderNetwork::Shared),
            itc: true,
            itm: true,
            ..Networks::caption(self.config.vision_config.hidden_size)
        };
        // A queue that wraps in the middle of a batch; an alpha that still rises.
        let contrast = ContrastRecipe { queue: 20, momentum: 0.9, softness: 0.4, softness_epochs: 0.8 };
        let recipe = Recipe { contrast: Some(contrast), average: Some(0.9), ..recipe };
        let recipe = Recipe { epoch_steps: Some(12), epochs: steps.div_ceil(12), ..recipe };
        let objective = Pretraining { tokens: TaskTokens::of(&self.tokenizer) };
        self.run(&objective, (), &networks, &recipe, place)
    }
}

/// Every parameter in the order of the fields.
struct Values(Vec<Vec<f32>>);

impl ModuleVisitor for Values {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.push(param.val().into_data().try_to_vec::<f32>().unwrap());
    }
}

fn values(model: &Blip) -> Vec<Vec<f32>> {
    let mut values = Values(Vec::new());
    model.visit(&mut values);
    values.0
}

#[test]
fn the_loss_falls_on_scenes() {
    let Some(icons) = icons() else { return };
    let world = World::load(&icons);
    let (_, losses) = world.caption(60, (&folder("learns"), false)).unwrap();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(first > 4.5 && last < first - 1.0, "{losses:?}");
}

#[test]
fn a_resumed_captioner_is_the_uninterrupted_one() {
    let Some(icons) = icons() else { return };
    let world = World::load(&icons);
    let (whole, parts) = (folder("whole"), folder("parts"));
    let (expected, _) = world.caption(12, (&whole, false)).unwrap();
    world.caption(5, (&parts, false)).unwrap();
    let (resumed, _) = world.caption(12, (&parts, true)).unwrap();
    assert_eq!(values(&resumed), values(&expected));
}

/// With momentum networks, queues, hard negatives that are drawn, the ramp of soft targets and the average
/// of the weights: whatever a checkpoint forgot would show.
#[test]
fn a_resumed_pre_training_is_the_uninterrupted_one() {
    let Some(icons) = icons() else { return };
    let world = World::load(&icons);
    let (whole, parts) = (folder("whole-pretraining"), folder("parts-pretraining"));
    let (expected, losses) = world.pretrain(24, (&whole, false)).unwrap();
    assert!(losses.iter().all(|loss| loss.is_finite()), "{losses:?}");
    world.pretrain(12, (&parts, false)).unwrap();
    let (resumed, _) = world.pretrain(24, (&parts, true)).unwrap();
    assert_eq!(values(&resumed), values(&expected));
}

#[test]
fn recomputing_instead_of_keeping_changes_nothing() {
    let Some(icons) = icons() else { return };
    let world = World::load(&icons);
    let of = |gradient_checkpointing, name: &str| {
        let recipe = Recipe { gradient_checkpointing, ..recipe(3) };
        values(&world.pretrain_with(recipe, 3, (&folder(name), false)).unwrap().0)
    };
    assert_eq!(of(true, "recomputed"), of(false, "kept"));
}

#[test]
fn a_crash_between_two_renames_loses_nothing() {
    let Some(icons) = icons() else { return };
    let world = World::load(&icons);
    let name = folder("crash");
    world.caption(3, (&name, false)).unwrap();
    std::fs::rename(name.join("checkpoint"), name.join("previous")).unwrap();
    let (_, losses) = world.caption(4, (&name, true)).unwrap();
    assert_eq!(losses.len(), 1, "one step was left");
    world.caption(5, (&name, true)).unwrap();
}

#[test]
fn another_runs_checkpoint_is_refused() {
    let Some(icons) = icons() else { return };
    let world = World::load(&icons);
    let name = folder("other");
    let code = |result: blip_web::Result<(Blip, Vec<f64>)>| result.unwrap_err().code();
    world.caption(2, (&name, false)).unwrap();
    assert_eq!(code(world.caption(2, (&name, false))), "bad-option");
    assert_eq!(code(world.pretrain(12, (&name, true))), "bad-option");
    std::fs::write(name.join("checkpoint/meta.json"), b"{}").unwrap();
    assert_eq!(code(world.caption(2, (&name, true))), "io");
}
