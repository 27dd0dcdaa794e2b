//! Rules about single files.

use super::Tree;
use crate::workspace::{Workspace, read};
use anyhow::Result;
use std::fs;
use std::path::{Component, Path, PathBuf};

const LONGEST: usize = 600;
const BANNED_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "misc", "base", "types"];
const LARGE: u64 = 1024 * 1024;
/// Folders of models; the second is the copy inside the crate.
const MODEL_FOLDERS: &[&str] = &["models/", "crate/assets/", "tests/fixtures/models/"];

/// Rust files start with `//!`, TypeScript with `/**`.
pub fn module_docs(tree: &Tree) -> Result<Vec<String>> {
    let rust = tree.sources_in(&["crate/", "tests/", "xtask/"], "rs").map(|source| (source, "//!"));
    let typescript = tree.sources_in(&["pkg/src/"], "ts").map(|source| (source, "/**"));
    Ok(rust
        .chain(typescript)
        .filter(|(source, opening)| !source.text.starts_with(opening))
        .map(|(source, opening)| format!("{}: does not start with `{opening}`", source.path))
        .collect())
}

/// No file grows past the hard limit.
pub fn lengths(tree: &Tree) -> Result<Vec<String>> {
    let length = |text: &str| text.lines().count();
    Ok(tree
        .sources
        .iter()
        .filter(|source| length(&source.text) > LONGEST)
        .map(|source| format!("{}: {} lines, limit {LONGEST}", source.path, length(&source.text)))
        .collect())
}

/// No file is named after not knowing what it is.
pub fn names(tree: &Tree) -> Result<Vec<String>> {
    let stem = |path: &str| Path::new(path).file_stem().map(|stem| stem.to_string_lossy().into_owned());
    Ok(tree
        .sources
        .iter()
        // Presets of the model are named as the paper names them.
        .filter(|source| !source.path.starts_with("tests/fixtures/"))
        .filter(|source| stem(&source.path).is_some_and(|stem| BANNED_NAMES.contains(&stem.as_str())))
        .map(|source| source.path.clone())
        .collect())
}

/// `#[allow]` and `#[expect]` carry `reason = "…"`.
pub fn reasons(tree: &Tree) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for source in tree.sources_in(&["crate/", "tests/", "xtask/"], "rs") {
        for (index, line) in source.text.lines().enumerate() {
            let code = line.trim_start();
            if ["#[allow(", "#![allow(", "#[expect(", "#![expect("]
                .iter()
                .any(|start| code.starts_with(start))
            {
                let attribute: String = source.text.lines().skip(index).take(8).collect();
                let end = attribute.find(")]").unwrap_or(attribute.len());
                if !attribute[..end].contains("reason") {
                    violations.push(format!("{}:{}: {}", source.path, index + 1, code));
                }
            }
        }
    }
    Ok(violations)
}

/// No `any`, no default export, no switched-off checks, nothing to install beside the package.
pub fn typescript(tree: &Tree) -> Result<Vec<String>> {
    const FORBIDDEN: &[&str] =
        &[": any", "as any", "<any", "export default", "@ts-ignore", "@ts-nocheck", "@ts-expect-error"];
    let mut violations = Vec::new();
    for source in tree.sources_in(&["pkg/src/"], "ts") {
        for (index, line) in source.text.lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            violations.extend(
                FORBIDDEN
                    .iter()
                    .filter(|word| !line.trim_start().starts_with('*') && contains_word(code, word))
                    .map(|word| format!("{}:{}: `{word}`", source.path, index + 1)),
            );
        }
    }
    let package: serde_json::Value = serde_json::from_str(&read(&tree.workspace.path("pkg/package.json"))?)?;
    if package.get("dependencies").is_some() {
        violations.push("pkg/package.json: has run-time dependencies".to_owned());
    }
    Ok(violations)
}

/// Whether `text` has `word` not followed by more of a name.
fn contains_word(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(start, _)| !text[start + word.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// Only models may be large.
pub fn large_files(tree: &Tree) -> Result<Vec<String>> {
    Ok(tree
        .files
        .iter()
        .filter(|path| !MODEL_FOLDERS.iter().any(|folder| path.starts_with(folder)))
        .filter_map(|path| Some((path, fs::metadata(tree.workspace.path(path)).ok()?.len())))
        .filter(|(_, size)| *size > LARGE)
        .map(|(path, size)| format!("{path}: {size} bytes, limit {LARGE}"))
        .collect())
}

/// What the crate takes in with `include_bytes!` and `include_str!`, relative to `crate/`.
///
/// Fixtures outside the crate are left out: only its unit tests read those.
pub fn embedded_files(workspace: &Workspace) -> Result<Vec<String>> {
    let tree = Tree::read(workspace)?;
    let mut files = Vec::new();
    for source in tree.sources_in(&["crate/src/"], "rs") {
        for marker in ["include_bytes!(", "include_str!("] {
            for (start, _) in source.text.match_indices(marker) {
                let Some(literal) = source.text[start + marker.len()..].trim_start().strip_prefix('"') else {
                    continue;
                };
                let Some((relative, _)) = literal.split_once('"') else { continue };
                let folder = Path::new(&source.path).parent().unwrap_or(Path::new(""));
                let path = normalise(&folder.join(relative));
                if let Ok(inside) = path.strip_prefix("crate") {
                    files.push(inside.to_string_lossy().replace('\\', "/"));
                }
            }
        }
    }
    files.sort();
    files.dedup();
    Ok(files)
}

/// The path without `.` and `..`.
fn normalise(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_found_and_a_longer_name_is_not() {
        assert!(contains_word("let x: any = 1", ": any"));
        assert!(!contains_word("let x: anything = 1", ": any"));
    }

    #[test]
    fn a_path_loses_its_detours() {
        assert_eq!(normalise(Path::new("crate/src/../assets/./a")), Path::new("crate/assets/a"));
    }
}
