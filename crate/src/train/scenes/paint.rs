//! Draws a plan: scales the sprites, tints them and blends them onto a light background.
//!
//! Integer arithmetic only, so that every machine paints the same bytes from the same sprites.

use image::{Rgb, RgbImage};

use super::SIZE;
use super::colours::{COLOURS, Ramp};
use super::layout::Square;
use super::plan::{Object, Plan};
use super::sprites::{Sprite, Styles, spans};
use crate::train::random::Random;

/// Paints the scene, `SIZE` x `SIZE` RGB.
pub(super) fn paint(plan: &Plan, sprites: &[Styles], random: &mut Random) -> RgbImage {
    let ground = background(random);
    // One ramp an object, drawn in the order of the objects.
    let ramps: Vec<Ramp> = plan.objects.iter().map(|object| COLOURS[object.colour].ramp(random)).collect();
    stamped(ground, plan.objects.iter().zip(&ramps), sprites)
}

/// Paints the frames of a clip: the background and the tint of an object are the same in all of them.
///
/// `frames` say which of the `objects` are seen in which squares.
pub(super) fn paint_frames(
    objects: &[Object],
    frames: &[Vec<(usize, Square)>],
    sprites: &[Styles],
    random: &mut Random,
) -> Vec<RgbImage> {
    let ground = background(random);
    let ramps: Vec<Ramp> = objects.iter().map(|object| COLOURS[object.colour].ramp(random)).collect();
    let frame = |seen: &Vec<(usize, Square)>| {
        let moved: Vec<Object> =
            seen.iter().map(|&(index, square)| Object { square, ..objects[index] }).collect();
        let ramps = seen.iter().map(|&(index, _)| &ramps[index]);
        stamped(ground.clone(), moved.iter().zip(ramps), sprites)
    };
    frames.iter().map(frame).collect()
}

fn stamped<'a>(
    mut image: RgbImage,
    objects: impl Iterator<Item = (&'a Object, &'a Ramp)>,
    sprites: &[Styles],
) -> RgbImage {
    for (object, ramp) in objects {
        let styles = &sprites[object.noun];
        stamp(&mut image, &styles[object.style % styles.len()], object, ramp);
    }
    image
}

/// A light plain colour, or a soft gradient between two of them along a random direction.
fn background(random: &mut Random) -> RgbImage {
    let mut tint = || {
        let light = random.between(224, 246);
        [0; 3].map(|_: i32| light + random.between(-7, 7))
    };
    let (from, to) = (tint(), tint());
    let graded = random.coin();
    let to = if graded { to } else { from };
    // The direction as weights of x and y, each -4 to 4; the offset keeps the blend inside 0..=reach.
    let (dx, dy) = (random.between(-4, 4), random.between(-4, 4));
    let reach = ((dx.abs() + dy.abs()) * (SIZE as i32 - 1)).max(1);
    let offset = (dx.min(0) + dy.min(0)) * (SIZE as i32 - 1);
    RgbImage::from_fn(SIZE, SIZE, |x, y| {
        let step = dx * x as i32 + dy * y as i32 - offset;
        Rgb(std::array::from_fn(|c| (from[c] + (to[c] - from[c]) * step / reach).clamp(0, 255) as u8))
    })
}

/// Draws one object centred in its square.
fn stamp(image: &mut RgbImage, sprite: &Sprite, object: &Object, ramp: &Ramp) {
    let long = sprite.width.max(sprite.height);
    let side = object.square.side as usize;
    let scaled = |length: usize| (length * side / long).max(1);
    let (width, height) = (scaled(sprite.width), scaled(sprite.height));
    let left = object.square.left as usize + (side - width) / 2;
    let top = object.square.top as usize + (side - height) / 2;
    let columns = spans(sprite.width, width);
    let rows = spans(sprite.height, height);
    for (y, row) in rows.iter().enumerate() {
        for (x, column) in columns.iter().enumerate() {
            let [tone, coverage] = sprite.mean(row, column);
            if coverage == 0 {
                continue;
            }
            let pixel = image.get_pixel_mut((left + x) as u32, (top + y) as u32);
            for (old, new) in pixel.0.iter_mut().zip(ramp[tone as usize]) {
                let mixed = u32::from(*old) * (255 - coverage) + u32::from(new) * coverage;
                *old = ((mixed + 127) / 255) as u8;
            }
        }
    }
}
