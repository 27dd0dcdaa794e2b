//! `blip index`: the `manifest.json` of a folder of model directories.

use std::path::PathBuf;

use anyhow::{Context, Result};
use blip_web::hub::read_manifest;
use clap::Args;
use serde_json::json;

#[derive(Args)]
pub(crate) struct Arguments {
    /// The folder, such as `models`.
    folder: PathBuf,
}

pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = &arguments.folder;
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.join("blip.json").exists());
    paths.sort();
    let mut models = Vec::new();
    for path in paths {
        let manifest = read_manifest(&path)?;
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        models.push(json!({
            "id": manifest.id,
            "path": format!("{name}/blip.json"),
            "tasks": manifest.all_tasks(),
            "bytes": manifest.bytes(),
            "quantisation": manifest.quantisation,
            "licence": manifest.licence,
        }));
    }
    let index = json!({"formatVersion": blip_web::weights::Manifest::FORMAT_VERSION, "models": models});
    let path = folder.join("manifest.json");
    std::fs::write(&path, serde_json::to_string_pretty(&index)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))?;
    println!("wrote {} ({} models)", path.display(), models.len());
    Ok(())
}
