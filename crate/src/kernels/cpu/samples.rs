//! Numbers for tests.

/// A stream of numbers that is the same on every machine.
pub(super) struct Samples(u64);

impl Samples {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One of `0..below`.
    pub(super) fn index(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % below
    }

    /// In -2..2.
    pub(super) fn float(&mut self) -> f32 {
        self.index(1 << 24) as f32 / (1 << 22) as f32 - 2.0
    }

    pub(super) fn floats(&mut self, len: usize) -> Vec<f32> {
        (0..len).map(|_| self.float()).collect()
    }
}
