//! Model directories on disk, each whole or not there.
//!
//! A model is made in a folder beside its own, under a lock, and gets its name when it is complete. What
//! was left behind by a process that was killed is found again under the same name; so is what is still
//! right of a model that was damaged.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::local::manifest_in;
use super::pieces;
use crate::weights::Manifest;
use crate::weights::manifest::FileEntry;
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
    _lock: Lock,
}

/// Keeps others from making the model directory of one name.
#[derive(Debug)]
struct Lock {
    _file: File,
}

/// The manifest of a model directory, which is written last.
pub(super) const MANIFEST: &str = "blip.json";

impl Cache {
    /// The cache in this folder, which need not exist.
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The cache that the environment names: in `BLIP_CACHE`, or where this system keeps what can be made
    /// again.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when there is no such folder.
    pub fn from_env() -> Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        if let Some(folder) = set("BLIP_CACHE") {
            return Ok(Self::new(folder.join("models")));
        }
        let home = || set("HOME").map(|home| home.join(".cache"));
        match set("XDG_CACHE_HOME").or_else(home).or_else(|| set("LOCALAPPDATA")) {
            Some(folder) => Ok(Self::new(folder.join("blip-web").join("models"))),
            None => Err(Error::new(ErrorKind::Io, "there is no folder for downloads: set BLIP_CACHE")),
        }
    }

    /// The model of this name below this owner, if it is there as far as the sizes of its files tell.
    pub(super) fn find(&self, owner: &str, name: &str) -> Option<PathBuf> {
        let path = self.root.join(owner).join(name);
        is_complete(&path).then_some(path)
    }

    /// Room for a model; waits while another process makes it. What is there of a damaged one is in it.
    pub(super) fn make(&self, owner: &str, name: &str) -> Result<Room> {
        let room = Room::beside(&self.root.join(owner).join(name))?;
        if !room.is_made() {
            room.take_apart()?;
        }
        Ok(room)
    }

    /// Whether every file of a model directory is the one that its manifest describes. A directory in which
    /// one is not counts as unfinished from then on: fetching it again mends it. Reads all of it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when a file cannot be read, or the damage cannot be noted.
    pub fn check(&self, folder: &Path) -> Result<bool> {
        // Somebody may be mending it.
        let _lock = Lock::beside(folder)?;
        let Ok(Some(manifest)) = manifest_in(folder) else { return Ok(false) };
        for entry in files(&manifest) {
            if !pieces::is_right(entry, &folder.join(&entry.path))? {
                let path = folder.join(MANIFEST);
                fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?;
                return Ok(false);
            }
        }
        Ok(true)
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
        let lock = Lock::beside(target)?;
        let work = hidden(target, "unfinished");
        create(&work)?;
        Ok(Self { target: target.to_owned(), work, _lock: lock })
    }

    /// Whether somebody else made it while this process waited.
    pub fn is_made(&self) -> bool {
        is_complete(&self.target)
    }

    /// Makes what was finished, and is not complete any more, what is worked on.
    fn take_apart(&self) -> Result<()> {
        if !self.target.exists() {
            return Ok(());
        }
        // It goes only when there is nothing in it; otherwise that is further than what was finished.
        if fs::remove_dir(&self.work).is_ok() {
            return fs::rename(&self.target, &self.work).map_err(|e| failed("write", &self.work, e));
        }
        fs::remove_dir_all(&self.target).map_err(|e| failed("remove", &self.target, e))
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

impl Lock {
    /// Of the model directory at `target`; waits while another process has it.
    fn beside(target: &Path) -> Result<Self> {
        let path = hidden(target, "lock");
        path.parent().map_or(Ok(()), create)?;
        let file = File::create(&path).map_err(|e| failed("write", &path, e))?;
        file.lock().map_err(|e| failed("lock", &path, e))?;
        Ok(Self { _file: file })
    }
}

/// `.name.suffix` beside a model directory.
fn hidden(target: &Path, suffix: &str) -> PathBuf {
    let folder = target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = target.file_name().map_or_else(|| "model".into(), |name| name.to_string_lossy());
    folder.join(format!(".{name}.{suffix}"))
}

/// Whether a model directory has a manifest, which is written last, and files of the sizes that it says.
fn is_complete(folder: &Path) -> bool {
    let has = |entry: &FileEntry| {
        fs::metadata(folder.join(&entry.path))
            .is_ok_and(|about| about.is_file() && about.len() == entry.bytes)
    };
    matches!(manifest_in(folder), Ok(Some(manifest)) if files(&manifest).all(has))
}

/// Every file that a manifest names.
pub(super) fn files(manifest: &Manifest) -> impl Iterator<Item = &FileEntry> {
    manifest.weights().chain([&manifest.files.vocab])
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
