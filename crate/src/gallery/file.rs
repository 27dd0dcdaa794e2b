//! Galleries as files: the same bytes on every machine and in the browser.
//!
//! Little endian, without padding:
//!
//! | bytes | what |
//! |---|---|
//! | 8 | `blip-gal` |
//! | 4 | version, 1 |
//! | 4 | width: values of an embedding |
//! | 4 | entries |
//! | 4 | bytes of the fingerprint |
//! | … | fingerprint, UTF-8 |
//! | … | entries, by ascending hash |
//! | 32 | SHA-256 of everything before |
//!
//! An entry is its hash (32), its scale (f32), the bytes of its key (4), the key (UTF-8) and its codes
//! (`width` of i8). Equal galleries are equal files, whatever order they were filled in.

use sha2::{Digest, Sha256};

use super::{ContentHash, Gallery, LONGEST_KEY, Record, bad_option};
use crate::{Error, ErrorKind, Result};

const MAGIC: &[u8; 8] = b"blip-gal";
const VERSION: u32 = 1;
/// Magic, version, width, entries, bytes of the fingerprint.
const HEADER: usize = 24;
const DIGEST: usize = 32;
/// Of an entry, beside its key and its codes.
const ENTRY: usize = 40;

impl Gallery {
    /// The gallery's file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let keys: usize = self.keys.iter().map(String::len).sum();
        let size = HEADER + self.fingerprint.len() + self.len() * (ENTRY + self.width) + keys + DIGEST;
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(MAGIC);
        // Widths, keys and fingerprints are bounded, and no machine holds 2³² entries of this size.
        for number in [VERSION, self.width as u32, self.len() as u32, self.fingerprint.len() as u32] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
        bytes.extend_from_slice(self.fingerprint.as_bytes());
        let mut order: Vec<usize> = (0..self.len()).collect();
        order.sort_unstable_by_key(|at| self.hashes[*at]);
        for at in order {
            bytes.extend_from_slice(&self.hashes[at].0);
            bytes.extend_from_slice(&self.scales[at].to_le_bytes());
            bytes.extend_from_slice(&(self.keys[at].len() as u32).to_le_bytes());
            bytes.extend_from_slice(self.keys[at].as_bytes());
            bytes.extend_from_slice(self.row(at));
        }
        let digest: [u8; DIGEST] = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&digest);
        bytes
    }

    /// Reads a gallery's file; of the model that `fingerprint` names, where one is given.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for a file that is no gallery, of another version, or of another model;
    /// [`ErrorKind::Integrity`] for one that is cut short or damaged.
    pub fn from_bytes(bytes: &[u8], fingerprint: Option<&str>) -> Result<Self> {
        let mut header = Reader { rest: bytes };
        if header.take(MAGIC.len()).ok() != Some(MAGIC.as_slice()) {
            return Err(bad_option("the file is not a gallery"));
        }
        let version = header.number()?;
        if version != VERSION as usize {
            return Err(bad_option(format!(
                "the gallery has version {version}, this release reads {VERSION}"
            )));
        }
        let body = bytes.len().checked_sub(DIGEST).map(|end| bytes.split_at(end));
        let (body, digest) = body.ok_or_else(|| damaged("it is cut short"))?;
        if <[u8; DIGEST]>::from(Sha256::digest(body)) != *digest {
            return Err(damaged("its SHA-256 is not the one at its end"));
        }
        let mut body = Reader { rest: &body[MAGIC.len() + 4..] };
        let (width, entries, name) = (body.number()?, body.number()?, body.number()?);
        let name = body.text(name)?;
        if let Some(expected) = fingerprint.filter(|expected| *expected != name) {
            let message = format!("the gallery is of another model: of `{name}`, expected `{expected}`");
            return Err(bad_option(message));
        }
        let mut gallery = Self::new(width, name)?;
        // Before anything is reserved for them.
        if body.rest.len() / (ENTRY + width) < entries {
            return Err(damaged("it has fewer entries than it says"));
        }
        gallery.reserve(entries);
        let mut last = None;
        for _ in 0..entries {
            let hash = ContentHash(*body.array()?);
            let scale = f32::from_le_bytes(*body.array()?);
            let key = body.number()?;
            let key = body.text(key)?;
            let record = Record::from_parts(scale, body.take(width)?);
            if last.replace(hash).is_some_and(|last| last >= hash) {
                return Err(damaged("its entries are not in order"));
            }
            gallery.restore(hash, key, &record.map_err(|error| damaged(error.message()))?)?;
        }
        if body.rest.is_empty() { Ok(gallery) } else { Err(damaged("it has more bytes than entries")) }
    }

    fn reserve(&mut self, entries: usize) {
        self.hashes.reserve_exact(entries);
        self.keys.reserve_exact(entries);
        self.scales.reserve_exact(entries);
        self.sums.reserve_exact(entries);
        self.codes.reserve_exact(entries * self.stride());
        self.places.reserve(entries);
    }
}

/// What is left to read.
struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or_else(|| damaged("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<&'a [u8; N]> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| damaged("it is cut short"))?;
        self.rest = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<usize> {
        Ok(u32::from_le_bytes(*self.array()?) as usize)
    }

    fn text(&mut self, bytes: usize) -> Result<&'a str> {
        if bytes > LONGEST_KEY {
            return Err(damaged("it has a text that is too long"));
        }
        str::from_utf8(self.take(bytes)?).map_err(|_| damaged("it has a text that is not UTF-8"))
    }
}

fn damaged(what: &str) -> Error {
    Error::new(ErrorKind::Integrity, format!("the gallery is damaged: {what}"))
}
