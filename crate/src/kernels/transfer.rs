//! Between host memory and a device, for tensors as kernels read and write them.
//!
//! Burn's own way converts between every pair of element types and rearranges whatever is not
//! contiguous; all of that would be part of the browser module, and none of it is needed.

#[cfg(feature = "wgpu")]
use burn::backend::Cube;
use burn::backend::DispatchDevice;
#[cfg(feature = "flex")]
use burn::backend::Flex;
use burn::backend::tensor::Device as DeviceOf;
use burn::backend::{DispatchKindConversion, DispatchTensor};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use half::f16;

use super::contract::Kernels;
use super::routing::{Route, float, int, raise, raise_int};

/// Floats on a device, rounded on the host where they are halves there.
pub fn floats<const D: usize>(
    values: Vec<f32>,
    shape: [usize; D],
    device: &Device,
    float: DType,
) -> Tensor<D> {
    let data = match float {
        DType::F16 => {
            let values: Vec<f16> = values.into_iter().map(f16::from_f32).collect();
            TensorData::new(values, shape)
        }
        _ => TensorData::new(values, shape),
    };
    match device.as_dispatch() {
        #[cfg(feature = "wgpu")]
        DispatchDevice::Cube(place) if Route::of(device) == Route::Gpu => upload::<Cube, D>(data, place),
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(place) => upload::<Flex, D>(data, place),
        #[cfg(not(target_family = "wasm"))]
        _ => Tensor::from_data(data, (device, float)),
        #[cfg(target_family = "wasm")]
        _ => unreachable!("no other device is opened in a browser"),
    }
}

/// Integers on a device, as kernels read them: 32 bits.
pub fn integers<const D: usize>(values: Vec<i32>, shape: [usize; D], device: &Device) -> Tensor<D, Int> {
    let data = TensorData::new(values, shape);
    match device.as_dispatch() {
        #[cfg(feature = "wgpu")]
        DispatchDevice::Cube(place) if Route::of(device) == Route::Gpu => upload_int::<Cube, D>(data, place),
        #[cfg(feature = "flex")]
        DispatchDevice::Flex(place) => upload_int::<Flex, D>(data, place),
        #[cfg(not(target_family = "wasm"))]
        _ => Tensor::from_data(data, (device, DType::I32)),
        #[cfg(target_family = "wasm")]
        _ => unreachable!("no other device is opened in a browser"),
    }
}

/// Reads floats back, row-major; halves become f32. The copy is on its way after the first poll.
///
/// # Errors
/// What the device says, as text.
pub async fn read_floats<const D: usize>(x: Tensor<D>) -> Result<Vec<f32>, String> {
    match Route::of(&x.device()) {
        #[cfg(feature = "wgpu")]
        Route::Gpu => {
            let x = float::<Cube, D>(x);
            let halves = x.dtype == DType::F16;
            let bytes = super::gpu::read(x).await?;
            Ok(if halves {
                bytes.as_chunks::<2>().0.iter().map(|half| f16::from_le_bytes(*half).to_f32()).collect()
            } else {
                bytes.as_chunks::<4>().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
            })
        }
        #[cfg(feature = "flex")]
        Route::Cpu => super::cpu::read::<f32>(float::<Flex, D>(x)),
        #[cfg(not(target_family = "wasm"))]
        _ => {
            let data = x.into_data_async().await.map_err(|e| format!("{e:?}"))?;
            Ok(data.iter::<f32>().collect())
        }
        #[cfg(target_family = "wasm")]
        other => unreachable!("no device of a browser has the route {other:?}"),
    }
}

/// As [`read_floats`], for 32-bit integers.
///
/// # Errors
/// What the device says, as text.
pub async fn read_integers<const D: usize>(x: Tensor<D, Int>) -> Result<Vec<i32>, String> {
    match Route::of(&x.device()) {
        #[cfg(feature = "wgpu")]
        Route::Gpu => {
            let bytes = super::gpu::read(int::<Cube, D>(x)).await?;
            Ok(bytes.as_chunks::<4>().0.iter().map(|word| i32::from_le_bytes(*word)).collect())
        }
        #[cfg(feature = "flex")]
        Route::Cpu => super::cpu::read::<i32>(int::<Flex, D>(x)),
        #[cfg(not(target_family = "wasm"))]
        _ => {
            let data = x.into_data_async().await.map_err(|e| format!("{e:?}"))?;
            Ok(data.iter::<i32>().collect())
        }
        #[cfg(target_family = "wasm")]
        other => unreachable!("no device of a browser has the route {other:?}"),
    }
}

fn upload<B: Kernels, const D: usize>(data: TensorData, place: &DeviceOf<B>) -> Tensor<D>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    raise::<B, D>(B::float_from_data(data, place))
}

fn upload_int<B: Kernels, const D: usize>(data: TensorData, place: &DeviceOf<B>) -> Tensor<D, Int>
where
    DispatchTensor: DispatchKindConversion<B>,
{
    raise_int::<B, D>(B::int_from_data(data, place))
}
