//! `blip convert`: from a checkpoint to the container of `models/`, or back to Hugging Face's layout.

mod hugging_face;
mod sources;
mod staging;

use std::fs::File;
use std::io::{BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use blip_web::ErrorKind;
use blip_web::config::BlipConfig;
use blip_web::convert::{ConvertReport, FurtherSource, ModelDirectory, ModelWriter, VOCAB, manifest_json};
use blip_web::hub::{Client, Event, Location, Repository, convert_file, convert_repository, read_manifest};
use blip_web::weights::manifest::Origin;
use blip_web::weights::{
    Checkpoint, Precision, Quantisation, TensorReport, complete_vocabulary, random_checkpoint,
};
use clap::{Args, ValueEnum};

use super::network::DownloadProgress;
use super::source::{placeholder_vocabulary, random_config, read};
use sources::{Copies, Network, Source, named};
use staging::{Staging, hidden};

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Layout {
    /// A model directory: what this project reads everywhere.
    Blip,
    /// What `transformers` reads: `config.json`, `model.safetensors`, the tokenizer and the preprocessing.
    Hf,
}

#[derive(Args)]
pub(crate) struct Arguments {
    /// `model.safetensors`, `pytorch_model.bin`, a `.pth` file, a folder with one of them, a model
    /// directory, a repository on the hub (`owner/name@revision`), or the address of a `.pth` file.
    #[arg(required_unless_present = "random")]
    checkpoint: Option<PathBuf>,
    /// A further checkpoint, for tasks that the first was not trained for: any source, with the task it is
    /// for where it has several (`vqa=owner/name`). Its text networks go into a file of their own, over the
    /// image encoder of the first, which must be the same. May be given several times.
    #[arg(long, value_name = "[TASK=]CHECKPOINT", conflicts_with = "random")]
    with: Vec<String>,
    /// A further checkpoint whose image encoder is not that of the first keeps its own, instead of being
    /// refused.
    #[arg(long, requires = "with")]
    keep_vision: bool,
    /// Instead of a checkpoint: random weights of the shape `base`, `large`, or of a `config.json`.
    #[arg(long, conflicts_with = "checkpoint", value_name = "SHAPE")]
    random: Option<String>,
    /// Seed of random weights.
    #[arg(long, default_value_t = 0, requires = "random")]
    seed: u64,
    /// The vocabulary, one token a line (`vocab.txt` of bert-base-uncased). A model directory has its
    /// own, and random weights do without. Further checkpoints have the same.
    #[arg(long)]
    vocab: Option<PathBuf>,
    /// What to write. For `transformers`, one folder is one class: of a model of several, each has a folder
    /// in `--out` (`caption`, `vqa`, `retrieval`). Quantised matrices become the numbers they stand for.
    #[arg(long, value_enum, default_value_t = Layout::Blip)]
    to: Layout,
    /// Folder to write: `blip.json`, `model.safetensors`, `vocab.txt`, and of further checkpoints
    /// `model-vqa.safetensors` and the like.
    #[arg(long)]
    out: PathBuf,
    /// Name of the model; the folder's name when left out.
    #[arg(long)]
    id: Option<String>,
    /// How matrices are stored: f16 when left out. For `transformers` every number, f32 when left out.
    #[arg(long, value_enum)]
    dtype: Option<Precision>,
    /// How the matrices of the image encoder are stored, if not as the others.
    #[arg(long, value_enum)]
    vision: Option<Precision>,
    /// How the matrices of the text networks and the heads are stored, if not as the others.
    #[arg(long, value_enum)]
    text: Option<Precision>,
    /// Licence of the weights, as an SPDX expression; a model directory's own, otherwise BSD-3-Clause,
    /// when left out. Of several checkpoints, all of theirs.
    #[arg(long)]
    licence: Option<String>,
    /// Where to write what became of each tensor, as JSON; `-` is standard output.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    if arguments.to == Layout::Hf {
        arguments.check_for_hugging_face()?;
        return hugging_face::run(arguments);
    }
    if let Some(path) = arguments.checkpoint.as_deref().filter(|path| !path.exists())
        && arguments.with.is_empty()
    {
        return convert_remote(arguments, &path.to_string_lossy());
    }
    let mut copies = Copies::new(hidden(&arguments.out, "sources"));
    let report = match convert_here(arguments, &mut copies) {
        Ok(report) => report,
        Err(error) => {
            copies.keep();
            return Err(error);
        }
    };
    copies.remove();
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

/// That of the published checkpoints.
const LICENCE: &str = "BSD-3-Clause";
/// The manifest of a model directory.
const MANIFEST: &str = "blip.json";

impl Arguments {
    fn id(&self) -> String {
        let folder_name = || self.out.file_name().map(|name| name.to_string_lossy().into_owned());
        self.id.clone().or_else(folder_name).unwrap_or_else(|| "model".to_owned())
    }

    fn quantisation(&self) -> Quantisation {
        let dtype = self.dtype.unwrap_or(Precision::F16);
        Quantisation { vision: self.vision.unwrap_or(dtype), text: self.text.unwrap_or(dtype) }
    }

    /// Options that a folder for `transformers` has no place for.
    fn check_for_hugging_face(&self) -> Result<()> {
        let given = [
            ("--with", !self.with.is_empty()),
            ("--vision", self.vision.is_some()),
            ("--text", self.text.is_some()),
            ("--report", self.report.is_some()),
        ];
        match given.into_iter().find(|(_, is_given)| *is_given) {
            None => Ok(()),
            Some((name, _)) => {
                let message = format!("{name} is about model directories: leave it out with --to hf");
                Err(blip_web::Error::new(ErrorKind::BadOption, message).into())
            }
        }
    }

    /// The checkpoint that is named first.
    fn first_source(&self, copies: &mut Copies) -> Result<Source> {
        match self.checkpoint.as_deref() {
            Some(path) if path.exists() => Source::open(path, &path.to_string_lossy()),
            Some(path) => copies.open(&path.to_string_lossy(), None, self.vocab.as_deref()),
            None => {
                let config = random_config(self.random.as_deref().unwrap_or("base"))?;
                Ok(Source::random(random_checkpoint(&config, self.seed), config))
            }
        }
    }

    /// The words of the model.
    fn vocabulary(&self, first: &Source) -> Result<Vec<u8>> {
        match &self.vocab {
            Some(path) => read(path),
            None if self.checkpoint.is_none() => Ok(placeholder_vocabulary(&first.networks[0].config)),
            None => first
                .vocabulary()?
                .context("a checkpoint has no vocabulary of its own: name one with --vocab"),
        }
    }
}

/// Converts what is on the hub or another server while it is downloaded.
fn convert_remote(arguments: &Arguments, text: &str) -> Result<()> {
    let here = || format!("there is no file or folder `{text}` on this machine");
    let location = Location::parse(text).with_context(here)?;
    if arguments.report.is_some() {
        bail!("--report is for checkpoints on this machine");
    }
    let (client, quantisation, out) = (Client::from_env(), arguments.quantisation(), &arguments.out);
    let mut progress = DownloadProgress::new();
    let mut listener = |event: Event<'_>| progress.hear(event);
    let made = match (&location, &arguments.vocab) {
        (Location::Repository { .. }, Some(_)) => bail!("a repository has a vocabulary: leave --vocab out"),
        (Location::Repository { repo, revision }, None) => {
            let repository = Repository::look_up(&client, repo, revision).with_context(here)?;
            let about = (arguments.id.as_deref(), arguments.licence.as_deref());
            convert_repository(&client, &repository, quantisation, about, out, &mut listener)
        }
        (Location::File(_), None) => {
            bail!("a checkpoint has no vocabulary of its own: name one with --vocab")
        }
        (Location::File(url), Some(vocab)) => {
            let id = arguments.id();
            let options = (&*id, arguments.licence.as_deref().unwrap_or(LICENCE), quantisation);
            convert_file(&client, url, &read(vocab)?, options, out, &mut listener)
        }
        (Location::Manifest(_), _) => bail!("`{text}` is converted already: use it as --model"),
    };
    progress.end();
    let manifest = read_manifest(&made?)?;
    println!(
        "wrote {} ({} as {}, {:.1} MB)",
        out.display(),
        manifest.all_tasks().join(", "),
        manifest.quantisation,
        manifest.bytes() as f64 / 1e6,
    );
    Ok(())
}

/// Converts what is on this machine, or was copied to it.
fn convert_here(arguments: &Arguments, copies: &mut Copies) -> Result<ConvertReport> {
    let mut base = arguments.first_source(copies)?;
    let vocab = arguments.vocabulary(&base)?;
    let mut licences = vec![base.licence().to_owned()];
    let knows = base.knows();
    let Network { config, checkpoint, tasks, origin } = base.networks.remove(0);
    // Those of a model directory that has several already.
    let mut further: Vec<FurtherSource> = base.into_further().collect();
    for (text, tasks) in named(&arguments.with)? {
        let source = copies.open(&text, tasks.as_deref(), arguments.vocab.as_deref())?;
        if source.vocabulary()?.is_some_and(|own| !are_same_words(&own, &vocab, &config)) {
            let message =
                format!("`{text}` has other words than the first model: they can only share one vocabulary");
            return Err(blip_web::Error::new(ErrorKind::BadVocabulary, message).into());
        }
        licences.push(source.licence().to_owned());
        further.extend(source.into_further());
    }
    let licence = arguments.licence.clone().unwrap_or_else(|| licence_of_all(&licences));
    let directory = ModelDirectory { id: arguments.id(), config, tasks, licence, knows };
    let writer =
        ModelWriter::new(&directory, &checkpoint, &further, arguments.quantisation(), arguments.keep_vision)?;
    write_directory(&arguments.out, writer, &vocab, origin)
}

/// Whether two vocabularies are the same once they are complete.
fn are_same_words(one: &[u8], other: &[u8], config: &BlipConfig) -> bool {
    let complete = |vocab: &[u8]| complete_vocabulary(vocab, config).ok();
    one == other || complete(one).is_some_and(|one| complete(other) == Some(one))
}

/// The SPDX expression for weights that are under all of these licences.
fn licence_of_all(licences: &[String]) -> String {
    let mut different: Vec<&str> = Vec::new();
    for licence in licences {
        if !different.contains(&&**licence) {
            different.push(licence);
        }
    }
    match different[..] {
        [one] => one.to_owned(),
        // An unknown licence is no part of an expression.
        _ if different.contains(&"NOASSERTION") => "NOASSERTION".to_owned(),
        _ => {
            let part = |licence: &&str| match licence.contains(" OR ") {
                true => format!("({licence})"),
                false => (*licence).to_owned(),
            };
            different.iter().map(part).collect::<Vec<_>>().join(" AND ")
        }
    }
}

fn summarise(out: &Path, report: &ConvertReport) {
    let networks = || report.networks.iter().map(|network| &network.file);
    for name in std::iter::once(report).chain(networks()).flat_map(|file| &file.dropped) {
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
    for network in &report.networks {
        println!(
            "and {} for {} ({} tensors, {:.1} M parameters, {:.1} MB, relative error {:.2e}, {})",
            network.path,
            network.tasks.join(", "),
            network.file.tensors.len(),
            network.file.parameters as f64 / 1e6,
            network.file.bytes as f64 / 1e6,
            network.file.relative_rms,
            if network.vision { "with an image encoder of its own" } else { "over the same image encoder" },
        );
    }
}

/// Writes the model directory of one checkpoint.
pub(crate) fn write_model(
    out: &Path,
    directory: &ModelDirectory,
    checkpoint: &Checkpoint,
    vocab: &[u8],
    quantisation: Quantisation,
) -> Result<ConvertReport> {
    let writer = ModelWriter::new(directory, checkpoint, &[], quantisation, false)?;
    write_directory(out, writer, vocab, None)
}

/// Writes a model directory, which is whole or not there.
fn write_directory(
    out: &Path,
    mut writer: ModelWriter<'_>,
    vocab: &[u8],
    origin: Option<Origin>,
) -> Result<ConvertReport> {
    let staging = Staging::begin(out)?;
    for (index, path) in writer.paths().iter().enumerate() {
        write_weights(&staging, path, &out.join(path), |file, progress| {
            Ok(writer.write(index, file, &mut |line, of| progress.show(line, of))?)
        })?;
    }
    let (mut manifest, report) = writer.finish(vocab)?;
    manifest.source = origin;
    staging.write(VOCAB, vocab)?;
    staging.write(MANIFEST, manifest_json(&manifest)?.as_bytes())?;
    staging.finish()?;
    Ok(report)
}

/// Writes a weights file of a folder in the making, `shown` at the place where it will be, and waits until
/// the disk has it.
fn write_weights(
    staging: &Staging,
    name: &str,
    shown: &Path,
    write: impl FnOnce(&mut BufWriter<File>, &mut Progress<'_>) -> Result<()>,
) -> Result<()> {
    let mut file = BufWriter::new(staging.create(name)?);
    let mut progress = Progress::new(name);
    let written = write(&mut file, &mut progress);
    progress.end();
    written?;
    let unwritable = || format!("cannot write {}", shown.display());
    let file = file.into_inner().map_err(|error| error.into_error()).with_context(unwritable)?;
    file.sync_all().with_context(unwritable)
}

/// A line on standard error that is overwritten, where somebody is watching.
struct Progress<'a> {
    watched: bool,
    file: &'a str,
    done: usize,
}

impl<'a> Progress<'a> {
    fn new(file: &'a str) -> Self {
        Self { watched: std::io::stderr().is_terminal(), file, done: 0 }
    }

    fn show(&mut self, line: &TensorReport, of: usize) {
        self.done += 1;
        if self.watched {
            eprint!("\r\x1b[K{}: {}/{of} {} ({})", self.file, self.done, line.name, line.format.name());
        } else if self.done.is_multiple_of(100) || self.done == of {
            eprintln!("{}: {}/{of} tensors", self.file, self.done);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_of_several_licences_are_under_all_of_them() {
        let all = |licences: &[&str]| {
            licence_of_all(&licences.iter().map(|licence| (*licence).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(all(&["MIT", "MIT"]), "MIT");
        assert_eq!(all(&["MIT OR Apache-2.0"]), "MIT OR Apache-2.0");
        assert_eq!(
            all(&["BSD-3-Clause", "MIT OR Apache-2.0", "BSD-3-Clause"]),
            "BSD-3-Clause AND (MIT OR Apache-2.0)"
        );
        assert_eq!(all(&["MIT", "NOASSERTION"]), "NOASSERTION");
    }
}
