//! `blip.json`: what a model directory holds.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::BlipConfig;
use crate::{Error, ErrorKind, Result};

/// The manifest of one model, beside its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "AnyVersion")]
pub struct Manifest {
    /// Version of this format: 2, or 3 with [`networks`](Self::networks). Version 1 is read.
    pub format_version: u32,
    /// Name of the model.
    pub id: String,
    /// What it was trained for: `caption`, `vqa`, `itm`, `itc`.
    pub tasks: Vec<String>,
    /// Dimensions, in the layout of Hugging Face's `config.json`.
    pub config: BlipConfig,
    /// The files that belong to it.
    pub files: Files,
    /// How the matrices are stored.
    pub quantisation: Quantisation,
    /// SPDX expression for the weights.
    pub licence: String,
    /// What the model knows, in words a page can show; absent for converted checkpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knows: Option<serde_json::Value>,
    /// Further networks, over the image encoder of `files.weights` or one of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<FurtherNetwork>,
    /// Where it was converted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Origin>,
}

/// A further network, mostly a text network that shares the image encoder of the first file: the
/// published checkpoints hold one task each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FurtherNetwork {
    /// What it was trained for.
    pub tasks: Vec<String>,
    /// safetensors; without the tensors of an image encoder, unless it has its own.
    pub weights: FileEntry,
    /// Its dimensions, where they are not the manifest's; those of a shared image encoder are the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<BlipConfig>,
    /// Whether it has an image encoder of its own, in its file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub vision: bool,
    /// Where it was converted from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Origin>,
}

/// The file that a model was converted from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Origin {
    /// `owner/name`.
    pub repo: String,
    /// The commit.
    pub revision: String,
    /// The weights file.
    pub file: String,
    /// Its SHA-256 in lower-case hex.
    pub sha256: String,
}

/// The files of a model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Files {
    /// safetensors with Hugging Face's names.
    pub weights: FileEntry,
    /// One token a line.
    pub vocab: FileEntry,
}

/// A file, its size and its digest.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FileEntry {
    /// Path relative to the manifest.
    pub path: String,
    /// Size in bytes.
    pub bytes: u64,
    /// SHA-256 in lower-case hex.
    pub sha256: String,
    /// Digests of its pieces, so that a reader need not wait for the end to know what it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunks: Option<Chunks>,
}

/// A file cut into pieces of one size, the last one as long as what is left.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Chunks {
    /// Bytes of a piece.
    pub size: u64,
    /// SHA-256 of each piece in lower-case hex.
    pub sha256: Vec<String>,
}

/// How the matrices of each side of a model are stored; everything else is f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantisation {
    /// The image encoder.
    pub vision: Precision,
    /// The text networks and the heads.
    pub text: Precision,
}

/// How a matrix is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
pub enum Precision {
    /// 4 bits in groups of 32.
    Q4,
    /// 8 bits in groups of 64 or 32.
    Q8,
    /// Half precision.
    F16,
    /// Single precision.
    F32,
}

impl Precision {
    /// Its name, as in manifests.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Q4 => "q4",
            Self::Q8 => "q8",
            Self::F16 => "f16",
            Self::F32 => "f32",
        }
    }
}

impl Quantisation {
    /// Both sides alike.
    pub const fn uniform(precision: Precision) -> Self {
        Self { vision: precision, text: precision }
    }
}

impl std::fmt::Display for Quantisation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.vision == self.text {
            return f.write_str(self.vision.name());
        }
        write!(f, "{}/{}", self.vision.name(), self.text.name())
    }
}

/// A manifest of any version that was ever written.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AnyVersion {
    format_version: u32,
    id: String,
    tasks: Vec<String>,
    config: BlipConfig,
    files: Files,
    quantisation: Option<Quantisation>,
    /// Version 1: the element type of every tensor.
    dtype: Option<Precision>,
    licence: String,
    knows: Option<serde_json::Value>,
    #[serde(default)]
    networks: Vec<FurtherNetwork>,
    source: Option<Origin>,
}

impl TryFrom<AnyVersion> for Manifest {
    type Error = String;

    fn try_from(any: AnyVersion) -> Result<Self, String> {
        let quantisation = match (any.format_version, any.quantisation, any.dtype) {
            (1, _, Some(dtype)) => Quantisation::uniform(dtype),
            (1, _, None) => return Err("missing field `dtype`".to_owned()),
            (2 | 3, Some(quantisation), _) => quantisation,
            (2 | 3, None, _) => return Err("missing field `quantisation`".to_owned()),
            (version, ..) => return Err(format!("format version {version}, expected 1, 2 or 3")),
        };
        if any.format_version < 3 && !any.networks.is_empty() {
            return Err(format!("format version {} has no field `networks`, 3 has", any.format_version));
        }
        let AnyVersion { format_version, id, tasks, config, files, licence, knows, networks, source, .. } =
            any;
        Ok(Self { format_version, id, tasks, config, files, quantisation, licence, knows, networks, source })
    }
}

impl Manifest {
    /// The format version of a model in one file.
    pub const FORMAT_VERSION: u32 = 2;
    /// The format version of a model with further networks.
    pub const FORMAT_VERSION_NETWORKS: u32 = 3;

    /// Reads and validates a manifest.
    ///
    /// # Errors
    /// [`ErrorKind::BadConfig`] when it is not JSON of this shape, of another version, or its
    /// configuration or its list of chunks is inconsistent.
    pub fn from_json(text: &str) -> Result<Self> {
        let manifest: Self = serde_json::from_str(text)
            .map_err(|e| Error::new(ErrorKind::BadConfig, "manifest: not a blip.json").with_source(e))?;
        manifest.config.validate()?;
        for file in manifest.weights().chain([&manifest.files.vocab]) {
            file.check_chunks()?;
        }
        for network in &manifest.networks {
            let Some(config) = &network.config else { continue };
            config.validate()?;
            if !network.vision && config.vision_config != manifest.config.vision_config {
                let message = format!(
                    "manifest: the network of `{}` stands over another image encoder than the model's",
                    network.weights.path
                );
                return Err(Error::new(ErrorKind::BadConfig, message));
            }
        }
        Ok(manifest)
    }

    /// Every weights file, the one with the image encoder first.
    pub fn weights(&self) -> impl Iterator<Item = &FileEntry> {
        std::iter::once(&self.files.weights).chain(self.networks.iter().map(|network| &network.weights))
    }

    /// What the networks were trained for, each task once.
    pub fn all_tasks(&self) -> Vec<&str> {
        let mut tasks: Vec<&str> = Vec::new();
        for task in self.tasks.iter().chain(self.networks.iter().flat_map(|network| &network.tasks)) {
            if !tasks.contains(&&**task) {
                tasks.push(task);
            }
        }
        tasks
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.weights().chain([&self.files.vocab]).map(|file| file.bytes).sum()
    }
}

impl FileEntry {
    /// The entry of a file with these bytes.
    pub fn of(path: &str, bytes: &[u8]) -> Self {
        let (bytes, sha256) = (bytes.len() as u64, hex(&sha256(bytes)));
        Self { path: path.to_owned(), bytes, sha256, chunks: None }
    }

    /// Checks bytes against the entry.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`], saying which of size and digest differs.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        self.verify_size(bytes.len() as u64)?;
        self.verify_digest(&hex(&sha256(bytes)))
    }

    pub(super) fn verify_size(&self, bytes: u64) -> Result<()> {
        if bytes == self.bytes {
            return Ok(());
        }
        let message = format!("`{}` has {bytes} bytes, its manifest says {}", self.path, self.bytes);
        Err(Error::new(ErrorKind::Integrity, message))
    }

    pub(super) fn verify_digest(&self, digest: &str) -> Result<()> {
        if digest == self.sha256 {
            return Ok(());
        }
        let message = format!("`{}` has the SHA-256 {digest}, its manifest says {}", self.path, self.sha256);
        Err(Error::new(ErrorKind::Integrity, message))
    }

    fn check_chunks(&self) -> Result<()> {
        const LARGEST: u64 = 64 << 20;
        let Some(chunks) = &self.chunks else { return Ok(()) };
        let expected = self.bytes.div_ceil(chunks.size.clamp(1, LARGEST));
        if (1..=LARGEST).contains(&chunks.size) && chunks.sha256.len() as u64 == expected {
            return Ok(());
        }
        let message = format!(
            "manifest: `{}` has {} chunks of {} bytes, expected {expected} of 1 to {LARGEST}",
            self.path,
            chunks.sha256.len(),
            chunks.size
        );
        Err(Error::new(ErrorKind::BadConfig, message))
    }
}

pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

pub(super) fn hex(digest: &[u8; 32]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
