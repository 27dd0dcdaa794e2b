//! The engine: every stage learns, and a run that was interrupted is the unbroken one, bit for bit.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]
#![allow(clippy::print_stdout, reason = "a passing test shows how much was learned")]

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use blip_tests::icons::icons;
use blip_tests::place::Place;
use blip_tests::training::named;
use blip_web::config::BlipConfig;
use blip_web::model::{Blip, DecoderNetwork, Networks};
use blip_web::tokenizer::Tokenizer;
use blip_web::train::batch::{Batch, PairOptions, Preparation, QuestionsPerPicture, TaskTokens};
use blip_web::train::checkpoint::CheckpointFiles;
use blip_web::train::contrast::Contrast;
use blip_web::train::data::{
    Augment, Dataset, Dialogue, Question, Record, Round, SceneDataset, SceneKind, Statement, Texts,
};
use blip_web::train::engine::{
    Clip, ContrastRecipe, Event, Half, Mixed, NoiseRecipe, Recipe, Run, RunFolder, Shuffled, Stem, Trainer,
    train,
};
use blip_web::train::fresh::FreshParameters;
use blip_web::train::objectives::{Captioning, Learner, Nlvr2, Objective, Pretraining, Retrieval, Vqa};
use blip_web::train::scenes::{SceneWorld, Split, World};
use blip_web::train::schedule::Schedule;
use blip_web::train::vocabulary::vocabulary;
use blip_web::weights::named_tensors;
use blip_web::{Error, ErrorKind};
use burn::tensor::{DType, Device};
use image::{Rgb, RgbImage};

const COLOURS: [(&str, [u8; 3]); 4] =
    [("red", [220, 30, 30]), ("green", [30, 200, 40]), ("blue", [30, 40, 220]), ("white", [240, 240, 240])];

/// Pictures with one colour on each side, and everything that can be said about them.
struct Sides {
    len: usize,
    /// Every so many records one cannot be read.
    torn: Option<usize>,
}

impl Dataset for Sides {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> blip_web::Result<Record> {
        if self.torn.is_some_and(|every| index % every == every - 1) {
            return Err(Error::new(ErrorKind::BadImage, format!("record {index} is torn")));
        }
        let (left, right) = (COLOURS[index % 4], COLOURS[index / 4 % 4]);
        let side = |x: u32| if x < 12 { Rgb(left.1) } else { Rgb(right.1) };
        let picture = RgbImage::from_fn(24, 24, |x, _| side(x));
        let caption = format!("{} left of {}", left.0, right.0);
        let round = Round {
            question: "what is left".to_owned(),
            answer: left.0.to_owned(),
            candidates: COLOURS.map(|colour| colour.0.to_owned()).to_vec(),
        };
        let question = Question { question: round.question.clone(), answers: vec![(left.0.to_owned(), 1.0)] };
        let holds = index.is_multiple_of(2);
        let shown = if holds { left.0 } else { COLOURS[(index + 1) % 4].0 };
        let texts = Texts {
            image_id: Some(index as u64 % 16),
            captions: vec![caption.clone(), format!("a picture , {caption}")],
            questions: vec![question],
            statements: vec![Statement { text: format!("{shown} is left"), holds }],
            dialogue: Some(Dialogue { caption, rounds: vec![round] }),
            ..Texts::default()
        };
        Ok(Record { key: index.to_string(), images: vec![picture.clone(), picture], texts })
    }

    fn describe(&self) -> String {
        "sides".to_owned()
    }
}

fn tokenizer() -> Arc<Tokenizer> {
    let words = ["red", "green", "blue", "white", "left", "of", "what", "is", "a", "picture", ","];
    let vocab = vocabulary(&words.map(str::to_owned)).join("\n");
    Arc::new(Tokenizer::from_vocab(vocab.as_bytes()).unwrap())
}

/// A model that takes milliseconds a step.
fn small(tokenizer: &Tokenizer) -> BlipConfig {
    let mut config = BlipConfig::tiny(tokenizer.vocab_size(), tokenizer.dec(), tokenizer.sep());
    (config.vision_config.hidden_size, config.text_config.hidden_size) = (32, 32);
    (config.vision_config.intermediate_size, config.text_config.intermediate_size) = (64, 64);
    (config.vision_config.num_hidden_layers, config.text_config.num_hidden_layers) = (2, 2);
    (config.vision_config.image_size, config.vision_config.patch_size) = (24, 12);
    config
}

fn networks(decoder: Option<DecoderNetwork>) -> Networks {
    Networks { vision: true, text_encoder: true, decoder, tied_lm: true, itc: true, itm: true, nlvr2: false }
}

fn recipe(steps: usize) -> Recipe {
    Recipe {
        epochs: 1,
        epoch_steps: Some(steps),
        batch: 8,
        ranks: 2,
        workers: 2,
        seed: 7,
        schedule: Schedule::Plateau { peak: 3e-3, warmup: 4, decay: 0 },
        clip: Some(Clip::Total { norm: 1.0 }),
        contrast: None,
        longest: 16,
        noise: NoiseRecipe::default(),
        ..Recipe::pretraining()
    }
}

fn with_contrast(recipe: Recipe) -> Recipe {
    let contrast = ContrastRecipe { queue: 20, momentum: 0.95, softness: 0.4, softness_epochs: 0.5 };
    Recipe { contrast: Some(contrast), ..recipe }
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

fn feed(data: impl Dataset + 'static, augment: Option<Augment>) -> Shuffled {
    let augment = augment.map(|augment| (augment, 24));
    Shuffled { data: Arc::new(data), window: 4, augment, seed: 3, workers: 2 }
}

fn learner(config: &BlipConfig, networks: &Networks, recipe: &Recipe) -> Learner {
    let device = Device::flex();
    let blip = Blip::build(&mut FreshParameters::new(recipe.seed, &device), config, networks);
    Learner { blip, contrast: recipe.contrast.map(|_| Contrast::new(&device)) }
}

/// What a run of a stage is made of.
struct Case<'a, O: Objective> {
    objective: &'a O,
    networks: Networks,
    recipe: Recipe,
    options: <O::Batch as Batch>::Options,
}

impl<O: Objective> Case<'_, O> {
    /// Runs to the end, or breaks off at a report; the model, and the losses that were reported.
    fn run(
        &self,
        path: &Path,
        resume: bool,
        data: &Shuffled,
        on: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> blip_web::Result<(Blip, Vec<f64>)> {
        self.run_on(&[Device::flex()], path, resume, data, on)
    }

    /// The same on other devices.
    fn run_on(
        &self,
        devices: &[Device],
        path: &Path,
        resume: bool,
        data: &Shuffled,
        on: &mut dyn FnMut(&Event<'_>) -> ControlFlow<()>,
    ) -> blip_web::Result<(Blip, Vec<f64>)> {
        let tokenizer = tokenizer();
        let config = small(&tokenizer);
        let preparation = Preparation::new(tokenizer, &config, self.recipe.longest);
        let run = Run {
            stage: "test",
            objective: self.objective,
            recipe: &self.recipe,
            config: &config,
            preparation: &preparation,
            options: self.options.clone(),
            devices,
            folder: RunFolder { path, resume, save_every: 3, report_every: 5 },
        };
        let mut losses = Vec::new();
        let mut observer = |event: Event<'_>| {
            if let Event::Report(report) = event {
                losses.push(report.loss());
            }
            on(&event)
        };
        let model = train(&run, learner(&config, &self.networks, &self.recipe), data, &mut observer)?;
        Ok((model, losses))
    }

    fn learns(&self, name: &str, by: f64) {
        let mut ignore = |_: &Event<'_>| ControlFlow::Continue(());
        let (_, losses) =
            self.run(&folder(name), false, &feed(Sides { len: 96, torn: None }, None), &mut ignore).unwrap();
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        println!("{name}: {first:.3} to {last:.3}");
        assert!(last < first - by, "{name}: {losses:?}");
    }
}

fn tokens() -> TaskTokens {
    TaskTokens::of(&tokenizer())
}

/// What is learned over an image encoder that stays as it is, to the bit.
#[test]
fn a_frozen_image_encoder_is_the_same_afterwards() {
    let case = Case {
        objective: &Vqa { tokens: tokens() },
        networks: Networks {
            itc: false,
            itm: false,
            ..networks(Some(DecoderNetwork::Own { grounding_width: 32 }))
        },
        recipe: Recipe { frozen_vision: true, ..recipe(40) },
        options: QuestionsPerPicture::default(),
    };
    let mut ignore = |_: &Event<'_>| ControlFlow::Continue(());
    let data = feed(Sides { len: 96, torn: None }, None);
    let (model, losses) = case.run(&folder("frozen"), false, &data, &mut ignore).unwrap();
    assert!(losses[losses.len() - 1] < losses[0] - 1.0, "{losses:?}");
    let before = named_tensors(&learner(&small(&tokenizer()), &case.networks, &case.recipe).blip).unwrap();
    let after = named_tensors(&model).unwrap();
    let same = |prefix: &str| {
        before
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .all(|(name, values)| after[name] == *values)
    };
    assert!(same("vision_model.") && !same("text_encoder."));
}

/// The length of the difference between two models' numbers.
fn distance(one: &Blip, other: &Blip) -> f32 {
    let (one, other) = (named_tensors(one).unwrap(), named_tensors(other).unwrap());
    let pairs = one.iter().flat_map(|(name, (_, values))| values.iter().zip(&other[name].1));
    pairs.map(|(one, other)| (one - other).powi(2)).sum::<f32>().sqrt()
}

/// A GPU has to be opened before anything else uses burn's devices, and the tests here run side by side.
#[test]
fn devices_in_a_process_of_their_own() {
    let tests = std::env::current_exe().unwrap();
    let output =
        Command::new(tests).args(["--ignored", "--show-output", "--test-threads", "1"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    assert!(
        output.status.success() && said.contains("2 passed"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Half of the ranks on the CPU and half on the GPU: weights, momentum networks and queues go there,
/// gradients and features come back.
#[test]
#[ignore = "needs a process of its own: `devices_in_a_process_of_their_own`"]
fn ranks_on_several_devices_learn_what_one_device_learns() {
    let Some(gpu) = Place::Wgpu.device() else { return };
    let (mut case, data) = whole();
    case.recipe.epoch_steps = Some(4);
    // What is left out at random is drawn by the device, each in its own way.
    case.recipe.noise = NoiseRecipe::default();
    let mut ignore = |_: &Event<'_>| ControlFlow::Continue(());
    let alone = case.run(&folder("one-device"), false, &data, &mut ignore).unwrap().0;
    let devices = [Device::flex(), gpu.device.clone()];
    let both = case.run_on(&devices, &folder("two-devices"), false, &data, &mut ignore).unwrap().0;
    let moved = distance(&alone, &learner(&small(&tokenizer()), &case.networks, &case.recipe).blip);
    let apart = distance(&alone, &both);
    println!("weights moved by {moved:.1e}; one and two devices are {apart:.1e} apart");
    // Sums in another order, and AdamW's first steps, which are as long whatever the gradient: of the biases
    // of keys it is nothing but rounding.
    assert!(apart < 0.01 * moved, "{apart} of {moved}");
}

#[test]
#[ignore = "needs a process of its own: `devices_in_a_process_of_their_own`"]
fn mixed_precision_learns_as_f32_does_and_finds_its_scale() {
    let Some(gpu) = Place::Wgpu.device() else { return };
    if !gpu.device.supports_dtype(DType::F16) {
        println!("skipped: the adapter lacks shader-f16");
        return;
    }
    let captioning = |mixed| Case {
        objective: Box::leak(Box::new(Captioning { dec: tokens().dec, smoothing: 0.1 })) as &Captioning,
        networks: Networks::caption(32),
        recipe: Recipe { mixed, ..recipe(20) },
        options: String::new(),
    };
    let run = |name, mixed| {
        let mut scales = Vec::new();
        let mut keep = |event: &Event<'_>| {
            if let Event::Report(report) = event {
                scales.push(report.scale);
            }
            ControlFlow::Continue(())
        };
        let data = feed(Sides { len: 96, torn: None }, None);
        let devices = [gpu.device.clone()];
        let (_, losses) = captioning(mixed).run_on(&devices, &folder(name), false, &data, &mut keep).unwrap();
        (losses, scales)
    };
    let (full, scales) = run("f32", None);
    assert!(scales.iter().all(Option::is_none));
    let (half, scales) = run("f16", Some(Mixed { half: Half::F16, scale: 1024.0, growth: 8 }));
    println!("f32 {full:.4?}, f16 {half:.4?}, scale {scales:?}");
    for (full, half) in full.iter().zip(&half) {
        assert!((full - half).abs() < 0.02 * full, "{full} and {half}");
    }
    assert_eq!(scales.last(), Some(&Some(4096.0)), "doubled after 8 and 16 of 20 steps");
    // With a scale that no gradient survives, steps are passed over until it fits; then the run learns.
    let (late, scales) = run("overflow", Some(Mixed { half: Half::F16, scale: 2f64.powi(26), growth: 0 }));
    println!("overflow: {late:.4?}, scale {scales:?}");
    assert!(scales.last().unwrap().unwrap() < 2f64.powi(26));
    // No step of the first report was taken, so it has no loss.
    assert!(late[late.len() - 1] < late[1], "{late:?}");
}

/// Dialogues are left out: from nothing they stay on the plateau of matching for longer than a test has, from
/// the networks for questions they learn at once (`recipes/tiny/dialogue.toml`).
#[test]
fn every_stage_learns() {
    let tokens = tokens();
    let pretraining = Case {
        objective: &Pretraining { tokens },
        networks: networks(Some(DecoderNetwork::Shared)),
        recipe: with_contrast(recipe(60)),
        options: PairOptions::default(),
    };
    pretraining.learns("pretrain", 1.0);
    let captioning = Case {
        objective: &Captioning { dec: tokens.dec, smoothing: 0.1 },
        networks: Networks::caption(32),
        recipe: recipe(60),
        options: String::new(),
    };
    captioning.learns("caption", 1.0);
    let retrieval = Case {
        objective: &Retrieval { tokens },
        networks: networks(None),
        recipe: with_contrast(recipe(60)),
        options: PairOptions::default(),
    };
    retrieval.learns("retrieval", 0.3);
    let vqa = Case {
        objective: &Vqa { tokens },
        networks: Networks {
            itc: false,
            itm: false,
            ..networks(Some(DecoderNetwork::Own { grounding_width: 32 }))
        },
        recipe: recipe(60),
        options: QuestionsPerPicture::default(),
    };
    vqa.learns("vqa", 1.0);
    let nlvr2 = Case {
        objective: &Nlvr2 { enc: tokens.enc },
        networks: Networks { itc: false, itm: false, nlvr2: true, ..networks(None) },
        recipe: recipe(200),
        options: (),
    };
    nlvr2.learns("nlvr2", 0.05);
}

#[test]
fn the_loss_falls_on_scenes() {
    let Some(icons) = icons() else { return };
    let world = Arc::new(SceneWorld::of(World::V0, &icons).unwrap());
    let vocab = vocabulary(&world.words()).join("\n");
    let tokenizer = Arc::new(Tokenizer::from_vocab(vocab.as_bytes()).unwrap());
    let mut config = small(&tokenizer);
    config.vision_config.image_size = 48;
    let recipe = Recipe {
        schedule: Schedule::Plateau { peak: 2e-3, warmup: 4, decay: 0 },
        stem: Stem { prepared: true, fixed_steps: 8 },
        longest: 40,
        ..recipe(60)
    };
    let scenes = SceneDataset::new(world, Split::Train, 1, 0, 10_000, SceneKind::Single).unwrap();
    let preparation = Preparation::new(tokenizer.clone(), &config, recipe.longest);
    let path = folder("scenes");
    let run = Run {
        stage: "caption",
        objective: &Captioning { dec: tokenizer.dec(), smoothing: 0.1 },
        recipe: &recipe,
        config: &config,
        preparation: &preparation,
        options: String::new(),
        devices: &[Device::flex()],
        folder: RunFolder { path: &path, resume: false, save_every: 1000, report_every: 5 },
    };
    let device = Device::flex().autodiff();
    let mut blip = Blip::build(&mut FreshParameters::new(1, &device), &config, &Networks::caption(32));
    blip.vision = blip.vision.prepared_for_training();
    let mut losses = Vec::new();
    let mut observer = |event: Event<'_>| {
        if let Event::Report(report) = event {
            losses.push(report.loss());
        }
        ControlFlow::Continue(())
    };
    train(&run, Learner { blip, contrast: None }, &feed(scenes, None), &mut observer).unwrap();
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(first > 4.5 && last < first - 1.0, "{losses:?}");
}

/// A run with everything that a checkpoint has to keep: moments, momentum networks, queues, an average,
/// negatives, dropout, augmentation, an epoch's end and records that cannot be read.
fn whole() -> (Case<'static, Pretraining>, Shuffled) {
    let objective: &'static Pretraining = Box::leak(Box::new(Pretraining { tokens: tokens() }));
    let recipe = Recipe {
        average: Some(0.9),
        noise: NoiseRecipe { dropout: 0.1, attention_dropout: 0.1, drop_path: 0.2 },
        ..with_contrast(recipe(12))
    };
    let networks = networks(Some(DecoderNetwork::Shared));
    let data = feed(Sides { len: 60, torn: Some(11) }, Some(Augment::PRETRAIN));
    (Case { objective, networks, recipe, options: PairOptions::default() }, data)
}

/// Everything of the run that is kept in a folder, as numbers.
fn kept(case: &Case<'_, Pretraining>, path: &Path) -> Vec<(String, Vec<f32>)> {
    let config = small(&tokenizer());
    let start = learner(&config, &case.networks, &case.recipe);
    let fresh = Trainer::new("test", &case.recipe, &config, start, 60, &Device::flex());
    let trainer = fresh.resumed(&CheckpointFiles::in_folder(path).unwrap()).unwrap();
    assert_eq!(trainer.steps_done(), 12);
    let memory = trainer.memory.as_ref().unwrap();
    let copy = Learner { blip: memory.momentum.clone(), contrast: None };
    let average = Learner { blip: trainer.average.clone().unwrap(), contrast: None };
    let mut all = Vec::new();
    for (what, learner) in [("model", &trainer.learner), ("momentum", &copy), ("average", &average)] {
        all.extend(named(learner).into_iter().map(|(name, (_, values))| (format!("{what} {name}"), values)));
    }
    let queue = |queue: burn::tensor::Tensor<2>| queue.into_data().iter::<f32>().collect::<Vec<f32>>();
    all.push(("images".to_owned(), queue(memory.queues.images())));
    all.push(("texts".to_owned(), queue(memory.queues.texts())));
    let place = memory.queues.place();
    all.push(("next".to_owned(), vec![place.next as f32]));
    all.push(("ids".to_owned(), place.ids.iter().map(|id| id.map_or(-1.0, |id| id as f32)).collect()));
    all
}

#[test]
fn a_killed_run_that_is_resumed_is_the_unbroken_one() {
    let (case, data) = whole();
    let (unbroken, killed, stopped) = (folder("unbroken"), folder("killed"), folder("stopped"));
    // A copy of the folder as it was when the process died, some steps after its last checkpoint.
    let mut copy = |event: &Event<'_>| {
        if let Event::Saved { step: 6 } = event {
            std::fs::create_dir_all(&killed).unwrap();
            let (from, to) = (unbroken.join("checkpoint"), killed.join("checkpoint"));
            std::fs::create_dir_all(&to).unwrap();
            for file in std::fs::read_dir(from).unwrap() {
                let file = file.unwrap();
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
        }
        ControlFlow::Continue(())
    };
    let (expected, _) = case.run(&unbroken, false, &data, &mut copy).unwrap();
    let mut ignore = |_: &Event<'_>| ControlFlow::Continue(());
    let (resumed, _) = case.run(&killed, true, &data, &mut ignore).unwrap();
    // Another one breaks off by itself, and goes on with fewer threads.
    let mut stop = |event: &Event<'_>| match event {
        Event::Report(report) if report.step == 5 => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    };
    case.run(&stopped, false, &data, &mut stop).unwrap();
    let alone = Case { recipe: Recipe { workers: 1, ..case.recipe.clone() }, ..whole().0 };
    let (prolonged, _) = alone.run(&stopped, true, &data, &mut ignore).unwrap();

    let expected = named_tensors(&expected).unwrap();
    assert_eq!(expected, named_tensors(&resumed).unwrap());
    assert_eq!(expected, named_tensors(&prolonged).unwrap());
    let expected = kept(&case, &unbroken);
    for path in [&killed, &stopped] {
        for ((name, expected), (_, got)) in expected.iter().zip(kept(&case, path)) {
            assert_eq!(*expected, got, "{name}");
        }
    }
}

#[test]
fn records_that_cannot_be_read_are_counted() {
    let (case, data) = whole();
    let mut seen = 0;
    let mut count = |event: &Event<'_>| {
        if let Event::Skipped(skipped) = event {
            seen = skipped.records;
            assert_eq!(skipped.reasons[0].code, "bad-image");
        }
        ControlFlow::Continue(())
    };
    case.run(&folder("torn"), false, &data, &mut count).unwrap();
    // 96 records of which every eleventh of 60 is torn: five in the first epoch, some in the second.
    assert!((6..=10).contains(&seen), "{seen}");
}

#[test]
fn a_checkpoint_that_cannot_be_written_is_told_and_the_run_goes_on() {
    let (case, data) = whole();
    let path = folder("full");
    let mut told = 0;
    let mut fill = |event: &Event<'_>| {
        match event {
            Event::Saved { step: 3 } => {
                // The kernel's device that is always full, where the next checkpoint is to be written.
                std::fs::create_dir(path.join("new")).unwrap();
                std::os::unix::fs::symlink("/dev/full", path.join("new/optimizer.bpk")).unwrap();
            }
            Event::NotSaved { step, error } => {
                assert_eq!((*step, error.code()), (6, "io"));
                told += 1;
            }
            _ => {}
        }
        ControlFlow::Continue(())
    };
    let (model, _) = case.run(&path, false, &data, &mut fill).unwrap();
    assert_eq!(told, 1);
    let mut ignore = |_: &Event<'_>| ControlFlow::Continue(());
    let (expected, _) = case.run(&folder("not full"), false, &data, &mut ignore).unwrap();
    assert_eq!(named_tensors(&expected).unwrap(), named_tensors(&model).unwrap());
    assert_eq!(kept(&case, &path).len(), kept(&case, &folder_of("not full")).len());
}

fn folder_of(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

#[test]
fn a_crash_between_two_renames_loses_nothing() {
    let (case, data) = whole();
    let name = folder("crash");
    let with =
        |steps| Case { recipe: Recipe { epoch_steps: Some(steps), ..case.recipe.clone() }, ..whole().0 };
    let mut ignore = |_: &Event<'_>| ControlFlow::Continue(());
    // The softness of targets rises over half an epoch, so that only a run whose length is told by its
    // first half is another one.
    let flat = |steps| {
        let mut case = with(steps);
        if let Some(contrast) = &mut case.recipe.contrast {
            contrast.softness_epochs = 0.0;
        }
        case
    };
    flat(3).run(&name, false, &data, &mut ignore).unwrap();
    std::fs::rename(name.join("checkpoint"), name.join("previous")).unwrap();
    let (_, losses) = flat(4).run(&name, true, &data, &mut ignore).unwrap();
    assert_eq!(losses.len(), 1, "one step was left");
    flat(5).run(&name, true, &data, &mut ignore).unwrap();
    // One that would have been softened otherwise is refused.
    assert_eq!(with(9).run(&name, true, &data, &mut ignore).unwrap_err().code(), "bad-option");
}

#[test]
fn another_runs_checkpoint_is_refused() {
    let (case, data) = whole();
    let name = folder("other");
    let mut ignore = |_: &Event<'_>| ControlFlow::Continue(());
    case.run(&name, false, &data, &mut ignore).unwrap();
    assert_eq!(case.run(&name, false, &data, &mut ignore).unwrap_err().code(), "bad-option");
    let seeded = Case { recipe: Recipe { seed: 8, ..case.recipe.clone() }, ..whole().0 };
    assert_eq!(seeded.run(&name, true, &data, &mut ignore).unwrap_err().code(), "bad-option");
    std::fs::write(name.join("checkpoint/meta.json"), b"{}").unwrap();
    assert_eq!(case.run(&name, true, &data, &mut ignore).unwrap_err().code(), "io");
}

#[test]
fn recomputing_instead_of_keeping_changes_nothing() {
    let (case, data) = whole();
    let mut ignore = |_: &Event<'_>| ControlFlow::Continue(());
    let (kept, _) = case.run(&folder("kept"), false, &data, &mut ignore).unwrap();
    let recomputing = Recipe { gradient_checkpointing: true, ..case.recipe.clone() };
    let case = Case { recipe: recomputing, ..whole().0 };
    let (recomputed, _) = case.run(&folder("recomputed"), false, &data, &mut ignore).unwrap();
    assert_eq!(named_tensors(&kept).unwrap(), named_tensors(&recomputed).unwrap());
}
