//! The reference's augmentation of training pictures: a random part, perhaps mirrored, and then two
//! random operations, in bytes throughout and normalised afterwards.

mod affine;
mod levels;
mod operations;

use image::{RgbImage, imageops};
use serde::{Deserialize, Serialize};

use crate::image::resize_bicubic;
use crate::train::data::Record;
use crate::train::random::Random;
use crate::{Error, ErrorKind, Result};
pub use operations::{Operation, RandomAugment};

/// What happens to a training picture; a step that is `None` or false is left out.
///
/// Mirroring makes "left" and "right" of a caption wrong, which the reference accepts. Where captions
/// say them, as those of scenes do, switch `mirror` off; where they say places, `crop` as well.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Augment {
    /// A random part of the picture instead of all of it.
    pub crop: Option<Crop>,
    /// Mirror every second picture.
    pub mirror: bool,
    /// Random operations on the resized picture.
    pub operations: Option<RandomAugment>,
}

/// Which parts of a picture are taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crop {
    /// The smallest and largest share of the area.
    pub scale: (f64, f64),
    /// The smallest and largest ratio of width to height.
    pub ratio: (f64, f64),
}

impl Augment {
    /// Nothing but the resize.
    pub const NONE: Self = Self { crop: None, mirror: false, operations: None };

    /// Pre-training: parts of a fifth and more.
    pub const PRETRAIN: Self = Self::reference(0.2);

    /// Fine-tuning: parts of a half and more.
    pub const FINETUNE: Self = Self::reference(0.5);

    const fn reference(smallest: f64) -> Self {
        let crop = Crop { scale: (smallest, 1.0), ratio: (3.0 / 4.0, 4.0 / 3.0) };
        Self { crop: Some(crop), mirror: true, operations: Some(RandomAugment::REFERENCE) }
    }

    /// Whether all of it can be done.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for ranges that are empty or not positive, and magnitudes above 10.
    pub fn check(&self) -> Result<()> {
        let is_range = |(low, high): (f64, f64)| 0.0 < low && low <= high && high.is_finite();
        if let Some(Crop { scale, ratio }) = self.crop
            && !(is_range(scale) && scale.1 <= 1.0 && is_range(ratio))
        {
            let message = format!(
                "a crop of scale {scale:?} and ratio {ratio:?}: expected positive ranges, low first, and scales up to 1"
            );
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        self.operations.as_ref().map_or(Ok(()), RandomAugment::check)
    }

    /// The augmented picture, `size` x `size`: a function of the picture and the random numbers.
    ///
    /// The part is resized as [`resize_bicubic`] does it, which is what the reference uses.
    ///
    /// # Panics
    /// When `size` is 0 or the picture is empty.
    pub fn apply(&self, picture: &RgbImage, size: u32, random: &mut Random) -> RgbImage {
        assert!(size > 0 && !picture.is_empty(), "{:?} to {size}", picture.dimensions());
        let mut picture = match self.crop {
            Some(crop) => {
                let (left, top, width, height) = crop.choose(picture.dimensions(), random);
                let part = imageops::crop_imm(picture, left, top, width, height).to_image();
                resize_bicubic(&part, size, size)
            }
            None => resize_bicubic(picture, size, size),
        };
        if self.mirror && random.coin() {
            imageops::flip_horizontal_in_place(&mut picture);
        }
        match &self.operations {
            Some(operations) => operations.apply(picture, random),
            None => picture,
        }
    }

    /// Augments every picture of a record by itself, each then `size` x `size`.
    pub fn apply_to(&self, record: &mut Record, size: u32, random: &mut Random) {
        for picture in record.images.iter_mut().filter(|picture| !picture.is_empty()) {
            *picture = self.apply(picture, size, random);
        }
    }
}

impl Crop {
    /// `(left, top, width, height)` of a part: an area and a ratio are drawn up to ten times, and when
    /// none fits into the picture, the middle of it is taken, as much as the ratios allow.
    fn choose(&self, (width, height): (u32, u32), random: &mut Random) -> (u32, u32, u32, u32) {
        let area = f64::from(width) * f64::from(height);
        for _ in 0..10 {
            let share = area * random.range(self.scale.0, self.scale.1);
            let ratio = random.range(self.ratio.0.ln(), self.ratio.1.ln()).exp();
            // Halves to even, as the reference rounds.
            let part =
                [(share * ratio).sqrt(), (share / ratio).sqrt()].map(|side| side.round_ties_even() as u32);
            let [part_width, part_height] = part;
            if (1..=width).contains(&part_width) && (1..=height).contains(&part_height) {
                let top = random.below((height - part_height) as usize + 1) as u32;
                let left = random.below((width - part_width) as usize + 1) as u32;
                return (left, top, part_width, part_height);
            }
        }
        let ratio = f64::from(width) / f64::from(height);
        let (part_width, part_height) = if ratio < self.ratio.0 {
            (width, (f64::from(width) / self.ratio.0).round_ties_even() as u32)
        } else if ratio > self.ratio.1 {
            ((f64::from(height) * self.ratio.1).round_ties_even() as u32, height)
        } else {
            (width, height)
        };
        // A picture of a pixel's width rounds to nothing.
        let (part_width, part_height) = (part_width.clamp(1, width), part_height.clamp(1, height));
        ((width - part_width) / 2, (height - part_height) / 2, part_width, part_height)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::Rgb;

    fn random(seed: u64) -> Random {
        Random::keyed([seed, 0, 0, 77])
    }

    fn picture() -> RgbImage {
        RgbImage::from_fn(60, 40, |x, y| Rgb([x as u8 * 4, y as u8 * 6, (x * y) as u8]))
    }

    #[test]
    fn without_any_step_it_is_the_resize() {
        let resized = resize_bicubic(&picture(), 32, 32);
        assert_eq!(Augment::NONE.apply(&picture(), 32, &mut random(1)), resized);
    }

    #[test]
    fn equal_random_numbers_give_equal_pictures_and_others_others() {
        let apply = |seed| Augment::PRETRAIN.apply(&picture(), 32, &mut random(seed));
        assert_eq!(apply(1), apply(1));
        let different = (0..20).filter(|&seed| apply(seed) != apply(seed + 100)).count();
        assert!(different >= 19);
        assert!((0..20).all(|seed| apply(seed).dimensions() == (32, 32)));
    }

    #[test]
    fn parts_have_the_areas_and_ratios_that_were_asked_for() {
        let crop = Augment::PRETRAIN.crop.unwrap();
        let (mut sum, mut smallest) = (0.0, 1.0_f64);
        for seed in 0..2000 {
            let (left, top, width, height) = crop.choose((300, 300), &mut random(seed));
            assert!(left + width <= 300 && top + height <= 300);
            let ratio = f64::from(width) / f64::from(height);
            assert!((0.73..1.37).contains(&ratio), "{ratio}");
            let share = f64::from(width * height) / 90_000.0;
            sum += share;
            smallest = smallest.min(share);
        }
        assert!(smallest > 0.19 && smallest < 0.22, "{smallest}");
        // Large areas of skewed ratios do not fit, and are drawn again: 0.54 and not 0.6.
        assert!((sum / 2000.0 - 0.54).abs() < 0.02, "{}", sum / 2000.0);
    }

    #[test]
    fn a_picture_that_no_part_fits_gives_its_middle() {
        let crop = Crop { scale: (0.9, 1.0), ratio: (0.75, 4.0 / 3.0) };
        assert_eq!(crop.choose((400, 30), &mut random(1)), (180, 0, 40, 30));
        assert_eq!(crop.choose((30, 400), &mut random(1)), (0, 180, 30, 40));
        assert_eq!(crop.choose((1, 1), &mut random(1)), (0, 0, 1, 1));
    }

    #[test]
    fn half_of_the_pictures_are_mirrored_and_none_where_it_is_not_allowed() {
        let mirrors = |mirror: bool| {
            let augment = Augment { mirror, ..Augment::NONE };
            let plain = resize_bicubic(&picture(), 32, 32);
            (0..400).filter(|&seed| augment.apply(&picture(), 32, &mut random(seed)) != plain).count()
        };
        assert!((160..240).contains(&mirrors(true)));
        assert_eq!(mirrors(false), 0);
    }

    #[test]
    fn what_cannot_be_done_is_a_bad_option() {
        for (scale, ratio) in [
            ((0.0, 1.0), (1.0, 1.0)),
            ((0.5, 1.5), (1.0, 1.0)),
            ((0.5, 0.2), (1.0, 1.0)),
            ((0.5, 1.0), (f64::NAN, 1.0)),
        ] {
            let augment = Augment { crop: Some(Crop { scale, ratio }), ..Augment::NONE };
            assert_eq!(augment.check().unwrap_err().code(), "bad-option");
        }
        assert!(Augment::PRETRAIN.check().is_ok() && Augment::FINETUNE.check().is_ok());
    }
}
