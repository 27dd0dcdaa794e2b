//! `blip capfilt`: the stages of CapFilt over shards, alone or as one of many tasks.

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, bail};
use blip_web::generate::{Control, GenerateConfig};
use blip_web::train::capfilt::{
    Assembler, Captioner, CaptionerOptions, Done, Event, Filter, FilterOptions, Mode, Share, Stage, Totals,
    Work,
};
use blip_web::train::data::{FileOptions, expand};
use blip_web::{Error, ErrorKind};
use clap::{Args, Subcommand, ValueEnum};

use super::source::{DeviceName, content_mark, open_session};

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Write a synthetic caption for every picture of the web.
    Caption(Caption),
    /// Decide which texts belong to their pictures.
    Filter(FilterArguments),
    /// Write the new training set as shards.
    Assemble(Assemble),
    /// Sum up what a stage did.
    Report(Report),
}

/// What every stage has.
#[derive(Args, Clone, Debug)]
struct Shards {
    /// Shards of the web's pairs: tar files, folders of them, or patterns such as `web/{000..099}.tar`. Every
    /// process must be given the same.
    #[arg(long, required = true, num_args = 1.., value_name = "PATTERN")]
    shards: Vec<String>,
    /// Folder of the results, which several processes may share.
    #[arg(long)]
    out: PathBuf,
    /// Pass over the `.json` of a record, where other tools put something else than texts there; captions
    /// are then those of its `.txt`.
    #[arg(long)]
    skip_json: bool,
    /// Which shards to do: `3/16` is the fourth of sixteen equal shares, `all` every one. When left out, the
    /// share that Slurm (SLURM_ARRAY_TASK_ID) or Kubernetes (JOB_COMPLETION_INDEX of JOB_COMPLETIONS) says.
    #[arg(long, value_name = "N/OF")]
    shard: Option<String>,
    /// Make results again that were made of something else: another model, other options, other shards.
    #[arg(long)]
    redo: bool,
    /// Stop after so many shards.
    #[arg(long, value_name = "COUNT")]
    stop_after: Option<usize>,
    /// Show no progress.
    #[arg(long)]
    quiet: bool,
}

/// The model of a stage.
#[derive(Args, Clone, Debug)]
struct Model {
    /// A model directory, or what training wrote.
    #[arg(long)]
    model: PathBuf,
    /// Where to run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
}

/// How to search for a caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Decoding {
    /// Sampling, which surprises: what the paper found to be better.
    Nucleus,
    /// Beam search, which is safe: the paper's comparison.
    Beam,
}

#[derive(Args)]
pub(crate) struct Caption {
    #[command(flatten)]
    shards: Shards,
    #[command(flatten)]
    model: Model,
    /// Text that the caption continues; the one that the captioner was fine-tuned with.
    #[arg(long)]
    prompt: Option<String>,
    /// How to search.
    #[arg(long, value_enum, default_value_t = Decoding::Nucleus)]
    decoding: Decoding,
    /// Seed of sampling; each picture has its own, made of this and its record's key.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Sampling: keep so many of the best tokens, 0 for all.
    #[arg(long, default_value_t = GenerateConfig::default().top_k)]
    top_k: usize,
    /// Sampling: of those, the fewest whose probabilities add up to this.
    #[arg(long, default_value_t = GenerateConfig::default().top_p)]
    top_p: f64,
    /// Beams of beam search.
    #[arg(long, default_value_t = GenerateConfig::coco().num_beams)]
    beams: usize,
    /// Shortest caption in tokens, prompt included; 10 for sampling and 5 for beam search when left out.
    #[arg(long)]
    min_length: Option<usize>,
    /// Longest caption in tokens, prompt included; 30 for sampling and 20 for beam search when left out.
    #[arg(long)]
    max_length: Option<usize>,
    /// How much repeated tokens lose; 1.1 for sampling and 1 for beam search when left out.
    #[arg(long)]
    repetition_penalty: Option<f64>,
}

#[derive(Args)]
pub(crate) struct FilterArguments {
    #[command(flatten)]
    shards: Shards,
    #[command(flatten)]
    model: Model,
    /// The captioner's results; without them only the web's texts are judged.
    #[arg(long, value_name = "FOLDER")]
    captions: Option<PathBuf>,
    /// Match probability from which a text is kept.
    #[arg(long, default_value_t = FilterOptions::default().threshold)]
    threshold: f32,
}

#[derive(Args)]
pub(crate) struct Assemble {
    #[command(flatten)]
    shards: Shards,
    /// Which texts to keep of the web's pictures.
    #[arg(long, value_enum, default_value_t = Mode::Both)]
    mode: Mode,
    /// The captioner's results, for `captioner`.
    #[arg(long, value_name = "FOLDER")]
    captions: Option<PathBuf>,
    /// The filter's results, for `filter` and `both`.
    #[arg(long, value_name = "FOLDER")]
    decisions: Option<PathBuf>,
    /// Shards of human pairs, which are copied as they are.
    #[arg(long, num_args = 1.., value_name = "PATTERN")]
    human: Vec<String>,
    /// Keep all texts of a picture in one record, instead of a record for each.
    #[arg(long)]
    together: bool,
}

#[derive(Args)]
pub(crate) struct Report {
    /// The folder of a stage's results.
    folder: PathBuf,
    /// Print it as JSON.
    #[arg(long)]
    json: bool,
}

/// 0 when every shard is finished, 1 when one could not be done.
pub(crate) fn run(command: &Command) -> Result<ExitCode> {
    match command {
        Command::Caption(arguments) => arguments.run(),
        Command::Filter(arguments) => arguments.run(),
        Command::Assemble(arguments) => arguments.run(),
        Command::Report(arguments) => arguments.run().map(|()| ExitCode::SUCCESS),
    }
}

impl Caption {
    fn run(&self) -> Result<ExitCode> {
        let options =
            CaptionerOptions { seed: self.seed, prompt: self.prompt.clone(), search: self.search() };
        options.search.validate()?;
        let work = self.shards.work(&[])?;
        let mark = content_mark(&self.model.model)?;
        let session = open_session(Some(&self.model.model), self.model.device)?;
        self.shards.run(&work, &Captioner::new(&session, &mark, options, self.shards.files())?)
    }

    fn search(&self) -> GenerateConfig {
        let (top_k, top_p, num_beams) = (self.top_k, self.top_p, self.beams);
        let base = match self.decoding {
            Decoding::Nucleus => GenerateConfig { top_k, top_p, ..GenerateConfig::nucleus(0) },
            Decoding::Beam => GenerateConfig { num_beams, ..GenerateConfig::coco() },
        };
        GenerateConfig {
            min_length: self.min_length.unwrap_or(base.min_length),
            max_length: self.max_length.unwrap_or(base.max_length),
            repetition_penalty: self.repetition_penalty.unwrap_or(base.repetition_penalty),
            ..base
        }
    }
}

impl FilterArguments {
    fn run(&self) -> Result<ExitCode> {
        let options = FilterOptions { threshold: self.threshold };
        let work = self.shards.work(&[])?;
        let mark = content_mark(&self.model.model)?;
        let session = open_session(Some(&self.model.model), self.model.device)?;
        let filter = Filter::new(&session, &mark, options, self.captions.clone(), self.shards.files())?;
        self.shards.run(&work, &filter)
    }
}

impl Assemble {
    fn run(&self) -> Result<ExitCode> {
        let wanted = |name: &str, folder: &Option<PathBuf>, is_needed: bool| match (folder, is_needed) {
            (Some(folder), true) => Ok(Some(folder.clone())),
            (None, false) => Ok(None),
            (None, true) => bail!(bad_option(format!("--mode {} needs --{name}", self.mode.name()))),
            (Some(_), false) => {
                bail!(bad_option(format!("--mode {} takes no --{name}: leave it out", self.mode.name())))
            }
        };
        let captions = wanted("captions", &self.captions, self.mode.needs_captions())?;
        let decisions = wanted("decisions", &self.decisions, self.mode.needs_decisions())?;
        let human = expand(&self.human)?;
        let work = self.shards.work(&human)?;
        let texts = captions.or(decisions);
        self.shards.run(&work, &Assembler::new(self.mode, texts, human, self.together, self.shards.files()))
    }
}

impl Report {
    fn run(&self) -> Result<()> {
        let totals = Totals::of(&self.folder)?;
        if self.json {
            println!("{}", serde_json::to_string_pretty(&totals)?);
        } else {
            print!("{totals}");
        }
        Ok(())
    }
}

impl Shards {
    /// What is to be done, with further shards behind the web's.
    fn work(&self, further: &[PathBuf]) -> Result<Work> {
        let mut shards = expand(&self.shards)?;
        shards.extend(further.iter().cloned());
        let share = self.share()?;
        if shards.len() < share.of && !self.quiet {
            eprintln!("blip: {} shares of {} shards: some have nothing to do", share.of, shards.len());
        }
        let (out, redo, stop_after) = (self.out.clone(), self.redo, self.stop_after);
        Ok(Work { shards, out, share, redo, stop_after })
    }

    fn files(&self) -> FileOptions {
        FileOptions { skip_json: self.skip_json, ..FileOptions::default() }
    }

    fn share(&self) -> Result<Share> {
        match self.shard.as_deref() {
            Some("all") => Ok(Share::ALL),
            Some(text) => Ok(text.parse()?),
            None => {
                let Some((share, name)) = Share::from_environment(|name| std::env::var(name).ok())? else {
                    return Ok(Share::ALL);
                };
                eprintln!("blip: share {share}, as {name} says");
                Ok(share)
            }
        }
    }

    fn run(&self, work: &Work, stage: &dyn Stage) -> Result<ExitCode> {
        let mut progress = Progress::new(self.quiet);
        let done = work.run(stage, &mut |event| {
            progress.hear(&event);
            Control::Continue
        });
        progress.clear();
        let Done { finished, before, failed, left, skipped } = done?;
        if !self.quiet {
            let later = if left > 0 { format!(", {left} left for another time") } else { String::new() };
            eprintln!(
                "blip: {finished} shards done, {before} were there before, {failed} failed{later}; {skipped} \
                 records skipped"
            );
        }
        Ok(if failed > 0 { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}

fn bad_option(message: String) -> Error {
    Error::new(ErrorKind::BadOption, message)
}

/// A line on standard error that is overwritten, where somebody is watching; otherwise a line a shard.
struct Progress {
    quiet: bool,
    watched: bool,
    shard: String,
    start: Instant,
}

impl Progress {
    fn new(quiet: bool) -> Self {
        let watched = !quiet && std::io::stderr().is_terminal();
        Self { quiet, watched, shard: String::new(), start: Instant::now() }
    }

    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Begin { shard } => {
                self.shard = name(shard);
                self.start = Instant::now();
            }
            Event::Record { done, total } if self.watched => {
                let rate = *done as f64 / self.start.elapsed().as_secs_f64().max(1e-3);
                eprint!("\r\x1b[K{}: {done}/{total}  {rate:.2} a second", self.shard);
                // Best effort: a terminal that is gone shows nothing anyway.
                let _ = std::io::stderr().flush();
            }
            Event::Finished { shard, report, before: false } if !self.quiet => {
                self.clear();
                let seconds = self.start.elapsed().as_secs_f64();
                let skipped = report.skipped.len();
                eprintln!("{}: done in {seconds:.1} s, {skipped} records skipped", name(shard));
            }
            Event::Busy { shard } if !self.quiet => {
                self.clear();
                eprintln!("{}: another process has it", name(shard));
            }
            Event::Failed { shard, error } => {
                self.clear();
                eprintln!("blip: [{}] {}: {error}", error.code(), shard.display());
            }
            _ => {}
        }
    }

    fn clear(&self) {
        if self.watched {
            eprint!("\r\x1b[K");
        }
    }
}

fn name(shard: &Path) -> String {
    shard.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}
