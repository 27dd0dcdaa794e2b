//! Whether the decoder of a file is its text encoder with other self-attention: the tie of pre-training
//! (paper §3.2).
//!
//! A file holds twice what the two share. One network can stand for both only when all of those copies are
//! equal: networks that were fine-tuned apart often keep some layers in common.

use std::collections::HashMap;

use super::fingerprint::Fingerprint;
use super::plan::{Entry, Plan, Role, Slot};

/// The copies in a file, compared as they come.
#[derive(Debug)]
pub(super) struct SharedText {
    /// The pair that a tensor belongs to, and its side of it.
    places: HashMap<Slot, (usize, usize)>,
    /// What came of each pair.
    pairs: Vec<[Option<Fingerprint>; 2]>,
    /// Whether two were found that differ.
    differs: bool,
}

impl SharedText {
    /// Of the tensors of a file, which the plan was made for; nothing when names, shapes or element types
    /// tell that nothing can be shared.
    pub fn of(plan: &Plan, entries: &[Entry]) -> Option<Self> {
        let filled = plan.roles.iter().zip(entries).filter_map(|(role, entry)| match role {
            Role::Fills(slot) => Some((*slot, entry)),
            _ => None,
        });
        let mut sides = [HashMap::new(), HashMap::new()];
        for (slot, entry) in filled {
            for (side, network) in sides.iter_mut().zip(["text_encoder.", "text_decoder."]) {
                if let Some(path) = plan.part(slot).path.strip_prefix(network)
                    && !is_own(path)
                {
                    side.insert((path, slot.field), (slot, entry));
                }
            }
        }
        let [encoder, decoder] = sides;
        if decoder.is_empty() || decoder.len() != encoder.len() {
            return None;
        }
        let mut pairs = Vec::with_capacity(decoder.len());
        for (place, (slot, entry)) in decoder {
            let (twin, other) = encoder.get(&place)?;
            if (&entry.shape, entry.dtype) != (&other.shape, other.dtype) {
                return None;
            }
            pairs.push((entry.bytes(), [*twin, slot]));
        }
        // Small ones tell sooner that the networks differ.
        pairs.sort_unstable();
        let places = pairs
            .iter()
            .enumerate()
            .flat_map(|(pair, (_, [encoder, decoder]))| [(*encoder, (pair, 0)), (*decoder, (pair, 1))]);
        Some(Self { places: places.collect(), pairs: vec![[None; 2]; pairs.len()], differs: false })
    }

    /// Which pair a tensor belongs to, if it still matters.
    pub fn pair(&self, slot: Slot) -> Option<usize> {
        self.places.get(&slot).map(|(pair, _)| *pair).filter(|_| !self.differs)
    }

    /// Takes the bytes of a tensor.
    pub fn add(&mut self, slot: Slot, bytes: &[u8]) {
        let Some((pair, side)) = self.places.get(&slot).copied().filter(|_| !self.differs) else { return };
        let mut fingerprint = Fingerprint::default();
        fingerprint.add("", bytes);
        self.pairs[pair][side] = Some(fingerprint);
        self.differs = matches!(self.pairs[pair], [Some(encoder), Some(decoder)] if encoder != decoder);
    }

    /// Whether both of every pair came, and were equal.
    pub fn is_equal(&self) -> bool {
        self.pairs.iter().all(|[encoder, decoder]| encoder.is_some() && encoder == decoder)
    }
}

/// Whether a decoder has that parameter of a text network to itself, also where it shares all others.
pub(super) fn is_own(path: &str) -> bool {
    path.contains(".attention.")
}
