//! One process a shard: locks that the system takes back from whoever is killed.
//!
//! Results never depend on them. What a stage writes is the same whoever writes it, and takes its place
//! at once ([`super::result`]); a lock only keeps two processes from doing the same work. Where a file
//! system has no locks, both do it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write as _};
use std::path::Path;

use crate::{Error, ErrorKind, Result};

/// A shard that this process does; given back when dropped, and when the process ends however it does.
#[derive(Debug)]
pub struct Claim {
    file: File,
    is_alone: bool,
}

/// The folder of locks in a stage's folder. They are never removed: who removed one could remove another
/// process's.
const LOCKS: &str = ".locks";

impl Claim {
    /// Claims a shard of a stage's folder; nothing when another process has it.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when the folder cannot be written.
    pub fn try_of(folder: &Path, name: &str) -> Result<Option<Self>> {
        let file = open(folder, name)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self::of(file, true))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) if has_no_locks(&error) => Ok(Some(Self::of(file, false))),
            Err(TryLockError::Error(error)) => Err(unusable(folder, name, error)),
        }
    }

    /// Claims a shard, after the process that has it is done or dead.
    ///
    /// # Errors
    /// As [`try_of`](Self::try_of).
    pub fn wait_for(folder: &Path, name: &str) -> Result<Self> {
        let file = open(folder, name)?;
        match file.lock() {
            Ok(()) => Ok(Self::of(file, true)),
            Err(error) if has_no_locks(&error) => Ok(Self::of(file, false)),
            Err(error) => Err(unusable(folder, name, error)),
        }
    }

    /// Whether no other process can have the same shard.
    pub fn is_alone(&self) -> bool {
        self.is_alone
    }

    fn of(mut file: File, is_alone: bool) -> Self {
        // For who wonders; nothing reads it.
        let _ = file.set_len(0).and_then(|()| writeln!(file, "process {}", std::process::id()));
        Self { file, is_alone }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Best effort: closing the file gives the lock back as well.
        let _ = self.file.unlock();
    }
}

fn open(folder: &Path, name: &str) -> Result<File> {
    let locks = folder.join(LOCKS);
    let path = locks.join(format!("{name}.lock"));
    std::fs::create_dir_all(&locks)
        .and_then(|()| OpenOptions::new().create(true).truncate(false).write(true).open(&path))
        .map_err(|error| unusable(folder, name, error))
}

fn has_no_locks(error: &io::Error) -> bool {
    /// ENOLCK of Linux: a network file system whose server keeps none.
    const NO_LOCKS: i32 = 37;
    let none = cfg!(target_os = "linux") && error.raw_os_error() == Some(NO_LOCKS);
    none || error.kind() == io::ErrorKind::Unsupported
}

fn unusable(folder: &Path, name: &str, error: io::Error) -> Error {
    let message = format!("cannot claim `{name}` in `{}`", folder.display());
    Error::new(ErrorKind::Io, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_is_claimed_once_and_given_back() {
        let folder = std::env::temp_dir().join(format!("blip-claim-{}", std::process::id()));
        let first = Claim::try_of(&folder, "a").unwrap().unwrap();
        assert!(first.is_alone() && Claim::try_of(&folder, "b").unwrap().is_some());
        assert!(Claim::try_of(&folder, "a").unwrap().is_none());
        let waiting = std::thread::scope(|scope| {
            let other = scope.spawn(|| Claim::wait_for(&folder, "a").map(|claim| claim.is_alone()));
            drop(first);
            other.join().unwrap()
        });
        assert!(waiting.unwrap());
        assert!(Claim::try_of(&folder, "a").unwrap().is_some());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
