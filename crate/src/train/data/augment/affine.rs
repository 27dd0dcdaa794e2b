//! Shears, translations and rotations as OpenCV's `warpAffine` computes them: bilinear with coordinates
//! in 32nds of a pixel, in integers, grey where there is no picture. Bit-exact with OpenCV 4.

use image::{Rgb, RgbImage};

/// What is outside of a picture.
const GREY: [u8; 3] = [128; 3];
/// Fraction bits of a coordinate before and after it is rounded to 32nds.
const FINE_BITS: u32 = 10;
const COARSE_BITS: u32 = 5;

/// Where a pixel goes: `x' = a x + b y + c`, `y' = d x + e y + f` as `[a, b, c, d, e, f]`.
pub(super) type Map = [f64; 6];

/// Rows move by their distance from the upper edge times `amount`, to the right when it is positive.
pub(super) fn shear_x(amount: f64) -> Map {
    // The reference's matrix has single precision.
    [1.0, f64::from(amount as f32), 0.0, 0.0, 1.0, 0.0]
}

/// Columns move by their distance from the left edge times `amount`, down when it is positive.
pub(super) fn shear_y(amount: f64) -> Map {
    [1.0, 0.0, 0.0, f64::from(amount as f32), 1.0, 0.0]
}

/// The picture moves by so many pixels, to the left when they are positive.
pub(super) fn translate_x(pixels: f64) -> Map {
    [1.0, 0.0, -pixels, 0.0, 1.0, 0.0]
}

/// The picture moves by so many pixels, up when they are positive.
pub(super) fn translate_y(pixels: f64) -> Map {
    [1.0, 0.0, 0.0, 0.0, 1.0, -pixels]
}

/// A turn about the middle of the picture, counter-clockwise when it is positive.
pub(super) fn rotate(degrees: f64, (width, height): (u32, u32)) -> Map {
    let (sin, cos) = degrees.to_radians().sin_cos();
    let (x, y) = (f64::from(width) / 2.0, f64::from(height) / 2.0);
    [cos, sin, (1.0 - cos) * x - sin * y, -sin, cos, sin * x + (1.0 - cos) * y]
}

/// The picture with every pixel where the map sends it.
pub(super) fn warp(picture: &RgbImage, map: Map) -> RgbImage {
    let [a, b, c, d, e, f] = inverse(map);
    let fine = |value: f64| (value * f64::from(1 << FINE_BITS)).round_ties_even() as i64;
    let half = 1 << (FINE_BITS - COARSE_BITS - 1);
    let coarse = |fine: i64| fine >> (FINE_BITS - COARSE_BITS);
    RgbImage::from_fn(picture.width(), picture.height(), |x, y| {
        let (x, y) = (f64::from(x), f64::from(y));
        // The parts of a coordinate are rounded one by one, as there.
        let from_x = coarse(fine(b * y + c) + half + fine(a * x));
        let from_y = coarse(fine(e * y + f) + half + fine(d * x));
        sample(picture, from_x, from_y)
    })
}

/// The mean of the four pixels around a place in 32nds of a pixel.
fn sample(picture: &RgbImage, x: i64, y: i64) -> Rgb<u8> {
    let unit = 1 << COARSE_BITS;
    let (left, top) = (x >> COARSE_BITS, y >> COARSE_BITS);
    let (right, down) = ((x & (unit - 1)) as u32, (y & (unit - 1)) as u32);
    let unit = unit as u32;
    let taps = [
        (left, top, (unit - right) * (unit - down)),
        (left + 1, top, right * (unit - down)),
        (left, top + 1, (unit - right) * down),
        (left + 1, top + 1, right * down),
    ];
    let mut sums = [unit * unit / 2; 3];
    for (x, y, weight) in taps {
        let pixel = match (u32::try_from(x), u32::try_from(y)) {
            (Ok(x), Ok(y)) => picture.get_pixel_checked(x, y).map_or(GREY, |pixel| pixel.0),
            _ => GREY,
        };
        for (sum, level) in sums.iter_mut().zip(pixel) {
            *sum += weight * u32::from(level);
        }
    }
    Rgb(sums.map(|sum| (sum / (unit * unit)) as u8))
}

/// Where a pixel comes from.
fn inverse([a, b, c, d, e, f]: Map) -> Map {
    let scale = 1.0 / (a * e - b * d);
    let (inverse_a, inverse_b, inverse_d, inverse_e) = (e * scale, b * -scale, d * -scale, a * scale);
    [
        inverse_a,
        inverse_b,
        -inverse_a * c - inverse_b * f,
        inverse_d,
        inverse_e,
        -inverse_d * c - inverse_e * f,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translation_moves_whole_pixels_and_leaves_grey() {
        let picture = RgbImage::from_fn(8, 1, |x, _| Rgb([x as u8; 3]));
        let reds = |map| warp(&picture, map).pixels().map(|pixel| pixel[0]).collect::<Vec<_>>();
        assert_eq!(reds(translate_x(5.0)), [5, 6, 7, 128, 128, 128, 128, 128]);
        assert_eq!(reds(translate_x(-5.0)), [128, 128, 128, 128, 128, 0, 1, 2]);
        assert_eq!(reds(translate_y(5.0)), [128; 8]);
    }

    #[test]
    fn no_turn_and_no_shear_change_nothing() {
        let picture = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8, y as u8, (x * y) as u8]));
        for map in [rotate(0.0, (9, 7)), shear_x(0.0), shear_y(0.0)] {
            assert_eq!(warp(&picture, map), picture);
        }
    }
}
