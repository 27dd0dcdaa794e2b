//! Every operation against its definition in f64, on whatever adapter there is.

mod attention;
mod choose;
mod join;
mod rows;
mod steps;

use std::sync::{Mutex, MutexGuard, PoisonError};

use burn::backend::Cube;
use burn::tensor::{DType, Shape, Tensor};
use burn_cubecl::tensor::CubeTensor;
use half::f16;

use super::Adapter;
use super::launch::Float;
use crate::ErrorKind;
use crate::device::{DeviceKind, OpenDevice, block_on};

/// A device, for one test at a time, as the kind of adapter is a setting of the process.
pub(super) struct Gpu {
    like: CubeTensor,
    half: bool,
    _turn: MutexGuard<'static, ()>,
}

impl Gpu {
    /// `None`, with a word about it, where there is no adapter.
    pub(super) fn open() -> Option<Self> {
        static TURN: Mutex<()> = Mutex::new(());
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let device = match block_on(OpenDevice::open(DeviceKind::Gpu)) {
            Ok(device) => device.device,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WebgpuUnavailable, "an earlier launch failed: {error}");
                eprintln!("skipped: {error}");
                return None;
            }
        };
        let half = device.supports_dtype(DType::F16);
        let like = Tensor::<1>::zeros([1], &device).try_into_primitive::<Cube>().unwrap();
        Some(Self { like, half, _turn: turn })
    }

    /// The activation types and adapters that a kernel has variants for.
    pub(super) fn kinds(&self) -> Vec<(Float, Adapter)> {
        let mut kinds = vec![(Float::F32, Adapter::Hardware), (Float::F32, Adapter::Software)];
        if self.half {
            kinds.extend([(Float::F16, Adapter::Hardware), (Float::F16, Adapter::Software)]);
        }
        kinds
    }

    /// Half of them, each half for every other index: a type on one adapter and the other on the other.
    pub(super) fn kinds_of(&self, index: usize) -> Vec<(Float, Adapter)> {
        let parity = |i: usize| (i + i / 2 + index).is_multiple_of(2);
        self.kinds().into_iter().enumerate().filter(|(i, _)| parity(*i)).map(|(_, kind)| kind).collect()
    }

    fn tensor<const D: usize>(&self, bytes: &[u8], shape: [usize; D], dtype: DType) -> CubeTensor {
        let handle = self.like.client.create_from_slice(bytes);
        let (client, device) = (self.like.client.clone(), self.like.device.clone());
        CubeTensor::new_contiguous(client, device, Shape::new(shape), handle, dtype)
    }

    /// A tensor and the values it holds, after rounding to its type.
    pub(super) fn floats(&self, values: &[f32], float: Float) -> (CubeTensor, Vec<f64>) {
        let shape = [values.len()];
        match float {
            Float::F32 => {
                let exact = values.iter().copied().map(f64::from).collect();
                (self.tensor(bytemuck::cast_slice(values), shape, DType::F32), exact)
            }
            Float::F16 => {
                let halves: Vec<f16> = values.iter().copied().map(f16::from_f32).collect();
                let exact = halves.iter().copied().map(f64::from).collect();
                let bits: Vec<u16> = halves.iter().map(|half| half.to_bits()).collect();
                (self.tensor(bytemuck::cast_slice(&bits), shape, DType::F16), exact)
            }
        }
    }

    pub(super) fn ints(&self, values: &[i32]) -> CubeTensor {
        self.tensor(bytemuck::cast_slice(values), [values.len()], DType::I32)
    }
}

/// What a tensor holds.
pub(super) fn read(tensor: &CubeTensor) -> Vec<f64> {
    let bytes = tensor.client.read_one(tensor.handle.clone()).unwrap();
    match tensor.dtype {
        DType::F32 => {
            bytes.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        }
        DType::F16 => {
            bytes.chunks_exact(2).map(|b| f64::from(f16::from_le_bytes(b.try_into().unwrap()))).collect()
        }
        other => panic!("{other:?}"),
    }
}

pub(super) fn read_ints(tensor: &CubeTensor) -> Vec<i32> {
    let bytes = tensor.client.read_one(tensor.handle.clone()).unwrap();
    bytes.chunks_exact(4).map(|b| i32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// Fails where `found` is further from `expected` than rounding explains.
pub(super) fn assert_close(found: &[f64], expected: &[f64], float: Float, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let tolerance = match float {
        Float::F32 => 2e-5,
        // Half a unit in the last place of a half, and as much again.
        Float::F16 => 1e-3,
    };
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / (1.0 + expected.abs());
        assert!(error <= tolerance, "{what}: element {i} is {found}, expected {expected}");
    }
}

/// Numbers without a pattern (a 64-bit linear congruential generator).
pub(super) struct Noise(pub u64);

impl Noise {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 33
    }

    pub(super) fn below(&mut self, end: usize) -> usize {
        self.next() as usize % end
    }

    /// In -1..1.
    pub(super) fn float(&mut self) -> f32 {
        self.next() as f32 / (1u64 << 30) as f32 - 1.0
    }

    pub(super) fn floats(&mut self, count: usize, size: f32) -> Vec<f32> {
        (0..count).map(|_| self.float() * size).collect()
    }
}

/// With `BLIP_WGSL_LISTING` set to a path, writes names and sources there as JSON.
#[test]
fn every_listed_source_is_filled_and_can_be_written_for_the_browser() {
    let sources = super::sources();
    for (name, source) in &sources {
        assert!(!source.contains("{{") && !source.contains("#if"), "{name} is not filled");
    }
    if let Ok(path) = std::env::var("BLIP_WGSL_LISTING") {
        std::fs::write(path, serde_json::to_string(&sources).unwrap()).unwrap();
    }
}
