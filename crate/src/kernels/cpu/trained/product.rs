//! Matrix products, by the crate that burn's CPU device uses.
#![allow(unsafe_code, reason = "the crate takes pointers; here are the checks that it does not make")]

use super::super::threads::Shared;

/// A matrix in memory: where rows and columns begin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Plane<'a> {
    values: &'a [f32],
    row: usize,
    column: usize,
}

impl<'a> Plane<'a> {
    /// Rows `stride` elements apart.
    pub(super) fn rows(values: &'a [f32], stride: usize) -> Self {
        Self { values, row: stride, column: 1 }
    }

    /// The matrix on its side.
    pub(super) fn transposed(self) -> Self {
        Self { row: self.column, column: self.row, ..self }
    }

    fn check(&self, rows: usize, columns: usize) {
        let last = (rows - 1) * self.row + (columns - 1) * self.column;
        assert!(last < self.values.len(), "{rows} × {columns} in {} elements", self.values.len());
    }
}

/// Products from this many multiplications on are shared among threads.
const PARALLEL: usize = 192 * 192 * 192;

/// `a·b`, to a result of its own: `[m, k] × [k, n]` to `[m, n]`.
pub(super) fn product(m: usize, n: usize, k: usize, a: Plane<'_>, b: Plane<'_>) -> Vec<f32> {
    if m == 0 || n == 0 || k == 0 {
        return vec![0.0; m * n];
    }
    let mut out = Vec::with_capacity(m * n);
    a.check(m, k);
    b.check(k, n);
    // SAFETY: both matrices are inside their slices, and there is room for the result, all of which is
    // written before it counts.
    unsafe {
        call((m, n, k), (out.as_mut_ptr(), n), None, a, b, 1.0);
        out.set_len(m * n);
    }
    out
}

/// `keep·out + factor·a·b`, into rows of `out` that are `stride` apart.
pub(super) fn product_into(
    (m, n, k): (usize, usize, usize),
    (out, stride): (&mut [f32], usize),
    keep: bool,
    a: Plane<'_>,
    b: Plane<'_>,
    factor: f32,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    a.check(m, k);
    b.check(k, n);
    assert!((m - 1) * stride + n <= out.len(), "{m} × {n} in {} elements", out.len());
    // SAFETY: all three matrices are inside their slices.
    unsafe { call((m, n, k), (out.as_mut_ptr(), stride), keep.then_some(1.0), a, b, factor) }
}

/// As [`product_into`], where between the rows of the result there is what others write at the same time:
/// it begins at `first` and has rows `stride` apart.
///
/// # Panics
/// When the slice ends before.
///
/// # Safety
/// Nobody else reads or writes the elements of the result at the same time.
pub(super) unsafe fn product_among(
    (m, n, k): (usize, usize, usize),
    (out, first, stride): (&Shared<'_, f32>, usize, usize),
    keep: bool,
    a: Plane<'_>,
    b: Plane<'_>,
    factor: f32,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    a.check(m, k);
    b.check(k, n);
    let out = out.pointer(first..first + (m - 1) * stride + n);
    // SAFETY: all three matrices are inside their slices; the result is nobody else's, by the caller's
    // promise.
    unsafe { call((m, n, k), (out, stride), keep.then_some(1.0), a, b, factor) }
}

/// # Safety
/// The matrices are readable, and that at `out` writable; also readable if something of it is kept.
unsafe fn call(
    (m, n, k): (usize, usize, usize),
    (out, stride): (*mut f32, usize),
    keep: Option<f32>,
    a: Plane<'_>,
    b: Plane<'_>,
    factor: f32,
) {
    let parallel = match m * n * k >= PARALLEL && rayon::current_num_threads() > 1 {
        true => gemm::Parallelism::Rayon(0),
        false => gemm::Parallelism::None,
    };
    let [stride, a_row, a_column, b_row, b_column] =
        [stride, a.row, a.column, b.row, b.column].map(|stride| stride as isize);
    // SAFETY: the caller's promise.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            stride,
            keep.is_some(),
            a.values.as_ptr(),
            a_column,
            a_row,
            b.values.as_ptr(),
            b_column,
            b_row,
            keep.unwrap_or(0.0),
            factor,
            false,
            false,
            false,
            parallel,
        );
    }
}
