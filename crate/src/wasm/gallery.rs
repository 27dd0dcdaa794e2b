//! Galleries for JavaScript: see [`crate::gallery`].

use serde::Serialize;
use wasm_bindgen::prelude::*;

use super::{Answer, json, to_js};
use crate::gallery::{ContentHash, Gallery, Record};

/// The vectors of a gallery and the search among them; hashes are written as hexadecimal digits.
#[wasm_bindgen]
#[derive(Debug)]
pub struct GalleryIndex {
    gallery: Gallery,
}

/// An entry, or what a search found.
#[derive(Serialize)]
struct Row<'a> {
    hash: String,
    key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f32>,
}

impl<'a> Row<'a> {
    fn new(hash: ContentHash, key: &'a str, score: Option<f32>) -> Self {
        Self { hash: hash.to_string(), key, score }
    }
}

#[wasm_bindgen]
impl GalleryIndex {
    /// An empty gallery for embeddings of `width` values, of the model of that fingerprint.
    #[wasm_bindgen(constructor)]
    pub fn new(width: u32, fingerprint: &str) -> Answer<GalleryIndex> {
        let gallery = Gallery::new(width as usize, fingerprint).map_err(to_js)?;
        Ok(Self { gallery })
    }

    /// How many pictures there are.
    pub fn size(&self) -> u32 {
        self.gallery.len() as u32
    }

    /// Whether a picture of this content is in the gallery.
    pub fn has(&self, hash: &str) -> Answer<bool> {
        Ok(self.gallery.contains(&read(hash)?))
    }

    /// Adds a picture's embedding; false when its content is there.
    pub fn add(&mut self, hash: &str, key: &str, embedding: &[f32]) -> Answer<bool> {
        self.gallery.add(read(hash)?, key, embedding).map_err(to_js)
    }

    /// The stored form of a picture's vector.
    pub fn record(&self, hash: &str) -> Answer<Option<Vec<u8>>> {
        Ok(self.gallery.record(&read(hash)?).map(|record| record.to_bytes()))
    }

    /// Adds a vector that was stored; false when its content is there.
    pub fn restore(&mut self, hash: &str, key: &str, record: &[u8]) -> Answer<bool> {
        let record = Record::from_bytes(record).map_err(to_js)?;
        self.gallery.restore(read(hash)?, key, &record).map_err(to_js)
    }

    /// Removes a picture; false when its content is not there.
    pub fn remove(&mut self, hash: &str) -> Answer<bool> {
        Ok(self.gallery.remove(&read(hash)?))
    }

    /// The `k` best for an embedding, best first: JSON `[{hash, key, score}]`.
    pub fn search(&self, embedding: &[f32], k: u32) -> Answer<String> {
        let hits = self.gallery.search(embedding, k as usize).map_err(to_js)?;
        let rows = hits.iter().map(|hit| Row::new(hit.hash, &hit.key, Some(hit.score)));
        json(&rows.collect::<Vec<_>>()).map_err(to_js)
    }

    /// Every picture: JSON `[{hash, key}]`.
    pub fn entries(&self) -> Answer<String> {
        let rows = self.gallery.entries().map(|entry| Row::new(entry.hash, entry.key, None));
        json(&rows.collect::<Vec<_>>()).map_err(to_js)
    }

    /// The gallery's file.
    #[wasm_bindgen(js_name = toBytes)]
    pub fn to_bytes(&self) -> Vec<u8> {
        self.gallery.to_bytes()
    }

    /// Reads a gallery's file, of the model of that fingerprint.
    #[wasm_bindgen(js_name = fromBytes)]
    pub fn from_bytes(bytes: &[u8], fingerprint: &str) -> Answer<GalleryIndex> {
        let gallery = Gallery::from_bytes(bytes, Some(fingerprint)).map_err(to_js)?;
        Ok(Self { gallery })
    }
}

fn read(hash: &str) -> Answer<ContentHash> {
    hash.parse().map_err(to_js)
}
