//! Operations on the levels of each channel, as Pillow's `ImageOps` computes them.

use image::RgbImage;

/// Stretches the levels of every channel to 0 and 255; a channel of one level stays.
pub(super) fn auto_contrast(picture: &mut RgbImage) {
    map_levels(picture, |histogram| {
        let is_used = |level: &usize| histogram[*level] > 0;
        let (Some(low), Some(high)) = ((0..256).find(is_used), (0..256).rev().find(is_used)) else {
            return None;
        };
        if high <= low {
            return None;
        }
        let scale = 255.0 / (high - low) as f64;
        let offset = -(low as f64) * scale;
        // Casts truncate and saturate, as there.
        Some(std::array::from_fn(|level| (level as f64 * scale + offset) as u8))
    });
}

/// Spreads the levels of every channel so that each is about as frequent.
pub(super) fn equalize(picture: &mut RgbImage) {
    map_levels(picture, |histogram| {
        let total: u64 = histogram.iter().sum();
        let last = histogram.iter().rev().find(|count| **count > 0)?;
        let step = (total - last) / 255;
        if step == 0 {
            return None;
        }
        let mut before = step / 2;
        Some(std::array::from_fn(|level| {
            let new = before / step;
            before += histogram[level];
            new.min(255) as u8
        }))
    });
}

/// Replaces the levels of each channel by a table that is made of its histogram, where one is made.
fn map_levels(picture: &mut RgbImage, table: impl Fn(&[u64; 256]) -> Option<[u8; 256]>) {
    for channel in 0..3 {
        let mut histogram = [0; 256];
        picture.pixels().for_each(|pixel| histogram[usize::from(pixel[channel])] += 1);
        if let Some(table) = table(&histogram) {
            picture.pixels_mut().for_each(|pixel| pixel[channel] = table[usize::from(pixel[channel])]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    #[test]
    fn a_flat_channel_stays_and_another_is_stretched() {
        let mut picture = RgbImage::from_fn(3, 1, |x, _| Rgb([50, 100 + 10 * x as u8, 255]));
        auto_contrast(&mut picture);
        let pixels: Vec<[u8; 3]> = picture.pixels().map(|pixel| pixel.0).collect();
        assert_eq!(pixels, [[50, 0, 255], [50, 127, 255], [50, 255, 255]]);
        let mut flat = RgbImage::from_pixel(40, 40, Rgb([9, 0, 255]));
        equalize(&mut flat);
        assert!(flat.pixels().all(|pixel| pixel.0 == [9, 0, 255]));
    }

    #[test]
    fn a_picture_of_few_pixels_is_not_equalized() {
        let picture = RgbImage::from_fn(10, 10, |x, y| Rgb([(x * y) as u8; 3]));
        let mut equalized = picture.clone();
        equalize(&mut equalized);
        assert_eq!(equalized, picture);
    }
}
