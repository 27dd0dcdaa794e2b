//! `blip convert --to hf`: the way back, into folders that `transformers` loads.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use blip_web::ErrorKind;
use blip_web::convert::{Class, HuggingFaceFolder, WEIGHTS};
use blip_web::model::Networks;
use blip_web::weights::{Precision, TensorReport, find_networks};
use burn::tensor::Device;

use super::sources::{Copies, Network, Source};
use super::staging::{Staging, hidden};
use super::{Arguments, MANIFEST, write_weights};

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let precision = arguments.dtype.unwrap_or(Precision::F32);
    let mut copies = Copies::new(hidden(&arguments.out, "sources"));
    match write_all(arguments, precision, &mut copies) {
        Ok(()) => copies.remove(),
        Err(error) => {
            copies.keep();
            return Err(error);
        }
    }
    Ok(())
}

fn write_all(arguments: &Arguments, precision: Precision, copies: &mut Copies) -> Result<()> {
    let source = arguments.first_source(copies)?;
    let vocab = arguments.vocabulary(&source)?;
    let licence = arguments.licence.clone().unwrap_or_else(|| source.licence().to_owned());
    let folders = folders(&source, precision)?;
    let several = folders.len() > 1;
    for (class, folder) in &folders {
        let out = if several { arguments.out.join(class.folder()) } else { arguments.out.clone() };
        if out.join(MANIFEST).exists() {
            let message = format!("{} is a model directory: name another folder with --out", out.display());
            return Err(blip_web::Error::new(ErrorKind::BadOption, message).into());
        }
        let (tensors, bytes) = write_folder(&out, folder, &vocab, &arguments.id(), &licence)?;
        let rounded = if folder.is_dequantised() { ", dequantised" } else { "" };
        println!(
            "wrote {} ({}, {tensors} tensors as {}{rounded}, {:.1} MB)",
            out.display(),
            class.name(),
            precision.name(),
            bytes as f64 / 1e6,
        );
    }
    Ok(())
}

/// The folders that a source becomes, each class once.
fn folders(source: &Source, precision: Precision) -> Result<Vec<(Class, HuggingFaceFolder<'_>)>> {
    let mut folders: Vec<(Class, HuggingFaceFolder<'_>)> = Vec::new();
    let mut without: Vec<String> = Vec::new();
    for Network { config, checkpoint, tasks, .. } in &source.networks {
        let tasks = match tasks {
            Some(tasks) => tasks.clone(),
            None => served(&find_networks(config, checkpoint, &Device::flex())?),
        };
        for task in tasks {
            match Class::of(&task) {
                None => without.push(task),
                Some(class) if folders.iter().any(|(known, _)| *known == class) => {}
                Some(class) => {
                    folders.push((class, HuggingFaceFolder::new(class, config, checkpoint, precision)?));
                }
            }
        }
    }
    if folders.is_empty() {
        let known = if without.is_empty() { "nothing".to_owned() } else { without.join(", ") };
        let message = format!(
            "`{}` is for {known}, which transformers has no class for: expected caption, vqa, itm or itc",
            source.shown
        );
        return Err(blip_web::Error::new(ErrorKind::TaskUnsupported, message).into());
    }
    for task in without {
        eprintln!("blip: {task} is left out: transformers has no class for it");
    }
    Ok(folders)
}

fn served(networks: &Networks) -> Vec<String> {
    networks.tasks().into_iter().map(str::to_owned).collect()
}

/// Writes a folder, which is whole or not there; how many tensors, and bytes of weights.
fn write_folder(
    out: &Path,
    folder: &HuggingFaceFolder<'_>,
    vocab: &[u8],
    id: &str,
    licence: &str,
) -> Result<(usize, u64)> {
    // What can be wrong with words is known before anything is written.
    let files = folder.files(vocab, id, licence)?;
    let staging = Staging::begin(out)?;
    let mut tensors = 0;
    let place: PathBuf = out.join(WEIGHTS);
    write_weights(&staging, WEIGHTS, &place, |file, progress| {
        let mut count = |line: &TensorReport, of: usize| {
            tensors += 1;
            progress.show(line, of);
        };
        Ok(folder.write_weights(file, &mut count)?)
    })?;
    for (name, bytes) in files {
        staging.write(name, &bytes)?;
    }
    staging.finish()?;
    let bytes = std::fs::metadata(&place).with_context(|| format!("cannot read {}", place.display()))?.len();
    Ok((tensors, bytes))
}
