//! A few of ten random operations, each of a fixed magnitude.

use image::RgbImage;
use serde::{Deserialize, Serialize};

use super::affine::{rotate, shear_x, shear_y, translate_x, translate_y, warp};
use super::levels::{auto_contrast, equalize};
use crate::train::random::Random;
use crate::{Error, ErrorKind, Result};

/// The largest magnitude.
const LARGEST: u32 = 10;

/// How many operations are drawn, with replacement, and how strong they are; each drawn one is then
/// carried out or not with equal chance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RandomAugment {
    /// How many are drawn.
    pub count: usize,
    /// How strong they are, 0 to 10.
    pub magnitude: u32,
}

/// One of the ten operations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// Nothing.
    Identity,
    /// Stretch the levels of each channel.
    AutoContrast,
    /// Change the brightness; at a magnitude of 5 nothing.
    Brightness,
    /// Blur or sharpen; at a magnitude of 5 nothing.
    Sharpness,
    /// Make the levels of each channel equally frequent.
    Equalize,
    /// Shear rows.
    ShearX,
    /// Shear columns.
    ShearY,
    /// Move sideways.
    TranslateX,
    /// Move up or down.
    TranslateY,
    /// Turn.
    Rotate,
}

impl Operation {
    /// Every operation.
    pub const ALL: [Self; 10] = [
        Self::Identity,
        Self::AutoContrast,
        Self::Brightness,
        Self::Sharpness,
        Self::Equalize,
        Self::ShearX,
        Self::ShearY,
        Self::TranslateX,
        Self::TranslateY,
        Self::Rotate,
    ];

    /// What a magnitude of 0 to 10 means: a factor for brightness and sharpness, a slope, pixels or
    /// degrees for what moves; the latter are as likely negative.
    pub fn amount(self, magnitude: u32) -> f64 {
        let share = f64::from(magnitude) / f64::from(LARGEST);
        match self {
            Self::Brightness | Self::Sharpness => share * 1.8 + 0.1,
            Self::ShearX | Self::ShearY => share * 0.3,
            Self::TranslateX | Self::TranslateY => share * 10.0,
            Self::Rotate => share * 30.0,
            Self::Identity | Self::AutoContrast | Self::Equalize => 0.0,
        }
    }

    /// Whether the sign of the amount is drawn.
    fn is_signed(self) -> bool {
        matches!(self, Self::ShearX | Self::ShearY | Self::TranslateX | Self::TranslateY | Self::Rotate)
    }

    /// The picture after the operation.
    pub fn apply(self, mut picture: RgbImage, amount: f64) -> RgbImage {
        match self {
            Self::Identity => picture,
            Self::AutoContrast => {
                auto_contrast(&mut picture);
                picture
            }
            Self::Equalize => {
                equalize(&mut picture);
                picture
            }
            Self::Brightness => {
                // A blend with black; truncated, as a table of bytes is.
                picture.iter_mut().for_each(|level| *level = (f64::from(*level) * amount) as u8);
                picture
            }
            Self::Sharpness => sharpen(picture, amount),
            Self::ShearX => warp(&picture, shear_x(amount)),
            Self::ShearY => warp(&picture, shear_y(amount)),
            Self::TranslateX => warp(&picture, translate_x(amount)),
            Self::TranslateY => warp(&picture, translate_y(amount)),
            Self::Rotate => warp(&picture, rotate(amount, picture.dimensions())),
        }
    }
}

/// A blend with a smoothed picture: 0 is smooth, 1 as it was, 2 sharper. The border stays.
fn sharpen(picture: RgbImage, amount: f64) -> RgbImage {
    let (width, height) = picture.dimensions();
    RgbImage::from_fn(width, height, |x, y| {
        let pixel = *picture.get_pixel(x, y);
        if x == 0 || y == 0 || x + 1 == width || y + 1 == height {
            return pixel;
        }
        let blend = |channel: usize| {
            // Weights of 1 around a 5, in 13ths.
            let around = (y - 1..=y + 1).flat_map(|y| (x - 1..=x + 1).map(move |x| (x, y)));
            let sum: f64 = around.map(|(x, y)| f64::from(picture.get_pixel(x, y)[channel])).sum();
            let own = f64::from(pixel[channel]);
            let smooth = ((sum + 4.0 * own) / 13.0).round();
            (smooth + (own - smooth) * amount) as u8
        };
        image::Rgb([blend(0), blend(1), blend(2)])
    })
}

impl RandomAugment {
    /// Two operations of magnitude 5.
    pub const REFERENCE: Self = Self { count: 2, magnitude: 5 };

    pub(super) fn check(&self) -> Result<()> {
        if self.magnitude <= LARGEST {
            return Ok(());
        }
        let message = format!("a magnitude of {}: expected 0 to {LARGEST}", self.magnitude);
        Err(Error::new(ErrorKind::BadOption, message))
    }

    /// The picture after the operations that chance picks.
    pub fn apply(&self, mut picture: RgbImage, random: &mut Random) -> RgbImage {
        let drawn: Vec<Operation> = (0..self.count).map(|_| *random.pick(&Operation::ALL)).collect();
        for operation in drawn {
            let happens = random.coin();
            let amount = operation.amount(self.magnitude);
            let amount = if operation.is_signed() && random.coin() { -amount } else { amount };
            if happens {
                picture = operation.apply(picture, amount);
            }
        }
        picture
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::load_from_memory;

    const PICTURE: &[u8] = include_bytes!("../../../../../tests/fixtures/augment/picture.png");
    const EXPECTED: &[u8] = include_bytes!("../../../../../tests/fixtures/augment/expected.png");
    const CASES: &str = include_str!("../../../../../tests/fixtures/augment/cases.json");

    #[derive(Deserialize)]
    struct Case {
        operation: Operation,
        amount: f64,
    }

    fn picture() -> RgbImage {
        load_from_memory(PICTURE).unwrap().into_rgb8()
    }

    /// To the bit: OpenCV 4.12 and Pillow 12 wrote the fixtures.
    #[test]
    fn operations_equal_those_of_opencv_and_pillow() {
        let picture = picture();
        let expected = load_from_memory(EXPECTED).unwrap().into_rgb8();
        let cases: Vec<Case> = serde_json::from_str(CASES).unwrap();
        assert_eq!(expected.len(), cases.len() * picture.len());
        for (case, expected) in cases.iter().zip(expected.chunks_exact(picture.len())) {
            let found = case.operation.apply(picture.clone(), case.amount);
            let worst = found.iter().zip(expected).map(|(a, b)| a.abs_diff(*b)).max();
            assert_eq!(worst, Some(0), "{:?} by {}", case.operation, case.amount);
        }
    }

    #[test]
    fn at_the_references_magnitude_brightness_and_sharpness_do_nothing() {
        for operation in [Operation::Brightness, Operation::Sharpness, Operation::Identity] {
            let amount = operation.amount(RandomAugment::REFERENCE.magnitude);
            assert_eq!(operation.apply(picture(), amount), picture(), "{operation:?}");
        }
        assert_ne!(Operation::Brightness.apply(picture(), 0.5), picture());
        assert_ne!(Operation::Sharpness.apply(picture(), 0.5), picture());
    }

    #[test]
    fn magnitudes_mean_what_the_reference_says() {
        let amounts = Operation::ALL.map(|operation| operation.amount(5));
        assert_eq!(amounts, [0.0, 0.0, 1.0, 1.0, 0.0, 0.15, 0.15, 5.0, 5.0, 15.0]);
        let error = RandomAugment { count: 2, magnitude: 11 }.check().unwrap_err();
        assert_eq!(error.code(), "bad-option");
    }

    /// Each of two operations does nothing with a chance of 1/2 + 3/20.
    #[test]
    fn pictures_stay_as_they_are_as_often_as_the_arithmetic_says() {
        let same = (0..2000)
            .filter(|&seed| {
                let mut random = Random::keyed([seed, 1, 2, 3]);
                RandomAugment::REFERENCE.apply(picture(), &mut random) == picture()
            })
            .count();
        assert!(same.abs_diff(845) < 80, "{same}");
    }
}
