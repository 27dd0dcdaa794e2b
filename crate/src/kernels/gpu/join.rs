//! Two tensors as one, row beside row.

use burn_cubecl::tensor::CubeTensor;

use super::launch::{Buffer, Shader, fill, launch, output, words};

/// See [`Kernels::join`](crate::kernels::Kernels::join).
pub(super) fn join(a: CubeTensor, b: CubeTensor, rows: usize, widths: [usize; 2]) -> CubeTensor {
    assert!(widths.iter().all(|width| width.is_multiple_of(4)), "rows are whole vectors of four");
    assert_eq!(a.dtype, b.dtype, "both are stored alike");
    let [left, right] = widths;
    assert_eq!(a.meta.num_elements(), rows * left, "the rows are all there is");
    assert_eq!(b.meta.num_elements(), rows * right, "the rows are all there is");
    let result = output(&a, [rows, left + right], a.dtype);
    // Four halves or two floats: bits are copied, whatever they mean.
    let pairs = |elements: usize| elements * a.dtype.size() / 8;
    let [left, right, total] = words([pairs(left), pairs(right), pairs(rows * (left + right))]);
    let groups = total.div_ceil(INVOCATIONS);
    let grid = [groups.min(ACROSS), groups.div_ceil(ACROSS), 1];
    let buffers = [Buffer::Read(&a), Buffer::Read(&b), Buffer::Write(&result)];
    launch(Join, grid, &buffers, &[left, right, total]);
    result
}

const INVOCATIONS: u32 = 64;
/// Workgroups along x, below WebGPU's limit of 65535.
const ACROSS: u32 = 1 << 15;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Join;

impl Shader for Join {
    fn workgroup(&self) -> [u32; 3] {
        [INVOCATIONS, 1, 1]
    }

    fn source(&self) -> String {
        fill(include_str!("join.wgsl"), &[("invocations", &INVOCATIONS.to_string())], &[])
    }
}
