//! Products with f32 matrices.
#![allow(unsafe_code, reason = "inner loops without bounds checks")]

use std::ops::Range;

use super::epilogue::Epilogue;
use super::isa::{Isa, Kernel, Level, dispatch_at};
use super::pack::PANEL;
use super::threads::{Shared, split};

/// `epilogue(x·Wᵀ)`: `rows` rows of `x`, which start every `row_stride`, with `weights: [outputs, inputs]`
/// to `out: [rows, outputs]`.
///
/// # Panics
/// If a length does not fit.
pub fn linear_float(
    x: &[f32],
    row_stride: usize,
    rows: usize,
    weights: &[f32],
    inputs: usize,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    product(Level::best(), x, row_stride, rows, weights, inputs, epilogue, out);
}

/// The same on a level of choice.
#[expect(clippy::too_many_arguments, reason = "those of the function above")]
fn product(
    level: Level,
    x: &[f32],
    row_stride: usize,
    rows: usize,
    weights: &[f32],
    inputs: usize,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    if rows == 0 || weights.is_empty() {
        return;
    }
    assert_eq!(weights.len() % inputs, 0, "whole rows of {inputs} weights");
    let outputs = weights.len() / inputs;
    assert_eq!(out.len(), rows * outputs, "an element for every row and output");
    assert!(row_stride >= inputs, "rows of {inputs} every {row_stride}");
    assert!(x.len() >= (rows - 1) * row_stride + inputs, "{} elements for {rows} rows", x.len());
    epilogue.check(rows, outputs);
    let out = &Shared::new(out);
    // As many rows as leave room for weights in the second-level cache.
    const CACHED: usize = 384 << 10;
    let block = (CACHED / 4 / inputs.max(1)).clamp(12, 512).next_multiple_of(12);
    for start in (0..rows).step_by(block) {
        let rows = start..(start + block).min(rows);
        split(outputs.div_ceil(PANEL), 2, |panels| {
            let columns = Columns {
                x,
                row_stride,
                rows: rows.clone(),
                weights,
                inputs,
                outputs,
                epilogue,
                panels,
                out,
            };
            dispatch_at(level, columns);
        });
    }
}

/// The columns of the product that one thread computes, sixteen at a time.
struct Columns<'a> {
    x: &'a [f32],
    row_stride: usize,
    rows: Range<usize>,
    weights: &'a [f32],
    inputs: usize,
    outputs: usize,
    epilogue: Epilogue<'a>,
    /// Sixteens of columns; nobody else writes them.
    panels: Range<usize>,
    out: &'a Shared<'a, f32>,
}

impl Kernel for Columns<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        for panel in self.panels.clone() {
            let mut row = self.rows.start;
            while row + 3 <= self.rows.end {
                self.tile::<S, 3, 4>(simd, row, panel);
                row += 3;
            }
            for row in row..self.rows.end {
                self.tile::<S, 1, 4>(simd, row, panel);
            }
        }
    }
}

impl Columns<'_> {
    /// `R` rows and a panel of outputs, `C` of them at a time.
    #[inline(always)]
    fn tile<S: Isa, const R: usize, const C: usize>(&self, simd: S, row: usize, panel: usize) {
        let first = panel * PANEL;
        let width = PANEL.min(self.outputs - first);
        let mut sums = [[0.0f32; PANEL]; R];
        let x = &self.x[row * self.row_stride..][..(R - 1) * self.row_stride + self.inputs];
        for column in (0..width).step_by(C) {
            if column + C <= width {
                let weights = &self.weights[(first + column) * self.inputs..][..C * self.inputs];
                let found = dots::<S, R, C>(simd, x, self.row_stride, weights, self.inputs);
                for (sums, found) in sums.iter_mut().zip(found) {
                    sums[column..][..C].copy_from_slice(&found);
                }
            } else {
                for column in column..width {
                    let weights = &self.weights[(first + column) * self.inputs..][..self.inputs];
                    let found = dots::<S, R, 1>(simd, x, self.row_stride, weights, self.inputs);
                    for (sums, found) in sums.iter_mut().zip(found) {
                        sums[column] = found[0];
                    }
                }
            }
        }
        for (r, sums) in sums.iter().enumerate() {
            let at = (row + r) * self.outputs + first;
            // SAFETY: these columns are this thread's.
            let out = unsafe { self.out.part(at..at + width) };
            self.epilogue.finish(simd, sums, first, at, out);
        }
    }
}

/// Dot products of `R` rows, which start every `stride`, with `C` rows of weights, all `len` long.
#[expect(clippy::needless_range_loop, reason = "rows and vectors index several arrays alike")]
#[inline(always)]
fn dots<S: Isa, const R: usize, const C: usize>(
    simd: S,
    x: &[f32],
    stride: usize,
    weights: &[f32],
    len: usize,
) -> [[f32; C]; R] {
    assert!(x.len() >= (R - 1) * stride + len && weights.len() >= C * len, "rows are as long as said");
    let mut sums = [[simd.zero(); C]; R];
    let whole = len / S::LANES * S::LANES;
    for at in (0..whole).step_by(S::LANES) {
        // SAFETY: a vector before `whole` is inside each row, and the rows are there, as asserted.
        unsafe {
            let x: [S::F; R] = std::array::from_fn(|r| simd.load_at(x.as_ptr().add(r * stride + at)));
            for c in 0..C {
                let weight = simd.load_at(weights.as_ptr().add(c * len + at));
                for r in 0..R {
                    sums[r][c] = simd.fma(weight, x[r], sums[r][c]);
                }
            }
        }
    }
    if whole < len {
        for c in 0..C {
            let weight = simd.load_part(&weights[c * len + whole..][..len - whole], 0.0);
            for r in 0..R {
                let x = simd.load_part(&x[r * stride + whole..][..len - whole], 0.0);
                sums[r][c] = simd.fma(weight, x, sums[r][c]);
            }
        }
    }
    sums.map(|sums| sums.map(|sum| simd.sum(sum)))
}

#[cfg(test)]
mod tests {
    use super::super::super::contract::Activation;
    use super::super::samples::Samples;
    use super::*;

    #[test]
    fn products_are_those_of_f64_on_every_level() {
        let mut samples = Samples::new(3);
        for (inputs, outputs) in [(1, 1), (3, 17), (16, 16), (37, 5), (100, 35), (256, 64), (8200, 3)] {
            for rows in [1, 2, 3, 7, 26] {
                let stride = inputs + rows % 3 * 2;
                let x = samples.floats((rows - 1) * stride + inputs);
                let weights = samples.floats(outputs * inputs);
                let bias = samples.floats(outputs);
                let residual = samples.floats(rows * outputs);
                let epilogue =
                    Epilogue { bias: Some(&bias), activation: Activation::None, residual: Some(&residual) };
                for level in Level::available() {
                    let mut out = vec![f32::NAN; rows * outputs];
                    product(level, &x, stride, rows, &weights, inputs, epilogue, &mut out);
                    for (at, found) in out.iter().enumerate() {
                        let (row, output) = (at / outputs, at % outputs);
                        let pairs = x[row * stride..].iter().zip(&weights[output * inputs..]).take(inputs);
                        let terms = pairs.map(|(x, w)| f64::from(*x) * f64::from(*w));
                        let (sum, size) = terms.fold((0.0, 6.0), |(a, b), t| (a + t, b + t.abs()));
                        let exact = sum + f64::from(bias[output] + residual[at]);
                        let error = (f64::from(*found) - exact).abs();
                        assert!(
                            error <= size * 1e-6,
                            "{level:?} {inputs} {outputs} {rows}: {found}, not {exact}"
                        );
                    }
                }
            }
        }
    }
}
