//! Maps of an explanation as pictures: smooth, coloured, and clear where there is nothing to see. The
//! numbers are those of the SDK's `overlayPixels`, pixel by pixel.

use image::{Rgb, RgbImage, Rgba, RgbaImage};

use super::explain::Explanation;
use crate::{Error, ErrorKind, Result};

/// How to show a map.
#[derive(Clone, Debug, PartialEq)]
pub struct OverlayOptions {
    /// How much of the picture is covered where the map is highest, from 0 to 1 (default 0.7).
    pub opacity: f64,
    /// The value that gets the last colour; the highest of the map when left out. With the same for
    /// several words, their overlays can be compared.
    pub maximum: Option<f64>,
    /// Of a clip's map: which frame, from 0.
    pub frame: usize,
}

impl Default for OverlayOptions {
    fn default() -> Self {
        Self { opacity: 0.7, maximum: None, frame: 0 }
    }
}

/// Which map of an explanation to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// That of a word, from 0.
    Word(usize),
    /// That of the whole text.
    Sentence,
}

/// Lightness grows in even steps, so that the order is seen without colour as well.
const COLOURS: [[f64; 3]; 6] = [
    [46.0, 16.0, 90.0],
    [110.0, 30.0, 125.0],
    [178.0, 50.0, 110.0],
    [228.0, 88.0, 72.0],
    [250.0, 150.0, 56.0],
    [252.0, 222.0, 110.0],
];

/// Colours are looked up in so many steps.
const STEPS: usize = 256;

impl Explanation {
    /// The picture that was explained with a map over it. It may be of any size.
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] for a word that the text does not have, and as [`overlay_pixels`].
    pub fn overlay(&self, picture: &RgbImage, shown: Shown, options: &OverlayOptions) -> Result<RgbImage> {
        let places = self.frames * self.grid[0] * self.grid[1];
        let map =
            match shown {
                Shown::Sentence => &self.maps.sentence[..],
                Shown::Word(word) => self.maps.words.chunks(places.max(1)).nth(word).ok_or_else(|| {
                    bad(format!("there is no word {word}, the text has {}", self.words.len()))
                })?,
            };
        overlay(picture, map, self.grid, options)
    }
}

/// A picture with a map `[frames·height·width]` over it.
///
/// # Errors
/// As [`overlay_pixels`].
pub fn overlay(
    picture: &RgbImage,
    map: &[f32],
    grid: [usize; 2],
    options: &OverlayOptions,
) -> Result<RgbImage> {
    let over = overlay_pixels(map, grid, [picture.width(), picture.height()], options)?;
    let mut shown = picture.clone();
    for (below, Rgba([red, green, blue, cover])) in shown.pixels_mut().zip(over.pixels()) {
        let mixed = |below: u8, above: u8| {
            let (cover, clear) = (u32::from(*cover), 255 - u32::from(*cover));
            ((u32::from(below) * clear + u32::from(above) * cover + 127) / 255) as u8
        };
        let Rgb([r, g, b]) = *below;
        *below = Rgb([mixed(r, *red), mixed(g, *green), mixed(b, *blue)]);
    }
    Ok(shown)
}

/// A map `[frames·height·width]` of a grid `[height, width]` as an image of a size `[width, height]`, to be
/// drawn over the picture: colours, and how much they cover.
///
/// Values between the places of the grid are interpolated by cubic splines that go through them.
///
/// # Errors
/// [`ErrorKind::BadOption`] for a map of another grid or with a value that is not a number, a frame that it
/// does not have, or an option out of its range.
pub fn overlay_pixels(
    map: &[f32],
    [rows, columns]: [usize; 2],
    [width, height]: [u32; 2],
    options: &OverlayOptions,
) -> Result<RgbaImage> {
    let OverlayOptions { opacity, maximum, frame } = *options;
    if !(0.0..=1.0).contains(&opacity) {
        return Err(bad(format!("opacity is {opacity}, expected 0 to 1")));
    }
    let places = rows * columns;
    if places == 0 || map.is_empty() || !map.len().is_multiple_of(places) {
        let found = map.len();
        return Err(bad(format!(
            "a map of {found} numbers does not belong to a grid of {rows} by {columns}"
        )));
    }
    let frames = map.len() / places;
    if frame >= frames {
        return Err(bad(format!("frame is {frame}, the map has {frames}")));
    }
    let values = &map[frame * places..][..places];
    if !values.iter().all(|value| value.is_finite()) {
        return Err(bad("a map has numbers only".to_owned()));
    }
    let highest = || f64::from(values.iter().copied().fold(0.0, f32::max));
    let maximum = maximum.unwrap_or_else(highest);
    if !(maximum >= 0.0 && maximum.is_finite()) {
        return Err(bad(format!("maximum is {maximum}, expected a number of at least 0")));
    }

    let palette = palette(opacity);
    // Each row of the grid at full width, of which each row of pixels is a mixture.
    let across: Vec<Taps> = (0..width).map(|x| Taps::new(x, columns, width)).collect();
    let line = |row: &[f32]| -> Vec<f32> { across.iter().map(|taps| taps.of(|at| row[at]) as f32).collect() };
    let wide: Vec<Vec<f32>> = values.chunks(columns).map(line).collect();
    let down: Vec<Taps> = (0..height).map(|y| Taps::new(y, rows, height)).collect();
    let scale = if maximum > 0.0 { (STEPS - 1) as f64 / maximum } else { 0.0 };
    Ok(RgbaImage::from_fn(width, height, |x, y| {
        let value = down[y as usize].of(|row| wide[row][x as usize]);
        let step = (value * scale + 0.5).floor().clamp(0.0, (STEPS - 1) as f64);
        Rgba(palette[step as usize])
    }))
}

/// Red, green, blue and opacity of each step: opacity grows with the value, so that nothing leaves the
/// picture clear.
fn palette(opacity: f64) -> Vec<[u8; 4]> {
    let entry = |step: usize| {
        let at = step as f64 / (STEPS - 1) as f64;
        let place = at * (COLOURS.len() - 1) as f64;
        let below = (place as usize).min(COLOURS.len() - 2);
        let [low, high] = [COLOURS[below], COLOURS[below + 1]];
        let part = |part: usize| byte(low[part] + (high[part] - low[part]) * (place - below as f64));
        [part(0), part(1), part(2), byte(255.0 * opacity * at)]
    };
    (0..STEPS).map(entry).collect()
}

/// As JavaScript stores numbers in clamped bytes.
fn byte(value: f64) -> u8 {
    value.round_ties_even().clamp(0.0, 255.0) as u8
}

/// Which four samples make a new one, and how much of each: Catmull-Rom, borders repeated.
struct Taps {
    indices: [usize; 4],
    weights: [f32; 4],
}

impl Taps {
    /// Those of number `index` of `to` new samples of `from` old ones.
    fn new(index: u32, from: usize, to: u32) -> Self {
        let place = ((f64::from(index) + 0.5) * from as f64) / f64::from(to) - 0.5;
        let floor = place.floor();
        let t = place - floor;
        let near = |t: f64| (1.5 * t - 2.5) * t * t + 1.0;
        let far = |t: f64| ((-0.5 * t + 2.5) * t - 4.0) * t + 2.0;
        let tap = |tap: usize| (floor + tap as f64 - 1.0).clamp(0.0, (from - 1) as f64) as usize;
        Self {
            indices: [tap(0), tap(1), tap(2), tap(3)],
            weights: [far(1.0 + t), near(t), near(1.0 - t), far(2.0 - t)].map(|weight| weight as f32),
        }
    }

    fn of(&self, sample: impl Fn(usize) -> f32) -> f64 {
        let each = self.weights.iter().zip(&self.indices);
        each.map(|(weight, index)| f64::from(*weight) * f64::from(sample(*index))).sum()
    }
}

fn bad(message: String) -> Error {
    Error::new(ErrorKind::BadOption, format!("overlay: {message}"))
}
