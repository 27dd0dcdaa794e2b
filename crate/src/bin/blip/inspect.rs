//! `blip inspect`: what is in a checkpoint.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;
use blip_web::config::BlipConfig;
use blip_web::hub::{manifest_in, open_checkpoint};
use blip_web::model::Networks;
use blip_web::weights::keymap::{Meaning, meaning};
use blip_web::weights::{Checkpoint, Dtype, Manifest, find_networks};
use burn::tensor::Device;
use clap::Args;

#[derive(Args)]
pub(crate) struct Arguments {
    /// A checkpoint file, a folder with one, or a model directory.
    path: PathBuf,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
}

/// A weights file, and what is in it.
struct Inspected {
    config: BlipConfig,
    checkpoint: Checkpoint,
    networks: Networks,
}

impl Inspected {
    fn new(config: BlipConfig, checkpoint: Checkpoint) -> Result<Self> {
        let networks = find_networks(&config, &checkpoint, &Device::flex())?;
        Ok(Self { config, checkpoint, networks })
    }
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.path;
    let manifest = manifest_in(path)?;
    if let Some(manifest) = &manifest {
        println!("model    {} ({}, {})", manifest.id, manifest.quantisation, manifest.licence);
    }
    let (checkpoint, config) = open_checkpoint(path)?;
    let first = Inspected::new(config, checkpoint)?;
    let Some(manifest) = manifest.filter(|manifest| !manifest.networks.is_empty()) else {
        println!("tasks    {}", first.networks.tasks().join(", "));
        show(&first, arguments.tensors)?;
        return Ok(());
    };
    let files = further(path, &manifest, first)?;
    println!("tasks    {}", manifest.all_tasks().join(", "));
    list(&manifest, &files);
    for (file, inspected) in manifest.weights().zip(&files) {
        println!("\nfile     {}", file.path);
        show(inspected, arguments.tensors)?;
    }
    Ok(())
}

/// The first file and those of the further networks.
fn further(path: &Path, manifest: &Manifest, first: Inspected) -> Result<Vec<Inspected>> {
    let mut files = vec![first];
    for network in &manifest.networks {
        let config = network.config.as_ref().unwrap_or(&manifest.config).clone();
        files.push(Inspected::new(config, Checkpoint::open(&path.join(&network.weights.path))?)?);
    }
    Ok(files)
}

/// The files with what they are for, what they share, and how large they are.
fn list(manifest: &Manifest, files: &[Inspected]) {
    println!("{:<28} {:<16} {:<24} {:>10}", "file", "tasks", "image encoder", "MB");
    let line = |path: &str, tasks: &str, vision: &str, bytes: u64| {
        println!("{path:<28} {tasks:<16} {vision:<24} {:>10.1}", bytes as f64 / 1e6);
    };
    let sharing = files.iter().filter(|file| !file.networks.vision).count();
    let tasks =
        std::iter::once(&manifest.tasks).chain(manifest.networks.iter().map(|network| &network.tasks));
    for ((nth, (file, inspected)), tasks) in manifest.weights().zip(files).enumerate().zip(tasks) {
        let vision = match (nth, inspected.networks.vision) {
            (0, _) => format!("its own, lent to {sharing}"),
            (_, true) => "its own".to_owned(),
            (_, false) => format!("of {}", manifest.files.weights.path),
        };
        line(&file.path, &tasks.join(", "), &vision, file.bytes);
    }
    line(&manifest.files.vocab.path, "", "", manifest.files.vocab.bytes);
    line("all", "", "", manifest.bytes());
}

/// What is in a file, part by part.
fn show(Inspected { config, checkpoint, networks }: &Inspected, list_tensors: bool) -> Result<()> {
    println!("networks {networks:?}");
    println!("config   {}", serde_json::to_string(config)?);
    let mut parts: BTreeMap<(String, &str), (usize, usize, usize)> = BTreeMap::new();
    for (name, tensor) in &checkpoint.tensors {
        let is_scales = name.ends_with(".scales");
        let part = match meaning(name.strip_suffix(".scales").unwrap_or(name)) {
            Meaning::Parameter(path) => path.split('.').next().unwrap_or("other").to_owned(),
            Meaning::Ignored => "(not read)".to_owned(),
            Meaning::Unknown => "(unknown)".to_owned(),
        };
        let (format, width) = match tensor.dtype {
            Dtype::F32 => ("f32", 4),
            Dtype::F16 if is_scales => ("scales", 2),
            Dtype::F16 => ("f16", 2),
            Dtype::Bf16 => ("bf16", 2),
            Dtype::F64 => ("f64", 8),
            Dtype::I8 => ("q8", 1),
            Dtype::U8 => ("q4", 1),
            Dtype::Other => ("other", 0),
        };
        let entry = parts.entry((part, format)).or_default();
        entry.0 += 1;
        // A q4 byte holds two; padding counts, because nothing here knows where it begins.
        entry.1 += tensor.elements() * if tensor.dtype == Dtype::U8 { 2 } else { 1 };
        entry.2 += tensor.elements() * width;
        if list_tensors {
            println!("  {name} {format} {:?}", tensor.shape);
        }
    }
    println!("{:<14} {:<7} {:>8} {:>14} {:>10}", "part", "format", "tensors", "elements", "MB");
    for ((part, format), (tensors, elements, bytes)) in parts {
        println!("{part:<14} {format:<7} {tensors:>8} {elements:>14} {:>10.1}", bytes as f64 / 1e6);
    }
    Ok(())
}
