//! Repositories on the hub: what is in them, and how their checkpoint becomes a model directory.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::cache::{Cache, MANIFEST, Room};
use super::checkpoint::{Remote, convert};
use super::client::Client;
use super::directory::fetch_manifest_files;
use super::{Event, Listener};
use crate::config::BlipConfig;
use crate::weights::{ConversionOptions, ConversionSource, Quantisation, complete_vocabulary};
use crate::{Error, ErrorKind, Result};

/// Weights by the names that are looked for, the best first.
const WEIGHTS: [&str; 2] = ["model.safetensors", "pytorch_model.bin"];

/// A repository at one commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repository {
    /// `owner/name`.
    pub repo: String,
    /// The commit.
    pub commit: String,
    /// SPDX expression of its licence, `NOASSERTION` where it has none that is known here.
    pub licence: String,
    files: Vec<RemoteFile>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct RemoteFile {
    name: String,
    bytes: Option<u64>,
    sha256: Option<String>,
}

/// The hub's answer, as far as it matters.
#[derive(Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    lfs: Option<Lfs>,
}

#[derive(Deserialize)]
struct Lfs {
    sha256: Option<String>,
    size: Option<u64>,
}

impl Repository {
    /// Asks the hub what a revision is and what is in it.
    ///
    /// # Errors
    /// [`ErrorKind::DownloadFailed`].
    pub fn look_up(client: &Client, repo: &str, revision: &str) -> Result<Self> {
        let url = format!(
            "{}/api/models/{repo}/revision/{}?blobs=true",
            client.endpoint(),
            revision.replace('/', "%2F")
        );
        let answer = client.text(&url, &format!("the list of files of {repo}@{revision}"))?;
        let listing: Listing = serde_json::from_slice(&answer).map_err(|e| {
            let message = format!("the answer of {url} is no list of files");
            Error::new(ErrorKind::DownloadFailed, message).with_source(e)
        })?;
        if !is_commit(&listing.sha) {
            let message = format!("the answer of {url} names `{}` as its commit", listing.sha);
            return Err(Error::new(ErrorKind::DownloadFailed, message));
        }
        let file = |sibling: Sibling| {
            let (bytes, sha256) = match sibling.lfs {
                Some(lfs) => (lfs.size.or(sibling.size), lfs.sha256),
                None => (sibling.size, None),
            };
            RemoteFile { name: sibling.rfilename, bytes, sha256 }
        };
        Ok(Self {
            repo: repo.to_owned(),
            commit: listing.sha,
            licence: spdx(&listing.tags),
            files: listing.siblings.into_iter().map(file).collect(),
        })
    }

    /// Whether it holds a model directory, which needs no conversion.
    pub fn is_converted(&self) -> bool {
        self.file(MANIFEST).is_some()
    }

    fn file(&self, name: &str) -> Option<&RemoteFile> {
        self.files.iter().find(|file| file.name == name)
    }

    fn url(&self, client: &Client, file: &str) -> String {
        format!("{}/{}/resolve/{}/{file}", client.endpoint(), self.repo, self.commit)
    }

    /// The checkpoint.
    fn weights(&self) -> Result<&RemoteFile> {
        let found = WEIGHTS.iter().find_map(|name| self.file(name));
        found.ok_or_else(|| self.lacks(&WEIGHTS.join(" nor ")))
    }

    fn lacks(&self, wanted: &str) -> Error {
        let mut names: Vec<&str> = self.files.iter().map(|file| &*file.name).collect();
        names.truncate(12);
        let message = format!(
            "{}@{} has no {wanted}; it has {}",
            self.repo,
            self.commit,
            if names.is_empty() { "no files".to_owned() } else { names.join(", ") }
        );
        Error::new(ErrorKind::DownloadFailed, message)
    }

    /// A small file that must be there.
    fn text(&self, client: &Client, name: &str) -> Result<Vec<u8>> {
        if self.file(name).is_none() {
            return Err(self.lacks(name));
        }
        client.text(&self.url(client, name), &format!("{name} of {}", self.repo))
    }
}

/// The model directory of a repository, from the cache or converted into it.
///
/// When the hub cannot be asked what a branch is now, the model that it was last is taken, with a notice.
///
/// # Errors
/// [`ErrorKind::DownloadFailed`], [`ErrorKind::Integrity`] for a file with another digest than the hub's,
/// [`ErrorKind::Io`] and [`ErrorKind::Quota`] for the disk, and what is wrong with a checkpoint.
pub fn fetch_repository(
    client: &Client,
    repo: &str,
    revision: &str,
    quantisation: Quantisation,
    cache: &Cache,
    listener: &mut Listener<'_>,
) -> Result<PathBuf> {
    let owner = repo.replace('/', "--");
    let entry = |commit: &str| {
        let precision = quantisation.to_string().replace('/', "-");
        format!("{}-{precision}", &commit[..commit.len().min(12)])
    };
    // What a commit holds never changes.
    if is_commit(revision)
        && let Some(found) = cache.find(&owner, &entry(revision))
    {
        return Ok(found);
    }
    let repository = match Repository::look_up(client, repo, revision) {
        Ok(repository) => repository,
        Err(error) => {
            let known = cache.recall(&owner, revision).filter(|commit| is_commit(commit));
            let found = known.and_then(|commit| Some((cache.find(&owner, &entry(&commit))?, commit)));
            let (found, commit) = found.ok_or(error)?;
            let notice =
                format!("{repo}@{revision} cannot be looked up: taking {commit}, which it was the last time");
            listener(Event::Notice(&notice));
            return Ok(found);
        }
    };
    let name = entry(&repository.commit);
    let found = match cache.find(&owner, &name) {
        Some(found) => found,
        None => {
            let room = cache.make(&owner, &name)?;
            if room.is_made() {
                room.leave()
            } else {
                make(client, &repository, quantisation, None, room, listener)?
            }
        }
    };
    cache.remember(&owner, revision, &repository.commit)?;
    Ok(found)
}

/// Converts the checkpoint of a repository into the model directory `out`; what was left of an earlier
/// attempt is gone on with. `id` and `licence` stand in for the repository's own.
///
/// # Errors
/// As [`fetch_repository`].
pub fn convert_repository(
    client: &Client,
    repository: &Repository,
    quantisation: Quantisation,
    about: (Option<&str>, Option<&str>),
    out: &Path,
    listener: &mut Listener<'_>,
) -> Result<PathBuf> {
    make(client, repository, quantisation, Some(about), Room::beside(out)?, listener)
}

fn make(
    client: &Client,
    repository: &Repository,
    quantisation: Quantisation,
    about: Option<(Option<&str>, Option<&str>)>,
    room: Room,
    listener: &mut Listener<'_>,
) -> Result<PathBuf> {
    if repository.is_converted() {
        let url = repository.url(client, MANIFEST);
        let manifest = client.text(&url, &format!("{MANIFEST} of {}", repository.repo))?;
        fetch_manifest_files(client, &url, &manifest, &room, listener)?;
        return room.finish();
    }
    let file = repository.weights()?;
    let (id, licence) = about.unwrap_or_default();
    let name = repository.repo.rsplit('/').next().unwrap_or_default();
    let source = ConversionSource {
        repo: repository.repo.clone(),
        revision: repository.commit.clone(),
        file: file.name.clone(),
        sha256: file.sha256.clone(),
    };
    let options = ConversionOptions {
        id: id.unwrap_or(name).to_owned(),
        licence: licence.unwrap_or(&repository.licence).to_owned(),
        quantisation,
        untied: false,
        source: Some(source),
    };
    let config = String::from_utf8_lossy(&repository.text(client, "config.json")?).into_owned();
    let vocab = repository.text(client, "vocab.txt")?;
    let total = file.bytes.ok_or_else(|| {
        let message = format!("the hub does not say how long {} of {} is", file.name, repository.repo);
        Error::new(ErrorKind::DownloadFailed, message)
    })?;
    let remote = Remote {
        url: repository.url(client, &file.name),
        wanted: format!("{} of {}", file.name, repository.repo),
        name: file.name.clone(),
        total,
        vocab: complete_vocabulary(&vocab, &BlipConfig::from_json(&config)?)?,
        config,
    };
    convert(client, &remote, options, room, listener)
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The licence among the tags of a repository.
fn spdx(tags: &[String]) -> String {
    let known = ["BSD-3-Clause", "BSD-2-Clause", "MIT", "Apache-2.0", "CC0-1.0", "CC-BY-4.0"];
    let tag = tags.iter().find_map(|tag| tag.strip_prefix("license:"));
    let licence = tag.and_then(|tag| known.into_iter().find(|licence| licence.eq_ignore_ascii_case(tag)));
    licence.unwrap_or("NOASSERTION").to_owned()
}
