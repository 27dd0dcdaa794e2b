//! Pictures by name: files, folders, and lists on standard input.

use std::io::BufRead as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// A picture's file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Input {
    /// Where it is.
    pub path: PathBuf,
    /// Where it is inside the folder that was named; of a file that was named itself, its name.
    pub relative: PathBuf,
}

/// Extensions of what the decoder reads.
const EXTENSIONS: [&str; 6] = ["png", "jpg", "jpeg", "webp", "gif", "bmp"];

/// The pictures that names stand for: a folder is all pictures in it and below, in the order of their
/// names; `-` is one name a line on standard input. Whether a file that is named exists is seen when it
/// is read.
///
/// # Errors
/// For a folder that cannot be read.
pub(crate) fn expand(names: &[PathBuf]) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for name in names {
        if name.as_os_str() == "-" {
            for line in std::io::stdin().lock().lines() {
                let line = line.context("cannot read names from standard input")?;
                if !line.trim().is_empty() {
                    add(Path::new(line.trim_end_matches('\r')), &mut inputs)?;
                }
            }
        } else {
            add(name, &mut inputs)?;
        }
    }
    Ok(inputs)
}

fn add(name: &Path, inputs: &mut Vec<Input>) -> Result<()> {
    if name.is_dir() {
        return walk(name, name, inputs);
    }
    let relative = name.file_name().map_or_else(|| name.to_owned(), PathBuf::from);
    inputs.push(Input { path: name.to_owned(), relative });
    Ok(())
}

fn walk(root: &Path, folder: &Path, inputs: &mut Vec<Input>) -> Result<()> {
    let shown = || format!("cannot read the folder {}", folder.display());
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(shown)? {
        let entry = entry.with_context(shown)?;
        entries.push((entry.path(), entry.file_type().with_context(shown)?));
    }
    entries.sort_by(|a, b| a.0.cmp(&b.0));
    for (path, kind) in entries {
        // Links to folders are not followed: they may lead back up.
        if kind.is_dir() {
            walk(root, &path, inputs)?;
        } else if path.is_file() && is_picture(&path) {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            inputs.push(Input { path, relative });
        }
    }
    Ok(())
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    extension.is_some_and(|extension| EXTENSIONS.contains(&&*extension))
}
