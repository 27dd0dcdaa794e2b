//! Powers of two and the softmax made of them.

use super::isa::Isa;

/// Below this exponent a weight is nothing beside the greatest one, which is 1.
///
/// Well above the least normal float, so that no product of such a weight becomes a denormal number,
/// which many machines are slow at.
const LEAST: f32 = -100.0;

/// The score of a key that must not be seen: finite, so that a row of nothing else stays a number.
pub(super) const HIDDEN: f32 = -1e9;

/// `2ˣ` by lane for x ≤ 0, with a relative error below 10⁻⁷; below -100, and of NaN, it is 2⁻¹⁰⁰.
#[inline(always)]
pub(super) fn exp2<S: Isa>(simd: S, x: S::F) -> S::F {
    // The bound stands first: `max` returns its first argument when the second is no number.
    let x = simd.max(simd.splat(LEAST), x);
    // At 1.5·2²³ the last bit of a float is worth one, so the sum's low bits are the nearest integer.
    let unit = simd.splat(12_582_912.0);
    let shifted = simd.add(x, unit);
    let rest = simd.sub(x, simd.sub(shifted, unit));
    // 2^rest on -1/2..=1/2: the polynomial of degree 6 through 1 with the least relative error, 2·10⁻⁹.
    let mut power = simd.splat(1.535_336_2e-4);
    for c in [1.339_887_4e-3, 9.618_437e-3, 5.550_332_5e-2, 2.402_264_8e-1, 6.931_472e-1, 1.0] {
        power = simd.fma(power, rest, simd.splat(c));
    }
    // Adding the integer to the exponent multiplies by its power of two; the unit's own bits shift out.
    simd.from_bits(simd.add_int(simd.to_bits(power), simd.shift_left::<23>(simd.to_bits(shifted))))
}

/// Replaces each score `s` by `2^(s - greatest)` and returns their sum, which is at least 2⁻¹⁰⁰.
///
/// Divided by the sum, that is the softmax of `s·ln 2`. NaN counts as the least score.
#[inline(always)]
pub(super) fn weigh<S: Isa>(simd: S, scores: &mut [f32]) -> f32 {
    let greatest = simd.splat(greatest(simd, scores));
    let mut sums = [simd.zero(); 2];
    let mut pairs = scores.chunks_exact_mut(2 * S::LANES);
    for pair in &mut pairs {
        let (a, b) = pair.split_at_mut(S::LANES);
        let x = exp2(simd, simd.sub(simd.load(a), greatest));
        let y = exp2(simd, simd.sub(simd.load(b), greatest));
        simd.store(a, x);
        simd.store(b, y);
        sums = [simd.add(sums[0], x), simd.add(sums[1], y)];
    }
    let mut sum = simd.sum(simd.add(sums[0], sums[1]));
    for part in pairs.into_remainder().chunks_mut(S::LANES) {
        let x = exp2(simd, simd.sub(simd.load_part(part, f32::NEG_INFINITY), greatest));
        simd.store_part(part, x);
        sum += part.iter().sum::<f32>();
    }
    sum
}

/// The greatest number, or -∞.
#[inline(always)]
pub(super) fn greatest<S: Isa>(simd: S, values: &[f32]) -> f32 {
    let mut tops = [simd.splat(f32::NEG_INFINITY); 2];
    let mut pairs = values.chunks_exact(2 * S::LANES);
    for pair in &mut pairs {
        tops[0] = simd.max(tops[0], simd.load(pair));
        tops[1] = simd.max(tops[1], simd.load(&pair[S::LANES..]));
    }
    // Not `f32::max`, which the compiler turns into a relaxed instruction even where those are not allowed.
    let greater = |a: f32, b: f32| if a < b { b } else { a };
    let rest = pairs.remainder().iter().copied().fold(f32::NEG_INFINITY, greater);
    simd.greatest(simd.max(tops[0], tops[1])).max(rest)
}

#[cfg(test)]
mod tests {
    use super::super::isa::{Kernel, Level, MAX_LANES, dispatch_at};
    use super::*;

    struct Exp2<'a>(&'a [f32]);
    impl Kernel for Exp2<'_> {
        type Output = Vec<f32>;
        #[inline(always)]
        fn run<S: Isa>(self, simd: S) -> Vec<f32> {
            let mut out = vec![0.0; self.0.len()];
            for (x, y) in self.0.chunks_exact(S::LANES).zip(out.chunks_exact_mut(S::LANES)) {
                simd.store(y, exp2(simd, simd.load(x)));
            }
            out
        }
    }

    struct Weigh<'a>(&'a mut [f32]);
    impl Kernel for Weigh<'_> {
        type Output = f32;
        #[inline(always)]
        fn run<S: Isa>(self, simd: S) -> f32 {
            weigh(simd, self.0)
        }
    }

    #[test]
    fn powers_of_two_are_right_to_a_unit_or_two_in_the_last_place() {
        let x: Vec<f32> = (0..100_000 * MAX_LANES).map(|i| -(i as f32) * 6.2e-5).collect();
        for level in Level::available() {
            let y = dispatch_at(level, Exp2(&x));
            let error = |(x, y): (&f32, &f32)| (f64::from(*y) / f64::from(*x).exp2() - 1.0).abs();
            let worst = x.iter().zip(&y).map(error).fold(0.0, f64::max);
            assert!(worst < 1.2e-7, "{level:?}: {worst}");
            assert_eq!(y[0], 1.0, "{level:?}");
        }
    }

    #[test]
    fn what_is_no_finite_number_becomes_the_least_power() {
        let mut x = [f32::NEG_INFINITY; MAX_LANES];
        x[1] = f32::NAN;
        x[2] = -100.0;
        for level in Level::available() {
            for y in dispatch_at(level, Exp2(&x)) {
                assert!((y / 2f32.powi(-100) - 1.0).abs() < 1e-6, "{level:?}: {y}");
            }
        }
    }

    #[test]
    fn weights_are_the_softmax_whatever_the_length() {
        for level in Level::available() {
            for len in [1, 3, 4, 8, 15, 16, 31, 32, 33, 64, 100, 577] {
                let scores: Vec<f32> = (0..len).map(|i| ((i * 37) % 101) as f32 * 0.3 - 12.0).collect();
                let mut weights = scores.clone();
                let sum = dispatch_at(level, Weigh(&mut weights));
                let exact: Vec<f64> = scores.iter().map(|s| f64::from(*s).exp2()).collect();
                let total: f64 = exact.iter().sum();
                for (weight, exact) in weights.iter().zip(&exact) {
                    let weight = f64::from(weight / sum);
                    assert!((weight - exact / total).abs() < 1e-6 * exact / total + 1e-25, "{level:?} {len}");
                }
            }
        }
    }

    #[test]
    fn a_row_without_any_score_gets_equal_weights() {
        for level in Level::available() {
            for nothing in [f32::NEG_INFINITY, f32::NAN, HIDDEN] {
                let mut weights = [nothing; 37];
                let sum = dispatch_at(level, Weigh(&mut weights));
                assert!(weights.iter().all(|w| (w / sum * 37.0 - 1.0).abs() < 1e-5), "{level:?} {nothing}");
            }
        }
    }
}
