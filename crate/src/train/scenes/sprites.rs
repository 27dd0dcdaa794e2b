//! The icons as tone and coverage, rasterised once.
//!
//! An icon's own colours are dropped: what stays is its shading around its mean, which a colour's
//! ramp turns into a tinted object.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use image::RgbaImage;
use rayon::prelude::*;
use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use serde::Deserialize;

use super::World;
use super::nouns::Noun;
use crate::{Error, ErrorKind, Result};

/// The folders of the two icon sets; a style is an index here.
const SETS: [&str; 2] = ["fluent-emoji-flat", "noto"];

/// The longer side of every sprite in pixels; no scene draws one larger than this.
pub(super) const LONG_SIDE: u32 = 128;

/// One icon, cut to its outline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sprite {
    pub(super) width: usize,
    pub(super) height: usize,
    /// `(tone, coverage)` of each pixel, row by row; tone 128 is the icon's mean.
    pub(super) pixels: Vec<[u8; 2]>,
}

/// One icon set as npm publishes it; other fields are not needed.
#[derive(Deserialize)]
struct IconSet {
    icons: HashMap<String, Icon>,
    width: Option<f32>,
    height: Option<f32>,
}

#[derive(Deserialize)]
struct Icon {
    body: String,
    width: Option<f32>,
    height: Option<f32>,
}

/// The drawings of one noun, one a style; an object's style is an index here, modulo their number.
pub(super) type Styles = Vec<Sprite>;

/// The sprites of every noun of a world in the two styles of the icon sets.
///
/// # Errors
/// `io` if a set's `icons.json` cannot be read; `bad-image` if it is not an icon set, lacks an icon
/// or has one that cannot be drawn.
pub(super) fn load(world: World, icons: &Path) -> Result<Vec<Styles>> {
    let [flat, shaded] = [load_set(world, icons, SETS[0])?, load_set(world, icons, SETS[1])?];
    Ok(flat.into_iter().zip(shaded).map(|(flat, shaded)| vec![flat, shaded]).collect())
}

/// The sprites of every noun of a world in the third style, which no training scene shows.
///
/// `icons` as in [`load`]: its tables say which character an icon draws. `pictures` is the `assets`
/// folder of the npm package `@lobehub/fluent-emoji-3d`, one webp a character.
///
/// # Errors
/// `io` if a file cannot be read; `bad-image` if there is no picture of a noun, or not one that can
/// be decoded.
pub(super) fn load_unseen(world: World, icons: &Path, pictures: &Path) -> Result<Vec<Styles>> {
    let path = icons.join(SETS[1]).join("chars.json");
    let at = path.display();
    let bad = |what: String| Error::new(ErrorKind::BadImage, what);
    let names: BTreeMap<String, String> = serde_json::from_slice(&read(&path)?)
        .map_err(|e| bad(format!("expected a table of characters in `{at}`")).with_source(e))?;
    let picture = |noun: &Noun| {
        let characters = names.iter().filter(|(_, name)| *name == noun.icon).map(|(character, _)| character);
        // A variation selector is part of some file names and of none of the table's.
        let mut files = characters
            .flat_map(|character| [format!("{character}.webp"), format!("{character}-fe0f.webp")])
            .map(|name| pictures.join(name));
        let file: PathBuf = files
            .find(|file| file.is_file())
            .ok_or_else(|| bad(format!("no picture of `{}` in `{}`", noun.icon, pictures.display())))?;
        let undrawn = || bad(format!("nothing visible in `{}`", file.display()));
        let decoded = image::load_from_memory_with_format(&read(&file)?, image::ImageFormat::WebP)
            .map_err(|e| bad(format!("cannot decode `{}`", file.display())).with_source(e))?;
        let sprite = reduced(&decoded.into_rgba8()).ok_or_else(undrawn)?;
        Ok(vec![sprite])
    };
    world.nouns().par_iter().map(picture).collect()
}

fn read(path: &Path) -> Result<Vec<u8>> {
    let unread = |e| Error::new(ErrorKind::Io, format!("cannot read `{}`", path.display())).with_source(e);
    fs::read(path).map_err(unread)
}

fn load_set(world: World, icons: &Path, set: &str) -> Result<Vec<Sprite>> {
    let path = icons.join(set).join("icons.json");
    let at = path.display();
    let bytes = read(&path)?;
    let bad = |what: String| Error::new(ErrorKind::BadImage, format!("{what} in `{at}`"));
    let set: IconSet =
        serde_json::from_slice(&bytes).map_err(|e| bad("expected an icon set".into()).with_source(e))?;
    let drawn = |noun: &Noun| {
        let name = noun.icon;
        let icon = set.icons.get(name).ok_or_else(|| bad(format!("no icon `{name}`")))?;
        // 16 is the documented default of the format.
        let width = icon.width.or(set.width).unwrap_or(16.0);
        let height = icon.height.or(set.height).unwrap_or(16.0);
        let svg = format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{width}" height="{height}" viewBox="0 0 {width} {height}">{}</svg>"#,
            icon.body
        );
        let tree = Tree::from_str(&svg, &Options::default())
            .map_err(|e| bad(format!("cannot parse the icon `{name}`")).with_source(e))?;
        sprite(&tree).ok_or_else(|| bad(format!("nothing visible in the icon `{name}`")))
    };
    world.nouns().par_iter().map(drawn).collect()
}

/// Draws an icon so that its outline is [`LONG_SIDE`] long; `None` if nothing can be seen.
fn sprite(tree: &Tree) -> Option<Sprite> {
    let size = tree.size();
    let scale = LONG_SIDE as f32 / size.width().max(size.height());
    let (left, top, right, bottom) = draw(tree, scale, 0.0, 0.0)?.outline()?;
    // The outline was found in whole pixels: leave one of them for what it cut.
    let zoom = (LONG_SIDE - 2) as f32 / (right - left).max(bottom - top) as f32;
    let offset = |start: usize| 1.0 - start as f32 * zoom;
    Some(draw(tree, scale * zoom, offset(left), offset(top))?.cut()?.centred())
}

/// The luma and coverage of an icon on a canvas of [`LONG_SIDE`].
fn draw(tree: &Tree, scale: f32, x: f32, y: f32) -> Option<Sprite> {
    let mut pixmap = Pixmap::new(LONG_SIDE, LONG_SIDE)?;
    resvg::render(tree, Transform::from_row(scale, 0.0, 0.0, scale, x, y), &mut pixmap.as_mut());
    // tiny-skia premultiplies.
    let straight = |[r, g, b, a]: [u8; 4]| {
        let luma = (luma([r, g, b]) * 255).checked_div(u32::from(a)).unwrap_or(0);
        [luma.min(255) as u8, a]
    };
    let pixels = pixmap.data().as_chunks().0.iter().copied().map(straight).collect();
    Some(Sprite { width: LONG_SIDE as usize, height: LONG_SIDE as usize, pixels })
}

/// A picture with transparency as a sprite, at most [`LONG_SIDE`] long; `None` if nothing can be seen.
fn reduced(picture: &RgbaImage) -> Option<Sprite> {
    let pixels =
        picture.pixels().map(|pixel| [luma([pixel[0], pixel[1], pixel[2]]) as u8, pixel[3]]).collect();
    let whole = Sprite { width: picture.width() as usize, height: picture.height() as usize, pixels };
    let cut = whole.cut()?;
    let (long, most) = (cut.width.max(cut.height), LONG_SIDE as usize);
    let scaled = |length: usize| if long > most { (length * most / long).max(1) } else { length };
    Some(cut.scaled(scaled(cut.width), scaled(cut.height)).centred())
}

/// Luma after ITU-R BT.709 in 256ths.
fn luma([r, g, b]: [u8; 3]) -> u32 {
    (54 * u32::from(r) + 183 * u32::from(g) + 19 * u32::from(b)) / 256
}

impl Sprite {
    /// The rectangle `(left, top, right, bottom)` of everything that is more than a faint shadow.
    fn outline(&self) -> Option<(usize, usize, usize, usize)> {
        let points = (0..self.height).flat_map(|y| (0..self.width).map(move |x| (x, y)));
        let visible = points.filter(|&(x, y)| self.pixels[y * self.width + x][1] > 32);
        visible.fold(None, |found, (x, y)| {
            let (left, top, right, bottom) = found.unwrap_or((x, y, x + 1, y + 1));
            Some((left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)))
        })
    }

    /// What is inside the outline.
    fn cut(&self) -> Option<Self> {
        let (left, top, right, bottom) = self.outline()?;
        let rows = self.pixels.chunks_exact(self.width).take(bottom).skip(top);
        let pixels = rows.flat_map(|row| row[left..right].iter().copied()).collect();
        Some(Self { width: right - left, height: bottom - top, pixels })
    }

    /// The mean of the pixels under each pixel of a smaller one.
    fn scaled(&self, width: usize, height: usize) -> Self {
        let (columns, rows) = (spans(self.width, width), spans(self.height, height));
        let pixel = |(row, column)| self.mean(row, column).map(|value| value as u8);
        let places = rows.iter().flat_map(|row| columns.iter().map(move |column| (row, column)));
        Self { width, height, pixels: places.map(pixel).collect() }
    }

    /// Mean tone (weighted by coverage) and mean coverage under a row and a column, each 0 to 255.
    pub(super) fn mean(&self, row: &Span, column: &Span) -> [u32; 2] {
        let (mut tone, mut coverage, mut area) = (0_u64, 0_u64, 0_u64);
        for (y, row_weight) in row.weights.iter().enumerate().take(row.taken) {
            let line = (row.start + y) * self.width + column.start;
            let pixels = &self.pixels[line..line + column.taken];
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

    /// Luma to tone: the mean goes to 128, and the spread of a flat icon is widened (a strong one
    /// narrowed), so that every icon shows its inner lines without leaving the body of the ramp.
    fn centred(mut self) -> Self {
        let solid = || self.pixels.iter().filter(|shade| shade[1] > 128).map(|shade| i64::from(shade[0]));
        let count = (solid().count() as i64).max(1);
        let mean = solid().sum::<i64>() / count;
        let variance = solid().map(|luma| (luma - mean).pow(2)).sum::<i64>() / count;
        // The gain in 256ths, aiming at a standard deviation of 44 tones.
        let gain = (44 * 256 / variance.isqrt().max(1)).clamp(200, 512);
        for pixel in &mut self.pixels {
            pixel[0] = (128 + (i64::from(pixel[0]) - mean) * gain / 256).clamp(0, 255) as u8;
        }
        self
    }
}

/// The source pixels under one target pixel: the first one, and each one's share of 256.
#[derive(Debug)]
pub(super) struct Span {
    start: usize,
    weights: [u32; 4],
    taken: usize,
}

/// Box filter from `from` pixels down to `to`; a factor below 3 touches at most four pixels.
pub(super) fn spans(from: usize, to: usize) -> Vec<Span> {
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

#[cfg(test)]
impl Sprite {
    /// Coverage and shading on a canvas of 32 x 32, each -255 to 255.
    pub(super) fn thumbnail(&self) -> Vec<i32> {
        const SIDE: usize = 32;
        let long = self.width.max(self.height);
        let scaled = |length: usize| (length * SIDE / long).max(1);
        // Twice, since a factor of four is more than one step takes.
        let half = self.scaled(scaled(self.width) * 2, scaled(self.height) * 2);
        let small = half.scaled(scaled(self.width), scaled(self.height));
        let mut canvas = vec![0; 2 * SIDE * SIDE];
        let (left, top) = ((SIDE - small.width) / 2, (SIDE - small.height) / 2);
        for (index, [tone, coverage]) in small.pixels.iter().enumerate() {
            let place = (top + index / small.width) * SIDE + left + index % small.width;
            canvas[place] = i32::from(*coverage);
            canvas[SIDE * SIDE + place] = (i32::from(*tone) - 128) * i32::from(*coverage) / 128;
        }
        canvas
    }
}
