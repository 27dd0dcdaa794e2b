//! What is converted: checkpoints on this machine, or copies of those that are elsewhere.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use blip_web::ErrorKind;
use blip_web::config::BlipConfig;
use blip_web::convert::{FurtherSource, VOCAB};
use blip_web::hub::{
    Cache, Client, Event, Listener, Location, Models, convert_file, manifest_in, open_checkpoint,
};
use blip_web::tasks::Task;
use blip_web::weights::manifest::Origin;
use blip_web::weights::{Checkpoint, Manifest, Precision, Quantisation, complete_vocabulary};

use super::super::network::DownloadProgress;
use super::super::source::read;
use super::LICENCE;

/// A source: one network, or those of a model directory.
pub(super) struct Source {
    /// What the user calls it.
    pub(super) shown: String,
    /// Where it is on this machine.
    path: PathBuf,
    /// What a model directory says about itself.
    manifest: Option<Manifest>,
    /// Its networks, each with an image encoder.
    pub(super) networks: Vec<Network>,
}

/// A network of a source.
pub(super) struct Network {
    pub(super) config: BlipConfig,
    pub(super) checkpoint: Checkpoint,
    /// What it was trained for, where a manifest says so.
    pub(super) tasks: Option<Vec<String>>,
    pub(super) origin: Option<Origin>,
}

impl Source {
    /// A source on this machine, called `shown`.
    pub(super) fn open(path: &Path, shown: &str) -> Result<Self> {
        let manifest = manifest_in(path)?;
        let (checkpoint, config) = open_checkpoint(path)?;
        let tasks = manifest.as_ref().map(|manifest| manifest.tasks.clone());
        let origin = manifest.as_ref().and_then(|manifest| manifest.source.clone());
        let mut networks = vec![Network { config, checkpoint, tasks, origin }];
        for further in manifest.iter().flat_map(|manifest| &manifest.networks) {
            let first = &networks[0];
            let config = further.config.as_ref().unwrap_or(&first.config).clone();
            let checkpoint = Checkpoint::open(&path.join(&further.weights.path))?.over(&first.checkpoint);
            let (tasks, origin) = (Some(further.tasks.clone()), further.source.clone());
            networks.push(Network { config, checkpoint, tasks, origin });
        }
        Ok(Self { shown: shown.to_owned(), path: path.to_owned(), manifest, networks })
    }

    /// Random weights, which are nowhere.
    pub(super) fn random(checkpoint: Checkpoint, config: BlipConfig) -> Self {
        let networks = vec![Network { config, checkpoint, tasks: None, origin: None }];
        Self { shown: "random weights".to_owned(), path: PathBuf::new(), manifest: None, networks }
    }

    /// Licence of the weights, as far as is known.
    pub(super) fn licence(&self) -> &str {
        self.manifest.as_ref().map_or(LICENCE, |manifest| &manifest.licence)
    }

    /// What the model knows.
    pub(super) fn knows(&self) -> Option<serde_json::Value> {
        self.manifest.as_ref()?.knows.clone()
    }

    /// Its own vocabulary: a model directory's, or the one beside the weights, as the hub has it.
    pub(super) fn vocabulary(&self) -> Result<Option<Vec<u8>>> {
        if let Some(manifest) = &self.manifest {
            return Ok(Some(read(&self.path.join(&manifest.files.vocab.path))?));
        }
        let folder = if self.path.is_dir() { Some(&*self.path) } else { self.path.parent() };
        let beside = folder.unwrap_or(Path::new(".")).join(VOCAB);
        if !beside.exists() {
            return Ok(None);
        }
        Ok(Some(complete_vocabulary(&read(&beside)?, &self.networks[0].config)?))
    }

    /// Keeps what is named, and of the networks those that serve it.
    ///
    /// Of a checkpoint without a manifest, it is seen later what it serves.
    fn limit(&mut self, tasks: &[String]) -> Result<()> {
        if let Some(manifest) = &self.manifest {
            let known = manifest.all_tasks();
            if let Some(task) = tasks.iter().find(|task| !known.contains(&&***task)) {
                let message =
                    format!("`{}` was not trained for {task}, only for {}", self.shown, known.join(", "));
                return Err(blip_web::Error::new(ErrorKind::TaskUnsupported, message).into());
            }
        }
        for network in &mut self.networks {
            let known = network.tasks.take();
            let kept = tasks.iter().filter(|task| known.as_ref().is_none_or(|known| known.contains(task)));
            network.tasks = Some(kept.cloned().collect());
        }
        self.networks.retain(|network| network.tasks.as_ref().is_none_or(|tasks| !tasks.is_empty()));
        Ok(())
    }

    /// Its networks as further ones of another model.
    pub(super) fn into_further(self) -> impl Iterator<Item = FurtherSource> {
        let Self { shown, networks, .. } = self;
        networks.into_iter().map(move |Network { config, checkpoint, tasks, origin }| FurtherSource {
            name: shown.clone(),
            config,
            checkpoint,
            tasks,
            source: origin,
        })
    }
}

/// The sources of `--with`, each named once, with the tasks it is for where that is said.
pub(super) fn named(with: &[String]) -> Result<Vec<(String, Option<Vec<String>>)>> {
    let mut named: Vec<(String, Option<Vec<String>>)> = Vec::new();
    for text in with {
        let task = |name: &str| Task::ALL.into_iter().find(|task| task.name() == name.trim());
        let (task, source) = match text.split_once('=').map(|(name, source)| (task(name), source)) {
            Some((Some(task), source)) => (Some(task.name().to_owned()), source),
            // A folder may have any name.
            _ => (None, text.as_str()),
        };
        let source = source.trim();
        match (task, named.iter_mut().find(|(known, _)| known == source)) {
            (Some(task), Some((_, Some(tasks)))) if !tasks.contains(&task) => tasks.push(task),
            (_, Some(_)) => bail!("--with names `{source}` twice"),
            (task, None) => named.push((source.to_owned(), task.map(|task| vec![task]))),
        }
    }
    Ok(named)
}

/// Copies of what is elsewhere, in a hidden folder at the model directory that is made of them. They are
/// kept until it is complete, so that another attempt need not download them again.
pub(super) struct Copies {
    folder: PathBuf,
    cache: Cache,
    models: Models,
    is_used: bool,
}

impl Copies {
    /// None of the numbers is rounded: what a model directory becomes depends on the source alone.
    pub(super) fn new(folder: PathBuf) -> Self {
        let cache = Cache::new(folder.clone());
        let exact = Quantisation::uniform(Precision::F32);
        let models = Models::new(Client::from_env(), cache.clone()).quantised(exact);
        Self { folder, cache, models, is_used: false }
    }

    /// A source, wherever it is, for `tasks` where they are said. An original checkpoint at an address
    /// gets the vocabulary `vocab`.
    pub(super) fn open(
        &mut self,
        text: &str,
        tasks: Option<&[String]>,
        vocab: Option<&Path>,
    ) -> Result<Source> {
        let here = Path::new(text);
        let mut source = match here.exists() {
            true => Source::open(here, text)?,
            false => Source::open(&self.fetch(text, vocab)?, text)?,
        };
        tasks.map_or(Ok(()), |tasks| source.limit(tasks))?;
        Ok(source)
    }

    /// A model directory with the numbers of a source that is somewhere else.
    fn fetch(&mut self, text: &str, vocab: Option<&Path>) -> Result<PathBuf> {
        self.is_used = true;
        let mut progress = DownloadProgress::new();
        let mut listener = |event: Event<'_>| progress.hear(event);
        let fetched = match Location::parse(text) {
            Ok(Location::File(url)) => self.fetch_file(&url, vocab, &mut listener),
            _ => self.models.fetch(text, &mut listener).map_err(anyhow::Error::from),
        };
        progress.end();
        fetched
    }

    /// As [`fetch`](Self::fetch), of an original checkpoint at an address.
    fn fetch_file(&self, url: &str, vocab: Option<&Path>, listener: &mut Listener<'_>) -> Result<PathBuf> {
        let Some(vocab) = vocab else { bail!("{url} has no vocabulary beside it: name one with --vocab") };
        let name = |c: char| if c.is_ascii_alphanumeric() { c } else { '-' };
        let copy = self.folder.join(url.chars().map(name).collect::<String>());
        // It may have changed since.
        let client = Client::from_env();
        let tag = client.look_at(url, url)?.1;
        let made = manifest_in(&copy)?.and_then(|manifest| manifest.source);
        if made.is_some_and(|made| Some(&made.revision) == tag.as_ref()) && self.cache.check(&copy)? {
            return Ok(copy);
        }
        let options = (url, LICENCE, Quantisation::uniform(Precision::F32));
        Ok(convert_file(&client, url, &read(vocab)?, options, &copy, listener)?)
    }

    /// Says where they are, if there are any: the model directory was not made.
    pub(super) fn keep(&self) {
        if self.is_used && self.folder.exists() {
            let folder = self.folder.display();
            eprintln!("blip: what was downloaded is kept in {folder} for another attempt");
        }
    }

    /// Removes them: the model directory is made.
    pub(super) fn remove(self) {
        // Best effort: they are only in the way. Those of an earlier attempt go too.
        let _ = fs::remove_dir_all(&self.folder);
    }
}
