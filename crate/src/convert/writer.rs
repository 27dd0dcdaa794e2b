//! A model directory of one or several networks, file by file.

use std::io::Write;

use super::{ConvertReport, ModelDirectory, NetworkReport, VOCAB, WEIGHTS};
use crate::config::BlipConfig;
use crate::weights::manifest::{FileEntry, Files, FurtherNetwork, Origin};
use crate::weights::{Checkpoint, Container, Manifest, Quantisation, TensorReport, Tower};
use crate::{Error, ErrorKind, Result};

/// A checkpoint that becomes a further network of a model directory.
#[derive(Clone, Debug)]
pub struct FurtherSource {
    /// What the user calls it, for errors.
    pub name: String,
    /// Its dimensions.
    pub config: BlipConfig,
    /// Its tensors, those of its image encoder among them.
    pub checkpoint: Checkpoint,
    /// What it is to be asked for; all that its networks serve when left out.
    pub tasks: Option<Vec<String>>,
    /// Where it is from.
    pub source: Option<Origin>,
}

/// Writes a model directory: first every file of [`paths`](Self::paths), then the manifest.
///
/// Of the image encoders, those that equal the first network's are not stored again.
#[derive(Debug)]
pub struct ModelWriter<'a> {
    directory: &'a ModelDirectory,
    quantisation: Quantisation,
    tasks: Vec<String>,
    first: WeightsFile<'a>,
    further: Vec<Further<'a>>,
}

/// A further network.
#[derive(Debug)]
struct Further<'a> {
    source: &'a FurtherSource,
    tasks: Vec<String>,
    /// Whether it has an image encoder of its own.
    vision: bool,
    file: WeightsFile<'a>,
}

/// A file, and what came of it once it is written.
#[derive(Debug)]
struct WeightsFile<'a> {
    path: String,
    container: Container<'a>,
    written: Option<(FileEntry, Vec<TensorReport>)>,
}

impl<'a> ModelWriter<'a> {
    /// The files of a checkpoint and of further networks. A network whose image encoder differs from
    /// that of `checkpoint` is refused, or written with its own if `keep_vision`. With further networks,
    /// every image encoder is read once more, one tensor at a time, to be compared.
    ///
    /// # Errors
    /// What [`crate::weights::load`] would find wrong with names, shapes and copies;
    /// [`ErrorKind::TaskUnsupported`] for a network that was not trained for its task,
    /// [`ErrorKind::BadOption`] for two networks of one task, and for an image encoder that differs,
    /// naming its first tensor that does.
    pub fn new(
        directory: &'a ModelDirectory,
        checkpoint: &'a Checkpoint,
        further: &'a [FurtherSource],
        quantisation: Quantisation,
        keep_vision: bool,
    ) -> Result<Self> {
        let container = Container::new(&directory.config, checkpoint, quantisation)?;
        let tasks = directory.tasks.clone().unwrap_or_else(|| served(&container));
        let mut taken = tasks.clone();
        let first = WeightsFile::new(WEIGHTS.to_owned(), container);
        let mut networks = Vec::with_capacity(further.len());
        for source in further {
            let container = Container::new(&source.config, &source.checkpoint, quantisation)
                .map_err(|error| source.unconvertible(error))?;
            let tasks = source.tasks(&container)?;
            if let Some(task) = tasks.iter().find(|task| taken.contains(task)) {
                let message = format!("two networks for {task}: that of `{}` is the second", source.name);
                return Err(Error::new(ErrorKind::BadOption, message));
            }
            taken.extend(tasks.iter().cloned());
            let file = WeightsFile::new(format!("model-{}.safetensors", tasks.join("-")), container);
            networks.push(Further { source, tasks, vision: true, file });
        }
        // Last, because numbers are read for it.
        if !networks.is_empty() {
            let tower = first.container.tower()?;
            networks = networks
                .into_iter()
                .map(|network| network.over(&tower, keep_vision))
                .collect::<Result<_>>()?;
        }
        Ok(Self { directory, quantisation, tasks, first, further: networks })
    }

    /// The names of the weights files, in the order in which they are read.
    pub fn paths(&self) -> Vec<String> {
        let further = self.further.iter().map(|network| &network.file);
        std::iter::once(&self.first).chain(further).map(|file| file.path.clone()).collect()
    }

    /// Writes the file with that index among [`paths`](Self::paths), one tensor in memory at a time.
    /// `progress` hears of each tensor, with the number of all in the file.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsNotFinite`] for values that are no numbers or do not fit their format,
    /// [`ErrorKind::Io`] when `out` fails, and what reading the checkpoint fails with.
    ///
    /// # Panics
    /// When there is no such file.
    pub fn write(
        &mut self,
        index: usize,
        out: &mut dyn Write,
        progress: &mut dyn FnMut(&TensorReport, usize),
    ) -> Result<()> {
        match index.checked_sub(1) {
            None => self.first.write(out, progress),
            Some(index) => {
                let Further { source, file, .. } = &mut self.further[index];
                file.write(out, progress).map_err(|error| source.unconvertible(error))
            }
        }
    }

    /// The manifest that goes beside the files, and what was done.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] when a file was not written.
    pub fn finish(self, vocab: &[u8]) -> Result<(Manifest, ConvertReport)> {
        let Self { directory, quantisation, tasks, first, further } = self;
        let (weights, mut report) = first.finish(quantisation)?;
        let mut networks = Vec::with_capacity(further.len());
        for Further { source, tasks, vision, file } in further {
            let (weights, file) = file.finish(quantisation)?;
            let path = weights.path.clone();
            report.networks.push(NetworkReport { path, tasks: tasks.clone(), vision, file });
            let config = (source.config != directory.config).then(|| source.config.clone());
            networks.push(FurtherNetwork { tasks, weights, config, vision, source: source.source.clone() });
        }
        let format_version = match networks.is_empty() {
            true => Manifest::FORMAT_VERSION,
            false => Manifest::FORMAT_VERSION_NETWORKS,
        };
        let manifest = Manifest {
            format_version,
            id: directory.id.clone(),
            tasks,
            config: directory.config.clone(),
            files: Files { weights, vocab: FileEntry::of(VOCAB, vocab) },
            quantisation,
            licence: directory.licence.clone(),
            knows: directory.knows.clone(),
            networks,
            source: None,
        };
        Ok((manifest, report))
    }
}

impl FurtherSource {
    /// The tasks that it is written for.
    fn tasks(&self, container: &Container<'_>) -> Result<Vec<String>> {
        let served = served(container);
        let Some(wanted) = &self.tasks else { return Ok(served) };
        match wanted.iter().find(|task| !served.contains(task)) {
            None => Ok(wanted.clone()),
            Some(task) => {
                let known = if served.is_empty() { "nothing".to_owned() } else { served.join(", ") };
                let message = format!("`{}` was not trained for {task}, only for {known}", self.name);
                Err(Error::new(ErrorKind::TaskUnsupported, message))
            }
        }
    }

    fn unconvertible(&self, error: Error) -> Error {
        Error::new(error.kind(), format!("`{}` cannot be converted", self.name)).with_source(error)
    }
}

impl Further<'_> {
    /// Over the image encoder of the first network if its own is the same.
    fn over(mut self, tower: &Tower, keep_vision: bool) -> Result<Self> {
        let own = self.file.container.tower().map_err(|error| self.source.unconvertible(error))?;
        match tower.difference(&own) {
            None => {
                self.vision = false;
                self.file.container = self.file.container.without_vision();
                Ok(self)
            }
            Some(_) if keep_vision => Ok(self),
            Some(difference) => {
                let message = format!(
                    "`{}` has another image encoder than the first model: {difference}; let it keep its own \
                     (--keep-vision), or convert it by itself",
                    self.source.name
                );
                Err(Error::new(ErrorKind::BadOption, message))
            }
        }
    }
}

impl<'a> WeightsFile<'a> {
    fn new(path: String, container: Container<'a>) -> Self {
        Self { path, container, written: None }
    }

    fn write(&mut self, out: &mut dyn Write, progress: &mut dyn FnMut(&TensorReport, usize)) -> Result<()> {
        let container = &self.container;
        let mut tensors = Vec::with_capacity(container.len());
        let entry = container.write(&self.path, out, &mut |line| {
            progress(&line, container.len());
            tensors.push(line);
        })?;
        self.written = Some((entry, tensors));
        Ok(())
    }

    fn finish(self, quantisation: Quantisation) -> Result<(FileEntry, ConvertReport)> {
        let (entry, tensors) = self.written.ok_or_else(|| {
            Error::new(ErrorKind::Internal, format!("weights: `{}` was not written", self.path))
        })?;
        let dropped = self.container.dropped().to_vec();
        let report = ConvertReport::new(quantisation, tensors, dropped, entry.bytes);
        Ok((entry, report))
    }
}

fn served(container: &Container<'_>) -> Vec<String> {
    container.networks().tasks().into_iter().map(str::to_owned).collect()
}
