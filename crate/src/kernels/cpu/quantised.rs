//! Products with quantised matrices: integer dot products by group, scaled and added in f32.
//!
//! With activations `x = sₓ·(u − 64)` and weights `w = s·c`, a group contributes
//! `sₓ·s·(Σ c·u − 64·Σ c)`. The bracket is exact on every machine; only the order and rounding of the
//! f32 sums over groups differ.

use super::activations::Activations;
use super::epilogue::Epilogue;
use super::isa::{Level, dispatch_at};
use super::pack::PackedMatrix;
use super::quantised_few::{FEW_ROWS, Few};
use super::quantised_many::Many;
use super::threads::{Shared, split};

/// `epilogue(x·Wᵀ)`: `rows` rows of `x`, which start every `row_stride`, to `out: [rows, outputs]`.
///
/// Activations are quantised to seven bits by row and group. Up to five rows stream the matrix from
/// memory once; for more, panels stay in the cache while the rows pass.
///
/// # Panics
/// If a length does not fit.
pub fn linear_packed(
    x: &[f32],
    row_stride: usize,
    rows: usize,
    matrix: PackedMatrix<'_>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let shape = matrix.shape();
    let x = Activations::quantise(x, row_stride, rows, shape.inputs, shape.group);
    product(Level::best(), &x, matrix, epilogue, out);
}

/// The product of rows that are quantised already, in the matrix's groups.
pub(super) fn product(
    level: Level,
    x: &Activations,
    matrix: PackedMatrix<'_>,
    epilogue: Epilogue<'_>,
    out: &mut [f32],
) {
    let shape = matrix.shape();
    assert_eq!(out.len(), x.rows * shape.outputs, "an element for every row and output");
    epilogue.check(x.rows, shape.outputs);
    if x.rows == 0 {
        return;
    }
    let out = &Shared::new(out);
    if x.rows <= FEW_ROWS {
        split(shape.panels(), 8, |panels| dispatch_at(level, Few { x, matrix, epilogue, panels, out }));
        return;
    }
    // As many rows as leave room for panels in the second-level cache; whole tiles of them.
    const CACHED: usize = 128 << 10;
    let block = (CACHED / x.stride).clamp(24, 512).next_multiple_of(12);
    for start in (0..x.rows).step_by(block) {
        let rows = start..(start + block).min(x.rows);
        split(shape.panels(), 4, |panels| {
            dispatch_at(level, Many { x, rows: rows.clone(), matrix, epilogue, panels, out });
        });
    }
}
