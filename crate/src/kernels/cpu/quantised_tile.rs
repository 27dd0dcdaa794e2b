//! The register tiles of products with quantised matrices.
#![allow(unsafe_code, reason = "inner loops without bounds checks")]

use std::ops::Range;

use super::activations::{Activations, ZERO};
use super::epilogue::Epilogue;
use super::isa::{Isa, Kernel};
use super::pack::{PANEL, PackedMatrix};
use super::threads::Shared;

/// Up to as many rows, a matrix is streamed from memory.
pub const STREAMED_ROWS: usize = 5;

/// Places of a matrix that are streamed at the same time: one alone does not keep the memory busy.
const STREAMS: usize = 4;

/// Bytes of a step of four columns of a panel.
const STEP: usize = 4 * PANEL;

/// Codes that all mean zero: a row whose products are 64 times the sum of the weights.
static ZEROS: [u8; 1024] = [ZERO; 1024];

/// Many rows: each panel of the matrix stays in the cache while they pass.
pub struct Many<'a> {
    pub x: &'a Activations,
    pub rows: Range<usize>,
    pub matrix: PackedMatrix<'a>,
    pub epilogue: Epilogue<'a>,
    /// The panels of one thread; nobody else writes their columns of `out`.
    pub panels: Range<usize>,
    pub out: &'a Shared<'a, f32>,
}

impl Kernel for Many<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        let shape = self.matrix.shape();
        let mut corrections = vec![0i32; shape.groups() * PANEL];
        let mut widened = vec![0u8; if shape.bits() == 4 { shape.padded() * PANEL } else { 0 }];
        // Sums of a tile; memory, so that registers are left to the integers.
        let mut sums = vec![[0.0f32; PANEL]; 12];
        for panel in self.panels.clone() {
            let codes = if shape.bits() == 4 {
                widen(simd, self.matrix.panel(panel), &mut widened);
                &widened
            } else {
                self.matrix.panel(panel)
            };
            let panel = Panel {
                codes,
                scales: self.matrix.panel_scales(panel),
                steps: shape.group / 4,
                corrections: &mut corrections,
                first: panel * PANEL,
                width: PANEL.min(shape.outputs - panel * PANEL),
            };
            match S::ROWS {
                12 => self.panel::<S, 12, 1>(simd, panel, &mut sums),
                6 => self.panel::<S, 6, 2>(simd, panel, &mut sums),
                _ => self.panel::<S, 4, 2>(simd, panel, &mut sums),
            }
        }
    }
}

/// A panel of signed bytes.
struct Panel<'a> {
    codes: &'a [u8],
    scales: &'a [f32],
    /// Steps of a group.
    steps: usize,
    /// `-64·Σ c` by group and output.
    corrections: &'a mut [i32],
    /// The first output.
    first: usize,
    /// Outputs that exist.
    width: usize,
}

impl Many<'_> {
    #[inline(always)]
    fn panel<S: Isa, const R: usize, const V: usize>(
        &self,
        simd: S,
        panel: Panel<'_>,
        sums: &mut [[f32; PANEL]],
    ) {
        for (group, corrections) in panel.corrections.chunks_exact_mut(PANEL).enumerate() {
            for lane in (0..PANEL).step_by(V * S::LANES) {
                // SAFETY: the group's codes are there, and `ZEROS` as long as any group is asserted to be.
                unsafe {
                    let codes = panel.codes.as_ptr().add(group * panel.steps * STEP + lane * 4);
                    let [sum] = dots::<S, 1, V, 8>(
                        simd,
                        codes,
                        ZEROS.as_ptr(),
                        0,
                        panel.steps,
                        [[simd.splat_int(0); V]],
                    );
                    for v in 0..V {
                        let negative = simd.sub_int(simd.splat_int(0), sum[v]);
                        simd.store_int(corrections[lane + v * S::LANES..].as_mut_ptr().cast(), negative);
                    }
                }
            }
        }
        let mut row = self.rows.start;
        while row + R <= self.rows.end {
            self.tile::<S, R, V>(simd, &panel, row, sums);
            row += R;
        }
        while row + 3 <= self.rows.end {
            self.tile::<S, 3, V>(simd, &panel, row, sums);
            row += 3;
        }
        for row in row..self.rows.end {
            self.tile::<S, 1, V>(simd, &panel, row, sums);
        }
    }

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
        let outputs = self.matrix.shape().outputs;
        for r in 0..R {
            let at = (row + r) * outputs + panel.first;
            // SAFETY: these columns are this thread's.
            let out = unsafe { self.out.part(at..at + panel.width) };
            self.epilogue.finish(simd, &sums[r], panel.first, at, out);
        }
    }
}

/// Few rows: the matrix passes once.
pub struct Few<'a> {
    pub x: &'a Activations,
    pub matrix: PackedMatrix<'a>,
    pub epilogue: Epilogue<'a>,
    /// The panels of one thread; nobody else writes their columns of `out`.
    pub panels: Range<usize>,
    pub out: &'a Shared<'a, f32>,
}

impl Kernel for Few<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        if self.matrix.shape().bits() == 4 { self.bits::<S, 4>(simd) } else { self.bits::<S, 8>(simd) }
    }
}

impl Few<'_> {
    #[inline(always)]
    fn bits<S: Isa, const BITS: usize>(self, simd: S) {
        // A row more than there are, for the sums of weights.
        match (self.x.rows, S::LANES) {
            (0, _) => {}
            (1, 4) => self.rows::<S, 2, 4, BITS>(simd),
            (1, 8) => self.rows::<S, 2, 2, BITS>(simd),
            (1, _) => self.rows::<S, 2, 1, BITS>(simd),
            (2, 16) => self.rows::<S, 3, 1, BITS>(simd),
            (2, _) => self.rows::<S, 3, 2, BITS>(simd),
            (3, 16) => self.rows::<S, 4, 1, BITS>(simd),
            (3, _) => self.rows::<S, 4, 2, BITS>(simd),
            (4, 16) => self.rows::<S, 5, 1, BITS>(simd),
            (4, _) => self.rows::<S, 5, 2, BITS>(simd),
            (5, 16) => self.rows::<S, 6, 1, BITS>(simd),
            (5, _) => self.rows::<S, 6, 2, BITS>(simd),
            (more, _) => unreachable!("{more} rows are many"),
        }
    }

    #[inline(always)]
    fn rows<S: Isa, const R: usize, const V: usize, const BITS: usize>(self, simd: S) {
        let (x, shape) = (self.x, self.matrix.shape());
        let steps = shape.group / 4;
        let group_bytes = steps * STEP * BITS / 8;
        // The first row is all zeros, in seven bits.
        let mut codes = vec![ZERO; R * x.stride];
        codes[x.stride..].copy_from_slice(&x.codes);
        // Nibbles hold value + 8, which adds 8·Σ u to the product and 8·64·group to the sum of weights.
        let excess: Vec<i32> = (0..R * x.groups)
            .map(|i| {
                let start = i / x.groups * x.stride + i % x.groups * shape.group;
                let sum: i32 = codes[start..][..shape.group].iter().map(|u| i32::from(*u)).sum();
                if BITS == 4 { -8 * sum } else { 0 }
            })
            .collect();
        let mut sums = vec![[0.0f32; PANEL]; STREAMS * (R - 1)];
        let part = self.panels.len().div_ceil(STREAMS);
        for first in self.panels.start..self.panels.start + part {
            let panels = (first..self.panels.end).step_by(part);
            sums.fill([0.0; PANEL]);
            for group in 0..x.groups {
                for (panel, sums) in panels.clone().zip(sums.chunks_exact_mut(R - 1)) {
                    let weights = &self.matrix.panel(panel)[group * group_bytes..][..group_bytes];
                    let weight_scales = &self.matrix.panel_scales(panel)[group * PANEL..][..PANEL];
                    for lane in (0..PANEL).step_by(V * S::LANES) {
                        let init = std::array::from_fn(|r| [simd.splat_int(excess[r * x.groups + group]); V]);
                        // SAFETY: the group's codes of the panel and of the rows are there.
                        let found = unsafe {
                            dots::<S, R, V, BITS>(
                                simd,
                                weights.as_ptr().add(lane * 4),
                                codes.as_ptr().add(group * shape.group),
                                x.stride,
                                steps,
                                init,
                            )
                        };
                        for v in 0..V {
                            let at = lane + v * S::LANES;
                            let weight_scale = simd.load(&weight_scales[at..]);
                            for r in 1..R {
                                let dot = simd.to_float(simd.sub_int(found[r][v], found[0][v]));
                                let scale = simd.splat(x.scales[(r - 1) * x.groups + group]);
                                let sums = &mut sums[r - 1][at..];
                                let sum = simd.fma(dot, simd.mul(weight_scale, scale), simd.load(sums));
                                simd.store(sums, sum);
                            }
                        }
                    }
                }
            }
            for (panel, sums) in panels.zip(sums.chunks_exact(R - 1)) {
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

/// To `sums` the products of a group of `V` vectors of a panel's outputs with `R` rows of codes.
///
/// # Safety
/// `weights` points at the first step, of which there is an even number; the rows start every `stride` bytes.
#[inline(always)]
unsafe fn dots<S: Isa, const R: usize, const V: usize, const BITS: usize>(
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
