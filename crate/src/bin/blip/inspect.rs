//! `blip inspect`: what is in a checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use blip_web::weights::keymap::{Meaning, meaning};
use blip_web::weights::{Checkpoint, find_networks};
use clap::Args;

use super::source::{open_checkpoint, read_manifest};

#[derive(Args)]
pub(crate) struct Arguments {
    /// A checkpoint file, a folder with one, or a model directory.
    path: PathBuf,
    /// List every tensor.
    #[arg(long)]
    tensors: bool,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let path = &arguments.path;
    let (checkpoint, config) = if path.join("blip.json").exists() {
        let manifest = read_manifest(path)?;
        println!("model    {} ({}, {})", manifest.id, manifest.dtype, manifest.licence);
        (Checkpoint::open(&path.join(&manifest.files.weights.path))?, manifest.config)
    } else {
        open_checkpoint(path)?
    };
    let networks = find_networks(&checkpoint)?;
    println!("tasks    {}", networks.tasks().join(", "));
    println!("networks {networks:?}");
    println!("config   {}", serde_json::to_string(&config)?);
    let mut parts: BTreeMap<String, (usize, usize)> = BTreeMap::new();
    for (name, tensor) in &checkpoint.tensors {
        let part = match meaning(name) {
            Meaning::Parameter(path) => path.split('.').next().unwrap_or("other").to_owned(),
            Meaning::Ignored => "(not read)".to_owned(),
            Meaning::Unknown => "(unknown)".to_owned(),
        };
        let entry = parts.entry(part).or_default();
        entry.0 += 1;
        entry.1 += tensor.elements();
        if arguments.tensors {
            println!("  {name} {tensor:?}");
        }
    }
    println!("{:<14} {:>8} {:>14} {:>10} {:>10}", "part", "tensors", "parameters", "f32 MB", "f16 MB");
    for (part, (tensors, elements)) in parts {
        let megabytes = |bytes: usize| (elements * bytes) as f64 / 1e6;
        println!("{part:<14} {tensors:>8} {elements:>14} {:>10.1} {:>10.1}", megabytes(4), megabytes(2));
    }
    Ok(())
}
