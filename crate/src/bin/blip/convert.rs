//! `blip convert`: from a checkpoint to the container of `models/`.

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use blip_web::config::BlipConfig;
use blip_web::convert::{ConvertReport, ModelDirectory, VOCAB, WEIGHTS, convert, manifest_json};
use blip_web::weights::{Checkpoint, Manifest, Precision, Quantisation, TensorReport, random_checkpoint};
use clap::Args;

use super::source::{manifest_in, open_checkpoint, placeholder_vocabulary, random_config, read};

#[derive(Args)]
pub(crate) struct Arguments {
    /// `model.safetensors`, `pytorch_model.bin`, a `.pth` file, a folder with one of them, or a model
    /// directory.
    #[arg(required_unless_present = "random")]
    checkpoint: Option<PathBuf>,
    /// Instead of a checkpoint: random weights of the shape `base`, `large`, or of a `config.json`.
    #[arg(long, conflicts_with = "checkpoint", value_name = "SHAPE")]
    random: Option<String>,
    /// Seed of random weights.
    #[arg(long, default_value_t = 0, requires = "random")]
    seed: u64,
    /// The vocabulary, one token a line (`vocab.txt` of bert-base-uncased). A model directory has its
    /// own, and random weights do without.
    #[arg(long)]
    vocab: Option<PathBuf>,
    /// Folder to write: `blip.json`, `model.safetensors`, `vocab.txt`.
    #[arg(long)]
    out: PathBuf,
    /// Name of the model; the folder's name when left out.
    #[arg(long)]
    id: Option<String>,
    /// How matrices are stored.
    #[arg(long, value_enum, default_value_t = Precision::F16)]
    dtype: Precision,
    /// How the matrices of the image encoder are stored, if not as the others.
    #[arg(long, value_enum)]
    vision: Option<Precision>,
    /// How the matrices of the text networks and the heads are stored, if not as the others.
    #[arg(long, value_enum)]
    text: Option<Precision>,
    /// Licence of the weights, as an SPDX expression; a model directory's own, otherwise BSD-3-Clause,
    /// when left out.
    #[arg(long)]
    licence: Option<String>,
    /// Where to write what became of each tensor, as JSON; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (checkpoint, config) = source(arguments)?;
    let known = arguments.checkpoint.as_deref().map(manifest_in).transpose()?.flatten();
    let vocab = vocabulary(arguments, known.as_ref(), &config)?;
    let folder_name =
        || arguments.out.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
    let id = arguments.id.clone().unwrap_or_else(folder_name);
    let (tasks, licence, knows) =
        known.map_or((None, None, None), |known| (Some(known.tasks), Some(known.licence), known.knows));
    let licence = arguments.licence.clone().or(licence).unwrap_or_else(|| "BSD-3-Clause".to_owned());
    let directory = ModelDirectory { id, config, tasks, licence, knows };
    let quantisation = Quantisation {
        vision: arguments.vision.unwrap_or(arguments.dtype),
        text: arguments.text.unwrap_or(arguments.dtype),
    };
    let report = write_model(&arguments.out, &directory, &checkpoint, &vocab, quantisation)?;
    let json = || serde_json::to_string_pretty(&report);
    match arguments.report.as_deref() {
        // Nothing else on standard output: the report is to be parsed.
        Some(path) if path.as_os_str() == "-" => println!("{}", json()?),
        Some(path) => {
            std::fs::write(path, json()? + "\n")
                .with_context(|| format!("cannot write {}", path.display()))?;
            summarise(&arguments.out, &report);
        }
        None => summarise(&arguments.out, &report),
    }
    Ok(())
}

fn source(arguments: &Arguments) -> Result<(Checkpoint, BlipConfig)> {
    if let Some(path) = &arguments.checkpoint {
        return open_checkpoint(path);
    }
    let config = random_config(arguments.random.as_deref().unwrap_or("base"))?;
    Ok((random_checkpoint(&config, arguments.seed), config))
}

fn vocabulary(arguments: &Arguments, known: Option<&Manifest>, config: &BlipConfig) -> Result<Vec<u8>> {
    match (&arguments.vocab, known, &arguments.checkpoint) {
        (Some(path), ..) => read(path),
        (None, Some(known), Some(folder)) => read(&folder.join(&known.files.vocab.path)),
        (None, _, None) => Ok(placeholder_vocabulary(config)),
        (None, None, Some(_)) => bail!("a checkpoint has no vocabulary of its own: name one with --vocab"),
    }
}

fn summarise(out: &Path, report: &ConvertReport) {
    for name in &report.dropped {
        println!("dropped {name}");
    }
    println!(
        "wrote {} ({} tensors, {:.1} M parameters as {}, {:.1} MB, relative error {:.2e})",
        out.display(),
        report.tensors.len(),
        report.parameters as f64 / 1e6,
        report.quantisation,
        report.bytes as f64 / 1e6,
        report.relative_rms,
    );
}

/// Writes a model directory.
pub(crate) fn write_model(
    out: &Path,
    directory: &ModelDirectory,
    checkpoint: &Checkpoint,
    vocab: &[u8],
    quantisation: Quantisation,
) -> Result<ConvertReport> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let weights = out.join(WEIGHTS);
    // A conversion that fails leaves no half of a file under the name of a whole one.
    let unfinished = weights.with_extension("unfinished");
    let file = File::create(&unfinished).with_context(|| format!("cannot write {}", unfinished.display()))?;
    let mut file = BufWriter::new(file);
    let mut progress = Progress::new();
    let mut heard = |line: &TensorReport, of: usize| progress.show(line, of);
    let converted = convert(directory, checkpoint, vocab, quantisation, &mut file, &mut heard);
    drop(file);
    progress.end();
    let (manifest, report) = match converted {
        Ok(converted) => converted,
        Err(error) => {
            // Best effort: the error that matters is the one that is returned.
            let _ = std::fs::remove_file(&unfinished);
            return Err(error.into());
        }
    };
    std::fs::rename(&unfinished, &weights).with_context(|| format!("cannot write {}", weights.display()))?;
    for (name, bytes) in [(VOCAB, vocab), ("blip.json", manifest_json(&manifest)?.as_bytes())] {
        let path = out.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(report)
}

/// A line on standard error that is overwritten, where somebody is watching.
struct Progress {
    watched: bool,
    done: usize,
}

impl Progress {
    fn new() -> Self {
        Self { watched: std::io::stderr().is_terminal(), done: 0 }
    }

    fn show(&mut self, line: &TensorReport, of: usize) {
        self.done += 1;
        if self.watched {
            eprint!("\r\x1b[K{}/{of} {} ({})", self.done, line.name, line.format.name());
        } else if self.done.is_multiple_of(100) || self.done == of {
            eprintln!("{}/{of} tensors", self.done);
        }
    }

    fn end(&self) {
        if self.watched {
            eprint!("\r\x1b[K");
            // Best effort: a terminal that is gone shows nothing anyway.
            let _ = std::io::stderr().flush();
        }
    }
}
