//! Models by what people call them, wherever they are.

use std::path::{Path, PathBuf};

use super::cache::Cache;
use super::client::Client;
use super::directory::fetch_directory;
use super::location::Location;
use super::repository::fetch_repository;
use super::{Event, Listener, local};
use crate::device::OpenDevice;
use crate::tasks::{Part, Session, Task};
use crate::weights::{Precision, Quantisation};
use crate::{Error, ErrorKind, Result};

/// Where models come from: folders of this machine, repositories on the hub, servers.
///
/// ```no_run
/// # fn main() -> blip_web::Result<()> {
/// use blip_web::device::{DeviceKind, OpenDevice, block_on};
/// use blip_web::hub::Models;
///
/// let device = block_on(OpenDevice::open(DeviceKind::Cpu))?;
/// let models = "caption=Salesforce/blip-image-captioning-base,itm=Salesforce/blip-itm-base-coco";
/// let session = Models::from_env().open(models, &device, &mut |_| {})?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Models {
    client: Client,
    /// Nothing on a system that has no folder for downloads.
    cache: Option<Cache>,
    quantisation: Quantisation,
}

/// A source, and the tasks that it is for where that is said.
type Named = (PathBuf, Option<Vec<Task>>);

impl Models {
    /// What is not on this machine is asked of `client` and kept in `cache`, checkpoints as q8.
    pub fn new(client: Client, cache: Cache) -> Self {
        Self { client, cache: Some(cache), quantisation: Quantisation::uniform(Precision::Q8) }
    }

    /// As the environment says: see [`Client::from_env`] and [`Cache::from_env`].
    pub fn from_env() -> Self {
        let (client, quantisation) = (Client::from_env(), Quantisation::uniform(Precision::Q8));
        Self { client, cache: Cache::from_env().ok(), quantisation }
    }

    /// Keeps the checkpoints of repositories like this.
    #[must_use]
    pub fn quantised(mut self, quantisation: Quantisation) -> Self {
        self.quantisation = quantisation;
        self
    }

    /// A session of the models that are named.
    ///
    /// One source is a model directory, a checkpoint with its `config.json` and `vocab.txt`, the address of
    /// a `blip.json`, or a repository on the hub (`owner/name@revision`). Several are separated by commas,
    /// each with the task that it is for: `caption=owner/one,vqa=owner/two`.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for what names no model, or one twice, and for two models of one task; what
    /// [`load`](Self::load) fails with.
    pub fn open(
        &self,
        models: impl AsRef<Path>,
        device: &OpenDevice,
        listener: &mut Listener<'_>,
    ) -> Result<Session> {
        let mut session = Session::new(device);
        for (source, tasks) in named(models.as_ref())? {
            session.add(self.load(source, tasks.as_deref(), device, listener)?)?;
        }
        Ok(session)
    }

    /// The models of one source; with `tasks`, what serves these and nothing else.
    ///
    /// A download that was damaged since is mended, with a notice.
    ///
    /// # Errors
    /// [`ErrorKind::TaskUnsupported`] for a task that none of them was trained for; what
    /// [`fetch`](Self::fetch) fails with, and what is wrong with the files.
    pub fn load(
        &self,
        source: impl AsRef<Path>,
        tasks: Option<&[Task]>,
        device: &OpenDevice,
        listener: &mut Listener<'_>,
    ) -> Result<Vec<Part>> {
        let source = source.as_ref();
        let parts = self.load_all(source, device, listener)?;
        match tasks {
            Some(tasks) => limited(parts, tasks, source),
            None => Ok(parts),
        }
    }

    /// Where the files of a source are, which are downloaded if they are not on this machine. Those of the
    /// cache are verified.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for what names no model, and what [`fetch_repository`] and
    /// [`fetch_directory`] fail with.
    pub fn fetch(&self, source: impl AsRef<Path>, listener: &mut Listener<'_>) -> Result<PathBuf> {
        let source = source.as_ref();
        if source.exists() {
            return Ok(source.to_owned());
        }
        let folder = self.fetch_remote(source, listener)?;
        if self.cache()?.check(&folder)? { Ok(folder) } else { self.mend(source, &folder, listener) }
    }

    fn load_all(&self, source: &Path, device: &OpenDevice, listener: &mut Listener<'_>) -> Result<Vec<Part>> {
        if source.exists() {
            return local::load(source, device);
        }
        let folder = self.fetch_remote(source, listener)?;
        let loaded = local::load(&folder, device);
        let is_suspect = |error: &Error| matches!(error.kind(), ErrorKind::Integrity | ErrorKind::Io);
        if !loaded.as_ref().is_err_and(is_suspect) {
            return loaded;
        }
        // Another process may have mended it meanwhile.
        let is_right = self.cache()?.check(&folder)?;
        let folder = if is_right { folder } else { self.mend(source, &folder, listener)? };
        local::load(&folder, device)
    }

    /// Fetches what a check of the folder found to be wrong.
    fn mend(&self, source: &Path, folder: &Path, listener: &mut Listener<'_>) -> Result<PathBuf> {
        let notice = format!("{} is damaged: downloading what is wrong with it", folder.display());
        listener(Event::Notice(&notice));
        self.fetch_remote(source, listener)
    }

    fn fetch_remote(&self, source: &Path, listener: &mut Listener<'_>) -> Result<PathBuf> {
        let text = source.to_string_lossy();
        // It may have been meant as a path.
        let absent = |error: Error| {
            Error::new(error.kind(), format!("there is no file or folder `{text}` on this machine"))
                .with_source(error)
        };
        let (client, cache) = (&self.client, self.cache()?);
        match Location::parse(&text).map_err(absent)? {
            Location::Manifest(url) => fetch_directory(client, &url, cache, listener),
            Location::File(url) => {
                let message = format!(
                    "{url} has no vocabulary beside it: convert it first (blip convert {url} --vocab vocab.txt)"
                );
                Err(Error::new(ErrorKind::BadOption, message))
            }
            Location::Repository { repo, revision } => {
                let fetched = fetch_repository(client, &repo, &revision, self.quantisation, cache, listener);
                fetched.map_err(|error| match error.kind() {
                    ErrorKind::DownloadFailed => absent(error),
                    _ => error,
                })
            }
        }
    }

    fn cache(&self) -> Result<&Cache> {
        let absent = || Error::new(ErrorKind::Io, "this system has no folder for downloads: set BLIP_CACHE");
        self.cache.as_ref().ok_or_else(absent)
    }
}

/// The sources that are named.
fn named(models: &Path) -> Result<Vec<Named>> {
    let text = models.to_string_lossy();
    // A folder may have any name.
    if models.exists() || !text.contains(['=', ',']) {
        return Ok(vec![(models.to_owned(), None)]);
    }
    let mut sources: Vec<Named> = Vec::new();
    for piece in text.split(',') {
        let task = |name: &str| Task::ALL.into_iter().find(|task| task.name() == name.trim());
        let (task, source) = match piece.split_once('=').map(|(name, source)| (task(name), source)) {
            Some((Some(task), source)) => (Some(task), source),
            _ => (None, piece),
        };
        let source = PathBuf::from(source.trim());
        match (task, sources.iter_mut().find(|(known, _)| *known == source)) {
            (Some(task), Some((_, Some(tasks)))) => tasks.push(task),
            (_, Some(_)) => {
                let message = format!("`{}` is named twice", source.display());
                return Err(Error::new(ErrorKind::BadOption, message));
            }
            (task, None) => sources.push((source, task.map(|task| vec![task]))),
        }
    }
    Ok(sources)
}

/// Of the parts of a source, what serves these tasks.
fn limited(mut parts: Vec<Part>, tasks: &[Task], source: &Path) -> Result<Vec<Part>> {
    for task in tasks {
        if !parts.iter().any(|part| part.tasks.contains(task)) {
            let message = format!("`{}` was not trained for {task}", source.display());
            return Err(Error::new(ErrorKind::TaskUnsupported, message));
        }
    }
    parts.iter_mut().for_each(|part| part.tasks.retain(|task| tasks.contains(task)));
    parts.retain(|part| !part.tasks.is_empty());
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(models: &str) -> Result<Vec<Named>> {
        named(Path::new(models))
    }

    #[test]
    fn several_sources_have_the_tasks_that_they_are_for() {
        let source =
            |path: &str, tasks: &[Task]| (PathBuf::from(path), (!tasks.is_empty()).then(|| tasks.to_vec()));
        assert_eq!(names("a/b@main").unwrap(), [source("a/b@main", &[])]);
        assert_eq!(
            names("caption=a/b, itm = c/d,itc=c/d,e/f").unwrap(),
            [source("a/b", &[Task::Caption]), source("c/d", &[Task::Itm, Task::Itc]), source("e/f", &[])]
        );
        // Not every word in front of `=` is a task.
        assert_eq!(names("https://x.org/m?a=b").unwrap(), [source("https://x.org/m?a=b", &[])]);
        for twice in ["a/b,a/b", "itm=a/b,a/b", "a/b,itm=a/b"] {
            let error = names(twice).unwrap_err();
            assert!(error.kind() == ErrorKind::BadOption && error.to_string().contains("twice"), "{error}");
        }
    }
}
