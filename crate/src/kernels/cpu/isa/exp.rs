//! The exponential function on lanes.

use super::Isa;

/// `eˣ` by lane, with a relative error below 2·10⁻⁷; x is held to -87..=88, so that the result is a
/// normal number: at least 1.6·10⁻³⁸, where the true value may be smaller.
#[inline(always)]
pub fn exp<S: Isa>(simd: S, x: S::F) -> S::F {
    // Cody and Waite: x = n·ln 2 + r with |r| ≤ ln 2 / 2, ln 2 in two parts so that r is exact.
    let x = simd.min(simd.max(x, simd.splat(-87.0)), simd.splat(88.0));
    let n = simd.round(simd.mul(x, simd.splat(std::f32::consts::LOG2_E)));
    let whole = simd.to_float(n);
    let r = simd.fma(whole, simd.splat(-0.693_359_4), x);
    let r = simd.fma(whole, simd.splat(2.121_944_4e-4), r);
    // eʳ: the Taylor series to r⁷, whose remainder is 5·10⁻⁹ at the edge.
    let mut sum = simd.splat(1.0 / 5040.0);
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        sum = simd.fma(sum, r, simd.splat(c));
    }
    // Adding n to the exponent multiplies by 2ⁿ.
    simd.from_bits(simd.add_int(simd.to_bits(sum), simd.shift_left::<23>(n)))
}
