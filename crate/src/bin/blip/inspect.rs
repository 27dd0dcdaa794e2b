//! `blip inspect`: what is in a checkpoint.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::Result;
use blip_web::weights::keymap::{Meaning, meaning};
use blip_web::weights::{Dtype, find_networks};
use burn::tensor::Device;
use clap::Args;

use super::source::{manifest_in, open_checkpoint};

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
    if let Some(manifest) = manifest_in(path)? {
        println!("model    {} ({}, {})", manifest.id, manifest.quantisation, manifest.licence);
    }
    let (checkpoint, config) = open_checkpoint(path)?;
    let networks = find_networks(&config, &checkpoint, &Device::flex())?;
    println!("tasks    {}", networks.tasks().join(", "));
    println!("networks {networks:?}");
    println!("config   {}", serde_json::to_string(&config)?);
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
        if arguments.tensors {
            println!("  {name} {format} {:?}", tensor.shape);
        }
    }
    println!("{:<14} {:<7} {:>8} {:>14} {:>10}", "part", "format", "tensors", "elements", "MB");
    for ((part, format), (tensors, elements, bytes)) in parts {
        println!("{part:<14} {format:<7} {tensors:>8} {elements:>14} {:>10.1}", bytes as f64 / 1e6);
    }
    Ok(())
}
