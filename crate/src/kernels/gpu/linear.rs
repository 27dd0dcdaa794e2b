//! `activation(norm(x)·Wᵀ + bias) + norm(residual)`: which kernel computes it, and its launch.
//!
//! Few rows (a step of decoding) are bound by reading the matrix: it streams past once, and norms are
//! part of the launch. Many rows (images, prompts) are bound by arithmetic: tiles of the result. On
//! hardware neighbours share their loads; a renderer on the CPU has registers only, see the heads of
//! `gemm_tile.wgsl`, `gemm_lane.wgsl` and `gemv.wgsl`.

mod source;
#[cfg(test)]
mod tests;

use burn_cubecl::CubeBackend;
use burn_cubecl::tensor::CubeTensor;

use self::source::{Kernel, Linear, STAGE};
use super::adapter::Adapter;
use super::launch::{Buffer, Float, launch, output, words};
use super::layer_norm::layer_norm;
use crate::kernels::{Format, LinearSpec, MatrixTensors, Normed};

#[cfg(not(target_family = "wasm"))]
pub(super) use self::source::variants;

/// As many rows as stream.
const FEW: usize = 8;

/// See [`Kernels::linear`](crate::kernels::Kernels::linear). Rows of `x` and their stride are multiples
/// of 4, as every width of the model is.
pub(super) fn linear(
    x: CubeTensor,
    matrix: MatrixTensors<CubeBackend>,
    bias: Option<CubeTensor>,
    norm: Option<CubeTensor>,
    residual: Option<CubeTensor>,
    spec: LinearSpec,
) -> CubeTensor {
    check(&x, &matrix, bias.as_ref(), norm.as_ref(), residual.as_ref(), &spec);
    if spec.rows <= FEW {
        return product(&x, &matrix, bias.as_ref(), norm.as_ref(), residual.as_ref(), &spec);
    }
    let plain = LinearSpec { normed: Normed::Neither, ..spec };
    match (spec.normed, norm, residual) {
        (Normed::Input { epsilon }, Some(norm), residual) => {
            // All rows, so that the stride stays what it was.
            let rows = x.meta.num_elements() / spec.inputs;
            let x = layer_norm(x, norm, rows, spec.inputs, epsilon);
            product(&x, &matrix, bias.as_ref(), None, residual.as_ref(), &plain)
        }
        (Normed::Residual { epsilon }, Some(norm), Some(residual)) => {
            let residual = layer_norm(residual, norm, spec.rows, spec.outputs, epsilon);
            product(&x, &matrix, bias.as_ref(), None, Some(&residual), &plain)
        }
        (_, _, residual) => product(&x, &matrix, bias.as_ref(), None, residual.as_ref(), &plain),
    }
}

/// One launch; a norm only where all rows are few.
fn product(
    x: &CubeTensor,
    matrix: &MatrixTensors<CubeBackend>,
    bias: Option<&CubeTensor>,
    norm: Option<&CubeTensor>,
    residual: Option<&CubeTensor>,
    spec: &LinearSpec,
) -> CubeTensor {
    let padded = padded(spec);
    let kernel = choose(spec, Adapter::current(), Adapter::neighbours());
    let shader = shader(spec, kernel, Float::of(x), [bias.is_some(), residual.is_some()]);
    let step = shader.step();
    let [rows, inputs, outputs, stride, group] =
        words([spec.rows, spec.inputs, spec.outputs, spec.row_stride, spec.group]);
    let epsilon = match spec.normed {
        Normed::Neither => 0.0,
        Normed::Input { epsilon } | Normed::Residual { epsilon } => epsilon,
    };

    let result = output(x, [spec.rows, spec.outputs], x.dtype);
    let (codes, scales) = match matrix {
        MatrixTensors::Float(values) => (values, None),
        MatrixTensors::Packed(codes, scales) => (codes, scales.as_ref()),
    };
    let mut buffers = vec![Buffer::Read(x), Buffer::Read(codes)];
    buffers.extend([scales, bias, norm, residual].into_iter().flatten().map(Buffer::Read));
    buffers.push(Buffer::Write(&result));
    let scale_pitch = padded.checked_div(group).map_or(0, |groups| groups.div_ceil(2));
    let parameters = [
        rows,
        outputs,
        inputs / 4,
        stride / 4,
        padded / shader.element(),
        scale_pitch,
        inputs.div_ceil(step),
        epsilon.to_bits(),
    ];
    let [high, wide] = shader.tile();
    launch(shader, [outputs.div_ceil(wide), rows.div_ceil(high), 1], &buffers, &parameters);
    result
}

/// The text for a product: with a bias, with a residual.
fn shader(spec: &LinearSpec, kernel: Kernel, float: Float, [bias, residual]: [bool; 2]) -> Linear {
    let [rows, inputs, group] = words([spec.rows, spec.inputs, spec.group]);
    let few = spec.rows <= FEW;
    let norm_input = few && matches!(spec.normed, Normed::Input { .. });
    let plain = Linear {
        kernel,
        float,
        format: spec.format,
        group,
        activation: spec.activation,
        bias,
        residual,
        norm_input,
        staged: norm_input && rows <= 3 && rows * inputs / 4 <= STAGE,
        norm_residual: few && matches!(spec.normed, Normed::Residual { .. }),
        ragged: false,
    };
    Linear { ragged: !inputs.is_multiple_of(plain.step()), ..plain }
}

/// The kernel for a product. The sizes for software are the fastest of many, measured on SwiftShader
/// and lavapipe; those for hardware follow from its memory: 128 bytes a load, 16 KiB a workgroup.
fn choose(spec: &LinearSpec, adapter: Adapter, neighbours: u32) -> Kernel {
    let rows = spec.rows as u32;
    let few = spec.rows <= FEW;
    match adapter {
        // A large matrix fills the machine even with more of it in every invocation, and the sums of
        // four rows leave room in a workgroup.
        Adapter::Hardware if few => {
            let columns = if spec.outputs >= 8192 && rows <= 4 { 4 } else { 2 };
            Kernel::Stream { rows, columns }
        }
        Adapter::Hardware => Kernel::Tile,
        Adapter::Software if few => Kernel::Lane { rows, columns: 8, invocations: 16, subgroups: false },
        Adapter::Software => {
            let whole = spec.inputs.is_multiple_of(spec.group.max(8));
            match neighbours >= 8 && whole && spec.rows >= 48 {
                true => Kernel::Lane { rows: 24, columns: 8, invocations: 32, subgroups: true },
                false => Kernel::Lane { rows: 8, columns: 12, invocations: 8, subgroups: false },
            }
        }
    }
}

/// Columns of a stored row.
fn padded(spec: &LinearSpec) -> u32 {
    let columns = if spec.group == 0 { spec.inputs } else { spec.inputs.next_multiple_of(spec.group) };
    columns as u32
}

/// # Panics
/// When operands are not what the specification says: native launches check no bounds.
fn check(
    x: &CubeTensor,
    matrix: &MatrixTensors<CubeBackend>,
    bias: Option<&CubeTensor>,
    norm: Option<&CubeTensor>,
    residual: Option<&CubeTensor>,
    spec: &LinearSpec,
) {
    let elements = |tensor: &CubeTensor| tensor.meta.num_elements();
    let LinearSpec { rows, inputs, outputs, row_stride, .. } = *spec;
    assert!(rows > 0 && outputs > 0 && inputs > 0, "an empty product: {spec:?}");
    assert!(inputs.is_multiple_of(4) && row_stride.is_multiple_of(4), "rows in vectors of four: {spec:?}");
    assert!(row_stride >= inputs && elements(x) >= (rows - 1) * row_stride + inputs, "rows of x: {spec:?}");
    let padded = padded(spec) as usize;
    match (spec.format, matrix) {
        (Format::Float, MatrixTensors::Float(values)) => {
            assert_eq!(values.dtype, x.dtype, "a plain matrix has the type of the activations");
            assert_eq!(elements(values), outputs * inputs, "a plain matrix: {spec:?}");
        }
        (Format::F16, MatrixTensors::Packed(codes, None)) => {
            assert_eq!(elements(codes), outputs * inputs / 2, "a matrix of halves: {spec:?}");
        }
        (Format::Q8 | Format::Q4, MatrixTensors::Packed(codes, Some(scales))) => {
            assert!(spec.group > 0 && spec.group.is_multiple_of(32), "groups of 32 columns: {spec:?}");
            let bits = if spec.format == Format::Q8 { 8 } else { 4 };
            assert_eq!(elements(codes), outputs * padded * bits / 32, "codes: {spec:?}");
            let pairs = (padded / spec.group).div_ceil(2);
            assert_eq!(elements(scales), outputs * pairs, "scales: {spec:?}");
        }
        _ => panic!("the matrix is not stored as {:?}", spec.format),
    }
    if let Some(bias) = bias {
        assert_eq!(elements(bias), outputs, "one bias an output");
    }
    if let Some(residual) = residual {
        assert_eq!(residual.dtype, x.dtype, "activations have one type");
        assert_eq!(elements(residual), rows * outputs, "a residual for every output");
    }
    let width = match spec.normed {
        Normed::Neither => None,
        Normed::Input { .. } => Some(inputs),
        Normed::Residual { .. } => {
            assert!(residual.is_some(), "the residual that is normalised is missing");
            Some(outputs)
        }
    };
    assert_eq!(norm.map(elements), width.map(|width| 2 * width), "a norm for {:?}", spec.normed);
    if rows > FEW && matches!(spec.normed, Normed::Input { .. }) {
        assert!(
            row_stride.is_multiple_of(inputs) && elements(x).is_multiple_of(inputs),
            "whole rows: {spec:?}"
        );
    }
}
