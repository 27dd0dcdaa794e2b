//! The synthetic worlds that train and test the `tiny` models: coloured icons and what is said of them.
//!
//! A scene is a pure function of (world, split, seed, index): [`Plan`] decides what is shown and said,
//! without icons; [`SceneWorld`] draws it. The icons are the npm packages
//! `@iconify-json/fluent-emoji-flat` (MIT) and `@iconify-json/noto` (Apache-2.0); a third style, which
//! nothing is trained on, are the pictures of `@lobehub/fluent-emoji-3d`.
//!
//! Beside its caption a scene has questions, nearly true sentences and a dialogue, and there are
//! statements about pairs of scenes, and clips: all of them methods of [`World`].

use std::path::Path;

use image::RgbImage;
use serde::Serialize;

use super::random::Random;
use crate::Result;

mod colours;
mod grammar;
mod holdout;
mod layout;
mod meaning;
mod nouns;
mod paint;
mod plan;
pub(in crate::train) mod random;
mod sprites;
#[cfg(test)]
mod tests;
mod texts;
mod world;

pub use colours::{COLOURS, Colour};
pub use layout::Square;
pub use meaning::{Group, Meaning, Place, Relation};
pub use nouns::{NOUNS, NOUNS_V1, Noun};
pub use plan::{Object, Plan};
pub use texts::clips::{Clip, Direction, Event};
pub use texts::dialogue::{Conversation, Turn};
pub use texts::negatives::{Change, Negative};
pub use texts::pairs::{Claim, Pair};
pub use texts::questions::{Asked, Topic};
pub use world::World;

use random::{Purpose, stream};
use sprites::Styles;

/// Width and height of every scene in pixels.
pub const SIZE: u32 = 192;

/// The two halves of a world: no held-out combination of noun and colour, place, count or
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

/// The icons of a world, ready to be drawn; shared freely between threads.
#[derive(Clone, Debug)]
pub struct SceneWorld {
    world: World,
    sprites: Vec<Styles>,
}

impl SceneWorld {
    /// Reads and rasterises the icons of the `@iconify-json` folder of an npm installation.
    ///
    /// # Errors
    /// `io` if an icon set cannot be read; `bad-image` if it lacks an icon or one cannot be drawn.
    pub fn of(world: World, icons: &Path) -> Result<Self> {
        Ok(Self { world, sprites: sprites::load(world, icons)? })
    }

    /// The same world in a style that no training scene has, for evaluation.
    ///
    /// `icons` as in [`SceneWorld::of`]; `pictures` is the folder `assets` of the npm package
    /// `@lobehub/fluent-emoji-3d`.
    ///
    /// # Errors
    /// As [`SceneWorld::of`], of the pictures.
    pub fn unseen(world: World, icons: &Path, pictures: &Path) -> Result<Self> {
        Ok(Self { world, sprites: sprites::load_unseen(world, icons, pictures)? })
    }

    /// Whose scenes these are.
    pub fn world(&self) -> World {
        self.world
    }

    /// Scene `index` of a split: the same bytes whenever and in whatever order it is asked for.
    pub fn scene(&self, split: Split, seed: u64, index: u64) -> Scene {
        let plan = self.world.plan(split, seed, index);
        let mut random = self.tints(split, seed, index);
        Scene {
            image: self.draw(&plan, &mut random),
            caption: plan.caption(),
            objects: plan.objects.len(),
            nouns: plan.nouns(),
            held_out: plan.held_out(),
        }
    }

    /// Both pictures of pair `index`; see [`World::pair`].
    pub fn pair(&self, split: Split, seed: u64, index: u64) -> (Pair, [RgbImage; 2]) {
        let pair = self.world.pair(split, seed, index);
        let mut random = self.tints(split, seed, index);
        let images = [0, 1].map(|side| self.draw(&pair.plans[side], &mut random));
        (pair, images)
    }

    /// The frames of clip `index`; see [`World::clip`].
    pub fn clip(&self, split: Split, seed: u64, index: u64, frames: usize) -> (Clip, Vec<RgbImage>) {
        let clip = self.world.clip(split, seed, index, frames);
        let mut random = self.tints(split, seed, index);
        let images = paint::paint_frames(&clip.plan.objects, &clip.frames, &self.sprites, &mut random);
        (clip, images)
    }

    /// Every word of the captions; see [`World::words`].
    pub fn words(&self) -> Vec<String> {
        self.world.words()
    }

    /// What can be shown and said; see [`World::knowledge`].
    pub fn knowledge(&self) -> Knowledge {
        self.world.knowledge()
    }

    fn tints(&self, split: Split, seed: u64, index: u64) -> Random {
        stream(self.world, split, seed, index, Purpose::Paint)
    }

    fn draw(&self, plan: &Plan, random: &mut Random) -> RgbImage {
        paint::paint(plan, &self.sprites, random)
    }
}
