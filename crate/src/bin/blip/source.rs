//! Where a model comes from on the command line: a folder or a file, a repository, a server.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use blip_web::ErrorKind;
use blip_web::config::BlipConfig;
use blip_web::device::{DeviceKind, OpenDevice, block_on};
use blip_web::hub::{Cache, Event, Location, fetch_directory, fetch_repository};
use blip_web::tasks::{ModelLoader, Part, Session, Task};
use blip_web::weights::{Checkpoint, Manifest, Precision, Quantisation, complete_vocabulary, fit_image_size};
use clap::ValueEnum;

use super::network::{DownloadProgress, cache_folder, hub_client};

/// Devices by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DeviceName {
    /// The GPU.
    Gpu,
    /// The CPU.
    Cpu,
}

impl DeviceName {
    pub(crate) fn open(self) -> Result<OpenDevice> {
        let kind = match self {
            Self::Gpu => DeviceKind::Gpu,
            Self::Cpu => DeviceKind::Cpu,
        };
        Ok(block_on(OpenDevice::open(kind))?)
    }
}

/// The models to use: `None` is the embedded one.
///
/// One source is a model directory, a checkpoint with its `config.json` and `vocab.txt`, the address of a
/// `blip.json`, or a repository on the hub (`owner/name@revision`). Several are separated by commas, each
/// with the task that it is for: `caption=owner/one,vqa=owner/two`.
pub(crate) fn open_session(model: Option<&Path>, device: DeviceName) -> Result<Session> {
    let device = device.open()?;
    let Some(model) = model else { return embedded(&device) };
    let mut session = Session::new(&device);
    for (source, tasks) in sources(model)? {
        let mut parts = load(&source, &device)?;
        if let Some(tasks) = tasks {
            for task in &tasks {
                if !parts.iter().any(|part| part.tasks.contains(task)) {
                    let message = format!("`{}` was not trained for {task}", source.display());
                    return Err(blip_web::Error::new(ErrorKind::TaskUnsupported, message).into());
                }
            }
            parts.iter_mut().for_each(|part| part.tasks.retain(|task| tasks.contains(task)));
            parts.retain(|part| !part.tasks.is_empty());
        }
        session.add(parts)?;
    }
    Ok(session)
}

/// The sources that are named, each with the tasks it is for, where that is said.
fn sources(model: &Path) -> Result<Vec<(PathBuf, Option<Vec<Task>>)>> {
    let text = model.to_string_lossy();
    // A folder may have any name.
    if model.exists() || !text.contains(['=', ',']) {
        return Ok(vec![(model.to_owned(), None)]);
    }
    let mut sources: Vec<(PathBuf, Option<Vec<Task>>)> = Vec::new();
    for piece in text.split(',') {
        let task = |name: &str| Task::ALL.into_iter().find(|task| task.name() == name);
        let (task, source) = match piece.split_once('=').map(|(name, source)| (task(name.trim()), source)) {
            Some((Some(task), source)) => (Some(task), source),
            _ => (None, piece),
        };
        let source = PathBuf::from(source.trim());
        match (task, sources.iter_mut().find(|(known, _)| *known == source)) {
            (Some(task), Some((_, Some(tasks)))) => tasks.push(task),
            (_, Some(_)) => bail!("`{}` is named twice", source.display()),
            (task, None) => sources.push((source, task.map(|task| vec![task]))),
        }
    }
    Ok(sources)
}

/// The models of a source.
fn load(source: &Path, device: &OpenDevice) -> Result<Vec<Part>> {
    let folder = if source.exists() { source.to_owned() } else { fetched(source)? };
    let Some(manifest) = manifest_in(&folder)? else { return load_checkpoint(&folder, device) };
    let vocab = read(&folder.join(&manifest.files.vocab.path))?;
    let files: Vec<PathBuf> = manifest.weights().map(|file| folder.join(&file.path)).collect();
    let mut loader = ModelLoader::new(manifest, device);
    let mut piece = vec![0; 4 << 20];
    for path in files {
        let unreadable = || format!("cannot read {}", path.display());
        let mut file = File::open(&path).with_context(unreadable)?;
        loop {
            match file.read(&mut piece).with_context(unreadable)? {
                0 => break,
                count => loader.push(&piece[..count])?,
            }
        }
    }
    Ok(loader.finish(&vocab)?)
}

/// A checkpoint as it is, with the vocabulary beside it.
fn load_checkpoint(path: &Path, device: &OpenDevice) -> Result<Vec<Part>> {
    let (checkpoint, config) = open_checkpoint(path)?;
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let vocab = complete_vocabulary(&read(&folder.join("vocab.txt"))?, &config)?;
    Ok(vec![Part::from_checkpoint(&config, &checkpoint, &vocab, device)?])
}

/// The model directory of a source that is somewhere else, in the cache.
fn fetched(source: &Path) -> Result<PathBuf> {
    let text = source.to_string_lossy();
    let location = Location::parse(&text).with_context(|| format!("there is no folder `{text}`"))?;
    let (client, cache) = (hub_client(), Cache::new(cache_folder()?));
    let mut progress = DownloadProgress::new();
    let mut listener = |event: Event<'_>| progress.hear(event);
    let fetched = match &location {
        Location::Manifest(url) => fetch_directory(&client, url, &cache, &mut listener),
        Location::File(url) => {
            bail!(
                "{url} has no vocabulary beside it: convert it first (blip convert {url} --vocab vocab.txt)"
            )
        }
        Location::Repository { repo, revision } => {
            let quantisation = Quantisation::uniform(Precision::Q8);
            fetch_repository(&client, repo, revision, quantisation, &cache, &mut listener)
        }
    };
    progress.end();
    match fetched {
        // It may have been meant as a path.
        Err(error) if error.kind() == ErrorKind::DownloadFailed && !text.contains("://") => {
            Err(error).with_context(|| format!("there is no folder `{text}` on this machine"))
        }
        fetched => Ok(fetched?),
    }
}

#[cfg(feature = "embedded")]
fn embedded(device: &OpenDevice) -> Result<Session> {
    Ok(blip_web::embedded::tiny(device)?)
}

#[cfg(not(feature = "embedded"))]
fn embedded(_device: &OpenDevice) -> Result<Session> {
    bail!("this build embeds no model (feature `embedded`): name one with --model")
}

/// The `blip.json` of a model directory.
pub(crate) fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join("blip.json");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Manifest::from_json(&text)?)
}

/// The manifest, where the path is a model directory.
pub(crate) fn manifest_in(path: &Path) -> Result<Option<Manifest>> {
    path.join("blip.json").exists().then(|| read_manifest(path)).transpose()
}

/// The weights of a model directory, or a checkpoint file with the configuration beside it or the one
/// its layout implies.
pub(crate) fn open_checkpoint(path: &Path) -> Result<(Checkpoint, BlipConfig)> {
    if let Some(manifest) = manifest_in(path)? {
        return Ok((Checkpoint::open(&path.join(&manifest.files.weights.path))?, manifest.config));
    }
    let file = if path.is_dir() { weights_in(path)? } else { path.to_owned() };
    let checkpoint = Checkpoint::open(&file)?;
    let beside = file.with_file_name("config.json");
    let config = if beside.exists() {
        let text =
            std::fs::read_to_string(&beside).with_context(|| format!("cannot read {}", beside.display()))?;
        let mut config = BlipConfig::from_json(&text)?;
        fit_image_size(&mut config, &checkpoint.entries());
        config
    } else {
        blip_web::convert::infer_config(&checkpoint)?
    };
    Ok((checkpoint, config))
}

fn weights_in(folder: &Path) -> Result<PathBuf> {
    for name in ["model.safetensors", "pytorch_model.bin"] {
        let path = folder.join(name);
        if path.exists() {
            return Ok(path);
        }
    }
    bail!("{} holds neither model.safetensors nor pytorch_model.bin", folder.display())
}

/// A digest of a model on this machine: of its manifest, which has those of all its files, or of the files
/// themselves.
#[cfg(feature = "train")]
pub(crate) fn content_mark(path: &Path) -> Result<String> {
    use blip_web::train::capfilt::Content;

    if !path.exists() {
        let message =
            format!("there is no file or folder {}: a model of this machine is needed", path.display());
        return Err(blip_web::Error::new(ErrorKind::BadOption, message).into());
    }
    if manifest_in(path)?.is_some() {
        return Ok(Content::of(&path.join("blip.json"))?.sha256);
    }
    let weights = if path.is_dir() { weights_in(path)? } else { path.to_owned() };
    let beside = ["config.json", "vocab.txt"].map(|name| weights.with_file_name(name));
    let mut digests = vec![Content::of(&weights)?.sha256];
    for file in beside.iter().filter(|file| file.exists()) {
        digests.push(Content::of(file)?.sha256);
    }
    Ok(digests.join("+"))
}

/// The shape of random weights: `base`, `large`, or what a `config.json` says.
pub(crate) fn random_config(shape: &str) -> Result<BlipConfig> {
    Ok(match shape {
        "base" => BlipConfig::base(),
        "large" => BlipConfig::large(),
        path => BlipConfig::from_json(&String::from_utf8_lossy(&read(Path::new(path))?))?,
    })
}

/// A vocabulary for weights that never saw words: the special tokens where the configuration wants
/// them, and made-up words.
pub(crate) fn placeholder_vocabulary(config: &BlipConfig) -> Vec<u8> {
    let text = &config.text_config;
    let mut lines: Vec<String> = (0..text.vocab_size).map(|id| format!("word{id}")).collect();
    let fixed = [("[PAD]", text.pad_token_id), ("[SEP]", text.sep_token_id), ("[DEC]", text.bos_token_id)];
    for (token, id) in fixed {
        lines[id as usize] = token.to_owned();
    }
    let free = lines.iter_mut().filter(|line| line.starts_with("word"));
    for (line, token) in free.zip(["[UNK]", "[CLS]", "[ENC]", "[MASK]"]) {
        *line = token.to_owned();
    }
    (lines.join("\n") + "\n").into_bytes()
}

/// A file's bytes, or an error that names it.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
