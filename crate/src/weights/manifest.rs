//! `blip.json`: what a model directory holds.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::config::BlipConfig;
use crate::{Error, ErrorKind, Result};

/// The manifest of one model, beside its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", try_from = "AnyVersion")]
pub struct Manifest {
    /// Version of this format that is written: 2. Version 1 is read.
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
}

impl TryFrom<AnyVersion> for Manifest {
    type Error = String;

    fn try_from(any: AnyVersion) -> Result<Self, String> {
        let quantisation = match (any.format_version, any.quantisation, any.dtype) {
            (1, _, Some(dtype)) => Quantisation::uniform(dtype),
            (1, _, None) => return Err("missing field `dtype`".to_owned()),
            (2, Some(quantisation), _) => quantisation,
            (2, None, _) => return Err("missing field `quantisation`".to_owned()),
            (version, ..) => return Err(format!("format version {version}, expected 1 or 2")),
        };
        let AnyVersion { format_version, id, tasks, config, files, licence, knows, .. } = any;
        Ok(Self { format_version, id, tasks, config, files, quantisation, licence, knows })
    }
}

impl Manifest {
    /// The format version that is written here; 1 is read too.
    pub const FORMAT_VERSION: u32 = 2;

    /// Reads and validates a manifest.
    ///
    /// # Errors
    /// [`ErrorKind::BadConfig`] when it is not JSON of this shape, of another version, or its
    /// configuration or its list of chunks is inconsistent.
    pub fn from_json(text: &str) -> Result<Self> {
        let manifest: Self = serde_json::from_str(text)
            .map_err(|e| Error::new(ErrorKind::BadConfig, "manifest: not a blip.json").with_source(e))?;
        manifest.config.validate()?;
        for file in [&manifest.files.weights, &manifest.files.vocab] {
            file.check_chunks()?;
        }
        Ok(manifest)
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
