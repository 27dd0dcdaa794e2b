//! What a stage leaves of a shard: a file, and beside it a report that says what it was made of.
//!
//! Both take their places at once, the report last: a shard is finished when its report is there, says
//! what would be done again, and has the digest of the file. Whatever else lies there is made anew.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::{Error, ErrorKind, Result};

/// A file by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// Its name, without folders.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
}

/// What a result depends on: made of the same things, it is the same.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// The stage.
    pub stage: String,
    /// Version of what the stage does.
    pub version: u32,
    /// The files it reads, the shard first.
    pub inputs: Vec<Content>,
    /// The model, by a digest of its files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The stage's options.
    pub options: Map<String, Value>,
}

/// A record that a stage could do nothing with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Skipped {
    /// The record.
    pub key: String,
    /// Why.
    pub reason: String,
}

/// What became of a shard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// What the result depends on.
    pub made: Made,
    /// The result.
    pub output: Content,
    /// Numbers of the stage, such as records and texts.
    pub counts: Map<String, Value>,
    /// Records that are not in the result, in the order of the shard.
    pub skipped: Vec<Skipped>,
}

impl Skipped {
    /// A record and what is wrong with it, without where: reports are the same wherever shards lie.
    pub fn of(key: &str, error: &Error) -> Self {
        let mut error = error;
        while let Some(inner) = std::error::Error::source(error).and_then(|e| e.downcast_ref::<Error>()) {
            error = inner;
        }
        Self { key: key.to_owned(), reason: format!("{}: {error}", error.code()) }
    }
}

impl Content {
    /// The content of a file.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    pub fn of(path: &Path) -> Result<Self> {
        let fail = |error: io::Error| {
            Error::new(ErrorKind::Io, format!("cannot read `{}`", path.display())).with_source(error)
        };
        let mut file = File::open(path).map_err(fail)?;
        let (mut digest, mut bytes, mut piece) = (Sha256::new(), 0, vec![0; 1 << 20]);
        loop {
            match file.read(&mut piece).map_err(fail)? {
                0 => break,
                count => {
                    digest.update(&piece[..count]);
                    bytes += count as u64;
                }
            }
        }
        let sha256 = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { name: file_name(path), bytes, sha256 })
    }
}

impl Made {
    /// The first thing in which another one differs, in words.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let was = |what: &str, one: &dyn std::fmt::Display, other: &dyn std::fmt::Display| {
            Some(format!("{what} was {other} and is {one}"))
        };
        if self.stage != other.stage {
            return was("the stage", &self.stage, &other.stage);
        }
        if self.version != other.version {
            return was("the version of the stage", &self.version, &other.version);
        }
        if self.model != other.model {
            let name = |made: &Self| made.model.clone().unwrap_or_else(|| "none".to_owned());
            return was("the model", &name(self), &name(other));
        }
        let names = self.options.keys().chain(other.options.keys());
        for name in names {
            let value = |made: &Self| made.options.get(name).cloned().unwrap_or_default();
            if value(self) != value(other) {
                return was(&format!("option {name}"), &value(self), &value(other));
            }
        }
        let changed = self.inputs.iter().find(|input| !other.inputs.contains(input));
        let gone = || other.inputs.iter().find(|input| !self.inputs.contains(input));
        changed.or_else(gone).map(|input| format!("`{}` has changed", input.name))
    }
}

/// The place of a result and of its report in a stage's folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    folder: PathBuf,
    name: String,
}

impl Place {
    /// The result `name` in `folder`.
    pub fn new(folder: &Path, name: &str) -> Self {
        Self { folder: folder.to_owned(), name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it is, once it is finished.
    pub fn path(&self) -> PathBuf {
        self.folder.join(&self.name)
    }

    /// Where its report is.
    pub fn report_path(&self) -> PathBuf {
        self.folder.join(format!("{}{REPORT}", self.name))
    }

    /// Its report, where the result is the one that the report is about.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] when what is there cannot be read. A report that says nothing, of a version or a
    /// program that is not this one, is none.
    pub fn finished(&self) -> Result<Option<Report>> {
        let bytes = match fs::read(self.report_path()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            bytes => bytes.map_err(|error| unreadable(&self.report_path(), error))?,
        };
        let Ok(report) = serde_json::from_slice::<Report>(&bytes) else { return Ok(None) };
        let path = self.path();
        let is_whole = path.exists() && Content::of(&path)? == report.output;
        Ok(is_whole.then_some(report))
    }

    /// A path for the result in the making, on the same file system, that no other process has.
    pub fn unfinished(&self) -> PathBuf {
        self.folder.join(format!(".{}.{}{PART}", self.name, std::process::id()))
    }

    /// Removes what processes left that were killed; to be called only by who is alone with the shard.
    pub fn sweep(&self) {
        let start = format!(".{}.", self.name);
        let Ok(entries) = fs::read_dir(&self.folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(&start) && ENDS.iter().any(|end| name.ends_with(end)) {
                // Best effort: it is only in the way.
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Makes the file at [`unfinished`](Self::unfinished) the result, and its report the report.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::Quota`] on a full disk. What was there before stays, or is gone
    /// with a report that no longer fits it: never a mixture that counts as finished.
    pub fn finish(&self, made: Made, counts: Map<String, Value>, skipped: Vec<Skipped>) -> Result<Report> {
        let unfinished = self.unfinished();
        let output = Content { name: self.name.clone(), ..Content::of(&unfinished)? };
        let report = Report { made, output, counts, skipped };
        let path = self.path();
        fs::rename(&unfinished, &path).map_err(|error| unwritable(&path, error))?;
        self.write_report(&report)?;
        Ok(report)
    }

    fn write_report(&self, report: &Report) -> Result<()> {
        let path = self.report_path();
        let part = self.folder.join(format!(".{}{REPORT}.{}{PART}", self.name, std::process::id()));
        let text = serde_json::to_string_pretty(report)
            .map_err(|e| Error::new(ErrorKind::Internal, "a report cannot be written").with_source(e))?;
        let written = File::create(&part)
            .and_then(|mut file| file.write_all((text + "\n").as_bytes()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&part, &path));
        written.map_err(|error| {
            let _ = fs::remove_file(&part);
            unwritable(&path, error)
        })
    }
}

/// What follows a result's name in its report's.
pub const REPORT: &str = ".report.json";
/// The end of the names of files in the making.
const PART: &str = ".part";
/// Those of what a shard's writer leaves, too.
const ENDS: [&str; 2] = [PART, ".partial"];

/// One JSON object a line, into a file in the making.
#[derive(Debug)]
pub struct Lines {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Lines {
    /// Begins the file.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(|error| unwritable(path, error))?;
        Ok(Self { path: path.to_owned(), file: BufWriter::new(file) })
    }

    /// Adds a line.
    ///
    /// # Errors
    /// [`ErrorKind::Io`], [`ErrorKind::Quota`] on a full disk.
    pub fn write(&mut self, line: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(line)
            .map_err(|e| Error::new(ErrorKind::Internal, "a line cannot be written").with_source(e))?;
        writeln!(self.file, "{text}").map_err(|error| unwritable(&self.path, error))
    }

    /// Waits until the disk has everything.
    ///
    /// # Errors
    /// As [`write`](Self::write).
    pub fn finish(mut self) -> Result<()> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_all());
        synced.map_err(|error| unwritable(&self.path, error))
    }
}

/// The lines of a finished result, in their order.
///
/// # Errors
/// [`ErrorKind::Io`] when it cannot be read, [`ErrorKind::Integrity`] for a line that is none.
pub fn read_lines<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Vec<T>> {
    let text = fs::read_to_string(path).map_err(|error| unreadable(path, error))?;
    let line = |(nth, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            let message = format!("line {} of `{}` is not what a stage writes", nth + 1, path.display());
            Error::new(ErrorKind::Integrity, message).with_source(error)
        })
    };
    text.lines().enumerate().map(line).collect()
}

/// A file's name without its folders.
pub(super) fn file_name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

pub(super) fn unreadable(path: &Path, cause: io::Error) -> Error {
    Error::new(ErrorKind::Io, format!("cannot read `{}`", path.display())).with_source(cause)
}

/// A full disk has a kind of its own: going on with the next shard would not help.
pub(super) fn unwritable(path: &Path, cause: io::Error) -> Error {
    let kind = if is_full(&cause) { ErrorKind::Quota } else { ErrorKind::Io };
    Error::new(kind, format!("cannot write `{}`", path.display())).with_source(cause)
}

/// Whether an error has a full disk as its cause, whoever wrote.
pub(super) fn is_disk_full(error: &Error) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(is_full) {
            return true;
        }
        cause = error.source();
    }
    error.kind() == ErrorKind::Quota
}

fn is_full(cause: &io::Error) -> bool {
    matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("blip-result-{}-{name}", std::process::id()));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    fn made(option: u32) -> Made {
        let content = Content { name: "a.tar".into(), bytes: 1, sha256: "00".into() };
        let options = serde_json::json!({ "threshold": option });
        Made {
            stage: "filter".into(),
            version: 1,
            inputs: vec![content],
            model: Some("m".into()),
            options: options.as_object().unwrap().clone(),
        }
    }

    #[test]
    fn a_result_counts_when_its_report_is_about_it() {
        let folder = scratch("counts");
        let place = Place::new(&folder, "a.jsonl");
        assert_eq!(place.finished().unwrap(), None);
        let mut lines = Lines::create(&place.unfinished()).unwrap();
        lines.write(&serde_json::json!({"key": "x"})).unwrap();
        lines.finish().unwrap();
        assert_eq!(place.finished().unwrap(), None, "in the making");
        let skipped = vec![Skipped { key: "y".into(), reason: "bad-image".into() }];
        let report = place.finish(made(1), Map::new(), skipped).unwrap();
        assert_eq!(place.finished().unwrap(), Some(report));
        assert_eq!(read_lines::<Value>(&place.path()).unwrap(), [serde_json::json!({"key": "x"})]);
        // Cut short afterwards, or with a report of something else, it is none.
        fs::write(place.path(), "{\"key\":").unwrap();
        assert_eq!(place.finished().unwrap(), None);
        assert_eq!(read_lines::<Value>(&place.path()).unwrap_err().code(), "integrity");
        fs::write(place.report_path(), "{}").unwrap();
        assert_eq!(place.finished().unwrap(), None);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn what_killed_processes_left_is_swept_and_nothing_else() {
        let folder = scratch("sweep");
        let place = Place::new(&folder, "a.jsonl");
        let left = [".a.jsonl.123.part", ".a.jsonl.report.json.9.part", ".a.jsonl.7.part1-2-3.partial"];
        let kept = [".b.jsonl.123.part", "a.jsonl", ".a.jsonl"];
        for name in left.iter().chain(&kept) {
            fs::write(folder.join(name), "").unwrap();
        }
        place.sweep();
        assert!(left.iter().all(|name| !folder.join(name).exists()));
        assert!(kept.iter().all(|name| folder.join(name).exists()));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_difference_is_named() {
        assert_eq!(made(1).difference(&made(1)), None);
        assert_eq!(made(2).difference(&made(1)).unwrap(), "option threshold was 1 and is 2");
        let mut other = made(1);
        other.model = None;
        assert_eq!(made(1).difference(&other).unwrap(), "the model was none and is m");
        other = made(1);
        other.inputs[0].bytes = 2;
        assert_eq!(made(1).difference(&other).unwrap(), "`a.tar` has changed");
        other = made(1);
        other.options.insert("seed".into(), 3.into());
        assert_eq!(made(1).difference(&other).unwrap(), "option seed was 3 and is null");
    }

    #[test]
    fn a_reason_does_not_say_where_the_shard_lies() {
        let inner = Error::new(ErrorKind::BadImage, "cut short");
        let outer =
            Error::new(ErrorKind::BadImage, "record `a` of `/data/x.tar`: cut short").with_source(inner);
        assert_eq!(Skipped::of("a", &outer).reason, "bad-image: cut short");
    }

    #[test]
    fn a_full_disk_is_told_from_other_failures() {
        let kind = |kind| unwritable(Path::new("x"), io::Error::from(kind)).kind();
        assert_eq!(kind(io::ErrorKind::StorageFull), ErrorKind::Quota);
        assert_eq!(kind(io::ErrorKind::PermissionDenied), ErrorKind::Io);
        let other = Error::new(ErrorKind::Io, "x").with_source(io::Error::from(io::ErrorKind::StorageFull));
        let outer = Error::new(ErrorKind::Io, "y").with_source(other);
        assert!(is_disk_full(&outer) && !is_disk_full(&Error::new(ErrorKind::Io, "x")));
    }
}
