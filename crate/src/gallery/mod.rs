//! Galleries: embeddings of pictures by the content of their files, and the search among them.
//!
//! A [`Gallery`] knows nothing of models or files. An entry is the SHA-256 of a picture's file, a key
//! that means something to the user (a path, an address), and the direction of an embedding in eight
//! bits; the fingerprint says which model the embeddings are of. Scores are cosines: products are exact
//! integers, so a search finds the same on every machine, and equal scores are ordered by hash.
//!
//! ```
//! # fn main() -> blip_web::Result<()> {
//! use blip_web::gallery::{ContentHash, Gallery};
//!
//! let mut gallery = Gallery::new(2, "a model")?;
//! gallery.add(ContentHash::of(b"the bytes of a file"), "a.png", &[1.0, 0.0])?;
//! gallery.add(ContentHash::of(b"other bytes"), "b.png", &[0.6, 0.8])?;
//! let best = gallery.search(&[0.0, 1.0], 1)?;
//! assert_eq!(best[0].key, "b.png");
//! let again = Gallery::from_bytes(&gallery.to_bytes(), Some("a model"))?;
//! assert_eq!(again.len(), 2);
//! # Ok(())
//! # }
//! ```

mod file;
mod hash;
mod scan;
mod search;
#[cfg(test)]
mod tests;
mod vector;

pub use hash::ContentHash;
pub use search::Hit;
pub use vector::Record;

use std::borrow::Cow;
use std::collections::HashMap;

use crate::{Error, ErrorKind, Result};

/// The longest key and fingerprint, in bytes.
pub const LONGEST_KEY: usize = 1 << 16;

/// Embeddings of pictures by the content of their files.
#[derive(Clone, Debug)]
pub struct Gallery {
    width: usize,
    fingerprint: String,
    hashes: Vec<ContentHash>,
    keys: Vec<String>,
    scales: Vec<f32>,
    /// The sum of each entry's codes.
    sums: Vec<i32>,
    /// `[entries, stride]`.
    codes: Vec<u8>,
    /// Where the entry of a hash is.
    places: HashMap<ContentHash, usize>,
}

/// What a gallery knows of a picture.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entry<'a> {
    /// SHA-256 of the picture's file.
    pub hash: ContentHash,
    /// What the user calls it.
    pub key: &'a str,
}

impl Gallery {
    /// An empty gallery for embeddings `[width]` of the model that `fingerprint` names.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for a width outside 1..=4096, or a fingerprint longer than
    /// [`LONGEST_KEY`].
    pub fn new(width: usize, fingerprint: &str) -> Result<Self> {
        if !(1..=vector::LONGEST).contains(&width) {
            let longest = vector::LONGEST;
            return Err(bad_option(format!("embeddings of {width} values, expected 1..={longest}")));
        }
        check_key(fingerprint)?;
        Ok(Self {
            width,
            fingerprint: fingerprint.to_owned(),
            hashes: Vec::new(),
            keys: Vec::new(),
            scales: Vec::new(),
            sums: Vec::new(),
            codes: Vec::new(),
            places: HashMap::new(),
        })
    }

    /// Values of an embedding.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Which model the embeddings are of.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// How many pictures there are.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Whether a picture of this content is in the gallery.
    pub fn contains(&self, hash: &ContentHash) -> bool {
        self.places.contains_key(hash)
    }

    /// The key of the picture of this content.
    pub fn key(&self, hash: &ContentHash) -> Option<&str> {
        self.places.get(hash).map(|at| self.keys[*at].as_str())
    }

    /// The vector of the picture of this content, to be stored.
    pub fn record(&self, hash: &ContentHash) -> Option<Record> {
        let at = *self.places.get(hash)?;
        Some(Record { scale: self.scales[at], codes: self.row(at).to_vec() })
    }

    /// Every entry, in no order that means anything.
    pub fn entries(&self) -> impl Iterator<Item = Entry<'_>> {
        self.hashes.iter().zip(&self.keys).map(|(hash, key)| Entry { hash: *hash, key })
    }

    /// Adds a picture's embedding `[width]`; false, and nothing changes, when its content is there.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for an embedding of another width or without a direction, or a key
    /// longer than [`LONGEST_KEY`].
    pub fn add(&mut self, hash: ContentHash, key: &str, embedding: &[f32]) -> Result<bool> {
        self.check_width(embedding.len())?;
        self.restore(hash, key, &Record::of(embedding)?)
    }

    /// Adds a vector that was stored; otherwise as [`add`](Self::add).
    ///
    /// # Errors
    /// As [`add`](Self::add).
    pub fn restore(&mut self, hash: ContentHash, key: &str, record: &Record) -> Result<bool> {
        self.check_width(record.codes.len())?;
        check_key(key)?;
        if self.contains(&hash) {
            return Ok(false);
        }
        self.places.insert(hash, self.hashes.len());
        self.hashes.push(hash);
        self.keys.push(key.to_owned());
        self.scales.push(record.scale);
        self.sums.push(record.codes.iter().map(|code| i32::from(*code as i8)).sum());
        self.codes.extend_from_slice(&record.codes);
        self.codes.resize(self.hashes.len() * self.stride(), 0);
        Ok(true)
    }

    /// Adds a picture, in place of the one of the same content where there is one.
    ///
    /// # Errors
    /// As [`add`](Self::add); then the gallery is as it was.
    pub fn replace(&mut self, hash: ContentHash, key: &str, embedding: &[f32]) -> Result<()> {
        self.check_width(embedding.len())?;
        check_key(key)?;
        let record = Record::of(embedding)?;
        self.remove(&hash);
        self.restore(hash, key, &record).map(drop)
    }

    /// Gives a picture another key; false when its content is not there.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for a key longer than [`LONGEST_KEY`].
    pub fn rename(&mut self, hash: &ContentHash, key: &str) -> Result<bool> {
        check_key(key)?;
        let Some(at) = self.places.get(hash) else { return Ok(false) };
        key.clone_into(&mut self.keys[*at]);
        Ok(true)
    }

    /// Removes a picture; false when its content is not there.
    pub fn remove(&mut self, hash: &ContentHash) -> bool {
        let Some(at) = self.places.remove(hash) else { return false };
        let (stride, last) = (self.stride(), self.len() - 1);
        self.codes.copy_within(last * stride.., at * stride);
        self.codes.truncate(last * stride);
        self.hashes.swap_remove(at);
        self.keys.swap_remove(at);
        self.scales.swap_remove(at);
        self.sums.swap_remove(at);
        if at < last {
            self.places.insert(self.hashes[at], at);
        }
        true
    }

    /// Removes every picture of this key, and tells how many there were.
    pub fn remove_key(&mut self, key: &str) -> usize {
        let named: Vec<ContentHash> =
            self.entries().filter(|entry| entry.key == key).map(|entry| entry.hash).collect();
        named.iter().filter(|hash| self.remove(hash)).count()
    }

    /// Bytes from one vector to the next.
    fn stride(&self) -> usize {
        self.width.next_multiple_of(scan::STRIDE)
    }

    /// The codes of an entry, without padding.
    fn row(&self, at: usize) -> &[u8] {
        &self.codes[at * self.stride()..][..self.width]
    }
}

fn check_key(key: &str) -> Result<()> {
    if key.len() <= LONGEST_KEY {
        return Ok(());
    }
    Err(bad_option(format!("a key of {} bytes, at most {LONGEST_KEY} are kept", key.len())))
}

fn bad_option(message: impl Into<Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::BadOption, message)
}
