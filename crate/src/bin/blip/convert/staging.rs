//! A model directory in the making: whole, or not there.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use blip_web::hub::read_manifest;

use super::MANIFEST;

/// Files that become a model directory together. Dropped before that, they are gone; of a process that
/// was killed, a hidden folder is left, which the next attempt begins by removing.
#[derive(Debug)]
pub(super) struct Staging {
    target: PathBuf,
    work: PathBuf,
}

impl Staging {
    /// A place for the files of the model directory `target`.
    pub(super) fn begin(target: &Path) -> Result<Self> {
        let (target, work) = (target.to_owned(), hidden(target, "unfinished-conversion"));
        if work.exists() {
            fs::remove_dir_all(&work).with_context(|| format!("cannot remove {}", work.display()))?;
        }
        fs::create_dir_all(&work).with_context(|| format!("cannot create {}", work.display()))?;
        Ok(Self { target, work })
    }

    /// A new file.
    pub(super) fn create(&self, name: &str) -> Result<File> {
        let path = self.work.join(name);
        File::create(&path).with_context(|| format!("cannot write {}", path.display()))
    }

    /// A new file with these bytes.
    pub(super) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.work.join(name);
        fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))
    }

    /// Makes them the model directory. Files of a model that was there before, and is no more, are removed.
    pub(super) fn finish(self) -> Result<()> {
        let Self { target, work } = &self;
        let unwritable = || format!("cannot write {}", target.display());
        if !target.exists() {
            return fs::rename(work, target).with_context(unwritable);
        }
        let before = read_manifest(target).ok();
        let mut names = Vec::new();
        for entry in fs::read_dir(work).with_context(|| format!("cannot read {}", work.display()))? {
            names.push(entry?.file_name());
        }
        // The manifest first: it has the digests of all others, so that no mixture of two models is ever
        // taken for one.
        names.sort_by_key(|name| name != MANIFEST);
        for name in &names {
            fs::rename(work.join(name), target.join(name)).with_context(unwritable)?;
        }
        let old = before.iter().flat_map(|manifest| manifest.weights()).map(|file| &*file.path);
        // What a manifest calls elsewhere is none of its directory's.
        for path in old.filter(|path| Path::new(path).components().count() == 1) {
            let path = target.join(path);
            if path.file_name().is_some_and(|name| !names.iter().any(|known| known == name)) {
                // Best effort: it is only a file too many.
                let _ = fs::remove_file(path);
            }
        }
        Ok(())
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Best effort: what went wrong before matters more. Of a finished one, nothing is left.
        let _ = fs::remove_dir_all(&self.work);
    }
}

/// A hidden folder on the file system of `target`: inside it where it exists, otherwise beside it.
pub(super) fn hidden(target: &Path, purpose: &str) -> PathBuf {
    if target.exists() {
        return target.join(format!(".{purpose}"));
    }
    let name = target.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    target.with_file_name(format!(".{name}.{purpose}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("blip-staging-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        folder
    }

    #[test]
    fn what_is_not_finished_leaves_nothing() {
        let folder = scratch("nothing");
        let target = folder.join("model");
        let staging = Staging::begin(&target).unwrap();
        staging.write("model.safetensors", b"weights").unwrap();
        assert!(!target.exists() && staging.work.starts_with(&folder));
        drop(staging);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 0);
        // Killed: the folder stays, and the next attempt does not take what is in it for its own.
        let killed = Staging::begin(&target).unwrap();
        killed.write("model-vqa.safetensors", b"half").unwrap();
        std::mem::forget(killed);
        let staging = Staging::begin(&target).unwrap();
        staging.write("vocab.txt", b"words").unwrap();
        staging.finish().unwrap();
        let names: Vec<_> = fs::read_dir(&target).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names, ["vocab.txt"]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
        fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_folder_that_exists_keeps_what_is_not_the_models() {
        let folder = scratch("existing");
        fs::create_dir_all(&folder).unwrap();
        for name in ["notes.md", "vocab.txt"] {
            fs::write(folder.join(name), "before").unwrap();
        }
        let staging = Staging::begin(&folder).unwrap();
        for name in ["vocab.txt", MANIFEST] {
            staging.write(name, b"after").unwrap();
        }
        staging.finish().unwrap();
        let text = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
        assert_eq!(["notes.md", "vocab.txt", MANIFEST].map(text), ["before", "after", "after"]);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 3);
        fs::remove_dir_all(&folder).unwrap();
    }
}
