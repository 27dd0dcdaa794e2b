//! Rows of a tensor as a tensor of their own: one image out of a batch.

use burn_cubecl::tensor::CubeTensor;

use super::launch::{Buffer, Shader, fill, launch, output, words};

/// See [`Kernels::rows`](crate::kernels::Kernels::rows).
pub(super) fn rows(x: CubeTensor, first: usize, count: usize, width: usize) -> CubeTensor {
    assert!(width.is_multiple_of(4), "rows are whole vectors of four");
    let result = output(&x, [count, width], x.dtype);
    // Four halves or two floats: bits are copied, whatever they mean.
    let pairs = |elements: usize| elements * x.dtype.size() / 8;
    let [begin, total] = words([pairs(first * width), pairs(count * width)]);
    let groups = total.div_ceil(INVOCATIONS);
    let grid = [groups.min(ACROSS), groups.div_ceil(ACROSS), 1];
    launch(Rows, grid, &[Buffer::Read(&x), Buffer::Write(&result)], &[begin, total]);
    result
}

const INVOCATIONS: u32 = 64;
/// Workgroups along x, below WebGPU's limit of 65535.
const ACROSS: u32 = 1 << 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Rows;

impl Shader for Rows {
    fn workgroup(&self) -> [u32; 3] {
        [INVOCATIONS, 1, 1]
    }

    fn source(&self) -> String {
        fill(include_str!("rows.wgsl"), &[("invocations", &INVOCATIONS.to_string())], &[])
    }
}
