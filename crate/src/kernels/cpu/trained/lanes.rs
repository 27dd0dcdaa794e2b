//! Walks through rows, on lanes of SIMD.

use super::super::exp::exp2;
use super::super::gelu::gelu;
use super::super::isa::{Isa, Kernel, dispatch};

/// Adds every row of `x` to `sum`.
pub(super) fn add_rows(x: &[f32], sum: &mut [f32]) {
    dispatch(AddRows { x, sum });
}

struct AddRows<'a> {
    x: &'a [f32],
    sum: &'a mut [f32],
}

impl Kernel for AddRows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let width = self.sum.len();
        for row in self.x.chunks_exact(width) {
            let mut sums = self.sum.chunks_exact_mut(S::LANES);
            let mut values = row.chunks_exact(S::LANES);
            for (sum, values) in (&mut sums).zip(&mut values) {
                simd.store(sum, simd.add(simd.load(sum), simd.load(values)));
            }
            for (sum, value) in sums.into_remainder().iter_mut().zip(values.remainder()) {
                *sum += value;
            }
        }
    }
}

/// The GELU of every element, to memory of its own.
pub(super) fn gelu_of(x: &[f32]) -> Vec<f32> {
    let mut out = x.to_vec();
    dispatch(Gelu(&mut out));
    out
}

/// Replaces every element by its GELU.
pub(super) fn gelu_in_place(x: &mut [f32]) {
    dispatch(Gelu(x));
}

struct Gelu<'a>(&'a mut [f32]);

impl Kernel for Gelu<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let mut vectors = self.0.chunks_exact_mut(S::LANES);
        for x in &mut vectors {
            let y = gelu(simd, simd.load(x));
            simd.store(x, y);
        }
        let rest = vectors.into_remainder();
        let y = gelu(simd, simd.load_part(rest, 0.0));
        simd.store_part(rest, y);
    }
}

/// Multiplies every gradient by the derivative of GELU at `x`.
pub(super) fn gelu_backward(x: &[f32], gradient: &mut [f32]) {
    assert_eq!(x.len(), gradient.len(), "a gradient for every element");
    dispatch(GeluBackward { x, gradient });
}

struct GeluBackward<'a> {
    x: &'a [f32],
    gradient: &'a mut [f32],
}

impl Kernel for GeluBackward<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let mut gradients = self.gradient.chunks_exact_mut(S::LANES);
        let mut values = self.x.chunks_exact(S::LANES);
        for (gradient, x) in (&mut gradients).zip(&mut values) {
            let slope = slope(simd, simd.load(x));
            simd.store(gradient, simd.mul(simd.load(gradient), slope));
        }
        let (gradient, x) = (gradients.into_remainder(), values.remainder());
        let slope = slope(simd, simd.load_part(x, 0.0));
        let product = simd.mul(simd.load_part(gradient, 0.0), slope);
        simd.store_part(gradient, product);
    }
}

/// The derivative of `x·Φ(x)`: `Φ(x) + x·φ(x)`.
#[inline(always)]
fn slope<S: Isa>(simd: S, x: S::F) -> S::F {
    // Away from zero the quotient of GELU and x is Φ(x); near it, it is one half and a little.
    let size = simd.abs(x);
    let near = simd.splat(1e-2);
    let safe = simd.pick_lt(size, near, simd.splat(1.0), x);
    let quotient = simd.div(gelu(simd, safe), safe);
    const DENSITY: f32 = 0.398_942_3;
    let cube = simd.mul(simd.mul(x, x), simd.mul(x, simd.splat(-DENSITY / 6.0)));
    let series = simd.add(simd.fma(x, simd.splat(DENSITY), simd.splat(0.5)), cube);
    let distribution = simd.pick_lt(size, near, series, quotient);
    // exp(−x²/2) as a power of two.
    let exponent = simd.mul(simd.mul(x, x), simd.splat(-0.5 * std::f32::consts::LOG2_E));
    let density = simd.mul(exp2(simd, exponent), simd.splat(DENSITY));
    simd.fma(x, density, distribution)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope_of_gelu_is_that_of_its_values() {
        let x: Vec<f32> = (-2500..2500).map(|i| i as f32 * 2e-3 + 1e-4).collect();
        let mut slopes = vec![1.0; x.len()];
        gelu_backward(&x, &mut slopes);
        for (x, slope) in x.iter().zip(&slopes) {
            let x = f64::from(*x);
            // The normal distribution by its series, good to ten digits up to five deviations.
            let (mut term, mut sum, mut n) = (x, x, 0.0);
            while term.abs() > 1e-17 {
                n += 1.0;
                term *= -x * x / (2.0 * n);
                sum += term / (2.0 * n + 1.0);
            }
            let density = (-0.5 * x * x).exp() / (2.0 * std::f64::consts::PI).sqrt();
            let exact = 0.5 + sum / (2.0 * std::f64::consts::PI).sqrt() + x * density;
            assert!((f64::from(*slope) - exact).abs() < 2e-6, "{x}: {slope} {exact}");
        }
    }

    #[test]
    fn rows_are_added_whatever_their_width() {
        for width in [1, 7, 16, 37] {
            let x: Vec<f32> = (0..3 * width).map(|i| i as f32).collect();
            let mut sum = vec![0.5; width];
            add_rows(&x, &mut sum);
            for (column, sum) in sum.iter().enumerate() {
                assert_eq!(*sum, 0.5 + (3 * column + 3 * width) as f32);
            }
        }
    }
}
