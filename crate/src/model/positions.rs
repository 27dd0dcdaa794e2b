//! Interpolation of the position table for pictures of another size.

use burn::tensor::Tensor;
#[cfg(not(target_family = "wasm"))]
use burn::tensor::TensorData;

/// The table for a grid of `rows × columns` patches: `table` itself where it is of that grid.
///
/// # Shapes
/// - table: `[1 + grid², dim]`
/// - output: `[1 + rows·columns, dim]`
///
/// # Panics
/// In a browser, for another grid: there every picture is resized to the model's square first.
pub(super) fn positions_for(table: Tensor<2>, rows: usize, columns: usize) -> Tensor<2> {
    let [tokens, _] = table.dims();
    if (rows * columns, rows) == (tokens - 1, (tokens - 1).isqrt()) {
        return table;
    }
    #[cfg(not(target_family = "wasm"))]
    return interpolate_positions(table, rows, columns);
    #[cfg(target_family = "wasm")]
    panic!("a browser resizes pictures to the model's square");
}

/// The table resized to a grid of `rows × columns` patches.
///
/// Row 0 (the class token) is kept, the rest is resized as PyTorch's bicubic with
/// `align_corners=false` and without antialiasing does it; see [`bicubic_taps`].
///
/// # Shapes
/// - table: `[1 + grid², dim]`
/// - output: `[1 + rows·columns, dim]`
#[cfg(not(target_family = "wasm"))]
pub fn interpolate_positions(table: Tensor<2>, rows: usize, columns: usize) -> Tensor<2> {
    let [tokens, dim] = table.dims();
    let grid = (tokens - 1).isqrt();
    let device = table.device();
    let weights = |target: usize| {
        let matrix = tap_matrix(grid, target);
        Tensor::<2>::from_data(TensorData::new(matrix, [target, grid]), &device)
    };
    let class = table.clone().slice([0..1, 0..dim]);
    let patches = table.slice([1..tokens, 0..dim]).reshape([grid, grid * dim]);
    let patches = weights(rows).matmul(patches).reshape([rows, grid, dim]);
    let patches = weights(columns).unsqueeze::<3>().expand([rows, columns, grid]).matmul(patches);
    Tensor::cat(vec![class, patches.reshape([rows * columns, dim])], 0)
}

/// A position table like `like` (`[1 + grid², dim]`) filled with sines and cosines: a quarter of the
/// width each for the sine and cosine of row and column, from one wave over four patches to almost
/// none over the image. The class token's row is zero.
#[cfg(feature = "train")]
pub(super) fn wave_table(like: Tensor<2>) -> Tensor<2> {
    const STRENGTH: f64 = 0.3;
    const SLOWEST: f64 = 64.0;
    let [tokens, dim] = like.dims();
    let (grid, quarter) = ((tokens - 1).isqrt(), dim / 4);
    let mut table = vec![0.0f32; tokens * dim];
    for (token, row) in table.chunks_exact_mut(dim).enumerate().skip(1) {
        for (axis, place) in [(token - 1) / grid, (token - 1) % grid].into_iter().enumerate() {
            for wave in 0..quarter {
                let speed = 1.5 / SLOWEST.powf(wave as f64 / quarter as f64);
                let (sine, cosine) = (place as f64 * speed).sin_cos();
                row[2 * axis * quarter + wave] = (STRENGTH * sine) as f32;
                row[(2 * axis + 1) * quarter + wave] = (STRENGTH * cosine) as f32;
            }
        }
    }
    Tensor::from_data(TensorData::new(table, [tokens, dim]), &like.device())
}

/// The four taps of output `index` when `from` samples become `to`: indices and weights.
///
/// Cubic convolution with A = -0.75; taps beyond the border repeat the border sample, and the
/// weights are not renormalised (reference: `torch.nn.functional.interpolate`).
pub fn bicubic_taps(from: usize, to: usize, index: usize) -> ([usize; 4], [f64; 4]) {
    const A: f64 = -0.75;
    let x = (index as f64 + 0.5) * from as f64 / to as f64 - 0.5;
    let floor = x.floor();
    let t = x - floor;
    let near = |t: f64| ((A + 2.0) * t - (A + 3.0)) * t * t + 1.0;
    let far = |t: f64| ((A * t - 5.0 * A) * t + 8.0 * A) * t - 4.0 * A;
    let indices = [-1.0, 0.0, 1.0, 2.0].map(|offset| (floor + offset).clamp(0.0, from as f64 - 1.0) as usize);
    (indices, [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)])
}

/// The interpolation of one axis as a matrix `[to, from]`.
#[cfg(not(target_family = "wasm"))]
fn tap_matrix(from: usize, to: usize) -> Vec<f32> {
    let mut matrix = vec![0.0; to * from];
    for index in 0..to {
        let (indices, weights) = bicubic_taps(from, to, index);
        for (source, weight) in indices.into_iter().zip(weights) {
            matrix[index * from + source] += weight as f32;
        }
    }
    matrix
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_have_the_reference_values() {
        for (from, to, indices, weights) in [
            (14, 24, [0, 0, 0, 1], [-0.02577, 0.21005, 0.91365, -0.09793]),
            (30, 24, [0, 0, 1, 2], [-0.07178, 0.96729, 0.11475, -0.01025]),
        ] {
            let (got_indices, got_weights) = bicubic_taps(from, to, 0);
            assert_eq!(got_indices, indices);
            for (got, expected) in got_weights.into_iter().zip(weights) {
                assert!((got - expected).abs() < 1e-5, "{got} {expected}");
            }
        }
    }
}
