//! `blip probe`: figures that `cargo xtask bench` reports, as JSON; not listed in the help.

#[cfg(feature = "wgpu")]
mod kernels;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use blip_web::device::{OpenDevice, block_on};
use blip_web::hub::read_manifest;
use blip_web::model::{Grounding, KvCache};
use blip_web::weights::Loader;
use burn::tensor::{Tensor, TensorData};
use clap::{Args, Subcommand};
use serde_json::{Map, json};

use super::source::DeviceName;

/// Bytes of the weights that are read at a time.
const PIECE: usize = 1 << 20;
/// Fed after `[DEC]`: any ten tokens would do, and `bench/ort/forward.py` feeds the same.
const PREFIX: std::ops::Range<u32> = 1037..1046;

#[derive(Subcommand)]
pub(crate) enum Command {
    /// The relative error of each model's logits against those of the first.
    Logits(Logits),
    /// What the matrix products reach of what the GPU can do.
    #[cfg(feature = "wgpu")]
    Kernels,
}

#[derive(Args)]
pub(crate) struct Logits {
    /// The model directory to compare with.
    reference: PathBuf,
    /// The model directories to compare; the answer names them by their ids.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// Where to write the reference's logits, as raw f32.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Where to run.
    #[arg(long, value_enum, default_value_t = DeviceName::Cpu)]
    device: DeviceName,
}

pub(crate) fn run(command: &Command) -> Result<()> {
    match command {
        Command::Logits(arguments) => logits(arguments),
        #[cfg(feature = "wgpu")]
        Command::Kernels => kernels::run(),
    }
}

fn logits(arguments: &Logits) -> Result<()> {
    let device = arguments.device.open()?;
    let (_, reference) = logits_of(&arguments.reference, &device)?;
    if let Some(path) = &arguments.write {
        let bytes: Vec<u8> = reference.iter().flat_map(|value| value.to_le_bytes()).collect();
        std::fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut errors = Map::new();
    for model in &arguments.models {
        let (id, logits) = logits_of(model, &device)?;
        errors.insert(id, json!(relative_error(&logits, &reference)?));
    }
    println!("{}", serde_json::to_string(&errors)?);
    Ok(())
}

/// The model's id, and its scores after `[DEC]` and each token of the prefix.
fn logits_of(folder: &Path, device: &OpenDevice) -> Result<(String, Vec<f32>)> {
    let manifest = read_manifest(folder)?;
    let mut loader = Loader::new(&manifest, &device.device).in_halves(device.halves());
    let path = folder.join(&manifest.files.weights.path);
    let file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let mut file = BufReader::with_capacity(PIECE, file);
    let mut piece = vec![0; PIECE];
    loop {
        let read = file.read(&mut piece).with_context(|| format!("cannot read {}", path.display()))?;
        if read == 0 {
            break;
        }
        loader.push(&piece[..read])?;
    }
    let (model, _) = loader.finish()?;

    let (size, text) = (manifest.config.vision_config.image_size, &manifest.config.text_config);
    let pixels = TensorData::new(noise(3 * size * size), [1, 3, size, size]);
    let tokens =
        model.vision.forward(Tensor::from_data(pixels, (&device.device, model.vision.activations())));
    let decoder = model.decoder().context("the model has no decoder")?;
    let grounding = Grounding::new(decoder.cross_kv(tokens));
    let ids: Vec<u32> = std::iter::once(text.bos_token_id).chain(PREFIX).collect();
    let mut cache = KvCache::new(decoder, 1, ids.len(), &device.device);
    let mut logits = Vec::with_capacity(ids.len() * text.vocab_size);
    for id in ids {
        cache.feed(&[0], &[id]);
        let scores = model.step_logits(&grounding, &mut cache);
        cache.advance();
        logits.extend(block_on(device.read(scores))?);
    }
    Ok((manifest.id, logits))
}

/// The picture of the benchmark: a linear congruential generator, in [-1, 1).
fn noise(count: usize) -> Vec<f32> {
    let mut state = 12_345_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (f64::from(state) / f64::from(1_u32 << 31) - 1.0) as f32
    };
    (0..count).map(|_| next()).collect()
}

/// `‖values − reference‖ / ‖reference‖`.
fn relative_error(values: &[f32], reference: &[f32]) -> Result<f64> {
    ensure!(values.len() == reference.len(), "the models differ in more than their weights");
    let squares = |pairs: &mut dyn Iterator<Item = f64>| pairs.map(|x| x * x).sum::<f64>();
    let difference = squares(&mut values.iter().zip(reference).map(|(a, b)| f64::from(*a) - f64::from(*b)));
    Ok((difference / squares(&mut reference.iter().map(|x| f64::from(*x)))).sqrt())
}
