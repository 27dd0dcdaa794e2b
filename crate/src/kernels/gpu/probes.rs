//! What an adapter can do at most: a loop of multiply-adds and a copy, which `blip probe kernels`
//! compares the products with. Not part of the engine, so no browser module holds them.

use burn::backend::Cube;
use burn::tensor::{DType, Device, Tensor};
use burn_cubecl::tensor::CubeTensor;

use super::launch::{Buffer, Shader, launch, output};

/// Invocations of a workgroup, as in both sources.
const WORKGROUP: u32 = 64;
/// Operations of an invocation in a pass of the loop: sixteen numbers, eight rounds, two operations.
const PASS: u64 = 2 * 16 * 8;
/// Workgroups along one dimension of a dispatch, at most.
const MOST: u32 = 65_535;

/// Launches the loop of multiply-adds: `v ← v·factor + addend`, eight times a pass.
///
/// Invocation `i` starts with four times each of `i`, `i + 1`, `i + 2`, `i + 3` and gives the sum of the
/// sixteen: `[64·workgroups]`.
///
/// # Panics
/// When there is no workgroup or there are more than 65 535, or the device is not a GPU.
pub fn fma_loop(device: &Device, workgroups: u32, passes: u32, factor: f32, addend: f32) -> Tensor<1> {
    assert!((1..=MOST).contains(&workgroups), "{workgroups} workgroups are no dispatch");
    let y = empty(device, (workgroups * WORKGROUP) as usize);
    let parameters = [factor.to_bits(), addend.to_bits(), passes];
    launch(Probe::FmaLoop, [workgroups, 1, 1], &[Buffer::Write(&y)], &parameters);
    Tensor::from_primitive::<Cube>(y)
}

/// Operations of [`fma_loop`], a multiply-add being two.
pub fn fma_operations(workgroups: u32, passes: u32) -> u64 {
    u64::from(workgroups) * u64::from(WORKGROUP) * u64::from(passes) * PASS
}

/// Launches a copy of a tensor of f32, whose length is a multiple of 4.
///
/// # Panics
/// When it is not, or is 0; or the tensor has gaps or is not on a GPU.
pub fn copy(x: Tensor<1>) -> Tensor<1> {
    let [length] = x.dims();
    assert!(length > 0 && length.is_multiple_of(4), "a copy of whole vectors, not of {length} numbers");
    let x = x.try_into_primitive::<Cube>().expect(ON_GPU);
    assert_eq!(x.dtype, DType::F32, "a copy of f32");
    let y = output(&x, [length], x.dtype);
    let workgroups = u32::try_from(length.div_ceil(4 * WORKGROUP as usize)).expect("no buffer is that large");
    let high = workgroups.div_ceil(MOST);
    launch(Probe::Copy, [workgroups.div_ceil(high), high, 1], &[Buffer::Read(&x), Buffer::Write(&y)], &[]);
    Tensor::from_primitive::<Cube>(y)
}

const ON_GPU: &str = "probes are for tensors on a GPU";

/// Memory that a probe fills.
fn empty(device: &Device, length: usize) -> CubeTensor {
    Tensor::<1>::empty([length], (device, DType::F32)).try_into_primitive::<Cube>().expect(ON_GPU)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Probe {
    FmaLoop,
    Copy,
}

impl Shader for Probe {
    fn workgroup(&self) -> [u32; 3] {
        [WORKGROUP, 1, 1]
    }

    fn source(&self) -> String {
        match self {
            Self::FmaLoop => include_str!("probes/fma_loop.wgsl"),
            Self::Copy => include_str!("probes/copy.wgsl"),
        }
        .to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::Gpu;
    use super::*;
    use crate::device::{DeviceKind, OpenDevice, block_on};

    /// The device, while nobody else uses it; `None` where there is none.
    fn open() -> Option<(Gpu, OpenDevice)> {
        let gpu = Gpu::open()?;
        Some((gpu, block_on(OpenDevice::open(DeviceKind::Gpu)).unwrap()))
    }

    #[test]
    fn the_loop_gives_the_sum_of_sixteen_geometric_series() {
        let Some((_turn, device)) = open() else { return };
        for (workgroups, passes, factor, addend) in [(1, 1, 0.5, 1.0), (3, 2, 0.5, -3.0), (5, 40, 1.0, 0.25)]
        {
            let found = block_on(device.read(fma_loop(&device.device, workgroups, passes, factor, addend)));
            let rounds = 8 * passes;
            let shrunk = f64::from(factor).powi(rounds as i32);
            let series =
                if factor == 1.0 { f64::from(rounds) } else { (1.0 - shrunk) / f64::from(1.0 - factor) };
            let expected: Vec<f32> = (0..64 * workgroups)
                .map(|i| (shrunk * f64::from(16 * i + 24) + 16.0 * f64::from(addend) * series) as f32)
                .collect();
            // Powers of two: every step is exact, or the rounding of one.
            let found = found.unwrap();
            assert_eq!(found.len(), expected.len());
            for (i, (found, expected)) in found.iter().zip(&expected).enumerate() {
                assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{i}: {found}, not {expected}");
            }
        }
    }

    #[test]
    fn a_loop_counts_every_multiply_add_twice() {
        assert_eq!(fma_operations(3, 5), 3 * 64 * 5 * 8 * 16 * 2);
    }

    #[test]
    fn a_copy_equals_its_input_in_one_row_of_workgroups_and_in_two() {
        let Some((_turn, device)) = open() else { return };
        // The last needs 65 537 workgroups.
        for length in [4, 1028, 65_536 * 256 + 4] {
            let values: Vec<f32> = (0..length).map(|i| (i % 8_388_593) as f32 - 0.5).collect();
            let x = Tensor::<1>::from_floats(values.as_slice(), &device.device);
            let found = block_on(device.read(copy(x))).unwrap();
            assert_eq!(found.len(), length);
            let wrong = found.iter().zip(&values).position(|(found, value)| found != value);
            assert_eq!(wrong, None, "of {length} numbers");
        }
    }
}
