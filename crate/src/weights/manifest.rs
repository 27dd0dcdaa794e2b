//! `blip.json`: what a model directory holds.

use serde::{Deserialize, Serialize};

use crate::config::BlipConfig;
use crate::{Error, ErrorKind, Result};

/// The manifest of one model, beside its files.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Version of this format; 1.
    pub format_version: u32,
    /// Name of the model.
    pub id: String,
    /// What it was trained for: `caption`, `vqa`, `itm`, `itc`.
    pub tasks: Vec<String>,
    /// Dimensions, in the layout of Hugging Face's `config.json`.
    pub config: BlipConfig,
    /// The files that belong to it.
    pub files: Files,
    /// Element type of the weights: `f32` or `f16`.
    pub dtype: String,
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
}

impl Manifest {
    /// The format version written and read here.
    pub const FORMAT_VERSION: u32 = 1;

    /// Reads and validates a manifest.
    ///
    /// # Errors
    /// [`ErrorKind::BadConfig`] when it is not JSON of this shape, of another version, or its
    /// configuration is inconsistent.
    pub fn from_json(text: &str) -> Result<Self> {
        let manifest: Self = serde_json::from_str(text)
            .map_err(|e| Error::new(ErrorKind::BadConfig, "manifest: not a blip.json").with_source(e))?;
        if manifest.format_version != Self::FORMAT_VERSION {
            let message = format!(
                "manifest: format version {}, expected {}",
                manifest.format_version,
                Self::FORMAT_VERSION
            );
            return Err(Error::new(ErrorKind::BadConfig, message));
        }
        manifest.config.validate()?;
        Ok(manifest)
    }
}

impl FileEntry {
    /// The entry of a file with these bytes.
    pub fn of(path: &str, bytes: &[u8]) -> Self {
        Self { path: path.to_owned(), bytes: bytes.len() as u64, sha256: sha256(bytes) }
    }

    /// Checks bytes against the entry.
    ///
    /// # Errors
    /// [`ErrorKind::Integrity`], saying which of size and digest differs.
    pub fn verify(&self, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != self.bytes {
            let message =
                format!("`{}` has {} bytes, its manifest says {}", self.path, bytes.len(), self.bytes);
            return Err(Error::new(ErrorKind::Integrity, message));
        }
        let digest = sha256(bytes);
        if digest != self.sha256 {
            let message =
                format!("`{}` has the SHA-256 {digest}, its manifest says {}", self.path, self.sha256);
            return Err(Error::new(ErrorKind::Integrity, message));
        }
        Ok(())
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
