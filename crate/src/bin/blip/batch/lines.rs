//! A file of lines that another run can go on with.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::csv;

/// The file, and the names of the pictures in it.
#[derive(Debug)]
pub(crate) struct Lines {
    path: PathBuf,
    file: File,
    known: HashSet<String>,
}

impl Lines {
    /// A table that begins with `header`.
    ///
    /// # Errors
    /// For a file that cannot be read or written, or that begins otherwise.
    pub fn table(path: &Path, resume: bool, header: &str) -> Result<Self> {
        let text = existing(path, resume)?;
        if !text.is_empty() && !text.starts_with(header) {
            bail!("{} is another table: its first line is not `{}`", path.display(), header.trim_end());
        }
        let records = csv::first_fields(&text);
        // What was cut off may have been one of several lines of a picture: all of those are done again.
        let whole = records.last().map_or(0, |(_, range)| range.end);
        let end = match records.last() {
            Some((last, _)) if whole < text.len() => {
                let kept = records.iter().rev().take_while(|(name, _)| name == last).last();
                kept.map_or(whole, |(_, range)| range.start.max(header.len()))
            }
            _ => whole,
        };
        let names = records.iter().skip(1).filter(|(_, range)| range.end <= end);
        let known = names.map(|(name, _)| name.clone()).collect();
        let mut lines = Self::open(path, end, known)?;
        if end == 0 {
            lines.write(header)?;
        }
        Ok(lines)
    }

    /// Objects with the name under `image`, one a line.
    ///
    /// # Errors
    /// As [`table`](Self::table).
    pub fn list(path: &Path, resume: bool) -> Result<Self> {
        let text = existing(path, resume)?;
        let end = text.rfind('\n').map_or(0, |at| at + 1);
        let mut known = HashSet::new();
        for line in text[..end].lines().filter(|line| !line.trim().is_empty()) {
            let name = serde_json::from_str::<serde_json::Value>(line)
                .ok()
                .and_then(|value| value["image"].as_str().map(str::to_owned));
            let Some(name) = name else {
                bail!("{} holds a line without an `image`: it is not such a list", path.display());
            };
            known.insert(name);
        }
        Self::open(path, end, known)
    }

    fn open(path: &Path, end: usize, known: HashSet<String>) -> Result<Self> {
        let shown = || format!("cannot write {}", path.display());
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(false).open(path).with_context(shown)?;
        file.set_len(end as u64).with_context(shown)?;
        file.seek(SeekFrom::End(0)).with_context(shown)?;
        Ok(Self { path: path.to_owned(), file, known })
    }

    /// Whether a picture of that name was written by an earlier run.
    pub fn knows(&self, name: &str) -> bool {
        self.known.contains(name)
    }

    /// Appends whole lines, in one piece: who stops the program cannot stop it in between.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&mut self, lines: &str) -> Result<()> {
        self.file.write_all(lines.as_bytes()).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// What an earlier run wrote; nothing without `resume`.
fn existing(path: &Path, resume: bool) -> Result<String> {
    match std::fs::read_to_string(path) {
        Ok(text) if resume => Ok(text),
        Err(error) if resume && error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot go on with {}", path.display()))
        }
        _ => Ok(String::new()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str, text: &str) -> PathBuf {
        let path = std::env::temp_dir().join(format!("blip-lines-{}-{name}", std::process::id()));
        std::fs::write(&path, text).unwrap();
        path
    }

    #[test]
    fn a_list_goes_on_behind_its_last_whole_line() {
        let path = scratch("list", "{\"image\":\"a\"}\n{\"image\":\"b\"}\n{\"ima");
        let mut lines = Lines::list(&path, true).unwrap();
        assert!(lines.knows("a") && lines.knows("b") && !lines.knows("c"));
        lines.write("{\"image\":\"c\"}\n").unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text, "{\"image\":\"a\"}\n{\"image\":\"b\"}\n{\"image\":\"c\"}\n");
        let fresh = Lines::list(&path, false).unwrap();
        assert!(!fresh.knows("a") && std::fs::read_to_string(&path).unwrap().is_empty());
        std::fs::write(&path, "something else\n").unwrap();
        assert!(Lines::list(&path, true).is_err());
        std::fs::remove_file(path).unwrap();
    }

    #[test]
    fn a_picture_of_a_table_that_was_cut_off_is_done_again() {
        let header = "image,text\n";
        let path = scratch("table", "image,text\na,1\nb,1\nb,2\nb,");
        let lines = Lines::table(&path, true, header).unwrap();
        assert!(lines.knows("a") && !lines.knows("b"));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "image,text\na,1\n");
        std::fs::write(&path, "image,text\na,1\nb,1\n").unwrap();
        let lines = Lines::table(&path, true, header).unwrap();
        assert!(lines.knows("a") && lines.knows("b") && !lines.knows("image"));
        std::fs::write(&path, "image,te").unwrap();
        assert!(Lines::table(&path, true, header).is_err(), "nobody knows whose that is");
        std::fs::write(&path, "").unwrap();
        Lines::table(&path, true, header).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), header);
        std::fs::remove_file(path).unwrap();
    }
}
