//! The files that belong to a record, by their names, and what becomes of their bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Record, Texts};
use crate::image::{ImageOptions, decode};
use crate::{Error, ErrorKind, Result};

/// How files become records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileOptions {
    /// How pictures are decoded.
    pub images: ImageOptions,
    /// Pass over `KEY.json`, which some tools fill with anything but [`Texts`].
    pub skip_json: bool,
}

/// What a file is to its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Part {
    /// A picture with its number, 0 where it has none.
    Picture(u32),
    /// Captions, one a line.
    Captions,
    /// A JSON object.
    Texts,
}

impl Part {
    /// What `png`, `1.jpg`, `txt` or `json` stand for; nothing for anything else.
    pub(super) fn of(extension: &str, options: &FileOptions) -> Option<Self> {
        let extension = extension.to_ascii_lowercase();
        let (number, kind) = match extension.split_once('.') {
            Some((number, kind)) => (Some(number.parse().ok()?), kind),
            None => (None, &extension[..]),
        };
        match (kind, number) {
            ("png" | "jpg" | "jpeg" | "webp" | "gif" | "bmp", number) => {
                Some(Self::Picture(number.unwrap_or(0)))
            }
            ("txt", None) => Some(Self::Captions),
            ("json", None) if !options.skip_json => Some(Self::Texts),
            _ => None,
        }
    }
}

/// Puts a record together from the bytes of its files.
///
/// # Errors
/// [`ErrorKind::BadImage`] when there is no picture or one cannot be decoded, or a text is no UTF-8 or
/// not [`Texts`].
pub(super) fn assemble(key: String, files: BTreeMap<Part, Vec<u8>>, options: &FileOptions) -> Result<Record> {
    let mut images = Vec::new();
    let mut texts = Texts::default();
    let mut captions = Vec::new();
    for (part, bytes) in files {
        match part {
            Part::Picture(_) => images.push(decode(&bytes, &options.images)?),
            Part::Captions => {
                let text = String::from_utf8(bytes).map_err(|e| bad("captions that are no UTF-8", e))?;
                captions = lines(&text);
            }
            Part::Texts => {
                texts =
                    serde_json::from_slice(&bytes).map_err(|e| bad("texts that are not as expected", e))?;
            }
        }
    }
    if images.is_empty() {
        return Err(Error::new(ErrorKind::BadImage, "a record without a picture"));
    }
    texts.captions.extend(captions);
    Ok(Record { key, images, texts })
}

fn bad(what: &'static str, source: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::new(ErrorKind::BadImage, what).with_source(source)
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// An `io` error about a file.
pub(super) fn unreadable(path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    move |e| Error::new(ErrorKind::Io, format!("cannot read `{}`", path.display())).with_source(e)
}

/// An error with the place where it happened put before its message.
pub(super) fn located(place: impl std::fmt::Display) -> impl FnOnce(Error) -> Error {
    move |error| {
        let message = format!("{place}: {}", error.message());
        Error::new(error.kind(), message).with_source(error)
    }
}

/// The shards that a list of patterns stands for, in the order of the list and sorted within it.
///
/// A pattern is a folder (its `*.tar`), a path, or a path with `{000..099}`, `{a,b}`, `*` and `?`.
///
/// # Errors
/// [`ErrorKind::BadOption`] when a pattern is malformed or stands for nothing.
pub fn expand(patterns: &[impl AsRef<str>]) -> Result<Vec<PathBuf>> {
    let mut paths = Vec::new();
    for pattern in patterns {
        let pattern = pattern.as_ref();
        let before = paths.len();
        let folder = Path::new(pattern);
        if folder.is_dir() {
            matching(&format!("{}/*.tar", glob::Pattern::escape(pattern)), &mut paths)?;
        } else {
            for pattern in braces(pattern)? {
                matching(&pattern, &mut paths)?;
            }
        }
        if paths.len() == before {
            let message = format!("no shards at `{pattern}`: expected tar files, or a folder of them");
            return Err(Error::new(ErrorKind::BadOption, message));
        }
    }
    Ok(paths)
}

/// Adds the files that `*` and `?` match, or the path itself when it has neither.
fn matching(pattern: &str, paths: &mut Vec<PathBuf>) -> Result<()> {
    if !pattern.contains(['*', '?', '[']) {
        paths.push(pattern.into());
        return Ok(());
    }
    let bad = |e: glob::PatternError| {
        Error::new(ErrorKind::BadOption, format!("`{pattern}` is no pattern")).with_source(e)
    };
    // Sorted by the crate; what cannot be listed cannot be read either.
    paths.extend(glob::glob(pattern).map_err(bad)?.flatten());
    Ok(())
}

/// The most paths that braces may stand for.
const MOST: u64 = 1_000_000;

/// Every way to fill the braces of a pattern.
fn braces(pattern: &str) -> Result<Vec<String>> {
    let Some((before, rest)) = pattern.split_once('{') else { return Ok(vec![pattern.to_owned()]) };
    let bad = |what: &str| Error::new(ErrorKind::BadOption, format!("{what} in `{pattern}`"));
    let (inside, after) = rest.split_once('}').ok_or_else(|| bad("a brace that is not closed"))?;
    let fillings: Vec<String> = match inside.split_once("..") {
        Some((from, to)) => {
            let number = |text: &str| text.parse::<u64>().map_err(|_| bad("expected {000..099}"));
            let (first, last) = (number(from)?, number(to)?);
            if last < first || last - first >= MOST {
                return Err(bad("expected {first..last}, at most a million"));
            }
            // Zeros in front are kept.
            (first..=last).map(|number| format!("{number:0width$}", width = from.len())).collect()
        }
        None => inside.split(',').map(str::to_owned).collect(),
    };
    let ends = braces(after)?;
    let filled =
        fillings.iter().flat_map(|filling| ends.iter().map(move |end| format!("{before}{filling}{end}")));
    Ok(filled.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extensions_say_what_a_file_is() {
        let options = FileOptions::default();
        let part = |extension| Part::of(extension, &options);
        assert_eq!(part("png"), Some(Part::Picture(0)));
        assert_eq!(part("JPG"), Some(Part::Picture(0)));
        assert_eq!(part("12.webp"), Some(Part::Picture(12)));
        assert_eq!(part("txt"), Some(Part::Captions));
        assert_eq!(part("json"), Some(Part::Texts));
        assert!(["cls", "a.png", "1.txt", "0.json", "", "tar"].iter().all(|other| part(other).is_none()));
        assert_eq!(Part::of("json", &FileOptions { skip_json: true, ..options }), None);
    }

    #[test]
    fn braces_stand_for_ranges_and_lists() {
        let expanded = braces("a/{008..011}.{tar,bin}").unwrap();
        assert_eq!(expanded.len(), 8);
        assert_eq!(expanded[..3], ["a/008.tar", "a/008.bin", "a/009.tar"]);
        assert_eq!(braces("plain.tar").unwrap(), ["plain.tar"]);
        for bad in ["{1..", "{2..1}", "{a..b}", "{0..9999999999}"] {
            assert_eq!(braces(bad).unwrap_err().code(), "bad-option", "{bad}");
        }
    }

    #[test]
    fn a_record_needs_a_picture_and_reports_bad_texts() {
        let options = FileOptions::default();
        let captions = BTreeMap::from([(Part::Captions, b"a car".to_vec())]);
        assert_eq!(assemble("k".into(), captions, &options).unwrap_err().code(), "bad-image");
        let texts = BTreeMap::from([(Part::Texts, b"{\"caption\":1}".to_vec())]);
        assert_eq!(assemble("k".into(), texts, &options).unwrap_err().code(), "bad-image");
    }
}
