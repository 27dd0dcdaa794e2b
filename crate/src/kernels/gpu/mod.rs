//! The arithmetic in WGSL, for WebGPU in the browser and wgpu natively.
//!
//! Every operation is a function in the file of its name, beside its shaders; `launch` takes them to
//! the device. Parameters that change with the input are uniforms, so that a pipeline is compiled for
//! each model and not for each image or prompt.

mod adapter;
mod attention;
mod choose;
mod cube;
mod embed;
mod join;
pub(crate) mod launch;
mod layer_norm;
mod linear;
#[cfg(not(target_family = "wasm"))]
#[doc(hidden)]
pub mod probes;
mod replay;
mod rows;

pub use adapter::Adapter;
pub use replay::{Recorder, Recording};

/// The same elements under another shape; never copies.
///
/// # Panics
/// When the tensor has gaps, or the number of elements differs.
pub(super) fn view(
    tensor: burn_cubecl::tensor::CubeTensor,
    shape: &[usize],
) -> burn_cubecl::tensor::CubeTensor {
    use burn_cubecl::tensor::CubeTensor;

    launch::assert_contiguous(&tensor);
    let shape = burn::tensor::Shape::from(shape.to_vec());
    assert_eq!(tensor.meta.num_elements(), shape.num_elements(), "a view has as many elements");
    CubeTensor::new_contiguous(tensor.client, tensor.device, shape, tensor.handle, tensor.dtype)
}

/// The bytes of a tensor, row-major; the copy is on its way after the first poll.
///
/// # Errors
/// What the device says, as text.
pub(super) async fn read(tensor: burn_cubecl::tensor::CubeTensor) -> Result<cubecl::bytes::Bytes, String> {
    // Natively tensors of burn's own operations are read as well.
    #[cfg(not(target_family = "wasm"))]
    let tensor = burn_cubecl::kernel::into_contiguous_aligned(tensor);
    launch::assert_contiguous(&tensor);
    let (shape, strides) = (tensor.meta.shape().clone(), tensor.meta.strides().clone());
    let size = tensor.dtype.size();
    let copy = cubecl::server::CopyDescriptor::new(tensor.handle.binding(), shape, strides, size);
    tensor.client.read_one_tensor_async(copy).await.map_err(|error| format!("{error:?}"))
}

/// Every shader in representative variants, named: for tests that compile them elsewhere.
#[cfg(not(target_family = "wasm"))]
pub fn sources() -> Vec<(String, String)> {
    use launch::{Float, Shader};

    fn named<S: Shader>(shader: S) -> (String, String) {
        (format!("{shader:?}"), shader.source())
    }
    let mut all = vec![named(rows::Rows), named(join::Join)];
    for float in [Float::F32, Float::F16] {
        all.extend(layer_norm::variants(float).into_iter().map(named));
        let (many, few, step) = attention::variants(float);
        all.extend(many.into_iter().map(named));
        all.extend(few.into_iter().map(named));
        all.extend(step.into_iter().map(named));
        let (embed, assemble) = embed::variants(float);
        all.extend(embed.into_iter().map(named));
        all.push(named(assemble));
        let (best, top_k, advance) = choose::variants(float);
        all.extend(best.into_iter().map(named));
        all.push(named(top_k));
        all.push(named(advance));
        all.extend(linear::variants(float).into_iter().map(named));
    }
    all
}

#[cfg(test)]
mod tests;
