//! Where the files of a shard's records are, from its headers alone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;

use super::super::files::{FileOptions, Part};

/// Every header and every start of a file stands at a multiple of this.
const BLOCK: u64 = 512;

/// One record: the files that have its key.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) files: Vec<Span>,
}

/// One file inside of a shard, in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) part: Part,
    pub(super) start: u64,
    pub(super) len: u64,
}

/// The records of a shard, and what is wrong with it if anything is.
pub(super) fn scan_file(path: &Path, options: &FileOptions) -> (Vec<Entry>, Option<String>) {
    let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
    match opened {
        // Small: behind a header the scan seeks on.
        Ok((len, file)) => scan(BufReader::with_capacity(2 * BLOCK as usize, file), len, options),
        Err(error) => (Vec::new(), Some(format!("it cannot be read: {error}"))),
    }
}

/// As [`scan_file`], of anything that is `len` bytes long.
///
/// A shard that is not whole loses the record in which it ends: whether it had more files, nothing says.
pub(super) fn scan(
    reader: impl Read + Seek,
    len: u64,
    options: &FileOptions,
) -> (Vec<Entry>, Option<String>) {
    let mut scan = Scan::default();
    let damage = scan.run(reader, len, options).err();
    let mut entries = scan.entries;
    if damage.is_some()
        && let Some(cut) = scan.last
        && cut < entries.len()
    {
        entries.remove(cut);
    }
    // A group of files that are all passed over is no record.
    entries.retain(|entry| !entry.files.is_empty());
    (entries, damage)
}

#[derive(Default)]
struct Scan {
    entries: Vec<Entry>,
    by_key: HashMap<String, usize>,
    /// The record that the last file belongs to.
    last: Option<usize>,
}

impl Scan {
    /// # Errors
    /// What is wrong with the shard, in words.
    fn run(&mut self, reader: impl Read + Seek, len: u64, options: &FileOptions) -> Result<(), String> {
        let mut archive = tar::Archive::new(reader);
        let entries = archive.entries_with_seek().map_err(|e| format!("it is no tar file: {e}"))?;
        let mut end = 0;
        for entry in entries {
            let entry = entry.map_err(|e| format!("a damaged header near byte {end}: {e}"))?;
            let (start, size) = (entry.raw_file_position(), entry.size());
            let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            end = size
                .checked_add(start)
                .and_then(|end| end.checked_next_multiple_of(BLOCK))
                .ok_or_else(|| format!("a damaged header before byte {start}"))?;
            if entry.header().entry_type().is_file() {
                self.add(&name, start, size, options);
            }
            if start + size > len {
                return Err(format!("it ends at byte {len}, inside of `{name}`"));
            }
        }
        // Blocks of zeros mark the end.
        if end + BLOCK > len {
            return Err(format!("it ends at byte {len}, without the mark of an end"));
        }
        Ok(())
    }

    fn add(&mut self, name: &str, start: u64, len: u64, options: &FileOptions) {
        // webdataset cuts at the first point of the file's name; folders are part of the key.
        let name = name.strip_prefix("./").unwrap_or(name);
        let file = name.rfind('/').map_or(0, |slash| slash + 1);
        let Some(point) = name[file..].find('.').filter(|&point| point > 0) else { return };
        let (key, extension) = (&name[..file + point], &name[file + point + 1..]);
        let entries = &mut self.entries;
        let index = *self.by_key.entry(key.to_owned()).or_insert_with(|| {
            entries.push(Entry { key: key.to_owned(), files: Vec::new() });
            entries.len() - 1
        });
        self.last = Some(index);
        if let Some(part) = Part::of(extension, options) {
            entries[index].files.push(Span { part, start, len });
        }
    }
}
