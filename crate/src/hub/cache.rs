//! Model directories on disk, each whole or not there.
//!
//! A model is made in a folder beside its own, under a lock, and gets its name when it is complete. What
//! was left behind by a process that was killed is found again under the same name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// A folder of model directories.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// A model directory that is being made; nobody else makes it meanwhile.
#[derive(Debug)]
pub(super) struct Room {
    target: PathBuf,
    work: PathBuf,
    /// Held until the end.
    _lock: File,
}

/// The manifest of a model directory, which is written last.
pub(super) const MANIFEST: &str = "blip.json";

impl Cache {
    /// The cache in this folder, which need not exist.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The model of this name below this owner, if it is there.
    pub(super) fn find(&self, owner: &str, name: &str) -> Option<PathBuf> {
        let path = self.root.join(owner).join(name);
        path.join(MANIFEST).exists().then_some(path)
    }

    /// Room for a model; waits while another process makes it.
    pub(super) fn make(&self, owner: &str, name: &str) -> Result<Room> {
        Room::beside(&self.root.join(owner).join(name))
    }

    /// Keeps a line of text under a name.
    pub(super) fn remember(&self, owner: &str, name: &str, text: &str) -> Result<()> {
        let folder = self.root.join(owner).join("refs");
        create(&folder)?;
        replace(&folder.join(escaped(name)), text.as_bytes())
    }

    /// The line that was kept.
    pub(super) fn recall(&self, owner: &str, name: &str) -> Option<String> {
        fs::read_to_string(self.root.join(owner).join("refs").join(escaped(name))).ok()
    }
}

impl Room {
    /// Room for the model directory at `target`; waits while another process makes it.
    pub fn beside(target: &Path) -> Result<Self> {
        let folder =
            target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        create(folder)?;
        let name = target.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
        let lock_path = folder.join(format!(".{name}.lock"));
        let lock = File::create(&lock_path).map_err(|e| failed("write", &lock_path, e))?;
        lock.lock().map_err(|e| failed("lock", &lock_path, e))?;
        let work = folder.join(format!(".{name}.unfinished"));
        create(&work)?;
        Ok(Self { target: target.to_owned(), work, _lock: lock })
    }

    /// Whether somebody else made it while this process waited.
    pub fn is_made(&self) -> bool {
        self.target.join(MANIFEST).exists()
    }

    /// The folder to work in, with what was left behind there.
    pub fn work(&self) -> &Path {
        &self.work
    }

    /// Removes everything that was made so far.
    pub fn clear(&self) -> Result<()> {
        fs::remove_dir_all(&self.work).map_err(|e| failed("remove", &self.work, e))?;
        create(&self.work)
    }

    /// Gives the folder its name.
    pub fn finish(self) -> Result<PathBuf> {
        if !self.target.exists() {
            fs::rename(&self.work, &self.target).map_err(|e| failed("write", &self.target, e))?;
            return Ok(self.target);
        }
        // A folder that exists gets the files, the manifest last.
        let listing = fs::read_dir(&self.work).map_err(|e| failed("read", &self.work, e))?;
        let mut names: Vec<_> = listing.filter_map(|entry| Some(entry.ok()?.file_name())).collect();
        names.sort_by_key(|name| name == MANIFEST);
        for name in names {
            let to = self.target.join(&name);
            fs::rename(self.work.join(&name), &to).map_err(|e| failed("write", &to, e))?;
        }
        // Best effort: it is empty, and in nobody's way.
        let _ = fs::remove_dir(&self.work);
        Ok(self.target)
    }

    /// Leaves nothing behind: somebody else made it.
    pub fn leave(self) -> PathBuf {
        // Best effort, as above.
        let _ = fs::remove_dir(&self.work);
        self.target
    }
}

/// Writes a file that is whole or not there.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    fs::write(&fresh, bytes).map_err(|e| failed("write", &fresh, e))?;
    fs::rename(&fresh, path).map_err(|e| failed("write", path, e))
}

pub(super) fn create(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).map_err(|e| failed("create", folder, e))
}

/// An error that names the file; a full disk has a code of its own.
pub(super) fn failed(what: &str, path: &Path, cause: std::io::Error) -> Error {
    let kind = match cause.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => ErrorKind::Quota,
        _ => ErrorKind::Io,
    };
    Error::new(kind, format!("cannot {what} `{}`", path.display())).with_source(cause)
}

/// A name that every file system takes, different for different names.
pub(super) fn escaped(name: &str) -> String {
    let mut text = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.".contains(&byte) {
            text.push(char::from(byte));
        } else {
            text += &format!("%{byte:02X}");
        }
    }
    text
}
