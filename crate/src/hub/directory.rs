//! Model directories on any server: a `blip.json` and the files that it names.

use std::path::{Component, Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::cache::{Cache, MANIFEST, Room, files, replace};
use super::client::Client;
use super::pieces::{self, digits};
use super::{Event, Listener};
use crate::weights::Manifest;
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

/// Downloads what is missing of the files that the manifest at `url` names into a room, and the manifest
/// last.
pub(super) fn fetch_manifest_files(
    client: &Client,
    url: &str,
    text: &[u8],
    room: &Room,
    listener: &mut Listener<'_>,
) -> Result<()> {
    let manifest = parse(url, text)?;
    let base = url.rsplit_once('/').map_or(url, |(base, _)| base);
    for entry in files(&manifest) {
        let path = room.work().join(&entry.path);
        pieces::fetch(client, &format!("{base}/{}", entry.path), entry, &path, listener)?;
    }
    replace(&room.work().join(MANIFEST), text)
}

fn parse(url: &str, text: &[u8]) -> Result<Manifest> {
    let manifest = std::str::from_utf8(text)
        .map_err(|e| Error::new(ErrorKind::BadConfig, "it is not UTF-8").with_source(e))
        .and_then(Manifest::from_json)
        .map_err(|e| Error::new(e.kind(), format!("{url} is no manifest of a model")).with_source(e))?;
    for entry in files(&manifest) {
        let is_plain = Path::new(&entry.path).components().all(|part| matches!(part, Component::Normal(_)));
        let is_written = !entry.path.is_empty() && !entry.path.contains(['\\', ':', '?', '#', '%']);
        if !is_plain || !is_written || entry.path == MANIFEST {
            let message = format!("{url} names the file `{}`, expected a path below it", entry.path);
            return Err(Error::new(ErrorKind::BadConfig, message));
        }
    }
    Ok(manifest)
}

fn hex(bytes: &[u8]) -> String {
    digits(&Sha256::digest(bytes))
}
