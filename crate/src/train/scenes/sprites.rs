//! The icons as tone and coverage, rasterised once.
//!
//! An icon's own colours are dropped: what stays is its shading around its mean, which a colour's
//! ramp turns into a tinted object.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{Options, Tree};
use serde::Deserialize;

use super::nouns::NOUNS;
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

/// The sprites of every noun in both styles, in the order of [`NOUNS`].
///
/// # Errors
/// `io` if a set's `icons.json` cannot be read; `bad-image` if it is not an icon set, lacks an icon
/// or has one that cannot be drawn.
pub(super) fn load(icons: &Path) -> Result<Vec<[Sprite; 2]>> {
    let [flat, shaded] = [load_set(icons, SETS[0])?, load_set(icons, SETS[1])?];
    Ok(flat.into_iter().zip(shaded).map(|(flat, shaded)| [flat, shaded]).collect())
}

fn load_set(icons: &Path, set: &str) -> Result<Vec<Sprite>> {
    let path = icons.join(set).join("icons.json");
    let at = path.display();
    let bytes = fs::read(&path)
        .map_err(|e| Error::new(ErrorKind::Io, format!("cannot read the icon set `{at}`")).with_source(e))?;
    let bad = |what: String| Error::new(ErrorKind::BadImage, format!("{what} in `{at}`"));
    let set: IconSet =
        serde_json::from_slice(&bytes).map_err(|e| bad("expected an icon set".into()).with_source(e))?;
    NOUNS
        .iter()
        .map(|noun| {
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
        })
        .collect()
}

/// Draws an icon so that its outline is [`LONG_SIDE`] long; `None` if nothing can be seen.
fn sprite(tree: &Tree) -> Option<Sprite> {
    let size = tree.size();
    let scale = LONG_SIDE as f32 / size.width().max(size.height());
    let (left, top, right, bottom) = outline(&draw(tree, scale, 0.0, 0.0, LONG_SIDE)?)?;
    // The outline was found in whole pixels: leave one of them for what it cut.
    let zoom = (LONG_SIDE - 2) as f32 / (right - left).max(bottom - top) as f32;
    let offset = |start: u32| 1.0 - start as f32 * zoom;
    let pixmap = draw(tree, scale * zoom, offset(left), offset(top), LONG_SIDE)?;
    let (left, top, right, bottom) = outline(&pixmap)?;

    let rows = (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y)));
    let shades: Vec<[u8; 2]> = rows.map(|(x, y)| shade(&pixmap, x, y)).collect();
    Some(Sprite { width: (right - left) as usize, height: (bottom - top) as usize, pixels: centred(&shades) })
}

fn draw(tree: &Tree, scale: f32, x: f32, y: f32, side: u32) -> Option<Pixmap> {
    let mut pixmap = Pixmap::new(side, side)?;
    resvg::render(tree, Transform::from_row(scale, 0.0, 0.0, scale, x, y), &mut pixmap.as_mut());
    Some(pixmap)
}

/// The rectangle `(left, top, right, bottom)` of everything that is more than a faint shadow.
fn outline(pixmap: &Pixmap) -> Option<(u32, u32, u32, u32)> {
    let visible = |&(x, y): &(u32, u32)| shade(pixmap, x, y)[1] > 32;
    let (width, height) = (pixmap.width(), pixmap.height());
    let points = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).filter(visible);
    points.fold(None, |found, (x, y)| {
        let (left, top, right, bottom) = found.unwrap_or((x, y, x + 1, y + 1));
        Some((left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)))
    })
}

/// `(luma, coverage)` of a pixel, luma after ITU-R BT.709 in 256ths.
fn shade(pixmap: &Pixmap, x: u32, y: u32) -> [u8; 2] {
    let index = (y * pixmap.width() + x) as usize * 4;
    let [r, g, b, a] = [0, 1, 2, 3].map(|i| u32::from(pixmap.data()[index + i]));
    // tiny-skia premultiplies.
    let luma = ((54 * r + 183 * g + 19 * b) / 256 * 255).checked_div(a).unwrap_or(0);
    [luma.min(255) as u8, a as u8]
}

/// Luma to tone: the mean goes to 128, and the spread of a flat icon is widened (a strong one
/// narrowed), so that every icon shows its inner lines without leaving the body of the ramp.
fn centred(shades: &[[u8; 2]]) -> Vec<[u8; 2]> {
    let solid = || shades.iter().filter(|shade| shade[1] > 128).map(|shade| i64::from(shade[0]));
    let count = (solid().count() as i64).max(1);
    let mean = solid().sum::<i64>() / count;
    let variance = solid().map(|luma| (luma - mean).pow(2)).sum::<i64>() / count;
    // The gain in 256ths, aiming at a standard deviation of 44 tones.
    let gain = (44 * 256 / variance.isqrt().max(1)).clamp(200, 512);
    let tone = |luma: u8| (128 + (i64::from(luma) - mean) * gain / 256).clamp(0, 255) as u8;
    shades.iter().map(|&[luma, coverage]| [tone(luma), coverage]).collect()
}
