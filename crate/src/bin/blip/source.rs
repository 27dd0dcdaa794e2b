//! Devices, models and files by the names that the command line has for them.

use std::path::Path;

use anyhow::{Context, Result};
use blip_web::config::BlipConfig;
use blip_web::device::{DeviceKind, OpenDevice, block_on};
use blip_web::hub::Models;
use blip_web::tasks::Session;
use clap::ValueEnum;

use super::network::DownloadProgress;

/// Devices by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum DeviceName {
    /// The GPU.
    Gpu,
    /// The CPU.
    Cpu,
    /// NVIDIA's CUDA, in a build with the feature `cuda`: for training.
    Cuda,
}

impl DeviceName {
    pub(crate) fn open(self) -> Result<OpenDevice> {
        let kind = match self {
            Self::Gpu => DeviceKind::Gpu,
            Self::Cpu => DeviceKind::Cpu,
            Self::Cuda => DeviceKind::Cuda,
        };
        Ok(block_on(OpenDevice::open(kind))?)
    }
}

/// The models to use, as [`Models::open`] reads them: `None` is the embedded one.
pub(crate) fn open_session(model: Option<&Path>, device: DeviceName) -> Result<Session> {
    let device = device.open()?;
    let Some(model) = model else { return Ok(blip_web::embedded::tiny(&device)?) };
    let mut progress = DownloadProgress::new();
    let opened = Models::from_env().open(model, &device, &mut |event| progress.hear(event));
    progress.end();
    Ok(opened?)
}

/// A digest of a model on this machine: of its manifest, which has those of all its files, or of the files
/// themselves.
#[cfg(feature = "train")]
pub(crate) fn content_mark(path: &Path) -> Result<String> {
    use blip_web::hub::{manifest_in, weights_in};
    use blip_web::train::capfilt::Content;

    if !path.exists() {
        let message =
            format!("there is no file or folder {}: a model of this machine is needed", path.display());
        return Err(blip_web::Error::new(blip_web::ErrorKind::BadOption, message).into());
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
