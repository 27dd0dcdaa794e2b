//! A scene as pure data: what it says, where each object stands and how it is drawn.

use super::layout::{Square, squares};
use super::meaning::Meaning;
use super::{World, grammar, holdout};
use crate::train::random::Random;

/// One object of a scene.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Object {
    /// Index into the nouns of the world.
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
    /// Whose nouns are shown.
    pub world: World,
    /// What the caption says.
    pub meaning: Meaning,
    /// The objects in the order of the caption.
    pub objects: Vec<Object>,
}

impl Plan {
    /// Places and styles for what a scene says.
    pub(super) fn lay_out(world: World, meaning: Meaning, random: &mut Random) -> Self {
        let groups = meaning.groups().into_iter().flat_map(|group| std::iter::repeat_n(group, group.count));
        let objects = squares(world, &meaning, random)
            .into_iter()
            .zip(groups)
            .map(|(square, group)| Object {
                noun: group.noun,
                colour: group.colour,
                style: random.below(2),
                square,
            })
            .collect();
        Self { world, meaning, objects }
    }

    /// The one caption of the scene.
    pub fn caption(&self) -> String {
        grammar::caption(self.world, &self.meaning)
    }

    /// The caption without colours: true as well, but poorer.
    pub fn bare_caption(&self) -> String {
        grammar::bare_caption(self.world, &self.meaning)
    }

    /// What the caption calls each group, and the same without the colour.
    pub fn phrases(&self) -> Vec<[String; 2]> {
        let groups = self.meaning.groups().into_iter();
        let both = [grammar::phrase, grammar::bare_phrase];
        groups.map(|group| both.map(|phrase| phrase(self.world, group))).collect()
    }

    /// How many different nouns the scene shows.
    pub fn nouns(&self) -> usize {
        self.meaning.groups().len()
    }

    /// The names of the held-out combinations in it.
    pub fn held_out(&self) -> Vec<String> {
        holdout::held_out(self.world, &self.meaning)
    }
}
