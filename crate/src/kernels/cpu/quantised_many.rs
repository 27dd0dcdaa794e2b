//! Quantised products of many rows: each panel of the matrix stays in the cache while they pass.
#![allow(unsafe_code, reason = "inner loops without bounds checks, and columns of a shared result")]

use std::ops::Range;

use super::activations::{Activations, ZERO};
use super::epilogue::Epilogue;
use super::isa::{Isa, Kernel};
use super::pack::{PANEL, PackedMatrix};
use super::quantised_tile::{STEP, dots};
use super::threads::Shared;

/// A block of rows with the panels of one thread.
#[derive(Debug)]
pub struct Many<'a> {
    /// The rows.
    pub x: &'a Activations,
    /// Those of them that are multiplied.
    pub rows: Range<usize>,
    /// The matrix.
    pub matrix: PackedMatrix<'a>,
    /// What becomes of sums.
    pub epilogue: Epilogue<'a>,
    /// Nobody else writes these panels' columns of `out`.
    pub panels: Range<usize>,
    /// The product.
    pub out: &'a Shared<'a, f32>,
}

impl Kernel for Many<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        match S::ROWS {
            12 => self.tiles::<S, 12, 1>(simd),
            6 => self.tiles::<S, 6, 2>(simd),
            _ => self.tiles::<S, 4, 2>(simd),
        }
    }
}

/// A panel of signed bytes.
struct Panel<'a> {
    codes: &'a [u8],
    /// `[group][16]`.
    scales: &'a [f32],
    /// `-64·Σ c`: `[group][16]`.
    corrections: &'a [i32],
    /// Steps of a group.
    steps: usize,
}

impl Many<'_> {
    /// Tiles of `R` rows and `V` vectors of outputs.
    #[inline(always)]
    fn tiles<S: Isa, const R: usize, const V: usize>(self, simd: S) {
        let shape = self.matrix.shape();
        let steps = shape.group / 4;
        let mut corrections = vec![0i32; shape.groups() * PANEL];
        let mut widened = vec![0u8; if shape.bits() == 4 { shape.padded() * PANEL } else { 0 }];
        // Not on the stack, where the compiler would keep them in registers that the integers need.
        let mut sums = vec![[0.0f32; PANEL]; R];
        // A row that is all zeros: its products are 64 times the sums of weights.
        let zeros = vec![ZERO; shape.group];
        for panel in self.panels.clone() {
            let (first, width) = (panel * PANEL, PANEL.min(shape.outputs - panel * PANEL));
            let codes = if shape.bits() == 4 {
                widen(simd, self.matrix.panel(panel), &mut widened);
                &widened
            } else {
                self.matrix.panel(panel)
            };
            correct::<S, V>(simd, codes, &zeros, &mut corrections);
            let scales = self.matrix.panel_scales(panel);
            let panel = Panel { codes, scales, corrections: &corrections, steps };
            let mut row = self.rows.start;
            while row < self.rows.end {
                let tile = if row + R <= self.rows.end {
                    self.tile::<S, R, V>(simd, &panel, row, &mut sums);
                    R
                } else {
                    self.tile::<S, 1, V>(simd, &panel, row, &mut sums);
                    1
                };
                for (row, sums) in (row..row + tile).zip(&sums) {
                    let at = row * shape.outputs + first;
                    // SAFETY: these columns are this thread's.
                    let out = unsafe { self.out.part(at..at + width) };
                    self.epilogue.finish(simd, sums, first, at, out);
                }
                row += tile;
            }
        }
    }

    /// The sums of `R` rows from `row` with a panel.
    #[expect(clippy::needless_range_loop, reason = "rows and vectors index several arrays alike")]
    #[inline(always)]
    fn tile<S: Isa, const R: usize, const V: usize>(
        &self,
        simd: S,
        panel: &Panel<'_>,
        row: usize,
        sums: &mut [[f32; PANEL]],
    ) {
        let x = self.x;
        let codes = &x.codes[row * x.stride..][..R * x.stride];
        let scales = &x.scales[row * x.groups..][..R * x.groups];
        sums[..R].fill([0.0; PANEL]);
        for lane in (0..PANEL).step_by(V * S::LANES) {
            for group in 0..x.groups {
                // SAFETY: the group's codes of the panel and of the rows are there.
                let found = unsafe {
                    let corrections = panel.corrections.as_ptr().add(group * PANEL + lane);
                    let mut init = [simd.splat_int(0); V];
                    for (v, init) in init.iter_mut().enumerate() {
                        *init = simd.load_int(corrections.add(v * S::LANES).cast());
                    }
                    dots::<S, R, V, 8>(
                        simd,
                        panel.codes.as_ptr().add(group * panel.steps * STEP + lane * 4),
                        codes.as_ptr().add(group * panel.steps * 4),
                        x.stride,
                        panel.steps,
                        [init; R],
                    )
                };
                for v in 0..V {
                    let at = lane + v * S::LANES;
                    let weight_scale = simd.load(&panel.scales[group * PANEL + at..]);
                    for r in 0..R {
                        let scale = simd.mul(weight_scale, simd.splat(scales[r * x.groups + group]));
                        let sum = simd.fma(simd.to_float(found[r][v]), scale, simd.load(&sums[r][at..]));
                        simd.store(&mut sums[r][at..], sum);
                    }
                }
            }
        }
    }
}

/// `-64·Σ c` of each group and output of a panel, from a group of `zeros`.
#[inline(always)]
fn correct<S: Isa, const V: usize>(simd: S, codes: &[u8], zeros: &[u8], corrections: &mut [i32]) {
    let steps = zeros.len() / 4;
    let nothing = simd.splat_int(0);
    for (codes, corrections) in codes.chunks_exact(steps * STEP).zip(corrections.chunks_exact_mut(PANEL)) {
        for lane in (0..PANEL).step_by(V * S::LANES) {
            // SAFETY: a group of codes and of zeros, and places for all outputs, are there.
            unsafe {
                let codes = codes.as_ptr().add(lane * 4);
                let [sums] = dots::<S, 1, V, 8>(simd, codes, zeros.as_ptr(), 0, steps, [[nothing; V]]);
                for (v, sum) in sums.into_iter().enumerate() {
                    let to = corrections.as_mut_ptr().add(lane + v * S::LANES);
                    simd.store_int(to.cast(), simd.sub_int(nothing, sum));
                }
            }
        }
    }
}

/// Nibbles of a panel to signed bytes.
#[inline(always)]
fn widen<S: Isa>(simd: S, nibbles: &[u8], bytes: &mut [u8]) {
    let low = simd.splat_int(0x0f0f_0f0f);
    for (from, to) in nibbles.chunks_exact(STEP).zip(bytes.chunks_exact_mut(2 * STEP)) {
        for at in (0..STEP).step_by(4 * S::LANES) {
            // SAFETY: a step of nibbles becomes two of bytes, and both are there.
            unsafe {
                let both = simd.load_int(from.as_ptr().add(at));
                for (half, code) in [both, simd.shift_right::<4>(both)].into_iter().enumerate() {
                    // Less 8 in every byte; the top bits keep them apart.
                    let apart = simd.or(simd.and(code, low), simd.splat_int(0x8080_8080u32 as i32));
                    let less = simd.sub_int(apart, simd.splat_int(0x0808_0808));
                    let signed = simd.xor(less, simd.splat_int(0x8080_8080u32 as i32));
                    simd.store_int(to.as_mut_ptr().add(half * STEP + at), signed);
                }
            }
        }
    }
}
