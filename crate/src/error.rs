//! The one error type, with codes that never change.
//!
//! [`ErrorKind::code`] strings are a contract: the TypeScript SDK carries the same list, and a test
//! holds the two together.

use std::borrow::Cow;
use std::fmt;

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, where, and what was expected instead.
#[derive(Debug)]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $name:ident => $code:literal,)+) => {
        /// The area an [`Error`] belongs to; stable, and equal to the codes of the SDK.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[doc = $doc])+ $name,)+ }

        impl ErrorKind {
            /// Every kind, in the order of the documentation.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The stable kebab-case code.
            pub const fn code(self) -> &'static str {
                match self { $(Self::$name => $code,)+ }
            }
        }
    };
}

kinds! {
    /// An image that is not one of the supported formats, is cut short, empty or damaged.
    BadImage => "bad-image",
    /// An image with more pixels than the stated limit.
    ImageTooLarge => "image-too-large",
    /// An option outside its documented range, or options that contradict each other.
    BadOption => "bad-option",
    /// A model configuration that is not valid JSON, incomplete or inconsistent.
    BadConfig => "bad-config",
    /// A vocabulary that lacks tokens the model needs, or cannot be read.
    BadVocabulary => "bad-vocabulary",
    /// A weights file whose container cannot be read.
    WeightsFormat => "weights-format",
    /// A tensor the model needs is not in the file.
    WeightsMissing => "weights-missing",
    /// A tensor of the file belongs to nothing in the model.
    WeightsUnknown => "weights-unknown",
    /// A tensor has another shape or element type than the configuration says.
    WeightsShape => "weights-shape",
    /// A tensor holds NaN or infinite values.
    WeightsNotFinite => "weights-not-finite",
    /// The loaded networks were not trained for the task.
    TaskUnsupported => "task-unsupported",
    /// The browser or the machine offers no usable GPU adapter.
    WebgpuUnavailable => "webgpu-unavailable",
    /// The adapter lacks a feature or limit that the engine needs.
    FeatureMissing => "feature-missing",
    /// A GPU or host allocation failed.
    OutOfMemory => "out-of-memory",
    /// The GPU device was lost.
    DeviceLost => "device-lost",
    /// The GPU reported an error, or returned something that is not a number.
    Gpu => "gpu-error",
    /// A download did not complete.
    DownloadFailed => "download-failed",
    /// Downloaded bytes do not have the digest or size of the manifest.
    Integrity => "integrity",
    /// Storage is full.
    Quota => "quota",
    /// The call was cancelled by the caller.
    Aborted => "aborted",
    /// The object was used after it was disposed of.
    Disposed => "disposed",
    /// A file could not be read or written.
    Io => "io",
    /// A fault of this library: please report it.
    Internal => "internal",
}

impl Error {
    /// A new error; `message` says what was wrong, where, what was found and what was expected.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// The same error with its cause attached.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The area of the error.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The stable kebab-case code, the same in Rust and TypeScript.
    pub fn code(&self) -> &'static str {
        self.kind.code()
    }

    /// The message without its cause.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.message)?;
        if let Some(source) = &self.source {
            write!(f, ": {source}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_kebab_case() {
        let mut codes: Vec<_> = ErrorKind::ALL.iter().map(|kind| kind.code()).collect();
        assert!(codes.iter().all(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '-')));
        codes.sort_unstable();
        let total = codes.len();
        codes.dedup();
        assert_eq!(codes.len(), total);
    }

    #[test]
    fn display_carries_the_cause() {
        let error = Error::new(ErrorKind::Io, "cannot read `a.png`").with_source("no such file");
        assert_eq!(error.to_string(), "cannot read `a.png`: no such file");
        assert_eq!(error.code(), "io");
    }
}
