//! Digests of a file that is being written or read, which can be put aside and taken up again.

use sha2::digest::common::hazmat::{SerializableState as _, SerializedState};
use sha2::{Digest as _, Sha256};

use super::manifest::{Chunks, FileEntry, hex};

/// Bytes of a chunk with a digest of its own.
pub(super) const CHUNK: u64 = 4 << 20;

/// The digests that a manifest has of a file: of the whole, and of each chunk.
#[derive(Clone, Debug, Default)]
pub(super) struct FileDigests {
    bytes: u64,
    whole: Sha256,
    chunk: Sha256,
    chunks: Vec<[u8; 32]>,
}

impl FileDigests {
    /// Adds the next bytes of the file.
    pub fn add(&mut self, mut bytes: &[u8]) {
        self.whole.update(bytes);
        while !bytes.is_empty() {
            let room = (CHUNK - self.bytes % CHUNK).min(bytes.len() as u64);
            let (now, later) = bytes.split_at(room as usize);
            self.chunk.update(now);
            self.bytes += room;
            bytes = later;
            if self.bytes.is_multiple_of(CHUNK) {
                self.end_chunk();
            }
        }
    }

    fn end_chunk(&mut self) {
        self.chunks.push(std::mem::take(&mut self.chunk).finalize().into());
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The entry of the file, which is complete, under the name `path`.
    pub fn entry(mut self, path: &str) -> FileEntry {
        if !self.bytes.is_multiple_of(CHUNK) {
            self.end_chunk();
        }
        let chunks = Some(Chunks { size: CHUNK, sha256: self.chunks.iter().map(hex).collect() });
        let sha256 = hex(&self.whole.finalize().into());
        FileEntry { path: path.to_owned(), bytes: self.bytes, sha256, chunks }
    }

    /// What [`restore`](Self::restore) goes on from.
    pub fn save(&self) -> Vec<u8> {
        let mut saved = self.bytes.to_le_bytes().to_vec();
        saved.extend(save(&self.whole));
        saved.extend(save(&self.chunk));
        saved.extend(self.chunks.as_flattened());
        saved
    }

    /// The digests that were saved; nothing when the bytes are not those of a state.
    pub fn restore(saved: &[u8]) -> Option<Self> {
        let (bytes, rest) = saved.split_first_chunk::<8>()?;
        let (whole, rest) = rest.split_at_checked(STATE)?;
        let (chunk, rest) = rest.split_at_checked(STATE)?;
        let (chunks, []) = rest.as_chunks::<32>() else { return None };
        let bytes = u64::from_le_bytes(*bytes);
        let matches = bytes / CHUNK == chunks.len() as u64;
        matches.then_some(())?;
        Some(Self { bytes, whole: restore(whole)?, chunk: restore(chunk)?, chunks: chunks.to_vec() })
    }
}

/// Bytes of the state of a digest.
pub(super) const STATE: usize = size_of::<SerializedState<Sha256>>();

/// The state of a digest.
pub(super) fn save(digest: &Sha256) -> Vec<u8> {
    digest.serialize().to_vec()
}

/// The digest of a state; nothing when the bytes are none.
pub(super) fn restore(state: &[u8]) -> Option<Sha256> {
    let state = SerializedState::<Sha256>::try_from(state).ok()?;
    Sha256::deserialize(&state).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::weights::manifest::sha256;

    #[test]
    fn interrupted_digests_equal_those_of_the_whole() {
        let bytes: Vec<u8> = (0..CHUNK as usize * 2 + 77).map(|at| (at * 31 % 251) as u8).collect();
        for cut in [0, 1, 63, 64, CHUNK as usize, CHUNK as usize + 5, bytes.len()] {
            let mut digests = FileDigests::default();
            digests.add(&bytes[..cut]);
            let mut digests = FileDigests::restore(&digests.save()).unwrap();
            digests.add(&bytes[cut..]);
            let entry = digests.entry("x");
            assert_eq!(entry.sha256, hex(&sha256(&bytes)));
            let chunks = entry.chunks.unwrap().sha256;
            let expected: Vec<_> = bytes.chunks(CHUNK as usize).map(|chunk| hex(&sha256(chunk))).collect();
            assert_eq!(chunks, expected);
        }
    }

    #[test]
    fn other_bytes_are_no_state() {
        let saved = FileDigests::default().save();
        assert!(FileDigests::restore(&saved[1..]).is_none());
        assert!(FileDigests::restore(&[&saved[..], &[0; 32]].concat()).is_none());
        assert!(FileDigests::restore(b"").is_none());
        let mut broken = saved;
        // The buffer's fill level, beyond a block.
        let last = 8 + STATE - 1;
        broken[last] = 0xFF;
        let _ = FileDigests::restore(&broken);
    }
}
