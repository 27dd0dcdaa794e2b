//! Draws a plan: scales the sprites, tints them and blends them onto a light background.
//!
//! Integer arithmetic only, so that every machine paints the same bytes from the same sprites.

use image::{Rgb, RgbImage};

use super::SIZE;
use super::colours::{COLOURS, Ramp};
use super::plan::{Object, Plan};
use super::random::Random;
use super::sprites::Sprite;

/// Paints the scene, `SIZE` x `SIZE` RGB.
pub(super) fn paint(plan: &Plan, sprites: &[[Sprite; 2]], random: &mut Random) -> RgbImage {
    let mut image = background(random);
    for object in &plan.objects {
        let ramp = COLOURS[object.colour].ramp(random);
        stamp(&mut image, &sprites[object.noun][object.style], object, &ramp);
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
            let [tone, coverage] = mean(sprite, row, column);
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

/// The source pixels under one target pixel: the first one, and each one's share of 256.
#[derive(Debug)]
struct Span {
    start: usize,
    weights: [u32; 4],
    taken: usize,
}

/// Box filter from `from` pixels down to `to`; a factor below 3 touches at most four pixels.
fn spans(from: usize, to: usize) -> Vec<Span> {
    (0..to)
        .map(|i| {
            // Borders in units of 1 / to of a source pixel.
            let (low, high) = (i * from, (i + 1) * from);
            let start = low / to;
            let mut weights = [0; 4];
            let taken = (high.div_ceil(to) - start).min(4);
            for (k, weight) in weights.iter_mut().enumerate().take(taken) {
                let pixel = (start + k) * to;
                let overlap = high.min(pixel + to) - low.max(pixel);
                *weight = (overlap * 256 / from) as u32;
            }
            Span { start, weights, taken }
        })
        .collect()
}

/// Mean tone (weighted by coverage) and mean coverage, each 0 to 255.
fn mean(sprite: &Sprite, row: &Span, column: &Span) -> [u32; 2] {
    let (mut tone, mut coverage, mut area) = (0_u64, 0_u64, 0_u64);
    for (y, row_weight) in row.weights.iter().enumerate().take(row.taken) {
        let line = (row.start + y) * sprite.width + column.start;
        let pixels = &sprite.pixels[line..line + column.taken];
        for (pixel, column_weight) in pixels.iter().zip(column.weights) {
            let weight = u64::from(row_weight * column_weight);
            let covered = weight * u64::from(pixel[1]);
            area += weight;
            coverage += covered;
            tone += covered * u64::from(pixel[0]);
        }
    }
    [tone.checked_div(coverage).unwrap_or(0) as u32, (coverage / area) as u32]
}
