//! Products of one query with every kept vector: exact integers, on any instruction set the same.
//!
//! `Σ code · q` with a query of fourteen bits is `128 · Σ code · high + Σ code · low`, less what the
//! query's zero point added: `8192 · Σ code`. Both sums are byte products of [`Isa::dot`].
#![cfg_attr(feature = "flex", allow(unsafe_code, reason = "vector loads without bounds checks"))]

use super::vector::{Query, ZERO};

#[cfg(feature = "flex")]
use crate::kernels::cpu::isa::{Isa, Kernel, MAX_LANES, dispatch};

/// Codes of a vector are padded to a multiple of this: the widest vector's bytes.
pub(super) const STRIDE: usize = 64;

/// Rows and a query.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    pub query: &'a Query,
    /// `[rows, stride]`, signed.
    pub codes: &'a [u8],
    /// The sum of each row's codes.
    pub sums: &'a [i32],
    /// `[rows]`: what the products are written to.
    pub out: &'a mut [i64],
}

impl Scan<'_> {
    /// Writes every row's product.
    pub fn run(self) {
        #[cfg(feature = "flex")]
        dispatch(self);
        #[cfg(not(feature = "flex"))]
        self.plain();
    }

    /// The definition, and what builds without the CPU kernels run.
    #[cfg(any(test, not(feature = "flex")))]
    pub fn plain(self) {
        let Query { high, low, .. } = self.query;
        for ((row, sum), out) in self.codes.chunks_exact(high.len()).zip(self.sums).zip(self.out) {
            let dot = |part: &[u8]| -> i64 {
                row.iter().zip(part).map(|(code, q)| i64::from(*code as i8) * i64::from(*q)).sum()
            };
            *out = 128 * dot(high) + dot(low) - ZERO * i64::from(*sum);
        }
    }
}

#[cfg(feature = "flex")]
impl Kernel for Scan<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let stride = self.query.high.len();
        let rows = self.out.len();
        let vector = 4 * S::LANES;
        assert!(
            stride.is_multiple_of(STRIDE)
                && self.query.low.len() == stride
                && self.codes.len() == rows * stride
                && self.sums.len() == rows,
            "rows of the query's stride"
        );
        let (high, low) = (self.query.high.as_ptr(), self.query.low.as_ptr());
        for (row, (sum, out)) in self.sums.iter().zip(self.out).enumerate() {
            let mut sums = [simd.splat_int(0); 2];
            let codes = self.codes[row * stride..].as_ptr();
            for at in (0..stride).step_by(vector) {
                // SAFETY: a vector of each is there, as asserted: `stride` is a multiple of any vector.
                let (codes, high, low) = unsafe {
                    (simd.load_int(codes.add(at)), simd.load_int(high.add(at)), simd.load_int(low.add(at)))
                };
                sums = [simd.dot(sums[0], codes, high), simd.dot(sums[1], codes, low)];
            }
            // 127 · 127 · 129 · 4096 / LANES products a lane: below 2³¹ from four lanes on.
            let both = simd.add_int(simd.shift_left::<7>(sums[0]), sums[1]);
            let mut lanes = [0i32; MAX_LANES];
            // SAFETY: the widest vector has as many lanes.
            unsafe { simd.store_int(lanes.as_mut_ptr().cast(), both) };
            let dot: i64 = lanes[..S::LANES].iter().map(|lane| i64::from(*lane)).sum();
            *out = dot - ZERO * i64::from(*sum);
        }
    }
}
