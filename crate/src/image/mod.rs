//! From the bytes of a picture to the pixels the vision encoder reads.
//!
//! ```
//! use blip_web::image::{self, ImageOptions};
//!
//! let picture = image::from_rgba(2, 1, &[255, 0, 0, 255, 0, 0, 255, 0], &ImageOptions::default())?;
//! let pixels = image::preprocess(&picture, 32); // 3 x 32 x 32 values, ready for the vision encoder
//! assert_eq!(pixels.len(), 3 * 32 * 32);
//! # Ok::<(), blip_web::Error>(())
//! ```
//!
//! The pipeline is that of the reference's evaluation: RGB, a square resize that ignores the aspect
//! ratio, `x / 255`, then CLIP's mean and standard deviation. Two defaults differ, on purpose, from
//! the reference's `convert("RGB")`: EXIF orientation is applied and transparency is composited on
//! white. [`ImageOptions::reference`] switches both back.

mod decode;
mod resize;

pub use decode::{MAX_PIXELS, MAX_SIDE, decode, from_rgba};
pub use resize::resize_bicubic;

use image::RgbImage;
use serde::{Deserialize, Serialize};

/// Mean of the red, green and blue channels, in 0..1 (CLIP's; every published BLIP uses it).
pub const CLIP_MEAN: [f32; 3] = [0.48145466, 0.4578275, 0.40821073];
/// Standard deviation of the red, green and blue channels, in 0..1 (CLIP's; every published BLIP uses it).
#[allow(clippy::excessive_precision, reason = "the digits CLIP publishes")]
pub const CLIP_STD: [f32; 3] = [0.26862954, 0.26130258, 0.27577711];

/// How the bytes of a picture become RGB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ImageOptions {
    /// Rotate and mirror as the EXIF orientation says, so that the model sees the picture upright.
    pub apply_exif: bool,
    /// What becomes of transparency.
    pub alpha: Alpha,
}

/// What becomes of transparency.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Alpha {
    /// Composite on white, as a page would show the picture (reference: transformers 5).
    #[default]
    White,
    /// Drop the channel and keep the colours below it (reference: BLIP, transformers 4).
    Discard,
}

impl Default for ImageOptions {
    fn default() -> Self {
        Self { apply_exif: true, alpha: Alpha::White }
    }
}

impl ImageOptions {
    /// What BLIP's own `Image.open(file).convert("RGB")` does: no orientation, alpha dropped.
    pub const fn reference() -> Self {
        Self { apply_exif: false, alpha: Alpha::Discard }
    }
}

/// A square resize to `size` and CLIP's normalisation: `[3, size, size]`, channel-major, row by row.
///
/// `size` is the side the model was configured for (384 for the published captioning models).
pub fn preprocess(picture: &RgbImage, size: usize) -> Vec<f32> {
    let side = u32::try_from(size).expect("a model's image side is a few hundred pixels");
    normalize(&resize_bicubic(picture, side, side), CLIP_MEAN, CLIP_STD)
}

/// `(x / 255 - mean) / std` in f32 and in this order: `[3, height, width]`, channel-major, row by row.
pub fn normalize(picture: &RgbImage, mean: [f32; 3], std: [f32; 3]) -> Vec<f32> {
    let bytes = picture.as_raw();
    let mut pixels = Vec::with_capacity(bytes.len());
    for channel in 0..3 {
        // 256 divisions a channel instead of two a pixel; the values are the same.
        let table: [f32; 256] =
            std::array::from_fn(|level| (level as f32 / 255.0 - mean[channel]) / std[channel]);
        pixels.extend(bytes.chunks_exact(3).map(|rgb| table[usize::from(rgb[channel])]));
    }
    pixels
}

/// Square patches of a square picture, row by row, each by channel, y, x:
/// `[3, size, size]` to `[(size/patch)², 3·patch²]`. What does not fill a patch is left out.
pub fn cut(pixels: &[f32], size: usize, patch: usize) -> Vec<f32> {
    let grid = size / patch;
    let mut patches = Vec::with_capacity(3 * grid * grid * patch * patch);
    for row in 0..grid {
        for column in 0..grid {
            for channel in 0..3 {
                for y in row * patch..(row + 1) * patch {
                    let start = (channel * size + y) * size + column * patch;
                    patches.extend_from_slice(&pixels[start..start + patch]);
                }
            }
        }
    }
    patches
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn black_and_white_reach_the_ends_of_the_normalised_range() {
        let low = preprocess(&RgbImage::from_pixel(5, 3, Rgb([0; 3])), 2);
        let high = preprocess(&RgbImage::from_pixel(5, 3, Rgb([255; 3])), 2);
        for (channel, (black, white)) in
            [(-1.79226, 1.93034), (-1.75210, 2.07488), (-1.48022, 2.14590)].into_iter().enumerate()
        {
            for pixel in 0..4 {
                assert!((low[channel * 4 + pixel] - black).abs() < 1e-5);
                assert!((high[channel * 4 + pixel] - white).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn patches_are_cut_row_by_row_and_by_channel() {
        let size = 5;
        let pixels: Vec<f32> = (0..3 * size * size).map(|index| index as f32).collect();
        let patches = cut(&pixels, size, 2);
        assert_eq!(patches.len(), 4 * 3 * 4);
        assert_eq!(patches[..4], [0.0, 1.0, 5.0, 6.0]);
        assert_eq!(patches[4..8], [25.0, 26.0, 30.0, 31.0]);
        assert_eq!(patches[12..16], [2.0, 3.0, 7.0, 8.0]);
        assert_eq!(patches[24..28], [10.0, 11.0, 15.0, 16.0]);
    }

    #[test]
    fn normalised_pixels_are_channel_major() {
        let picture = RgbImage::from_raw(2, 1, vec![255, 0, 51, 0, 255, 102]).unwrap();
        let pixels = normalize(&picture, [0.0; 3], [1.0; 3]);
        assert_eq!(pixels, [1.0, 0.0, 0.0, 1.0, 0.2, 0.4]);
    }

    #[test]
    fn options_are_camel_case_and_default_to_what_a_page_shows() {
        assert_eq!(serde_json::from_str::<ImageOptions>("{}").unwrap(), ImageOptions::default());
        assert_eq!(
            serde_json::from_str::<ImageOptions>(r#"{"applyExif":false,"alpha":"discard"}"#).unwrap(),
            ImageOptions::reference()
        );
        assert!(serde_json::from_str::<ImageOptions>(r#"{"exif":false}"#).is_err());
    }
}
