//! Checkpoints of a run: files that change place together, so that there is always one to go on from.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::{Error, ErrorKind, Result};

/// The files of a checkpoint in a run's folder.
#[derive(Clone, Debug)]
pub struct CheckpointFiles {
    folder: PathBuf,
}

/// A file of a checkpoint: its name and what is in it.
pub type Part = (&'static str, Vec<u8>);

impl CheckpointFiles {
    /// The checkpoint kept in `folder`, which is created when it does not exist.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn in_folder(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(|e| io(folder, e))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Whether there is something to resume.
    pub fn exist(&self) -> bool {
        self.current().is_some()
    }

    /// Writes a checkpoint in place of the previous one. All its files change place at once, when all of
    /// them are on the disk: a crash or a full disk leaves the old checkpoint or the new one, never a
    /// mixture.
    ///
    /// # Errors
    /// [`ErrorKind::Io`]; the previous checkpoint is still there.
    pub fn save(&self, parts: &[Part]) -> Result<()> {
        let new = self.folder.join("new");
        std::fs::create_dir_all(&new).map_err(|e| io(&new, e))?;
        if let Err(error) = parts.iter().try_for_each(|(name, bytes)| write(&new.join(name), bytes)) {
            // Half a checkpoint is of no use, and the disk may need its room.
            let _ = std::fs::remove_dir_all(&new);
            return Err(error);
        }
        let [checkpoint, previous] = self.places();
        if checkpoint.exists() {
            if previous.exists() {
                std::fs::remove_dir_all(&previous).map_err(|e| io(&previous, e))?;
            }
            std::fs::rename(&checkpoint, &previous).map_err(|e| io(&checkpoint, e))?;
        }
        std::fs::rename(&new, &checkpoint).map_err(|e| io(&new, e))
    }

    /// Reads a file of the checkpoint back.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when it is missing.
    pub fn read(&self, name: &str) -> Result<Vec<u8>> {
        let place = self.current().ok_or_else(|| io(&self.folder, "there is no checkpoint"))?;
        let path = place.join(name);
        std::fs::read(&path).map_err(|e| io(&path, e))
    }

    /// Where the checkpoint is: in its place, or, after a crash between two renames, in the previous one's.
    fn current(&self) -> Option<PathBuf> {
        self.places().into_iter().find(|place| place.exists())
    }

    fn places(&self) -> [PathBuf; 2] {
        ["checkpoint", "previous"].map(|name| self.folder.join(name))
    }
}

/// Writes a file down to the disk.
fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|e| io(path, e))
}

/// An error of a checkpoint's file.
pub(super) fn io(path: &Path, cause: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Io, format!("checkpoint: cannot use `{}`: {cause}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str) -> (CheckpointFiles, PathBuf) {
        let folder = std::env::temp_dir().join(format!("blip-checkpoint-{}-{name}", std::process::id()));
        let _ = std::fs::remove_dir_all(&folder);
        (CheckpointFiles::in_folder(&folder).unwrap(), folder)
    }

    #[test]
    fn a_checkpoint_takes_the_place_of_the_one_before() {
        let (files, folder) = files("turns");
        assert!(!files.exist() && files.read("a").is_err());
        for turn in 0..3u8 {
            files.save(&[("a", vec![turn]), ("b", vec![turn; 2])]).unwrap();
            assert_eq!((files.read("a").unwrap(), files.read("b").unwrap()), (vec![turn], vec![turn; 2]));
        }
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_crash_between_the_renames_leaves_the_previous_one() {
        let (files, folder) = files("crash");
        files.save(&[("a", vec![1])]).unwrap();
        std::fs::rename(folder.join("checkpoint"), folder.join("previous")).unwrap();
        assert_eq!(files.read("a").unwrap(), [1]);
        files.save(&[("a", vec![2])]).unwrap();
        assert_eq!(files.read("a").unwrap(), [2]);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_full_disk_leaves_the_last_good_one() {
        let (files, folder) = files("full");
        files.save(&[("a", vec![1]), ("b", vec![1])]).unwrap();
        // The kernel's device that is always full.
        std::fs::create_dir(folder.join("new")).unwrap();
        std::os::unix::fs::symlink("/dev/full", folder.join("new/b")).unwrap();
        let error = files.save(&[("a", vec![2]), ("b", vec![2])]).unwrap_err();
        assert_eq!(error.code(), "io");
        assert_eq!((files.read("a").unwrap(), files.read("b").unwrap()), (vec![1], vec![1]));
        files.save(&[("a", vec![3]), ("b", vec![3])]).unwrap();
        assert_eq!(files.read("b").unwrap(), [3]);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
