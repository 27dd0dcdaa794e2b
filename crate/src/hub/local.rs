//! Models on this machine: model directories, and checkpoints as the hub has them.

use std::fs::{self, File};
use std::io::Read as _;
use std::path::{Path, PathBuf};

use super::cache::{MANIFEST, failed};
use crate::config::BlipConfig;
use crate::device::OpenDevice;
use crate::tasks::{ModelLoader, Part};
use crate::weights::{Checkpoint, Manifest, complete_vocabulary, fit_image_size, infer_config};
use crate::{Error, ErrorKind, Result};

/// Bytes of a file that are read at a time.
const PIECE: usize = 4 << 20;

/// The `blip.json` of a model directory.
///
/// # Errors
/// [`ErrorKind::Io`], and [`ErrorKind::BadConfig`] for what is no manifest.
pub fn read_manifest(folder: &Path) -> Result<Manifest> {
    let path = folder.join(MANIFEST);
    Manifest::from_json(&fs::read_to_string(&path).map_err(|e| failed("read", &path, e))?)
}

/// The `blip.json` of a folder, if it is a model directory.
///
/// # Errors
/// As [`read_manifest`].
pub fn manifest_in(path: &Path) -> Result<Option<Manifest>> {
    path.join(MANIFEST).exists().then(|| read_manifest(path)).transpose()
}

/// The first weights of a model directory; or a checkpoint, named itself or by its folder, with the
/// `config.json` beside it or the configuration that its layout implies.
///
/// # Errors
/// [`ErrorKind::BadOption`] for a folder without a checkpoint, [`ErrorKind::Io`], and what
/// [`Checkpoint::open`], [`BlipConfig::from_json`] and [`infer_config`] find wrong.
pub fn open_checkpoint(path: &Path) -> Result<(Checkpoint, BlipConfig)> {
    if let Some(manifest) = manifest_in(path)? {
        return Ok((Checkpoint::open(&path.join(&manifest.files.weights.path))?, manifest.config));
    }
    let file = if path.is_dir() { weights_in(path)? } else { path.to_owned() };
    let checkpoint = Checkpoint::open(&file)?;
    let beside = file.with_file_name("config.json");
    if !beside.exists() {
        let config = infer_config(&checkpoint.entries())?;
        return Ok((checkpoint, config));
    }
    let text = fs::read_to_string(&beside).map_err(|e| failed("read", &beside, e))?;
    let mut config = BlipConfig::from_json(&text)?;
    fit_image_size(&mut config, &checkpoint.entries());
    Ok((checkpoint, config))
}

/// The checkpoint in a folder, by the names that the hub has for it.
///
/// # Errors
/// [`ErrorKind::BadOption`] when there is none.
pub fn weights_in(folder: &Path) -> Result<PathBuf> {
    let names = ["model.safetensors", "pytorch_model.bin"];
    let found = names.into_iter().map(|name| folder.join(name)).find(|path| path.exists());
    found.ok_or_else(|| {
        let message = format!("{} holds neither {}", folder.display(), names.join(" nor "));
        Error::new(ErrorKind::BadOption, message)
    })
}

/// The models of a model directory, or of a checkpoint with the vocabulary beside it.
pub(super) fn load(path: &Path, device: &OpenDevice) -> Result<Vec<Part>> {
    let Some(manifest) = manifest_in(path)? else { return load_checkpoint(path, device) };
    let vocab = read(&path.join(&manifest.files.vocab.path))?;
    let weights: Vec<PathBuf> = manifest.weights().map(|file| path.join(&file.path)).collect();
    let mut loader = ModelLoader::new(manifest, device);
    let mut piece = vec![0; PIECE];
    for path in weights {
        let unreadable = |e| failed("read", &path, e);
        let mut file = File::open(&path).map_err(unreadable)?;
        loop {
            match file.read(&mut piece).map_err(unreadable)? {
                0 => break,
                count => loader.push(&piece[..count])?,
            }
        }
    }
    loader.finish(&vocab)
}

fn load_checkpoint(path: &Path, device: &OpenDevice) -> Result<Vec<Part>> {
    let (checkpoint, config) = open_checkpoint(path)?;
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
    let vocab = complete_vocabulary(&read(&folder.join("vocab.txt"))?, &config)?;
    Ok(vec![Part::from_checkpoint(&config, &checkpoint, &vocab, device)?])
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|e| failed("read", path, e))
}
