//! Rows put beside each other.

use super::super::join::join;
use super::{Gpu, Noise, read};

#[test]
fn rows_are_put_beside_each_other_as_they_are() {
    let Some(gpu) = Gpu::open() else { return };
    let mut noise = Noise(8);
    // The last needs more workgroups than one dimension has.
    for (rows, left, right) in [(1, 4, 8), (5, 12, 4), (3, 768, 768), (1, 2_000_000, 3_000_000)] {
        for (float, adapter) in gpu.kinds() {
            adapter.set();
            let (a, a64) = gpu.floats(&noise.floats(rows * left, 2.0), float);
            let (b, b64) = gpu.floats(&noise.floats(rows * right, 2.0), float);
            let found = read(&join(a, b, rows, [left, right]));
            let mut expected = Vec::with_capacity(found.len());
            for (a, b) in a64.chunks_exact(left).zip(b64.chunks_exact(right)) {
                expected.extend_from_slice(a);
                expected.extend_from_slice(b);
            }
            assert!(found == expected, "{rows} x ({left} + {right})");
        }
    }
}
