//! From a matrix in host memory to the layout of its device's kernels.

use burn::tensor::{DType, Device};

use super::contract::Format;
use super::routing::{MatrixView, Route};
use super::stored::Stored;
use super::transfer::{floats, integers};

/// Puts a matrix on a device.
///
/// Packed matrices stay packed on WebGPU (as they are) and on the CPU (panels for its SIMD code);
/// on any other device they are widened. A plain matrix has the element type `float`.
pub fn place(stored: Stored, device: &Device, float: DType) -> MatrixView {
    let (format, group, outputs, inputs, codes, scales) = match stored {
        Stored::Float { values, shape } => {
            return MatrixView::Float(floats(values, shape, device, float));
        }
        Stored::Quantised { format, group, outputs, inputs, codes, scales } => {
            (format, group, outputs, inputs, codes, scales)
        }
    };
    let words = |words: Vec<u32>, rows: usize| {
        let columns = words.len() / rows;
        let words: Vec<i32> = bytemuck::allocation::cast_vec(words);
        integers(words, [rows, columns], device)
    };
    match Route::of(device) {
        Route::Gpu => {
            let groups = scales.len() / outputs;
            let scales = scales
                .chunks_exact(groups)
                .flat_map(|row| row.chunks(2))
                .map(|pair| {
                    let high = pair.get(1).map_or(0, |scale| u32::from(scale.to_bits()));
                    u32::from(pair[0].to_bits()) | high << 16
                })
                .collect();
            MatrixView::Packed(words(into_words(&codes), outputs), Some(words(scales, outputs)))
        }
        #[cfg(feature = "flex")]
        Route::Cpu => {
            let packed = super::cpu::pack::pack(format, group, outputs, inputs, &codes, &scales);
            MatrixView::Packed(words(packed.codes, 1), Some(words(packed.scales, 1)))
        }
        _ => {
            let values = widen(format, group, outputs, inputs, &codes, &scales);
            MatrixView::Float(floats(values, [outputs, inputs], device, float))
        }
    }
}

/// Codes times scales, without padding: `[outputs, inputs]`.
pub fn widen(
    format: Format,
    group: usize,
    outputs: usize,
    inputs: usize,
    codes: &[u8],
    scales: &[half::f16],
) -> Vec<f32> {
    let row_bytes = codes.len() / outputs;
    let groups = scales.len() / outputs;
    let mut values = Vec::with_capacity(outputs * inputs);
    for (codes, scales) in codes.chunks_exact(row_bytes).zip(scales.chunks_exact(groups)) {
        for column in 0..inputs {
            let code = match format {
                Format::Q4 => i32::from(codes[column / 2] >> (4 * (column % 2)) & 15) - 8,
                _ => i32::from(codes[column].cast_signed()),
            };
            values.push(code as f32 * scales[column / group].to_f32());
        }
    }
    values
}

fn into_words(bytes: &[u8]) -> Vec<u32> {
    bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
}
