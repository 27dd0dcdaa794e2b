//! From a checkpoint of Hugging Face, or an original file, to a model directory while it is downloaded.
//!
//! A conversion does no input and output of its own. It first [wants](Conversion::wants) a few ranges of
//! the file, which say where its tensors are; then it takes the file from its first byte to its last and
//! returns the container piece by piece, so that neither of the two is ever in memory. What has been done
//! can be put aside at any time ([`checkpoint`](Conversion::checkpoint)) and gone on with later.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::digests::FileDigests;
use super::dimensions::{fit_image_size, infer_config};
use super::manifest::{FileEntry, Files, Manifest, Origin, Quantisation};
use super::plan::Entry;
use super::saved::{Saved, Saving};
use super::stream::Stream;
use super::survey::{Layout, Survey};
use crate::config::BlipConfig;
use crate::{Error, ErrorKind, Result};

/// What a converted model says about itself, and how it is stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConversionOptions {
    /// Name of the model.
    pub id: String,
    /// SPDX expression for the weights.
    pub licence: String,
    /// How matrices are stored.
    pub quantisation: Quantisation,
    /// Whether a head is kept that is not tied to the word embedding; otherwise it must be a copy of it.
    #[serde(default)]
    pub untied: bool,
    /// Where the file is from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<ConversionSource>,
}

/// Where a file is from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConversionSource {
    /// `owner/name`.
    pub repo: String,
    /// The commit.
    pub revision: String,
    /// The weights file.
    pub file: String,
    /// The SHA-256 that the file must have, in lower-case hex, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sha256: Option<String>,
}

/// A conversion that came to its end.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// SHA-256 of the input, in lower-case hex.
    pub input_sha256: String,
    /// The manifest that goes beside the container.
    pub manifest: Manifest,
}

/// Turns a file into a container while it streams by.
#[derive(Debug)]
pub struct Conversion {
    file: String,
    total: u64,
    config_json: String,
    options: ConversionOptions,
    /// What was wanted and given, to look at the file again when the conversion is gone on with.
    given: Vec<Vec<u8>>,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// The file is being looked at.
    Survey(Survey),
    Stream {
        config: Box<BlipConfig>,
        stream: Box<Stream>,
    },
    /// It failed, because the head is not tied to the word embedding or for another reason.
    Failed {
        is_untied: bool,
    },
}

const FAILED: Stage = Stage::Failed { is_untied: false };

/// The longest file that is converted: what JavaScript can count.
const LARGEST: u64 = 1 << 53;

impl Conversion {
    /// Of a file of `total` bytes, whose name tells safetensors from what `torch.save` writes.
    /// `config_json` is the `config.json` beside it; when empty, the file is taken for an original one,
    /// whose tensors tell whether it is base or large.
    ///
    /// # Errors
    /// [`ErrorKind::BadConfig`], and [`ErrorKind::WeightsFormat`] for a length that no file has.
    pub fn new(file: &str, total: u64, config_json: &str, options: ConversionOptions) -> Result<Self> {
        if total == 0 || total > LARGEST {
            let message = format!("weights: `{file}` has {total} bytes");
            return Err(Error::new(ErrorKind::WeightsFormat, message));
        }
        if !config_json.trim().is_empty() {
            // What is wrong with it is told before anything is downloaded.
            BlipConfig::from_json(config_json)?;
        }
        Ok(Self {
            file: file.to_owned(),
            total,
            config_json: config_json.to_owned(),
            options,
            given: Vec::new(),
            stage: Stage::Survey(Survey::new(file, total)),
        })
    }

    /// The range of the file that is needed before streaming begins; nothing when it can begin.
    pub fn wants(&self) -> Option<Range<u64>> {
        match &self.stage {
            Stage::Survey(survey) => survey.wants(),
            Stage::Stream { .. } | Stage::Failed { .. } => None,
        }
    }

    /// Takes the bytes of the range that was wanted.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`], [`ErrorKind::WeightsMissing`], [`ErrorKind::WeightsUnknown`] and
    /// [`ErrorKind::WeightsShape`] for what names and shapes tell. A conversion that failed is over.
    pub fn give(&mut self, bytes: &[u8]) -> Result<()> {
        let Stage::Survey(mut survey) = std::mem::replace(&mut self.stage, FAILED) else {
            return Err(out_of_turn("nothing was wanted"));
        };
        survey.give(bytes)?;
        self.given.push(bytes.to_vec());
        self.stage = match survey.wants() {
            Some(_) => Stage::Survey(survey),
            None => self.begin(survey.layout()?)?,
        };
        Ok(())
    }

    fn begin(&self, layout: Layout) -> Result<Stage> {
        let entries: Vec<Entry> = layout.tensors.iter().map(|tensor| tensor.entry.clone()).collect();
        let config = if self.config_json.trim().is_empty() {
            infer_config(&entries)?
        } else {
            let mut config = BlipConfig::from_json(&self.config_json)?;
            fit_image_size(&mut config, &entries);
            config.validate()?;
            config
        };
        let stream = Stream::new(&config, layout, self.options.quantisation, !self.options.untied)?;
        Ok(Stage::Stream { config: Box::new(config), stream: Box::new(stream) })
    }

    /// Bytes of the container, known when nothing is wanted any more.
    pub fn output_bytes(&self) -> Option<u64> {
        self.stream().map(Stream::output_bytes)
    }

    /// Bytes of the input that were taken.
    pub fn position(&self) -> u64 {
        self.stream().map_or(0, Stream::position)
    }

    /// Tensors that have passed, and all.
    pub fn progress(&self) -> (usize, usize) {
        self.stream().map_or((0, 0), Stream::progress)
    }

    /// Whether it failed because the head is not tied to the word embedding: begin again with
    /// [`untied`](ConversionOptions::untied).
    pub fn is_untied(&self) -> bool {
        matches!(self.stage, Stage::Failed { is_untied: true })
    }

    /// Takes the next bytes of the file, and returns the next of the container.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsNotFinite`] and [`ErrorKind::WeightsFormat`], naming the tensor,
    /// [`ErrorKind::OutOfMemory`] when there is no room for one, and [`ErrorKind::Integrity`] for more bytes
    /// than the file has.
    pub fn push(&mut self, bytes: &[u8]) -> Result<Vec<u8>> {
        let Stage::Stream { stream, .. } = &mut self.stage else {
            return Err(out_of_turn("the file was not looked at to its end, or the conversion has failed"));
        };
        if bytes.len() as u64 > self.total - stream.position() {
            let message = format!("`{}` goes on after {} bytes", self.file, self.total);
            return Err(Error::new(ErrorKind::Integrity, message));
        }
        let written = stream.push(bytes);
        if written.is_err() {
            self.stage = Stage::Failed { is_untied: stream.is_untied };
        }
        written
    }

    /// What [`resume`](Self::resume) goes on from. Cheap enough to be asked for every few seconds.
    pub fn checkpoint(&self) -> Vec<u8> {
        let mut saved = Saved::default();
        saved.bytes(MARK.as_bytes());
        saved.bytes(self.file.as_bytes());
        saved.number(self.total);
        saved.bytes(self.config_json.as_bytes());
        // A structure of strings and names can always be written.
        saved.bytes(&serde_json::to_vec(&self.options).unwrap_or_default());
        saved.number(self.given.len() as u64);
        for bytes in &self.given {
            saved.bytes(bytes);
        }
        saved.number(u64::from(self.stream().is_some()));
        if let Some(stream) = self.stream() {
            stream.save(&mut saved);
        }
        saved.finish()
    }

    /// Goes on from a checkpoint of the same version of this library.
    ///
    /// # Errors
    /// [`ErrorKind::WeightsFormat`] when it is another version's, damaged or none: begin anew.
    pub fn resume(checkpoint: &[u8]) -> Result<Self> {
        Self::restore(checkpoint).ok_or_else(|| {
            let message = "weights: the state of the conversion is damaged or of another version: begin anew";
            Error::new(ErrorKind::WeightsFormat, message)
        })
    }

    fn restore(checkpoint: &[u8]) -> Option<Self> {
        let mut saving = Saving::open(checkpoint)?;
        (saving.text()? == MARK).then_some(())?;
        let (file, total, config) = (saving.text()?, saving.number()?, saving.text()?);
        let options = serde_json::from_slice(saving.bytes()?).ok()?;
        let mut conversion = Self::new(file, total, config, options).ok()?;
        for _ in 0..saving.number()? {
            conversion.give(saving.bytes()?).ok()?;
        }
        let has_begun = saving.number()? == 1;
        match &mut conversion.stage {
            Stage::Stream { stream, .. } if has_begun => stream.restore(&mut saving)?,
            _ if has_begun => return None,
            _ => {}
        }
        Some(conversion)
    }

    /// Whether it is the conversion of this file, with this configuration and these options.
    pub fn is_of(&self, file: &str, total: u64, config_json: &str, options: &ConversionOptions) -> bool {
        (&*self.file, self.total, &*self.config_json, &self.options) == (file, total, config_json, options)
    }

    /// The byte of the input to go on with after [`resume`](Self::resume).
    pub fn resume_input(&self) -> u64 {
        self.stream().map_or(0, |stream| stream.resting().0)
    }

    /// Bytes of the output that are written by then; what was written beyond them comes again.
    pub fn resume_output(&self) -> u64 {
        self.stream().map_or(0, |stream| stream.resting().1)
    }

    /// The manifest, after the last byte; `vocab` is the vocabulary that goes beside it.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when bytes are missing or the file has not the SHA-256 of its source.
    pub fn finish(&self, vocab: &[u8]) -> Result<Converted> {
        let Stage::Stream { config, stream } = &self.stage else {
            return Err(out_of_turn("the conversion has not come to its end"));
        };
        if stream.position() != self.total {
            let message = format!("`{}` ends after {} of {} bytes", self.file, stream.position(), self.total);
            return Err(Error::new(ErrorKind::Integrity, message));
        }
        let (input_sha256, output) = stream.finish()?;
        let source = self.options.source.as_ref();
        if let Some(expected) = source.and_then(|source| source.sha256.as_ref())
            && *expected != input_sha256
        {
            let message = format!("`{}` has the SHA-256 {input_sha256}, expected {expected}", self.file);
            return Err(Error::new(ErrorKind::Integrity, message));
        }
        let origin = source.map(|source| Origin {
            repo: source.repo.clone(),
            revision: source.revision.clone(),
            file: source.file.clone(),
            sha256: input_sha256.clone(),
        });
        let manifest = self.manifest(config, output, vocab, stream.networks().tasks(), origin);
        Ok(Converted { input_sha256, manifest })
    }

    fn manifest(
        &self,
        config: &BlipConfig,
        output: FileDigests,
        vocab: &[u8],
        tasks: Vec<&str>,
        source: Option<Origin>,
    ) -> Manifest {
        Manifest {
            format_version: Manifest::FORMAT_VERSION,
            id: self.options.id.clone(),
            tasks: tasks.into_iter().map(str::to_owned).collect(),
            config: config.clone(),
            files: Files { weights: output.entry(WEIGHTS), vocab: FileEntry::of(VOCAB, vocab) },
            quantisation: self.options.quantisation,
            licence: self.options.licence.clone(),
            knows: None,
            networks: Vec::new(),
            source,
        }
    }

    fn stream(&self) -> Option<&Stream> {
        match &self.stage {
            Stage::Stream { stream, .. } => Some(stream),
            Stage::Survey(_) | Stage::Failed { .. } => None,
        }
    }
}

/// The name of the weights in a model directory.
const WEIGHTS: &str = "model.safetensors";
/// The name of the vocabulary in a model directory.
const VOCAB: &str = "vocab.txt";

/// What a checkpoint begins with: another version may write other bytes.
const MARK: &str = concat!("blip-web ", env!("CARGO_PKG_VERSION"), " conversion 1");

fn out_of_turn(message: &'static str) -> Error {
    Error::new(ErrorKind::Internal, format!("weights: {message}"))
}
