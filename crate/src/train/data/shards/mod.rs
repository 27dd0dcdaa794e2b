//! Tar shards in the layout of webdataset: read at random, and written so that equal records give
//! equal bytes.

mod index;
mod pictures;
mod write;

pub use write::ShardWriter;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::files::{FileOptions, assemble, located, unreadable};
use super::{Dataset, Record};
use crate::{Error, ErrorKind, Result};
use index::Entry;

/// Records of tar shards.
///
/// The headers of every shard are read once, when the set is opened; a record is then read by seeking.
/// A shard that is damaged or cut short gives the records before the damage, and stands in
/// [`ShardSet::damages`] with the reason.
#[derive(Debug)]
pub struct ShardSet {
    shards: Vec<Shard>,
    /// The number of each shard's first record.
    starts: Vec<usize>,
    len: usize,
    damages: Vec<Damage>,
    options: FileOptions,
}

#[derive(Debug)]
struct Shard {
    path: PathBuf,
    entries: Vec<Entry>,
}

/// What is wrong with a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The shard.
    pub shard: PathBuf,
    /// The reason.
    pub reason: String,
    /// How many of its records can be read.
    pub intact: usize,
}

impl ShardSet {
    /// Indexes shards, in this order; see [`super::expand`] for patterns.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when no shard has a record; the message gives the first reason.
    pub fn open(paths: &[PathBuf], options: FileOptions) -> Result<Self> {
        let scanned: Vec<(Vec<Entry>, Option<String>)> =
            paths.par_iter().map(|path| index::scan_file(path, &options)).collect();
        let mut set = Self { shards: Vec::new(), starts: Vec::new(), len: 0, damages: Vec::new(), options };
        for (path, (entries, reason)) in paths.iter().zip(scanned) {
            if let Some(reason) = reason {
                set.damages.push(Damage { shard: path.clone(), reason, intact: entries.len() });
            }
            set.starts.push(set.len);
            set.len += entries.len();
            set.shards.push(Shard { path: path.clone(), entries });
        }
        if set.len == 0 {
            let reason = set.damages.first().map_or("they are empty", |damage| &damage.reason);
            let message = format!("no record in {} shards: {reason}", paths.len());
            return Err(Error::new(ErrorKind::Io, message));
        }
        Ok(set)
    }

    /// The shards that are not whole, with reasons.
    pub fn damages(&self) -> &[Damage] {
        &self.damages
    }

    /// The path of every shard and its number of records, in order.
    pub fn shards(&self) -> impl Iterator<Item = (&Path, usize)> {
        self.shards.iter().map(|shard| (shard.path.as_path(), shard.entries.len()))
    }

    /// The key of record `index`, without reading it.
    ///
    /// # Panics
    /// When there is no such record.
    pub fn key(&self, index: usize) -> &str {
        &self.place(index).1.key
    }

    fn place(&self, index: usize) -> (&Shard, &Entry) {
        assert!(index < self.len, "record {index} of {}", self.len);
        // The last shard that starts here or before, and is not empty.
        let shard = self.starts.partition_point(|&start| start <= index) - 1;
        (&self.shards[shard], &self.shards[shard].entries[index - self.starts[shard]])
    }
}

impl Dataset for ShardSet {
    fn len(&self) -> usize {
        self.len
    }

    /// # Panics
    /// When there is no such record.
    fn get(&self, index: usize) -> Result<Record> {
        let (shard, entry) = self.place(index);
        let record = || {
            let mut file = File::open(&shard.path).map_err(unreadable(&shard.path))?;
            let mut files = BTreeMap::new();
            for span in &entry.files {
                if files.insert(span.part, read(&mut file, span.start, span.len, &shard.path)?).is_some() {
                    return Err(Error::new(ErrorKind::BadImage, "two files of one kind and number"));
                }
            }
            assemble(entry.key.clone(), files, &self.options)
        };
        record().map_err(located(format!("record `{}` of `{}`", entry.key, shard.path.display())))
    }

    fn describe(&self) -> String {
        let damaged = match self.damages.len() {
            0 => String::new(),
            damaged => format!(", {damaged} of them damaged"),
        };
        format!("{} records in {} shards{damaged}", self.len, self.shards.len())
    }

    fn pieces(&self) -> Vec<usize> {
        self.shards.iter().map(|shard| shard.entries.len()).collect()
    }
}

fn read(file: &mut File, start: u64, len: u64, path: &Path) -> Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start)).map_err(unreadable(path))?;
    let mut bytes = Vec::new();
    // Grows as it reads, so that a file that shrank since costs no memory.
    file.take(len).read_to_end(&mut bytes).map_err(unreadable(path))?;
    if bytes.len() as u64 != len {
        let message = format!("`{}` ends inside of the record: it has changed", path.display());
        return Err(Error::new(ErrorKind::Io, message));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests;
