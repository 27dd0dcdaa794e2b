//! `blip convert`: from a checkpoint to the container of `models/`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use blip_web::convert::{ModelDirectory, assemble, convert};
use blip_web::weights::{Dtype, NamedTensors};
use clap::{Args, ValueEnum};

use super::source::{open_checkpoint, read};

#[derive(Args)]
pub(crate) struct Arguments {
    /// `model.safetensors`, `pytorch_model.bin`, a `.pth` file, or a folder with one of them.
    checkpoint: PathBuf,
    /// The vocabulary, one token a line (`vocab.txt` of bert-base-uncased).
    #[arg(long)]
    vocab: PathBuf,
    /// Folder to write: `blip.json`, `model.safetensors`, `vocab.txt`.
    #[arg(long)]
    out: PathBuf,
    /// Name of the model; the folder's name when left out.
    #[arg(long)]
    id: Option<String>,
    /// Element type of the weights.
    #[arg(long, value_enum, default_value_t = DtypeName::F16)]
    dtype: DtypeName,
    /// Licence of the weights, as an SPDX expression.
    #[arg(long, default_value = "BSD-3-Clause")]
    licence: String,
}

/// Element types by name.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum DtypeName {
    /// 32-bit floats.
    F32,
    /// Half precision.
    F16,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let (checkpoint, config) = open_checkpoint(&arguments.checkpoint)?;
    let vocab = read(&arguments.vocab)?;
    let folder_name =
        || arguments.out.file_name().map_or("model".into(), |name| name.to_string_lossy().into_owned());
    let id = arguments.id.clone().unwrap_or_else(folder_name);
    let converted = convert(&checkpoint, &config)?;
    for name in &converted.dropped {
        println!("dropped {name}");
    }
    let directory = ModelDirectory {
        id,
        config: config.clone(),
        tasks: converted.tasks,
        licence: arguments.licence.clone(),
        knows: None,
    };
    let dtype = match arguments.dtype {
        DtypeName::F32 => Dtype::F32,
        DtypeName::F16 => Dtype::F16,
    };
    write_model(&arguments.out, &directory, &converted.tensors, &vocab, dtype)?;
    println!("wrote {} ({} tensors)", arguments.out.display(), converted.tensors.len());
    Ok(())
}

/// Writes a model directory.
pub(crate) fn write_model(
    out: &Path,
    directory: &ModelDirectory,
    tensors: &NamedTensors,
    vocab: &[u8],
    dtype: Dtype,
) -> Result<()> {
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    for (name, bytes) in assemble(directory, tensors, vocab, dtype)? {
        let path = out.join(name);
        std::fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}
