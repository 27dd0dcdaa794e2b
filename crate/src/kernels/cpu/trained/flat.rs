//! The elements of tensors, and tensors of elements.

use burn::tensor::{Bytes, DType, Shape};
use burn_flex::{FlexTensor, Layout};

/// The elements of a contiguous float tensor.
pub(super) fn floats(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("a contiguous tensor of f32")
}

/// The elements of a contiguous float tensor for writing: in place when nobody else holds it, else in a
/// copy.
pub(super) fn floats_mut(x: &mut FlexTensor) -> &mut [f32] {
    let (start, end) = x.layout().contiguous_offsets().expect("a contiguous tensor");
    &mut x.storage_mut()[start..end]
}

/// A tensor of these elements.
pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    debug_assert_eq!(values.len(), shape.iter().product::<usize>());
    FlexTensor::new(Bytes::from_elems(values), Layout::contiguous(Shape::from(shape)), DType::F32)
}
