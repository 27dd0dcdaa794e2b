//! Whether two models have the same weights: a digest that costs little while a file streams by.

use std::fmt;

/// A digest of some tensors, whatever order they came in.
///
/// Equal bytes under equal names give equal fingerprints. It tells models apart that nobody made to
/// deceive; what a file must be is told by its SHA-256.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Fingerprint(u128);

impl Fingerprint {
    /// Adds a tensor.
    pub fn add(&mut self, name: &str, bytes: &[u8]) {
        // A sum does not depend on the order.
        let own = u128::from(mix(bytes, 1)) << 64 | u128::from(mix(bytes, 2));
        let name = u128::from(mix(name.as_bytes(), 3)) << 64 | u128::from(mix(name.as_bytes(), 4));
        self.0 = self.0.wrapping_add(own.rotate_left(17).wrapping_mul(name | 1));
    }

    /// Both together.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0.rotate_left(29) ^ other.0)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

const LANES: usize = 4;
const KEYS: [u64; LANES] =
    [0x9E37_79B9_7F4A_7C15, 0xC2B2_AE3D_27D4_EB4F, 0x1656_67B1_9E37_79F9, 0x27D4_EB2F_1656_67C5];

/// A hash in lanes of 32-bit products, which compilers turn into SIMD.
fn mix(bytes: &[u8], seed: u64) -> u64 {
    let mut lanes = KEYS.map(|key| key ^ seed);
    let (blocks, rest) = bytes.as_chunks::<{ 8 * LANES }>();
    let mut last = [0; 8 * LANES];
    last[..rest.len()].copy_from_slice(rest);
    for block in blocks.iter().chain([&last]) {
        for (lane, (word, key)) in lanes.iter_mut().zip(block.as_chunks::<8>().0.iter().zip(KEYS)) {
            let word = u64::from_le_bytes(*word) ^ key.wrapping_mul(seed);
            let product = (word & 0xFFFF_FFFF).wrapping_mul(word >> 32);
            *lane = lane.rotate_left(23).wrapping_add(product) ^ word;
        }
    }
    let mut hash = bytes.len() as u64 ^ seed;
    for lane in lanes {
        hash = (hash ^ lane).wrapping_mul(KEYS[0]);
        hash ^= hash >> 29;
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(tensors: &[(&str, &[u8])]) -> Fingerprint {
        let mut fingerprint = Fingerprint::default();
        for (name, bytes) in tensors {
            fingerprint.add(name, bytes);
        }
        fingerprint
    }

    #[test]
    fn the_order_does_not_matter_and_everything_else_does() {
        let zeros = [0; 100];
        let both = of(&[("a", &[1, 2, 3]), ("b", &zeros)]);
        assert_eq!(both, of(&[("b", &zeros), ("a", &[1, 2, 3])]));
        for other in [
            of(&[("a", &[1, 2, 3])]),
            of(&[("a", &[1, 2, 4]), ("b", &zeros)]),
            of(&[("b", &[1, 2, 3]), ("a", &zeros)]),
            of(&[("a", &[1, 2, 3]), ("b", &zeros[1..])]),
            of(&[("a", &[1, 2, 3]), ("b", &zeros), ("b", &zeros)]),
        ] {
            assert_ne!(both, other);
        }
    }

    #[test]
    fn every_bit_counts() {
        let mut seen = std::collections::HashSet::new();
        let mut bytes = [7; 70];
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(seen.insert(of(&[("a", &bytes)])), "bit {bit}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }
}
