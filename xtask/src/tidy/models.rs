//! Rules about the committed models.

use super::Tree;
use crate::setup::digest;
use anyhow::Result;
use serde_json::Value;
use std::fs;
use std::path::Path;

/// What the embedded model may weigh.
const TINY_LIMIT: u64 = 8 * 1024 * 1024;

/// `models/manifest.json` lists every model folder; sizes and digests are those of the files.
pub fn manifests(tree: &Tree) -> Result<Vec<String>> {
    let folder = tree.workspace.path("models");
    let Some(index) = tree.text("models/manifest.json") else {
        return Ok(vec!["models/manifest.json is missing".to_owned()]);
    };
    let index: Value = serde_json::from_str(&index)?;
    let models = index["models"].as_array().cloned().unwrap_or_default();
    let mut violations = Vec::new();
    if models.is_empty() {
        violations.push("models/manifest.json lists no model".to_owned());
    }
    for model in &models {
        check_model(&folder.join(directory(model)), model, &mut violations)?;
    }
    for entry in fs::read_dir(&folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        // A model that a person converted here is not committed, and not listed.
        let committed = tree.files.iter().any(|file| file.starts_with(&format!("models/{name}/")));
        let listed = models.iter().any(|model| directory(model) == name);
        if entry.file_type()?.is_dir() && committed && !listed {
            violations.push(format!("models/{name} is not in models/manifest.json"));
        }
    }
    Ok(violations)
}

/// The folder of an entry, whose `path` is that of its `blip.json`.
fn directory(entry: &Value) -> &str {
    entry["path"].as_str().and_then(|path| path.strip_suffix("/blip.json")).unwrap_or_default()
}

fn check_model(folder: &Path, entry: &Value, violations: &mut Vec<String>) -> Result<()> {
    let shown = folder.display();
    let Ok(manifest) = fs::read_to_string(folder.join("blip.json")) else {
        violations.push(format!("{shown} has no blip.json"));
        return Ok(());
    };
    let manifest: Value = serde_json::from_str(&manifest)?;
    for (field, here) in [
        ("id", manifest["id"].clone()),
        ("tasks", tasks(&manifest).into()),
        ("quantisation", manifest["quantisation"].clone()),
        ("licence", manifest["licence"].clone()),
    ] {
        if here != entry[field] {
            violations.push(format!("{shown}: `{field}` is {here} here and {} in the index", entry[field]));
        }
    }
    let mut total = 0;
    for (role, file) in files(&manifest) {
        let path = folder.join(file["path"].as_str().unwrap_or_default());
        let Ok(bytes) = fs::read(&path) else {
            violations.push(format!("{} is missing", path.display()));
            continue;
        };
        total += bytes.len() as u64;
        if file["bytes"] != bytes.len() || file["sha256"] != digest(&bytes) || !chunks_fit(&file, &bytes) {
            violations.push(format!("{shown}: `{role}` does not describe {}", path.display()));
        }
    }
    if entry["bytes"] != total {
        violations.push(format!("{shown}: the index says {} bytes, its files have {total}", entry["bytes"]));
    }
    if manifest["id"] == "tiny" && total > TINY_LIMIT {
        violations.push(format!("{shown}: {total} bytes, limit {TINY_LIMIT}"));
    }
    Ok(())
}

/// What all networks of a manifest were trained for, in their order.
fn tasks(manifest: &Value) -> Vec<Value> {
    let networks = manifest["networks"].as_array().into_iter().flatten();
    let lists = std::iter::once(manifest).chain(networks).filter_map(|network| network["tasks"].as_array());
    let mut all: Vec<Value> = Vec::new();
    for task in lists.flatten() {
        if !all.contains(task) {
            all.push(task.clone());
        }
    }
    all
}

/// The entries of a manifest's files and where they stand: those of `files`, and further networks' weights.
fn files(manifest: &Value) -> Vec<(String, Value)> {
    let own = manifest["files"].as_object().into_iter().flatten();
    let networks = manifest["networks"].as_array().into_iter().flatten().enumerate();
    own.map(|(role, file)| (format!("files.{role}"), file.clone()))
        .chain(
            networks.map(|(nth, network)| (format!("networks[{nth}].weights"), network["weights"].clone())),
        )
        .collect()
}

/// Whether the digests of a file's pieces, where it lists any, are those of its bytes.
fn chunks_fit(file: &Value, bytes: &[u8]) -> bool {
    let (size, listed) = (&file["chunks"]["size"], &file["chunks"]["sha256"]);
    let Some(size) = size.as_u64().filter(|size| *size > 0) else { return file["chunks"].is_null() };
    let digests: Vec<Value> = bytes.chunks(size as usize).map(|piece| digest(piece).into()).collect();
    listed.as_array() == Some(&digests)
}

/// A package can only embed files of its own folder; what stands there under a model's name is that model.
pub fn embedded(tree: &Tree) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for path in tree.files.iter().filter_map(|path| path.strip_prefix("crate/assets/")) {
        let Some((model, _)) = path.split_once('/') else { continue };
        if !tree.files.iter().any(|file| file.starts_with(&format!("models/{model}/"))) {
            continue;
        }
        let published = fs::read(tree.workspace.path("models").join(path)).unwrap_or_default();
        if published != fs::read(tree.workspace.path("crate/assets").join(path))? {
            violations.push(format!("crate/assets/{path} differs from models/{path}"));
        }
    }
    Ok(violations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_networks_have_tasks_and_files_too() {
        let manifest = serde_json::json!({
            "tasks": ["caption", "itm"],
            "files": {"vocab": {"path": "v"}, "weights": {"path": "w"}},
            "networks": [{"tasks": ["vqa", "itm"], "weights": {"path": "q"}}],
        });
        assert_eq!(tasks(&manifest), ["caption", "itm", "vqa"]);
        let paths: Vec<_> =
            files(&manifest).into_iter().map(|(role, file)| (role, file["path"].clone())).collect();
        let expected = [("files.vocab", "v"), ("files.weights", "w"), ("networks[0].weights", "q")];
        assert_eq!(paths, expected.map(|(role, path)| (role.to_owned(), path.into())));
    }

    #[test]
    fn the_digests_of_pieces_are_checked() {
        let bytes = [1, 2, 3, 4, 5];
        let entry = |size: u64, digests: Vec<String>| serde_json::json!({"chunks": {"size": size, "sha256": digests}});
        let pieces = || bytes.chunks(2).map(digest).collect::<Vec<_>>();
        assert!(chunks_fit(&serde_json::json!({}), &bytes));
        assert!(chunks_fit(&entry(2, pieces()), &bytes));
        assert!(!chunks_fit(&entry(3, pieces()), &bytes) && !chunks_fit(&entry(0, pieces()), &bytes));
        assert!(!chunks_fit(&entry(2, pieces()[..2].to_vec()), &bytes));
        assert!(!chunks_fit(&entry(2, pieces()), &[1, 2, 3, 4, 6]));
    }
}
