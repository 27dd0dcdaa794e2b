//! Activations in seven bits, so that byte products are the same number on every machine.
#![allow(unsafe_code, reason = "narrow vectors are written through pointers, by several threads")]

use super::isa::{Isa, Kernel, dispatch};
use super::threads::{Shared, split};

/// What zero is written as.
pub const ZERO: u8 = 64;

/// Bytes that are written at a time on the widest vectors; rows of codes are padded to it.
const BLOCK: usize = 64;

/// Rows of activations: `code = 64 + round(x / scale)`, 1..=127, one scale for each row and group.
///
/// The error of an element is at most half a scale, 1/126 of the greatest size in its group.
#[derive(Debug)]
pub struct Activations {
    /// `[rows][stride]`; zeros follow the last group.
    pub codes: Vec<u8>,
    /// `[rows][groups]`.
    pub scales: Vec<f32>,
    /// Bytes from one row to the next.
    pub stride: usize,
    /// Groups of a row.
    pub groups: usize,
    /// Rows.
    pub rows: usize,
}

impl Activations {
    /// Quantises `rows` rows of `inputs` elements, which start every `row_stride`, in groups of `group`,
    /// a multiple of 32.
    ///
    /// # Panics
    /// If `x` is too short.
    pub fn quantise(x: &[f32], row_stride: usize, rows: usize, inputs: usize, group: usize) -> Self {
        assert!(row_stride >= inputs, "rows of {inputs} every {row_stride}");
        let needed = rows.saturating_sub(1) * row_stride + inputs;
        assert!(rows == 0 || x.len() >= needed, "{} elements where {rows} rows need {needed}", x.len());
        let groups = inputs.div_ceil(group);
        let stride = (groups * group).next_multiple_of(BLOCK);
        let mut codes = vec![0; rows * stride];
        let mut scales = vec![0.0; rows * groups];
        let (shared_codes, shared_scales) = (Shared::new(&mut codes), Shared::new(&mut scales));
        split(rows, 16, |range| {
            let x = &x[range.start * row_stride..];
            // SAFETY: the ranges of rows do not overlap.
            let (codes, scales) = unsafe {
                (
                    shared_codes.part(range.start * stride..range.end * stride),
                    shared_scales.part(range.start * groups..range.end * groups),
                )
            };
            dispatch(Rows { x, row_stride, inputs, group, stride, groups, codes, scales });
        });
        Self { codes, scales, stride, groups, rows }
    }
}

/// The rows that one thread quantises.
struct Rows<'a> {
    x: &'a [f32],
    row_stride: usize,
    inputs: usize,
    group: usize,
    stride: usize,
    groups: usize,
    codes: &'a mut [u8],
    scales: &'a mut [f32],
}

impl Kernel for Rows<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) {
        // By group; one more for vectors beyond the last.
        let mut inverses = vec![0.0f32; self.groups + BLOCK / 32];
        let rows = self.codes.chunks_exact_mut(self.stride).zip(self.scales.chunks_exact_mut(self.groups));
        for (row, (codes, scales)) in rows.enumerate() {
            let x = &self.x[row * self.row_stride..][..self.inputs];
            for ((x, scale), inverse) in x.chunks(self.group).zip(scales).zip(&mut inverses) {
                let greatest = greatest_size(simd, x);
                *scale = greatest / 63.0;
                // Numbers so small that the quotient overflows are zero.
                *inverse = if greatest > 1e-30 { 63.0 / greatest } else { 0.0 };
            }
            let offset = simd.splat_int(i32::from(ZERO));
            for start in (0..self.stride).step_by(4 * S::LANES) {
                let block = std::array::from_fn(|v| {
                    let at = start + v * S::LANES;
                    let x = if at + S::LANES <= x.len() {
                        simd.load(&x[at..])
                    } else {
                        simd.load_part(x.get(at..).unwrap_or_default(), 0.0)
                    };
                    let scaled = simd.mul(x, simd.splat(inverses[at / self.group]));
                    simd.add_int(simd.round(scaled), offset)
                });
                let codes = &mut codes[start..][..4 * S::LANES];
                // SAFETY: that many bytes are there.
                unsafe { simd.store_narrow(codes.as_mut_ptr(), block) };
            }
        }
    }
}

/// The greatest absolute value.
#[inline(always)]
fn greatest_size<S: Isa>(simd: S, x: &[f32]) -> f32 {
    let mut sizes = [simd.zero(); 2];
    let mut pairs = x.chunks_exact(2 * S::LANES);
    for x in &mut pairs {
        sizes[0] = simd.max(sizes[0], simd.abs(simd.load(x)));
        sizes[1] = simd.max(sizes[1], simd.abs(simd.load(&x[S::LANES..])));
    }
    for x in pairs.remainder().chunks(S::LANES) {
        sizes[0] = simd.max(sizes[0], simd.abs(simd.load_part(x, 0.0)));
    }
    simd.greatest(simd.max(sizes[0], sizes[1]))
}
