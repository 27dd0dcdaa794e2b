//! The synthetic world that trains and tests the `tiny` model: coloured icons and one sentence each.
//!
//! A scene is a pure function of (split, seed, index): [`Plan`] decides what is shown and said,
//! without icons; [`SceneWorld`] draws it. The icons are the npm packages
//! `@iconify-json/fluent-emoji-flat` (MIT) and `@iconify-json/noto` (Apache-2.0).

use std::path::Path;

use image::RgbImage;
use serde::Serialize;

use crate::Result;

mod colours;
mod grammar;
mod holdout;
mod layout;
mod meaning;
mod nouns;
mod paint;
mod plan;
mod random;
mod sprites;
#[cfg(test)]
mod tests;

pub use colours::{COLOURS, Colour};
pub use grammar::words;
pub use layout::Square;
pub use meaning::{Group, Meaning, Place, Relation};
pub use nouns::{NOUNS, Noun};
pub use plan::{Object, Plan};

use random::{Purpose, Random};
use sprites::Sprite;

/// Width and height of every scene in pixels.
pub const SIZE: u32 = 192;

/// The two halves of the world: no held-out combination of noun and colour, place, count or
/// relation is ever in a training scene, and at least one is in every held-out scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Split {
    /// Scenes to learn from.
    Train = 0,
    /// Scenes to be tested with.
    HeldOut = 1,
}

/// A drawn scene with everything that is known about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// [`SIZE`] x [`SIZE`] RGB.
    pub image: RgbImage,
    /// The one true caption.
    pub caption: String,
    /// How many objects are drawn, 1 to 3.
    pub objects: usize,
    /// How many different nouns are drawn.
    pub nouns: usize,
    /// The names of the held-out combinations in it; empty in training.
    pub held_out: Vec<String>,
}

/// What a model of this world can know, for the page that shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Knowledge {
    /// The nouns, singular.
    pub nouns: Vec<&'static str>,
    /// The colours.
    pub colours: Vec<&'static str>,
    /// The places of a single object.
    pub places: Vec<&'static str>,
    /// The relations between two sides.
    pub relations: Vec<&'static str>,
    /// The largest number of objects in a scene.
    pub most_objects: usize,
    /// The combinations that training never shows.
    pub held_out: Vec<String>,
}

/// Everything the world can show and say; needs no icons.
pub fn knowledge() -> Knowledge {
    Knowledge {
        nouns: NOUNS.iter().map(|noun| noun.one).collect(),
        colours: COLOURS.iter().map(|colour| colour.word).collect(),
        places: Place::ALL.iter().map(|place| place.phrase()).collect(),
        relations: Relation::ALL.iter().map(|relation| relation.phrase()).collect(),
        most_objects: 3,
        held_out: holdout::combinations(),
    }
}

/// The icons, ready to be drawn; shared freely between threads.
#[derive(Clone, Debug)]
pub struct SceneWorld {
    sprites: Vec<[Sprite; 2]>,
}

impl SceneWorld {
    /// Reads and rasterises the icons of the `@iconify-json` folder of an npm installation.
    ///
    /// # Errors
    /// `io` if an icon set cannot be read; `bad-image` if it lacks an icon or one cannot be drawn.
    pub fn load(icons: &Path) -> Result<Self> {
        Ok(Self { sprites: sprites::load(icons)? })
    }

    /// Scene `index` of a split: the same bytes whenever and in whatever order it is asked for.
    pub fn scene(&self, split: Split, seed: u64, index: u64) -> Scene {
        let plan = Plan::new(split, seed, index);
        let mut random = Random::new(split, seed, index, Purpose::Paint);
        Scene {
            image: paint::paint(&plan, &self.sprites, &mut random),
            caption: plan.caption(),
            objects: plan.objects.len(),
            nouns: plan.nouns(),
            held_out: plan.held_out(),
        }
    }

    /// Every word of the captions; see [`words`].
    pub fn words(&self) -> Vec<String> {
        words()
    }

    /// What can be shown and said; see [`knowledge`].
    pub fn knowledge(&self) -> Knowledge {
        knowledge()
    }
}
