//! Integer products of one group of columns, the innermost loop of quantised products.
#![allow(unsafe_code, reason = "an inner loop without bounds checks")]

use super::isa::Isa;
use super::pack::PANEL;

/// Bytes of a step of four columns of a panel.
pub const STEP: usize = 4 * PANEL;

/// To `sums` the products of a group of `V` vectors of a panel's outputs with `R` rows of codes.
///
/// # Safety
/// `weights` points at the first step, of which there is an even number; the rows start every `stride` bytes.
#[expect(clippy::needless_range_loop, reason = "rows and vectors index several arrays alike")]
#[inline(always)]
pub unsafe fn dots<S: Isa, const R: usize, const V: usize, const BITS: usize>(
    simd: S,
    weights: *const u8,
    codes: *const u8,
    stride: usize,
    steps: usize,
    mut sums: [[S::I; V]; R],
) -> [[S::I; V]; R] {
    let low = simd.splat_int(0x0f0f_0f0f);
    for pair in 0..steps / 2 {
        // SAFETY: two steps of weights and of each row's codes are there by the caller's promise.
        unsafe {
            let mut halves = [[simd.splat_int(0); V]; 2];
            for v in 0..V {
                let at = pair * STEP * BITS / 4 + v * 4 * S::LANES;
                let first = simd.load_int(weights.add(at));
                if BITS == 4 {
                    halves[0][v] = simd.and(first, low);
                    halves[1][v] = simd.and(simd.shift_right::<4>(first), low);
                } else {
                    halves[0][v] = first;
                    halves[1][v] = simd.load_int(weights.add(at + STEP));
                }
            }
            for (half, weights) in halves.into_iter().enumerate() {
                for r in 0..R {
                    let four = codes.add(r * stride + pair * 8 + half * 4).cast::<i32>().read_unaligned();
                    let four = simd.splat_int(four);
                    for v in 0..V {
                        sums[r][v] = simd.dot(sums[r][v], weights[v], four);
                    }
                }
            }
        }
    }
    sums
}
