//! `blip train`: a stage of training, from a config file to a model directory.

mod data;
mod model;

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use blip_web::ErrorKind;
use blip_web::convert::ModelDirectory;
use blip_web::model::Blip;
use blip_web::train::batch::{Batch, PairOptions, Preparation, QuestionsPerPicture, TaskTokens};
use blip_web::train::data::Augment;
use blip_web::train::engine::{
    Event, Journal, Origin, Recipe, Report, Resolved, Run, RunFolder, Shuffled, resolve, train,
};
use blip_web::train::objectives::{
    Captioning, DialogueRanking, Nlvr2, Objective, Pretraining, Retrieval, Vqa,
};
use blip_web::weights::{Precision, Quantisation, named_tensors};
use burn::tensor::Device;
use clap::{Args, Subcommand};
use serde::{Deserialize, Serialize};
use serde_json::json;

use self::data::DataConfig;
use self::model::{ModelConfig, Start};
use super::convert::write_model;
use super::source::DeviceName;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Contrast, matching and language modelling at once, on pairs of images and texts.
    Pretrain(Arguments),
    /// Captions, and CapFilt's captioner.
    Caption(Arguments),
    /// Retrieval, and CapFilt's filter.
    Retrieval(Arguments),
    /// Questions and answers.
    Vqa(Arguments),
    /// Statements about two images.
    Nlvr2(Arguments),
    /// Answers in a dialogue, to be ranked.
    Dialogue(Arguments),
}

/// A stage of training.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Pretrain,
    Caption,
    Retrieval,
    Vqa,
    Nlvr2,
    Dialogue,
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// TOML with `[model]`, `[data]`, `[recipe]` and `[run]`; the rest is the stage's default.
    #[arg(long)]
    config: PathBuf,
    /// A setting that is otherwise than in the file: `recipe.batch=32`.
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder of the run: checkpoint, `metrics.jsonl`, `losses.svg`, TensorBoard's events.
    #[arg(long)]
    run: PathBuf,
    /// Where to write the finished model directory.
    #[arg(long)]
    out: PathBuf,
    /// Go on from the run's checkpoint if there is one.
    #[arg(long)]
    resume: bool,
    /// Begin with the weights of this model directory or checkpoint.
    #[arg(long, value_name = "MODEL")]
    init: Option<PathBuf>,
    /// How the matrices of the finished model are stored.
    #[arg(long, value_enum, default_value_t = Precision::F16)]
    dtype: Precision,
    /// Where to compute.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
}

/// A config file.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    model: ModelConfig,
    data: DataConfig,
    recipe: Recipe,
    captioning: CaptioningConfig,
    matching: MatchingConfig,
    questions: QuestionsConfig,
    run: RunConfig,
}

/// What only captioning asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CaptioningConfig {
    /// What every caption begins with; no target.
    prompt: String,
    /// Label smoothing.
    label_smoothing: f64,
}

/// What only pre-training and retrieval ask for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchingConfig {
    /// How often the wrong text of a picture is one of its record's own nearly true texts, where it has
    /// such, instead of one drawn out of the batch.
    own_negatives: f64,
}

/// What only questions ask for.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct QuestionsConfig {
    /// How many questions about a picture are asked in one step, where it has so many.
    per_picture: usize,
}

/// How often a run saves and reports.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RunConfig {
    save_every: usize,
    report_every: usize,
}

impl Stage {
    fn name(self) -> &'static str {
        match self {
            Self::Pretrain => "pretrain",
            Self::Caption => "caption",
            Self::Retrieval => "retrieval",
            Self::Vqa => "vqa",
            Self::Nlvr2 => "nlvr2",
            Self::Dialogue => "dialogue",
        }
    }

    /// The reference's settings.
    fn defaults(self) -> Config {
        let (recipe, augment) = match self {
            Self::Pretrain => (Recipe::pretraining(), Augment::PRETRAIN),
            Self::Caption => (Recipe::captioning(), Augment::FINETUNE),
            Self::Retrieval => (Recipe::retrieval(), Augment::FINETUNE),
            Self::Vqa => (Recipe::vqa(), Augment::FINETUNE),
            Self::Nlvr2 => (Recipe::nlvr2(), Augment::FINETUNE),
            Self::Dialogue => (Recipe::dialogue(), Augment::FINETUNE),
        };
        Config {
            model: ModelConfig::default(),
            data: DataConfig::new(augment),
            recipe,
            captioning: CaptioningConfig { prompt: "a picture of ".to_owned(), label_smoothing: 0.1 },
            matching: MatchingConfig { own_negatives: 0.0 },
            questions: QuestionsConfig { per_picture: 1 },
            run: RunConfig { save_every: 250, report_every: 50 },
        }
    }
}

pub(crate) fn run(command: &Command) -> Result<()> {
    let (stage, arguments) = match command {
        Command::Pretrain(arguments) => (Stage::Pretrain, arguments),
        Command::Caption(arguments) => (Stage::Caption, arguments),
        Command::Retrieval(arguments) => (Stage::Retrieval, arguments),
        Command::Vqa(arguments) => (Stage::Vqa, arguments),
        Command::Nlvr2(arguments) => (Stage::Nlvr2, arguments),
        Command::Dialogue(arguments) => (Stage::Dialogue, arguments),
    };
    let file = &arguments.config;
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let resolved = resolve(&stage.defaults(), Some(&text), &arguments.set)?;
    let config = &resolved.value;
    check(config)?;
    config.recipe.validate()?;
    let start = config.model.start(stage, &config.recipe, arguments.init.as_deref())?;
    let feed = config.data.open(start.config.vision_config.image_size, config.recipe.seed)?;
    say(stage, &resolved, &start, &feed)?;
    let tokens = TaskTokens::of(&start.tokenizer);
    let pairs = PairOptions { own_negatives: config.matching.own_negatives };
    let job = Job { stage, arguments, config, feed: &feed };
    match stage {
        Stage::Pretrain => job.run(&Pretraining { tokens }, pairs, start),
        Stage::Caption => {
            let CaptioningConfig { prompt, label_smoothing } = config.captioning.clone();
            let objective = Captioning { dec: tokens.dec, smoothing: label_smoothing };
            job.run(&objective, prompt, start)
        }
        Stage::Retrieval => job.run(&Retrieval { tokens }, pairs, start),
        Stage::Vqa => job.run(&Vqa { tokens }, QuestionsPerPicture(config.questions.per_picture), start),
        Stage::Nlvr2 => job.run(&Nlvr2 { enc: tokens.enc }, (), start),
        Stage::Dialogue => job.run(&DialogueRanking { tokens }, (), start),
    }
}

fn check(Config { run, matching, questions, .. }: &Config) -> Result<()> {
    let own = matching.own_negatives;
    if !(0.0..=1.0).contains(&own) {
        let message = format!("matching.own_negatives is {own}, expected 0 to 1");
        return Err(blip_web::Error::new(ErrorKind::BadOption, message).into());
    }
    for (name, every) in [
        ("run.save_every", run.save_every),
        ("run.report_every", run.report_every),
        ("questions.per_picture", questions.per_picture),
    ] {
        if every == 0 {
            let message = format!("{name} is 0, expected at least 1");
            return Err(blip_web::Error::new(ErrorKind::BadOption, message).into());
        }
    }
    Ok(())
}

/// What the run will do, before it does: every setting, and where those come from that are not the
/// stage's defaults.
fn say(stage: Stage, resolved: &Resolved<Config>, start: &Start, feed: &Shuffled) -> Result<()> {
    println!("{}", json!({ "stage": stage.name(), "settings": resolved.value }));
    let of = |wanted: Origin| -> Vec<&str> {
        resolved.origins.iter().filter(|(_, origin)| **origin == wanted).map(|(path, _)| &**path).collect()
    };
    println!("{}", json!({ "fromFile": of(Origin::File), "fromCommandLine": of(Origin::Set) }));
    println!("{}", json!({ "config": start.config }));
    if !start.fresh.is_empty() {
        println!("{}", json!({ "fresh": start.fresh }));
    }
    println!("data: {}", feed.data.describe());
    Ok(())
}

struct Job<'a> {
    stage: Stage,
    arguments: &'a Arguments,
    config: &'a Config,
    feed: &'a Shuffled,
}

impl Job<'_> {
    fn run<O: Objective>(
        &self,
        objective: &O,
        options: <O::Batch as Batch>::Options,
        start: Start,
    ) -> Result<()> {
        let Self { stage, arguments, config, feed } = *self;
        let Start { learner, config: dimensions, networks, tokenizer, vocabulary, .. } = start;
        let devices = match arguments.device {
            DeviceName::Cpu => vec![Device::flex()],
            DeviceName::Gpu => vec![arguments.device.open()?.device],
            #[cfg(feature = "cuda")]
            DeviceName::Cuda => blip_web::device::cuda_devices()?,
            #[cfg(not(feature = "cuda"))]
            DeviceName::Cuda => vec![arguments.device.open()?.device],
        };
        let preparation = Preparation::new(tokenizer, &dimensions, config.recipe.longest);
        let run = Run {
            stage: stage.name(),
            objective,
            recipe: &config.recipe,
            config: &dimensions,
            preparation: &preparation,
            options,
            devices: &devices,
            folder: RunFolder {
                path: &arguments.run,
                resume: arguments.resume,
                save_every: config.run.save_every,
                report_every: config.run.report_every,
            },
        };
        let model = observed(&run, learner, feed, &arguments.run)?;
        let directory = ModelDirectory {
            id: name_of(&arguments.out),
            config: dimensions,
            tasks: Some(networks.tasks().into_iter().map(str::to_owned).collect()),
            licence: config.model.licence.clone(),
            knows: config.data.world().map(|world| known_words(&world.knowledge())),
        };
        let checkpoint = named_tensors(&model)?.into();
        let precision = Quantisation::uniform(arguments.dtype);
        write_model(&arguments.out, &directory, &checkpoint, &vocabulary, precision)
            .with_context(|| format!("cannot write {}", arguments.out.display()))?;
        println!("wrote {}", arguments.out.display());
        Ok(())
    }
}

/// Trains, and tells of it on the terminal and in the run's folder.
fn observed<O: Objective>(
    run: &Run<'_, O>,
    learner: blip_web::train::objectives::Learner,
    feed: &Shuffled,
    folder: &Path,
) -> Result<Blip> {
    let mut journal: Option<Journal> = None;
    let mut told = false;
    let mut observer = |event: Event<'_>| {
        let noted = match event {
            Event::Started { step, steps } => {
                println!("{step} of {steps} steps are done");
                Journal::open(folder, step).map(|opened| journal = Some(opened))
            }
            Event::Report(report) => {
                println!("{}", line(report));
                journal.as_mut().map_or(Ok(()), |journal| journal.note(report))
            }
            Event::Saved { .. } => journal.as_ref().map_or(Ok(()), Journal::plot),
            Event::Skipped(skipped) => {
                eprintln!("blip: {} records were left out: {}", skipped.records, json!(skipped.reasons));
                Ok(())
            }
            Event::NotSaved { step, error } => {
                eprintln!("blip: step {step} is not saved, the checkpoint before it is kept: {error}");
                Ok(())
            }
        };
        // A journal that cannot be written is no reason to lose a run.
        if let Err(error) = noted
            && !std::mem::replace(&mut told, true)
        {
            eprintln!("blip: {error}");
        }
        ControlFlow::Continue(())
    };
    Ok(train(run, learner, feed, &mut observer)?)
}

/// A report on one line.
fn line(report: &Report) -> String {
    let losses: Vec<String> = report.losses.iter().map(|(name, loss)| format!("{name} {loss:.4}")).collect();
    let temperature = report.temperature.map(|value| format!("  temp {value:.4}")).unwrap_or_default();
    format!(
        "step {:>6}/{}  {}  lr {:.2e}{temperature}  {:.0} examples/s  {} so far, {} to go",
        report.step,
        report.steps,
        losses.join("  "),
        report.lr,
        report.rate,
        duration(report.seconds),
        duration(report.remaining),
    )
}

fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, seconds) => format!("{seconds} s"),
        (0, minutes, seconds) => format!("{minutes} min {seconds:02} s"),
        (hours, minutes, _) => format!("{hours} h {minutes:02} min"),
    }
}

/// The name of a model is that of its folder.
fn name_of(out: &Path) -> String {
    out.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// What a model of scenes was shown, as lists of words that a page can print.
fn known_words(known: &blip_web::train::scenes::Knowledge) -> serde_json::Value {
    json!({
        "nouns": known.nouns,
        "colours": known.colours,
        "places": known.places,
        "relations": known.relations,
        "heldOut": known.held_out,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use blip_web::train::schedule::Schedule;

    #[test]
    fn the_defaults_of_every_stage_survive_their_own_file() {
        for stage in
            [Stage::Pretrain, Stage::Caption, Stage::Retrieval, Stage::Vqa, Stage::Nlvr2, Stage::Dialogue]
        {
            let defaults = stage.defaults();
            let same = resolve(&defaults, None, &[]).unwrap().value;
            assert_eq!(json!(same), json!(defaults));
            assert!(!matches!(defaults.recipe.schedule, Schedule::Plateau { .. }));
        }
    }

    #[test]
    fn durations_are_readable() {
        for (seconds, text) in [(4.4, "4 s"), (61.0, "1 min 01 s"), (7384.0, "2 h 03 min")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
