//! A weight matrix: the only place that knows the precision of a weight.

use burn::module::{Module, Param, ParamId};
use burn::tensor::{DType, Device, Int, Tensor};

use super::Rows;
use crate::kernels::{self, Activation, EmbedSpec, Format, LinearSpec, MatrixView, Normed, Place, Stored};

/// A matrix `[outputs, inputs]`, plain or packed.
///
/// A plain matrix is a trainable parameter. A packed one is codes and scales in the layout of its
/// device's kernels ([`kernels::Kernels`]), and cannot be trained.
#[derive(Module, Debug)]
pub struct Matrix {
    weight: Option<Param<Tensor<2>>>,
    codes: Option<Param<Tensor<2, Int>>>,
    scales: Option<Param<Tensor<2, Int>>>,
    outputs: usize,
    inputs: usize,
    /// Bits an element.
    bits: usize,
    /// Elements that share a scale; 0 without scales.
    group: usize,
}

impl Matrix {
    /// A plain matrix `[outputs, inputs]`.
    pub fn from_parameter(weight: Param<Tensor<2>>) -> Self {
        let [outputs, inputs] = weight.lazy_shape().dims();
        Self { weight: Some(weight), codes: None, scales: None, outputs, inputs, bits: 32, group: 0 }
    }

    /// A stored matrix on a device, in the layout of that device's kernels.
    ///
    /// A plain one has the type of the activations, `float`.
    pub fn from_stored(stored: Stored, device: &Device, float: DType) -> Self {
        let [outputs, inputs] = stored.shape();
        let (bits, group) = match &stored {
            Stored::Float { .. } => (32, 0),
            Stored::Quantised { format: Format::Q4, group, .. } => (4, *group),
            Stored::Quantised { group, .. } => (8, *group),
        };
        match kernels::place(stored, device, float) {
            MatrixView::Float(weight) => Self::from_parameter(Param::from_tensor(weight)),
            MatrixView::Packed(codes, scales) => Self {
                weight: None,
                codes: Some(Param::initialized(ParamId::new(), codes)),
                scales: scales.map(|scales| Param::initialized(ParamId::new(), scales)),
                outputs,
                inputs,
                bits,
                group,
            },
        }
    }

    /// Rows of the matrix: values a row of the result has.
    pub fn outputs(&self) -> usize {
        self.outputs
    }

    /// How the elements are stored.
    pub fn format(&self) -> Format {
        match self.bits {
            32 => Format::Float,
            16 => Format::F16,
            8 => Format::Q8,
            _ => Format::Q4,
        }
    }

    /// `activation(x·Wᵀ + bias) + residual`: `[rows, inputs]` to `[rows, outputs]`.
    pub fn multiply(
        &self,
        x: &Rows,
        bias: Option<Tensor<1>>,
        activation: Activation,
        residual: Option<&Rows>,
    ) -> Tensor<2> {
        let (mut normed, mut norm) = (Normed::Neither, None);
        if let Some((scale_shift, epsilon)) = &x.due {
            (normed, norm) = (Normed::Input { epsilon: *epsilon }, Some(scale_shift.clone()));
        }
        let residual = residual.map(|residual| match &residual.due {
            // One kernel has room for one norm.
            Some(_) if norm.is_some() => residual.clone().settle(),
            Some((scale_shift, epsilon)) => {
                (normed, norm) = (Normed::Residual { epsilon: *epsilon }, Some(scale_shift.clone()));
                residual.x.clone()
            }
            None => residual.x.clone(),
        });
        let spec = LinearSpec {
            rows: x.count(),
            inputs: self.inputs,
            outputs: self.outputs,
            row_stride: x.stride.unwrap_or(self.inputs),
            format: self.format(),
            group: self.group,
            activation,
            normed,
        };
        kernels::linear(x.x.clone(), self.view(), bias, norm, residual, spec)
    }

    /// Rows of the matrix by their ids, plus positions: `[tokens, inputs]`.
    ///
    /// # Shapes
    /// - ids: `[tokens]`, or the decoding state
    /// - positions: `[longest, inputs]`
    pub fn embed(&self, ids: Tensor<1, Int>, positions: Tensor<2>, tokens: usize, place: Place) -> Tensor<2> {
        let spec = EmbedSpec {
            tokens,
            width: self.inputs,
            format: self.format(),
            group: self.group,
            vocab: self.outputs,
            place,
        };
        kernels::embed(ids, self.view(), positions, spec)
    }

    /// The numbers that the matrix stands for, `[outputs, inputs]`, as `float`.
    pub fn numbers(&self, float: DType) -> Tensor<2> {
        match self.view() {
            MatrixView::Float(weight) => weight,
            MatrixView::Packed(codes, _) => {
                // Every row is looked up, at a position that adds nothing.
                let device = codes.device();
                let ids = (0..self.outputs).map(|id| id as i32).collect();
                let ids = kernels::integers(ids, [self.outputs], &device);
                let nowhere = kernels::floats(vec![0.0; self.inputs], [1, self.inputs], &device, float);
                self.embed(ids, nowhere, self.outputs, Place::Sequence { seq: 1, past: 0 })
            }
        }
    }

    /// The same matrix with another parameter.
    ///
    /// # Panics
    /// When it is packed.
    #[cfg(feature = "train")]
    #[must_use]
    pub fn map_parameter(mut self, change: impl FnOnce(Param<Tensor<2>>) -> Param<Tensor<2>>) -> Self {
        self.weight = Some(change(self.weight.expect("only plain matrices are trained")));
        self
    }

    /// The parameter of a plain matrix.
    pub fn parameter(&self) -> Option<&Param<Tensor<2>>> {
        self.weight.as_ref()
    }

    fn view(&self) -> MatrixView {
        match (&self.weight, &self.codes) {
            (Some(weight), _) => MatrixView::Float(weight.val()),
            (None, Some(codes)) => MatrixView::Packed(codes.val(), self.scales.as_ref().map(Param::val)),
            (None, None) => unreachable!("a matrix is plain or packed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::block_on;
    use crate::kernels::{read_floats, widen};
    use half::f16;

    /// Rows that are no multiple of a group, in groups of the usual sizes.
    #[test]
    fn numbers_are_those_that_codes_stand_for() {
        const SHAPE: [usize; 2] = [7, 100];
        let [outputs, inputs] = SHAPE;
        let numbers = |stored| {
            let numbers = Matrix::from_stored(stored, &Device::flex(), DType::F32).numbers(DType::F32);
            assert_eq!(numbers.dims(), SHAPE);
            block_on(read_floats(numbers)).unwrap()
        };
        for (format, group) in [(Format::Q8, 32), (Format::Q8, 128), (Format::Q4, 32), (Format::Q4, 64)] {
            let padded = inputs.next_multiple_of(group);
            let bytes = if format == Format::Q8 { padded } else { padded / 2 };
            // No stored byte is -128.
            let code = |index: usize| match (index * 37 % 251) as u8 {
                128 => 1,
                code => code,
            };
            let codes: Vec<u8> = (0..outputs * bytes).map(code).collect();
            let scale = |index: usize| f16::from_f32(0.01 + 0.003 * index as f32);
            let scales: Vec<f16> = (0..outputs * padded / group).map(scale).collect();
            let expected = widen(format, group, outputs, inputs, &codes, &scales);
            let stored = Stored::Quantised { format, group, outputs, inputs, codes, scales };
            assert_eq!(numbers(stored), expected, "{format:?} {group}");
        }
        let values: Vec<f32> = (0..outputs * inputs).map(|index| index as f32).collect();
        assert_eq!(numbers(Stored::Float { values: values.clone(), shape: SHAPE }), values);
    }
}
