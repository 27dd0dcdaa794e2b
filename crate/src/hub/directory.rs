//! Model directories on any server: a `blip.json` and the files that it names.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::cache::{Cache, MANIFEST, Room, create, failed, replace};
use super::client::Client;
use super::{Event, Listener};
use crate::weights::Manifest;
use crate::weights::manifest::FileEntry;
use crate::{Error, ErrorKind, Result};

/// Models that are known by their address.
const OWNER: &str = "web";

/// The model directory whose `blip.json` is at `url`, from the cache or downloaded into it.
///
/// When the server cannot be asked for the manifest, the model that it described last is taken, with a
/// notice.
///
/// # Errors
/// [`ErrorKind::DownloadFailed`], [`ErrorKind::BadConfig`] for what is no manifest,
/// [`ErrorKind::Integrity`] for files that are not the manifest's, [`ErrorKind::Io`] and
/// [`ErrorKind::Quota`] for the disk.
pub fn fetch_directory(
    client: &Client,
    url: &str,
    cache: &Cache,
    listener: &mut Listener<'_>,
) -> Result<PathBuf> {
    let address = hex(url.as_bytes());
    let manifest = match client.text(url, "the manifest of a model") {
        Ok(manifest) => manifest,
        Err(error) => {
            let known = cache.recall(OWNER, &address).and_then(|name| cache.find(OWNER, &name));
            let found = known.ok_or(error)?;
            listener(Event::Notice(&format!("{url} cannot be read: taking what it described the last time")));
            return Ok(found);
        }
    };
    // Not everything that answers is a manifest, and none of it becomes a folder.
    parse(url, &manifest)?;
    let name = hex(&manifest)[..16].to_owned();
    let found = match cache.find(OWNER, &name) {
        Some(found) => found,
        None => {
            let room = cache.make(OWNER, &name)?;
            if room.is_made() {
                room.leave()
            } else {
                fetch_manifest_files(client, url, &manifest, &room, listener)?;
                room.finish()?
            }
        }
    };
    cache.remember(OWNER, &address, &name)?;
    Ok(found)
}

/// Downloads the files that the manifest at `url` names into a room, and the manifest last.
pub(super) fn fetch_manifest_files(
    client: &Client,
    url: &str,
    text: &[u8],
    room: &Room,
    listener: &mut Listener<'_>,
) -> Result<()> {
    let manifest = parse(url, text)?;
    let base = url.rsplit_once('/').map_or(url, |(base, _)| base);
    for entry in manifest.weights().chain([&manifest.files.vocab]) {
        let fetched = fetch(client, &format!("{base}/{}", entry.path), entry, room.work(), listener);
        if fetched.as_ref().is_err_and(|error| error.kind() == ErrorKind::Integrity) {
            room.clear()?;
        }
        fetched?;
    }
    replace(&room.work().join(MANIFEST), text)
}

fn parse(url: &str, text: &[u8]) -> Result<Manifest> {
    let manifest = std::str::from_utf8(text)
        .map_err(|e| Error::new(ErrorKind::BadConfig, "it is not UTF-8").with_source(e))
        .and_then(Manifest::from_json)
        .map_err(|e| Error::new(e.kind(), format!("{url} is no manifest of a model")).with_source(e))?;
    for entry in manifest.weights().chain([&manifest.files.vocab]) {
        let is_plain = Path::new(&entry.path).components().all(|part| matches!(part, Component::Normal(_)));
        let is_written = !entry.path.is_empty() && !entry.path.contains(['\\', ':', '?', '#', '%']);
        if !is_plain || !is_written || entry.path == MANIFEST {
            let message = format!("{url} names the file `{}`, expected a path below it", entry.path);
            return Err(Error::new(ErrorKind::BadConfig, message));
        }
    }
    Ok(manifest)
}

/// Downloads a file, from where an earlier attempt ended.
fn fetch(
    client: &Client,
    url: &str,
    entry: &FileEntry,
    folder: &Path,
    listener: &mut Listener<'_>,
) -> Result<()> {
    let path = folder.join(&entry.path);
    if let Some(parent) = path.parent() {
        create(parent)?;
    }
    let mut open = OpenOptions::new();
    let open = open.read(true).write(true).create(true).truncate(false);
    let mut file = open.open(&path).map_err(|e| failed("write", &path, e))?;
    let (mut done, mut digest) = digest_of(&mut file, &path)?;
    if done > entry.bytes {
        return Err(differs(url, format!("{done} bytes"), format!("{}", entry.bytes)));
    }
    let mut download = client.download(url, &entry.path, done..entry.bytes);
    let mut piece = vec![0; 1 << 20];
    loop {
        let count = download.read(&mut piece)?;
        if count == 0 {
            break;
        }
        file.write_all(&piece[..count]).map_err(|e| failed("write", &path, e))?;
        digest.update(&piece[..count]);
        done += count as u64;
        listener(Event::Progress { file: &entry.path, done, total: entry.bytes });
    }
    file.sync_all().map_err(|e| failed("write", &path, e))?;
    let found = digits(&digest.finalize());
    if found == entry.sha256 { Ok(()) } else { Err(differs(url, found, entry.sha256.clone())) }
}

/// Bytes of what is there of a file, and their digest; the next byte is written behind them.
fn digest_of(file: &mut File, path: &Path) -> Result<(u64, Sha256)> {
    let (mut bytes, mut digest) = (0, Sha256::new());
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(|e| failed("read", path, e))? {
            0 => return Ok((bytes, digest)),
            count => {
                digest.update(&piece[..count]);
                bytes += count as u64;
            }
        }
    }
}

fn differs(url: &str, found: String, expected: String) -> Error {
    Error::new(ErrorKind::Integrity, format!("{url} has {found}, its manifest says {expected}"))
}

fn hex(bytes: &[u8]) -> String {
    digits(&Sha256::digest(bytes))
}

fn digits(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
