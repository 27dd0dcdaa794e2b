//! Bicubic resizing that equals Pillow's to the bit.
//!
//! Separable convolution with a Catmull-Rom kernel whose support grows when shrinking. Horizontal
//! pass first, rounded and clamped to bytes, then vertical; weights in fixed point with
//! [`PRECISION`] bits. A pass whose input and output lengths agree is skipped.
//!
//! This is Pillow up to 12, with which every published BLIP was trained and evaluated. Pillow 13 runs
//! the vertical pass first where the height shrinks more than the width, which moves some bytes of
//! such pictures by a level.

use image::RgbImage;

/// Fraction bits of a weight: 32, less 8 for the byte, less 2 for overshoot and sign.
const PRECISION: u32 = 22;
/// Half a unit, so that the final shift rounds.
const HALF: i32 = 1 << (PRECISION - 1);

/// The picture scaled to `width` x `height`, the aspect ratio not kept: bit-exact with Pillow's
/// `Image.resize((width, height), Image.BICUBIC)` (up to Pillow 12, see the module).
///
/// A side of zero gives an empty picture.
pub fn resize_bicubic(picture: &RgbImage, width: u32, height: u32) -> RgbImage {
    if picture.is_empty() || width == 0 || height == 0 {
        return RgbImage::new(width, height);
    }
    let wide;
    let picture = if picture.width() == width {
        picture
    } else {
        wide = horizontal(picture, width);
        &wide
    };
    if picture.height() == height { picture.clone() } else { vertical(picture, height) }
}

/// The taps of every output position along one axis.
struct Kernel {
    /// For each output position: the first input position, and where its weights end in `weights`.
    spans: Vec<(usize, usize)>,
    weights: Vec<i32>,
}

impl Kernel {
    fn new(input: u32, output: u32) -> Self {
        let scale = f64::from(input) / f64::from(output);
        let stretch = scale.max(1.0);
        // A multiplication, not a division: the last bit of the product decides some roundings.
        let shrink = 1.0 / stretch;
        let support = 2.0 * stretch;
        let mut spans = Vec::with_capacity(output as usize);
        let mut weights = Vec::new();
        let mut taps = Vec::new();
        for position in 0..output {
            let center = (f64::from(position) + 0.5) * scale;
            // Casts saturate, which is the clamp at the left edge.
            let first = (center - support + 0.5) as u32;
            let last = ((center + support + 0.5) as u32).min(input);
            taps.clear();
            taps.extend((0..last - first).map(|tap| cubic((f64::from(tap + first) - center + 0.5) * shrink)));
            let total: f64 = taps.iter().sum();
            weights.extend(taps.iter().map(|tap| fixed(tap / total)));
            spans.push((first as usize, weights.len()));
        }
        Self { spans, weights }
    }

    /// For each output position: the first input position and its weights.
    fn positions(&self) -> impl Iterator<Item = (usize, &[i32])> {
        let mut start = 0;
        self.spans.iter().map(move |&(first, end)| {
            let weights = &self.weights[start..end];
            start = end;
            (first, weights)
        })
    }
}

/// Catmull-Rom: the cubic convolution kernel with a = -0.5.
fn cubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// A weight in fixed point, halves away from zero.
fn fixed(weight: f64) -> i32 {
    let scaled = weight * f64::from(1 << PRECISION);
    (if weight < 0.0 { scaled - 0.5 } else { scaled + 0.5 }) as i32
}

/// A sum of weighted bytes, started at [`HALF`], back to a byte.
fn byte(sum: i32) -> u8 {
    (sum >> PRECISION).clamp(0, 255) as u8
}

fn horizontal(picture: &RgbImage, width: u32) -> RgbImage {
    let kernel = Kernel::new(picture.width(), width);
    let mut output = RgbImage::new(width, picture.height());
    let rows = picture.as_raw().chunks_exact(picture.width() as usize * 3);
    for (target, source) in output.chunks_exact_mut(width as usize * 3).zip(rows) {
        for (pixel, (first, weights)) in target.chunks_exact_mut(3).zip(kernel.positions()) {
            let taps = &source[first * 3..(first + weights.len()) * 3];
            let (mut red, mut green, mut blue) = (HALF, HALF, HALF);
            for (rgb, &weight) in taps.chunks_exact(3).zip(weights) {
                red += i32::from(rgb[0]) * weight;
                green += i32::from(rgb[1]) * weight;
                blue += i32::from(rgb[2]) * weight;
            }
            pixel.copy_from_slice(&[byte(red), byte(green), byte(blue)]);
        }
    }
    output
}

fn vertical(picture: &RgbImage, height: u32) -> RgbImage {
    let kernel = Kernel::new(picture.height(), height);
    let row = picture.width() as usize * 3;
    let mut output = RgbImage::new(picture.width(), height);
    // A row of sums, so that every inner loop runs over contiguous memory.
    let mut sums = vec![HALF; row];
    for (target, (first, weights)) in output.chunks_exact_mut(row).zip(kernel.positions()) {
        sums.fill(HALF);
        let lines = picture.as_raw()[first * row..].chunks_exact(row);
        for (line, &weight) in lines.zip(weights) {
            for (sum, &level) in sums.iter_mut().zip(line) {
                *sum += i32::from(level) * weight;
            }
        }
        for (level, &sum) in target.iter_mut().zip(&sums) {
            *level = byte(sum);
        }
    }
    output
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn a_flat_picture_stays_flat() {
        let color = Rgb([3, 127, 251]);
        for (from, to) in [((1, 1), (9, 5)), ((640, 3), (32, 32)), ((7, 11), (13, 2))] {
            let scaled = resize_bicubic(&RgbImage::from_pixel(from.0, from.1, color), to.0, to.1);
            assert_eq!(scaled.dimensions(), to);
            assert!(scaled.pixels().all(|&pixel| pixel == color));
        }
    }

    #[test]
    fn weights_of_a_position_sum_to_one_within_their_rounding() {
        for (input, output) in [(192, 96), (3, 1000), (1000, 3), (1, 5), (383, 384)] {
            for (_, weights) in Kernel::new(input, output).positions() {
                let error = weights.iter().sum::<i32>() - (1 << PRECISION);
                assert!(
                    error.unsigned_abs() as usize <= weights.len(),
                    "{input} to {output}: off by {error}"
                );
            }
        }
    }

    #[test]
    fn an_edge_overshoots_and_is_clamped_as_a_byte() {
        let picture = RgbImage::from_fn(4, 1, |x, _| Rgb([if x < 2 { 20 } else { 230 }; 3]));
        let reds: Vec<u8> = resize_bicubic(&picture, 8, 1).pixels().map(|pixel| pixel[0]).collect();
        assert_eq!(reds, [20, 15, 6, 63, 187, 244, 235, 230], "Pillow");
        let steep = RgbImage::from_fn(4, 1, |x, _| Rgb([if x < 2 { 0 } else { 255 }; 3]));
        let reds: Vec<u8> = resize_bicubic(&steep, 8, 1).pixels().map(|pixel| pixel[0]).collect();
        assert_eq!((reds[2], reds[5]), (0, 255));
    }

    #[test]
    fn a_side_of_zero_gives_an_empty_picture() {
        let picture = RgbImage::from_pixel(2, 2, Rgb([9; 3]));
        assert!(resize_bicubic(&picture, 0, 4).is_empty());
        assert_eq!(resize_bicubic(&RgbImage::new(0, 0), 2, 2).dimensions(), (2, 2));
    }
}
