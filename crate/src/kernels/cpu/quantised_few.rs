//! Quantised products of few rows: the matrix passes once, at the speed of the memory.
#![allow(unsafe_code, reason = "inner loops without bounds checks, and columns of a shared result")]

use std::ops::Range;

use super::activations::{Activations, ZERO};
use super::epilogue::Epilogue;
use super::isa::{Isa, Kernel};
use super::pack::{PANEL, PackedMatrix};
use super::quantised_tile::{STEP, dots};
use super::threads::Shared;

/// How many rows are few: with their sums, those of the weights fit the registers.
pub const FEW_ROWS: usize = 5;

/// Places of a matrix that are streamed at the same time: one alone does not keep the memory busy.
const STREAMS: usize = 4;

/// All rows with the panels of one thread.
#[derive(Debug)]
pub struct Few<'a> {
    /// The rows.
    pub x: &'a Activations,
    /// The matrix.
    pub matrix: PackedMatrix<'a>,
    /// What becomes of sums.
    pub epilogue: Epilogue<'a>,
    /// Nobody else writes these panels' columns of `out`.
    pub panels: Range<usize>,
    /// The product.
    pub out: &'a Shared<'a, f32>,
}

impl Kernel for Few<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let (x, shape) = (self.x, self.matrix.shape());
        let group_bytes = shape.group * PANEL * shape.bits() / 8;
        // A row that is all zeros comes first: its products are 64 times the sums of weights.
        let mut codes = vec![ZERO; (x.rows + 1) * x.stride];
        codes[x.stride..].copy_from_slice(&x.codes);
        // Nibbles hold value + 8, which adds 8·Σ u to a product.
        let mut excess = vec![0; (x.rows + 1) * x.groups];
        if shape.bits() == 4 {
            for (codes, excess) in codes.chunks_exact(x.stride).zip(excess.chunks_exact_mut(x.groups)) {
                for (codes, excess) in codes.chunks_exact(shape.group).zip(excess) {
                    *excess = -8 * codes.iter().map(|u| i32::from(*u)).sum::<i32>();
                }
            }
        }
        let mut sums = vec![[0.0f32; PANEL]; STREAMS * x.rows];
        let part = self.panels.len().div_ceil(STREAMS);
        for first in self.panels.start..self.panels.start + part {
            let panels = (first..self.panels.end).step_by(part);
            sums.fill([0.0; PANEL]);
            for group in 0..x.groups {
                for (panel, sums) in panels.clone().zip(sums.chunks_exact_mut(x.rows)) {
                    let group = Group {
                        weights: &self.matrix.panel(panel)[group * group_bytes..][..group_bytes],
                        weight_scales: &self.matrix.panel_scales(panel)[group * PANEL..][..PANEL],
                        codes: &codes[group * shape.group..],
                        stride: x.stride,
                        scales: &x.scales[group..],
                        excess: &excess[group..],
                        groups: x.groups,
                    };
                    if shape.bits() == 4 {
                        group.rows::<S, 4>(simd, sums);
                    } else {
                        group.rows::<S, 8>(simd, sums);
                    }
                }
            }
            for (panel, sums) in panels.zip(sums.chunks_exact(x.rows)) {
                let width = PANEL.min(shape.outputs - panel * PANEL);
                for (row, sums) in sums.iter().enumerate() {
                    let at = row * shape.outputs + panel * PANEL;
                    // SAFETY: these columns are this thread's.
                    let out = unsafe { self.out.part(at..at + width) };
                    self.epilogue.finish(simd, sums, panel * PANEL, at, out);
                }
            }
        }
    }
}

/// One group of columns of a panel and of every row.
struct Group<'a> {
    weights: &'a [u8],
    /// `[16]`.
    weight_scales: &'a [f32],
    /// From the group's first column of the row of zeros.
    codes: &'a [u8],
    /// Bytes from one row's codes to the next.
    stride: usize,
    /// From the group's of the first row.
    scales: &'a [f32],
    /// From the group's of the row of zeros.
    excess: &'a [i32],
    /// Elements from one row's scale or excess to the next.
    groups: usize,
}

impl Group<'_> {
    /// Adds the group's products to the sums of each row.
    #[inline(always)]
    fn rows<S: Isa, const BITS: usize>(&self, simd: S, sums: &mut [[f32; PANEL]]) {
        match (sums.len(), S::LANES) {
            (1, 4) => self.sums::<S, 2, 4, BITS>(simd, sums),
            (1, 8) => self.sums::<S, 2, 2, BITS>(simd, sums),
            (1, _) => self.sums::<S, 2, 1, BITS>(simd, sums),
            (2, 16) => self.sums::<S, 3, 1, BITS>(simd, sums),
            (2, _) => self.sums::<S, 3, 2, BITS>(simd, sums),
            (3, 16) => self.sums::<S, 4, 1, BITS>(simd, sums),
            (3, _) => self.sums::<S, 4, 2, BITS>(simd, sums),
            (4, 16) => self.sums::<S, 5, 1, BITS>(simd, sums),
            (4, _) => self.sums::<S, 5, 2, BITS>(simd, sums),
            (5, 16) => self.sums::<S, 6, 1, BITS>(simd, sums),
            (5, _) => self.sums::<S, 6, 2, BITS>(simd, sums),
            (more, _) => unreachable!("{more} rows are many"),
        }
    }

    /// `R` rows, that of zeros among them, and `V` vectors of outputs at a time.
    #[expect(clippy::needless_range_loop, reason = "rows and vectors index several arrays alike")]
    #[inline(always)]
    fn sums<S: Isa, const R: usize, const V: usize, const BITS: usize>(
        &self,
        simd: S,
        sums: &mut [[f32; PANEL]],
    ) {
        let steps = self.weights.len() * 8 / BITS / STEP;
        assert!(sums.len() == R - 1 && self.codes.len() >= (R - 1) * self.stride + 4 * steps);
        for lane in (0..PANEL).step_by(V * S::LANES) {
            let init = std::array::from_fn(|r| [simd.splat_int(self.excess[r * self.groups]); V]);
            // SAFETY: the group's codes of the panel and of the rows are there, as asserted.
            let found = unsafe {
                let weights = self.weights.as_ptr().add(lane * 4);
                dots::<S, R, V, BITS>(simd, weights, self.codes.as_ptr(), self.stride, steps, init)
            };
            for v in 0..V {
                let at = lane + v * S::LANES;
                let weight_scale = simd.load(&self.weight_scales[at..]);
                for r in 1..R {
                    let dot = simd.to_float(simd.sub_int(found[r][v], found[0][v]));
                    let scale = simd.mul(weight_scale, simd.splat(self.scales[(r - 1) * self.groups]));
                    let sums = &mut sums[r - 1][at..];
                    let sum = simd.fma(dot, scale, simd.load(sums));
                    simd.store(sums, sum);
                }
            }
        }
    }
}
