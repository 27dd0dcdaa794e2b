//! The pictures of a shard, in batches, and what becomes of those that cannot be read.

use std::path::{Path, PathBuf};

use super::result::{Skipped, file_name};
use crate::generate::Control;
use crate::tasks::BATCH;
use crate::train::data::{Dataset as _, FileOptions, Record, ShardSet};
use crate::{Error, ErrorKind, Result};

/// The name of a stage's result beside shards: the shard's stem, and an ending.
pub(super) fn sidecar_name(shard: &Path, ending: &str) -> String {
    shard.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default() + ending
}

/// A shard, and what is wrong with it as a whole.
///
/// # Errors
/// [`ErrorKind::Io`] when it has no record that can be found.
pub(super) fn open(shard: &Path, files: FileOptions) -> Result<(ShardSet, Vec<Skipped>)> {
    let set = ShardSet::open(&[PathBuf::from(shard)], files)?;
    let damaged =
        |reason: &String| Skipped { key: "*".to_owned(), reason: format!("{}: {reason}", file_name(shard)) };
    let damages = set.damages().iter().map(|damage| damaged(&damage.reason)).collect();
    Ok((set, damages))
}

/// A record of one picture.
pub(super) fn read(set: &ShardSet, index: usize) -> Result<Record, Skipped> {
    let record = set.get(index).map_err(|error| Skipped::of(set.key(index), &error))?;
    match record.images.len() {
        1 => Ok(record),
        count => Err(Skipped { key: record.key, reason: format!("{count} pictures, expected 1") }),
    }
}

/// Reads a shard record by record and hands on those of one picture, as many at once as a device encodes
/// side by side. Returns what was skipped.
///
/// # Errors
/// As [`open`], what `on_batch` fails with, and [`ErrorKind::Aborted`] when told to stop.
pub(super) fn for_each_batch(
    shard: &Path,
    files: FileOptions,
    on_batch: &mut dyn FnMut(Vec<Record>) -> Result<()>,
    on_record: &mut dyn FnMut(usize, usize) -> Control,
) -> Result<Vec<Skipped>> {
    let (set, mut skipped) = open(shard, files)?;
    for start in (0..set.len()).step_by(BATCH) {
        let end = (start + BATCH).min(set.len());
        let mut records = Vec::with_capacity(BATCH);
        for index in start..end {
            match read(&set, index) {
                Ok(record) => records.push(record),
                Err(reason) => skipped.push(reason),
            }
        }
        if !records.is_empty() {
            on_batch(records)?;
        }
        tell(on_record, end, set.len())?;
    }
    Ok(skipped)
}

/// Tells of progress.
///
/// # Errors
/// [`ErrorKind::Aborted`] when told to stop.
pub(super) fn tell(
    on_record: &mut dyn FnMut(usize, usize) -> Control,
    done: usize,
    total: usize,
) -> Result<()> {
    match on_record(done, total) {
        Control::Continue => Ok(()),
        Control::Cancel => {
            Err(Error::new(ErrorKind::Aborted, format!("stopped after {done} of {total} records")))
        }
    }
}
