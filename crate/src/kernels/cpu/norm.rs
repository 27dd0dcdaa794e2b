//! LayerNorm and normalisation to unit length.

use super::isa::{Isa, Kernel, Level, dispatch_at};

/// LayerNorm of `rows` rows of `width` that start `stride` elements apart, with `norm: [2, width]`,
/// scale then shift: `[rows, width]`.
///
/// The variance is that of the differences from the mean, so rows far from zero lose nothing.
pub fn layer_norm(x: &[f32], stride: usize, rows: usize, norm: &[f32], epsilon: f32) -> Vec<f32> {
    layer_norm_at(Level::best(), x, stride, rows, norm, epsilon)
}

/// Each row of `width` divided by its Euclidean length, which is taken as at least 1e-12.
pub fn normalise(x: &[f32], width: usize) -> Vec<f32> {
    dispatch_at(Level::best(), Normalise { x, width })
}

fn layer_norm_at(
    level: Level,
    x: &[f32],
    stride: usize,
    rows: usize,
    norm: &[f32],
    epsilon: f32,
) -> Vec<f32> {
    dispatch_at(level, LayerNorm { x, stride, rows, norm, epsilon })
}

struct LayerNorm<'a> {
    x: &'a [f32],
    stride: usize,
    rows: usize,
    norm: &'a [f32],
    epsilon: f32,
}

impl Kernel for LayerNorm<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> Vec<f32> {
        let width = self.norm.len() / 2;
        let (scale, shift) = self.norm.split_at(width);
        let mut out = vec![0.0; self.rows * width];
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let x = &self.x[row * self.stride..][..width];
            let mean = sum(simd, x) / width as f32;
            let squares = sum_of_squares(simd, x, mean);
            let middle = simd.splat(mean);
            let inverse = 1.0 / (squares / width as f32 + self.epsilon).sqrt();
            let factor = simd.splat(inverse);
            let whole = width - width % S::LANES;
            for i in (0..whole).step_by(S::LANES) {
                let x = simd.mul(simd.sub(simd.load(&x[i..]), middle), factor);
                simd.store(&mut out[i..], simd.fma(x, simd.load(&scale[i..]), simd.load(&shift[i..])));
            }
            for i in whole..width {
                out[i] = (x[i] - mean) * inverse * scale[i] + shift[i];
            }
        }
        out
    }
}

struct Normalise<'a> {
    x: &'a [f32],
    width: usize,
}

impl Kernel for Normalise<'_> {
    type Output = Vec<f32>;

    #[inline(always)]
    fn run<S: Isa>(self, simd: S) -> Vec<f32> {
        let mut out = Vec::with_capacity(self.x.len());
        for x in self.x.chunks_exact(self.width) {
            let length = sum_of_squares(simd, x, 0.0).sqrt().max(1e-12);
            out.extend(x.iter().map(|x| x / length));
        }
        out
    }
}

/// Sum of all elements.
#[inline(always)]
pub(super) fn sum<S: Isa>(simd: S, x: &[f32]) -> f32 {
    // Four sums, so that none waits for the last addition.
    let mut sums = [simd.zero(); 4];
    let mut blocks = x.chunks_exact(4 * S::LANES);
    for block in &mut blocks {
        sums[0] = simd.add(sums[0], simd.load(block));
        sums[1] = simd.add(sums[1], simd.load(&block[S::LANES..]));
        sums[2] = simd.add(sums[2], simd.load(&block[2 * S::LANES..]));
        sums[3] = simd.add(sums[3], simd.load(&block[3 * S::LANES..]));
    }
    let sum = simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]));
    simd.sum(sum) + blocks.remainder().iter().sum::<f32>()
}

/// Sum of `(x - middle)²` over all elements.
#[inline(always)]
pub(super) fn sum_of_squares<S: Isa>(simd: S, x: &[f32], middle: f32) -> f32 {
    let lanes = simd.splat(middle);
    let mut sums = [simd.zero(); 4];
    let mut blocks = x.chunks_exact(4 * S::LANES);
    for block in &mut blocks {
        sums[0] = add_square(simd, sums[0], block, lanes);
        sums[1] = add_square(simd, sums[1], &block[S::LANES..], lanes);
        sums[2] = add_square(simd, sums[2], &block[2 * S::LANES..], lanes);
        sums[3] = add_square(simd, sums[3], &block[3 * S::LANES..], lanes);
    }
    let sum = simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]));
    simd.sum(sum) + blocks.remainder().iter().map(|x| (x - middle) * (x - middle)).sum::<f32>()
}

/// `sum + (x - middle)²` for the first vector of `x`.
#[inline(always)]
fn add_square<S: Isa>(simd: S, sum: S::F, x: &[f32], middle: S::F) -> S::F {
    let x = simd.sub(simd.load(x), middle);
    simd.fma(x, x, sum)
}

#[cfg(test)]
mod tests {
    use super::super::samples::Samples;
    use super::*;

    #[test]
    fn layer_norm_is_that_of_f64_on_every_instruction_set() {
        let mut samples = Samples::new(1);
        for width in [1, 4, 7, 40, 64, 130, 768] {
            let (rows, stride) = (5, width + 3);
            // Far from zero, where a variance of squares would be lost.
            let x: Vec<f32> = samples.floats(rows * stride).iter().map(|x| x * 2.0 + 300.0).collect();
            let norm = samples.floats(2 * width);
            for level in Level::available() {
                let out = layer_norm_at(level, &x, stride, rows, &norm, 1e-5);
                for (row, out) in out.chunks_exact(width).enumerate() {
                    let x: Vec<f64> = x[row * stride..][..width].iter().map(|x| f64::from(*x)).collect();
                    let mean = x.iter().sum::<f64>() / width as f64;
                    let variance = x.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / width as f64;
                    for i in 0..width {
                        let scaled = (x[i] - mean) / (variance + 1e-5).sqrt();
                        let exact = scaled * f64::from(norm[i]) + f64::from(norm[width + i]);
                        assert!((f64::from(out[i]) - exact).abs() < 2e-4, "{level:?} {width} {row} {i}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_constant_row_becomes_the_shift() {
        let norm: Vec<f32> = (0..32).map(|i| i as f32).collect();
        for level in Level::available() {
            let out = layer_norm_at(level, &[7.5; 16], 16, 1, &norm, 1e-12);
            assert_eq!(out, norm[16..], "{level:?}");
        }
    }

    #[test]
    fn rows_get_unit_length_and_a_row_of_zeros_stays() {
        let mut samples = Samples::new(2);
        for width in [1, 5, 16, 257] {
            let mut x = samples.floats(3 * width);
            x[width..2 * width].fill(0.0);
            for level in Level::available() {
                let out = dispatch_at(level, Normalise { x: &x, width });
                assert!(out[width..2 * width].iter().all(|x| *x == 0.0));
                for row in [0, 2] {
                    let own = &x[row * width..][..width];
                    let length = own.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
                    for (x, out) in own.iter().zip(&out[row * width..]) {
                        assert!((f64::from(*x) / length - f64::from(*out)).abs() < 1e-6, "{level:?} {width}");
                    }
                }
            }
        }
    }
}
