//! Where a model comes from on the command line: a model directory or a checkpoint file.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use blip_web::config::BlipConfig;
use blip_web::device::{DeviceKind, OpenDevice, block_on};
use blip_web::tasks::Session;
use blip_web::weights::{Checkpoint, Manifest};
use clap::ValueEnum;

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

/// The model to use: `None` is the embedded one.
pub(crate) fn open_session(model: Option<&Path>, device: DeviceName) -> Result<Session> {
    let device = device.open()?;
    let Some(folder) = model else { return embedded(&device) };
    let manifest = read_manifest(folder)?;
    let weights = read(&folder.join(&manifest.files.weights.path))?;
    let vocab = read(&folder.join(&manifest.files.vocab.path))?;
    Ok(Session::from_manifest(&manifest, &weights, &vocab, &device)?)
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
        BlipConfig::from_json(&text)?
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
