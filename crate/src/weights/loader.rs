//! A model out of a file that arrives piece by piece.
//!
//! What has arrived is checked against the manifest before it is looked at, becomes a parameter on the
//! device as soon as all parts of it are there, and leaves the host's memory then: at no time is there
//! more of the file than about its largest tensor.

use burn::tensor::Device;
use sha2::{Digest, Sha256};

use super::assembly::Assembly;
use super::fingerprint::Fingerprint;
use super::header::Header;
use super::manifest::{FileEntry, Manifest, hex, sha256};
use super::piece::room;
use crate::config::BlipConfig;
use crate::kernels::Format;
use crate::model::{Blip, Networks, VisionModel};
use crate::{Error, ErrorKind, Result};

/// Takes the bytes of a weights file in order, in pieces of any size, and returns a model.
#[derive(Debug)]
pub struct Loader {
    config: BlipConfig,
    device: Device,
    halves: bool,
    file: FileEntry,
    received: u64,
    integrity: Integrity,
    stage: Stage,
    peak: usize,
}

/// How bytes are checked.
#[derive(Debug)]
enum Integrity {
    /// Each chunk when it is complete, before it is read.
    Chunks { size: usize, digests: std::vec::IntoIter<String>, bytes: Vec<u8> },
    /// The whole at its end: bytes are read before it is known whether they are the right ones, so
    /// what is wrong with them is not told before that either.
    Whole { digest: Sha256, fault: Option<Error> },
}

/// What is being read.
#[derive(Debug)]
enum Stage {
    Header(Vec<u8>),
    Tensors(Tensors),
    Failed,
}

#[derive(Debug)]
struct Tensors {
    assembly: Box<Assembly>,
    /// Bytes of each tensor, in file order.
    sizes: Vec<usize>,
    /// The one that is being read, and its bytes so far.
    current: usize,
    bytes: Vec<u8>,
    /// Bytes of it that were passed over because nothing needs it.
    skipped: usize,
}

impl Loader {
    /// A loader of the manifest's first weights file onto `device`.
    pub fn new(manifest: &Manifest, device: &Device) -> Self {
        Self::of_file(manifest.files.weights.clone(), manifest.config.clone(), device)
    }

    /// A loader of one weights file, of a model of this configuration, onto `device`.
    pub fn of_file(file: FileEntry, config: BlipConfig, device: &Device) -> Self {
        let integrity = match &file.chunks {
            Some(chunks) => Integrity::Chunks {
                size: usize::try_from(chunks.size).unwrap_or(usize::MAX),
                digests: chunks.sha256.clone().into_iter(),
                bytes: Vec::with_capacity(usize::try_from(chunks.size.min(file.bytes)).unwrap_or(0)),
            },
            None => Integrity::Whole { digest: Sha256::new(), fault: None },
        };
        Self {
            config,
            device: device.clone(),
            halves: false,
            file,
            received: 0,
            integrity,
            stage: Stage::Header(Vec::new()),
            peak: 0,
        }
    }

    /// With `halves`, activations and float matrices are f16: for adapters with `shader-f16`. To be
    /// said before the first byte.
    #[must_use]
    pub fn in_halves(mut self, halves: bool) -> Self {
        self.halves = halves;
        self
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] for bytes that are not the manifest's, and what
    /// [`load`](super::load) finds wrong with weights. A loader that failed takes nothing more.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        let total = self.received + bytes.len() as u64;
        if total > self.file.bytes {
            self.stage = Stage::Failed;
            self.file.verify_size(total)?;
        }
        self.received = total;
        let file_ends = total == self.file.bytes;
        match &mut self.integrity {
            Integrity::Whole { digest, fault } => {
                digest.update(bytes);
                if fault.is_none()
                    && let Err(error) =
                        self.stage.read(bytes, &self.config, &self.file, (&self.device, self.halves))
                {
                    *fault = Some(error);
                    self.stage = Stage::Failed;
                }
                self.peak = self.peak.max(self.stage.peak());
            }
            Integrity::Chunks { size, digests, bytes: chunk } => {
                while !bytes.is_empty() {
                    let (now, later) = bytes.split_at((*size - chunk.len()).min(bytes.len()));
                    chunk.extend_from_slice(now);
                    bytes = later;
                    if chunk.len() == *size || (file_ends && bytes.is_empty()) {
                        let found = hex(&sha256(chunk));
                        let read = if digests.next().is_some_and(|expected| expected == found) {
                            self.stage.read(chunk, &self.config, &self.file, (&self.device, self.halves))
                        } else {
                            let message = format!("`{}` differs from its manifest", self.file.path);
                            Err(Error::new(ErrorKind::Integrity, message))
                        };
                        self.peak = self.peak.max(chunk.capacity() + self.stage.peak());
                        chunk.clear();
                        if let Err(error) = read {
                            self.stage = Stage::Failed;
                            return Err(error);
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// The model, after the last byte.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`] when bytes are missing, or the file as a whole is not the manifest's;
    /// what was wrong with weights that could not be told before.
    pub fn finish(self) -> Result<(Blip, Networks)> {
        self.finish_over(None)
    }

    /// As [`finish`](Self::finish), over `tower` where the file has no image encoder.
    ///
    /// # Errors
    /// As [`finish`](Self::finish).
    pub fn finish_over(self, tower: Option<VisionModel>) -> Result<(Blip, Networks)> {
        self.file.verify_size(self.received)?;
        if let Integrity::Whole { digest, fault } = self.integrity {
            self.file.verify_digest(&hex(&digest.finalize().into()))?;
            if let Some(error) = fault {
                return Err(error);
            }
        }
        match self.stage {
            Stage::Tensors(tensors) => tensors.assembly.finish(tower),
            // The file ends before its header does.
            Stage::Header(bytes) => {
                let header = Header::parse(&bytes)?;
                Assembly::new(&self.config, entries(header).0, &self.device)?.finish(tower)
            }
            Stage::Failed => Err(failed()),
        }
    }

    /// How the matrices of the file are stored, each way once; nothing before its header was read.
    pub fn formats(&self) -> Vec<Format> {
        match &self.stage {
            Stage::Tensors(tensors) => tensors.assembly.formats(),
            Stage::Header(_) | Stage::Failed => Vec::new(),
        }
    }

    /// Of the image encoder, and of the projections of ITC, as far as they were read.
    pub fn fingerprints(&self) -> [Fingerprint; 2] {
        match &self.stage {
            Stage::Tensors(tensors) => [tensors.assembly.vision, tensors.assembly.itc],
            Stage::Header(_) | Stage::Failed => Default::default(),
        }
    }

    /// Bytes of the file that are still to come.
    pub fn missing(&self) -> u64 {
        self.file.bytes - self.received
    }

    /// The most bytes of the file, or of what was read from it, that were in host memory at a time.
    pub fn peak(&self) -> usize {
        self.peak
    }
}

impl Stage {
    fn read(
        &mut self,
        mut bytes: &[u8],
        config: &BlipConfig,
        file: &FileEntry,
        (device, halves): (&Device, bool),
    ) -> Result<()> {
        loop {
            match self {
                Self::Failed => return Err(failed()),
                Self::Header(header) => {
                    let wanted = if header.len() < 8 { 8 } else { 8 + Header::length(header)? };
                    let (now, later) = bytes.split_at((wanted - header.len()).min(bytes.len()));
                    header.extend_from_slice(now);
                    bytes = later;
                    if header.len() < wanted {
                        return Ok(());
                    }
                    if wanted > 8 || Header::length(header)? == 0 {
                        let header = Header::parse(header)?;
                        header.check_length(file.bytes)?;
                        *self = Self::Tensors(Tensors::new(header, config, device, halves)?);
                    }
                }
                Self::Tensors(tensors) => return tensors.read(bytes),
            }
        }
    }

    fn peak(&self) -> usize {
        match self {
            Self::Header(bytes) => bytes.capacity(),
            Self::Tensors(tensors) => {
                tensors.assembly.peak.max(tensors.assembly.held + tensors.bytes.capacity())
            }
            Self::Failed => 0,
        }
    }
}

impl Tensors {
    fn new(header: Header, config: &BlipConfig, device: &Device, halves: bool) -> Result<Self> {
        let (entries, sizes) = entries(header);
        let assembly = Box::new(Assembly::new(config, entries, device)?.in_halves(halves));
        let mut tensors = Self { assembly, sizes, current: 0, bytes: Vec::new(), skipped: 0 };
        tensors.reserve()?;
        Ok(tensors)
    }

    fn read(&mut self, mut bytes: &[u8]) -> Result<()> {
        while let Some(size) = self.sizes.get(self.current).copied() {
            let wanted = self.assembly.wants(self.current);
            let so_far = self.bytes.len() + self.skipped;
            let (now, later) = bytes.split_at((size - so_far).min(bytes.len()));
            bytes = later;
            if wanted {
                self.bytes.extend_from_slice(now);
            } else {
                self.skipped += now.len();
            }
            if so_far + now.len() < size {
                return Ok(());
            }
            let whole = std::mem::take(&mut self.bytes);
            self.assembly.accept(self.current, whole)?;
            (self.current, self.skipped) = (self.current + 1, 0);
            self.reserve()?;
        }
        Ok(())
    }

    /// Makes room for exactly the next tensor.
    fn reserve(&mut self) -> Result<()> {
        if let Some(size) = self.sizes.get(self.current)
            && self.assembly.wants(self.current)
        {
            self.bytes = room(*size as u64)?;
        }
        Ok(())
    }
}

fn entries(header: Header) -> (Vec<super::plan::Entry>, Vec<usize>) {
    header.tensors.into_iter().map(|(entry, range)| (entry, (range.end - range.start) as usize)).unzip()
}

fn failed() -> Error {
    Error::new(ErrorKind::Internal, "weights: the loader failed before")
}
