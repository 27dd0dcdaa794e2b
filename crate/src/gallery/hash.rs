//! The identity of a picture: the SHA-256 of its file.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest, Sha256};

use super::bad_option;
use crate::Error;

/// SHA-256 of the bytes of a file; written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash(pub(super) [u8; 32]);

impl ContentHash {
    /// The hash of a file's bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ContentHash {
    type Err = Error;

    /// Reads 64 hexadecimal digits, of either case.
    fn from_str(text: &str) -> Result<Self, Error> {
        let digit = |at: usize| text.as_bytes().get(at).and_then(|byte| (*byte as char).to_digit(16));
        let mut hash = [0; 32];
        let mut whole = text.len() == 64;
        for (at, byte) in hash.iter_mut().enumerate() {
            match (digit(2 * at), digit(2 * at + 1)) {
                (Some(high), Some(low)) => *byte = (high << 4 | low) as u8,
                _ => whole = false,
            }
        }
        if whole { Ok(Self(hash)) } else { Err(bad_option("a content hash is 64 hexadecimal digits")) }
    }
}
