//! A scene as pure data: what it says, where each object stands and how it is drawn.

use super::Split;
use super::layout::{Square, squares};
use super::meaning::{Meaning, draw_nouns};
use super::random::{Purpose, Random};
use super::{grammar, holdout};

/// One object of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Index into [`super::NOUNS`].
    pub noun: usize,
    /// Index into [`super::COLOURS`].
    pub colour: usize,
    /// Which icon set draws it: 0 or 1.
    pub style: usize,
    /// The square that it fills, touching two opposite edges.
    pub square: Square,
}

/// A scene before it is drawn; needs no icons.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// What the caption says.
    pub meaning: Meaning,
    /// The objects in the order of the caption.
    pub objects: Vec<Object>,
}

impl Plan {
    /// The plan of scene `index` of a split: a function of its arguments alone.
    ///
    /// `index % 3` decides the number of objects, `index / 3 % 6 == 1` asks for equal objects where
    /// there is more than one; the rest is drawn.
    pub fn new(split: Split, seed: u64, index: u64) -> Self {
        let mut random = Random::new(split, seed, index, Purpose::Plan);
        let objects = (index % 3) as usize + 1;
        let equal = index / 3 % 6 == 1;
        let meaning = draw(&mut random, objects, equal, split == Split::HeldOut);
        let groups = meaning.groups().into_iter().flat_map(|group| std::iter::repeat_n(group, group.count));
        let objects = squares(&meaning, &mut random)
            .into_iter()
            .zip(groups)
            .map(|(square, group)| Object {
                noun: group.noun,
                colour: group.colour,
                style: random.below(2),
                square,
            })
            .collect();
        Self { meaning, objects }
    }

    /// The one caption of the scene.
    pub fn caption(&self) -> String {
        grammar::caption(&self.meaning)
    }

    /// How many different nouns the scene shows.
    pub fn nouns(&self) -> usize {
        self.meaning.groups().len()
    }

    /// The names of the held-out combinations in it.
    pub fn held_out(&self) -> Vec<String> {
        holdout::held_out(&self.meaning)
    }
}

/// Draws until the scene is on the wanted side of the split.
///
/// The nouns are kept for a while, which keeps them balanced; some nouns fit no scene of the wanted
/// kind (their count is held out), and then others are drawn.
fn draw(random: &mut Random, objects: usize, equal: bool, held_out: bool) -> Meaning {
    loop {
        let nouns = draw_nouns(random);
        for _ in 0..24 {
            let meaning = Meaning::draw(random, nouns, objects, equal);
            if holdout::is_held_out(&meaning) == held_out {
                return meaning;
            }
        }
    }
}
