//! A file in pieces that have digests: what is there and right is kept, everything else is asked for.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::ops::Range;
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::cache::{create, failed};
use super::client::{Client, Download};
use super::{Event, Listener};
use crate::weights::manifest::FileEntry;
use crate::{Error, ErrorKind, Result};

/// Bytes that are read at a time.
const BUFFER: usize = 1 << 20;

/// A part of a file that can be checked by itself.
struct Piece<'a> {
    range: Range<u64>,
    sha256: &'a str,
}

/// Makes the file at `path` the one that the entry describes and `url` has.
///
/// What was left there by an earlier attempt, or damaged since, is looked at first; a piece that arrives
/// damaged is asked for once more, alone.
///
/// # Errors
/// [`ErrorKind::DownloadFailed`], [`ErrorKind::Integrity`] when the server has something else, and
/// [`ErrorKind::Io`] and [`ErrorKind::Quota`] for the disk.
pub(super) fn fetch(
    client: &Client,
    url: &str,
    entry: &FileEntry,
    path: &Path,
    listener: &mut Listener<'_>,
) -> Result<()> {
    let mut local = Local::open(path)?;
    local.shorten(entry.bytes)?;
    let pieces = pieces(entry);
    let states = pieces.iter().map(|piece| local.look_at(piece)).collect::<Result<Vec<_>>>()?;
    let there = |(piece, state): (&Piece<'_>, &State)| match state {
        State::Right => piece.length(),
        State::Begun(bytes) => *bytes,
    };
    let done = pieces.iter().zip(&states).map(there).sum();
    let mut fetching = Fetching { client, url, entry, local, done, listener };
    let mut rest = pieces.iter().zip(&states).peekable();
    while let Some((piece, state)) = rest.next() {
        let State::Begun(held) = *state else { continue };
        // What lacks everything behind it comes over the same connection.
        let mut run = vec![(piece, held)];
        while let Some((piece, _)) = rest.next_if(|(_, state)| matches!(state, State::Begun(0))) {
            run.push((piece, 0));
        }
        let end = run.last().map_or(piece.range.end, |(last, _)| last.range.end);
        let mut download = client.download(url, &entry.path, piece.range.start + held..end);
        for (piece, held) in run {
            fetching.take(piece, held, &mut download)?;
        }
    }
    fetching.local.finish()
}

/// Whether the file at `path` is the one that the entry describes.
///
/// # Errors
/// [`ErrorKind::Io`] for a file that is there and cannot be read.
pub(super) fn is_right(entry: &FileEntry, path: &Path) -> Result<bool> {
    if std::fs::metadata(path).map(|about| about.len()).ok() != Some(entry.bytes) {
        return Ok(false);
    }
    let mut local = Local::read(path)?;
    for piece in pieces(entry) {
        if !matches!(local.look_at(&piece)?, State::Right) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The pieces of a file; of one without chunks, all of it.
fn pieces(entry: &FileEntry) -> Vec<Piece<'_>> {
    let Some(chunks) = &entry.chunks else {
        return vec![Piece { range: 0..entry.bytes, sha256: &entry.sha256 }];
    };
    let starts = (0..entry.bytes).step_by(usize::try_from(chunks.size).unwrap_or(usize::MAX));
    let piece = |(start, sha256)| Piece { range: start..entry.bytes.min(start + chunks.size), sha256 };
    starts.zip(chunks.sha256.iter().map(String::as_str)).map(piece).collect()
}

impl Piece<'_> {
    fn length(&self) -> u64 {
        self.range.end - self.range.start
    }
}

/// What is there of a piece.
enum State {
    /// All of it, as it should be.
    Right,
    /// So many bytes of its beginning, which may be right.
    Begun(u64),
}

/// A file that is being completed.
struct Fetching<'a, 'l> {
    client: &'a Client,
    url: &'a str,
    entry: &'a FileEntry,
    local: Local<'a>,
    /// Bytes that are there.
    done: u64,
    listener: &'a mut Listener<'l>,
}

impl Fetching<'_, '_> {
    /// Takes what a piece lacks from a download.
    fn take(&mut self, piece: &Piece<'_>, held: u64, download: &mut Download<'_>) -> Result<()> {
        if self.write(piece, held, download)? == piece.sha256 {
            return Ok(());
        }
        self.done -= piece.length();
        let mut again = self.client.download(self.url, &self.entry.path, piece.range.clone());
        let found = self.write(piece, 0, &mut again)?;
        if found == piece.sha256 {
            return Ok(());
        }
        let Range { start, end } = piece.range;
        let message = format!(
            "{} has the SHA-256 {found} from byte {start} to {end}, its manifest says {}",
            self.url, piece.sha256
        );
        Err(Error::new(ErrorKind::Integrity, message))
    }

    /// Writes the rest of a piece behind what is held of it, and returns the digest of the whole piece.
    fn write(&mut self, piece: &Piece<'_>, held: u64, download: &mut Download<'_>) -> Result<String> {
        let Range { start, end } = piece.range;
        let mut digest = self.local.digest(start..start + held)?;
        let (mut at, mut buffer) = (start + held, vec![0; BUFFER]);
        while at < end {
            let wanted = usize::try_from(end - at).map_or(BUFFER, |left| left.min(BUFFER));
            let count = download.read(&mut buffer[..wanted])?;
            self.local.append(&buffer[..count])?;
            digest.update(&buffer[..count]);
            at += count as u64;
            self.done += count as u64;
            let Self { entry, done, .. } = *self;
            (self.listener)(Event::Progress { file: &entry.path, done, total: entry.bytes });
        }
        Ok(digits(&digest.finalize()))
    }
}

/// The file on this machine.
struct Local<'a> {
    path: &'a Path,
    file: File,
    length: u64,
}

impl<'a> Local<'a> {
    /// To be read.
    fn read(path: &'a Path) -> Result<Self> {
        Self::of(path, File::open(path).map_err(|e| failed("read", path, e))?)
    }

    /// To be completed; made when it is not there.
    fn open(path: &'a Path) -> Result<Self> {
        path.parent().map_or(Ok(()), create)?;
        let mut open = OpenOptions::new();
        let open = open.read(true).write(true).create(true).truncate(false);
        Self::of(path, open.open(path).map_err(|e| failed("write", path, e))?)
    }

    fn of(path: &'a Path, file: File) -> Result<Self> {
        let length = file.metadata().map_err(|e| failed("read", path, e))?.len();
        Ok(Self { path, file, length })
    }

    /// Cuts off what is beyond so many bytes.
    fn shorten(&mut self, length: u64) -> Result<()> {
        if self.length > length {
            self.file.set_len(length).map_err(|e| failed("write", self.path, e))?;
            self.length = length;
        }
        Ok(())
    }

    fn look_at(&mut self, piece: &Piece<'_>) -> Result<State> {
        let Range { start, end } = piece.range;
        if self.length < end {
            return Ok(State::Begun(self.length.saturating_sub(start)));
        }
        let found = digits(&self.digest(start..end)?.finalize());
        Ok(if found == piece.sha256 { State::Right } else { State::Begun(0) })
    }

    /// The digest of a range, behind which is written next.
    fn digest(&mut self, range: Range<u64>) -> Result<Sha256> {
        let unreadable = |e| failed("read", self.path, e);
        self.file.seek(SeekFrom::Start(range.start)).map_err(unreadable)?;
        let mut reader = (&self.file).take(range.end - range.start);
        let (mut digest, mut buffer) = (Sha256::new(), vec![0; BUFFER]);
        loop {
            match reader.read(&mut buffer).map_err(unreadable)? {
                0 => return Ok(digest),
                count => digest.update(&buffer[..count]),
            }
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| failed("write", self.path, e))
    }

    fn finish(self) -> Result<()> {
        self.file.sync_all().map_err(|e| failed("write", self.path, e))
    }
}

/// Hexadecimal digits.
pub(super) fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
