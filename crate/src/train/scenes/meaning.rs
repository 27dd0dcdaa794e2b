//! What a scene says: the content shared by its caption and its picture.

use super::colours::COLOURS;
use super::{Split, World, holdout};
use crate::train::random::Random;

/// One or more equal objects: "a red car", "two blue keys".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// How many, 1 to 3.
    pub count: usize,
    /// Index into [`COLOURS`].
    pub colour: usize,
    /// Index into the nouns of the world.
    pub noun: usize,
}

/// Where a single object stands: a column and a row of the image, thirds counted from the top left.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// 0 left, 1 centre, 2 right.
    pub column: usize,
    /// 0 top, 1 centre, 2 bottom.
    pub row: usize,
}

impl Place {
    /// Every place, row by row.
    pub const ALL: [Self; 9] = {
        let mut all = [Self { column: 0, row: 0 }; 9];
        let mut i = 0;
        while i < 9 {
            all[i] = Self { column: i % 3, row: i / 3 };
            i += 1;
        }
        all
    };

    /// The words of the caption.
    pub const fn phrase(self) -> &'static str {
        match (self.row, self.column) {
            (0, 0) => "at the top left",
            (0, 1) => "at the top",
            (0, _) => "at the top right",
            (1, 0) => "on the left",
            (1, 1) => "in the middle",
            (1, _) => "on the right",
            (_, 0) => "at the bottom left",
            (_, 1) => "at the bottom",
            (_, _) => "at the bottom right",
        }
    }
}

/// How two sides of a scene stand to each other; the side named first is the left or the upper one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Relation {
    /// The first side is left of the second.
    LeftOf,
    /// The first side is above the second.
    Above,
}

impl Relation {
    /// Both relations.
    pub const ALL: [Self; 2] = [Self::LeftOf, Self::Above];

    /// The words of the caption.
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::LeftOf => "left of",
            Self::Above => "above",
        }
    }
}

/// The content of a scene. Different groups always have different nouns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Meaning {
    /// One object and its place.
    Alone(Group, Place),
    /// Two or three equal objects.
    Many(Group),
    /// Two sides; a side of two groups lists them from left to right.
    Related(Vec<Group>, Relation, Vec<Group>),
    /// Three different objects in a row, from left to right.
    Row([Group; 3]),
}

impl Meaning {
    /// The groups in the order of the caption, which is also the order of the drawn objects.
    pub fn groups(&self) -> Vec<Group> {
        match self {
            Self::Alone(group, _) | Self::Many(group) => vec![*group],
            Self::Related(first, _, second) => first.iter().chain(second).copied().collect(),
            Self::Row(groups) => groups.to_vec(),
        }
    }

    /// The groups in the same order, to be changed.
    pub(super) fn groups_mut(&mut self) -> Vec<&mut Group> {
        match self {
            Self::Alone(group, _) | Self::Many(group) => vec![group],
            Self::Related(first, _, second) => first.iter_mut().chain(second).collect(),
            Self::Row(groups) => groups.iter_mut().collect(),
        }
    }

    /// Draws everything but the nouns of a scene with `objects` (1 to 3) objects; `equal` asks for
    /// one noun in one colour. The nouns come from outside, so that a redraw does not change them.
    fn draw(random: &mut Random, nouns: [usize; 3], objects: usize, equal: bool) -> Self {
        let mut group =
            |count, noun: usize| Group { count, colour: random.below(COLOURS.len()), noun: nouns[noun] };
        if equal || objects == 1 {
            let group = group(objects, 0);
            let place = Place::ALL[random.below(Place::ALL.len())];
            return if objects == 1 { Self::Alone(group, place) } else { Self::Many(group) };
        }
        let [a, b, c] = [0, 1, 2].map(|noun| group(1, noun));
        if objects == 2 {
            return Self::Related(vec![a], Relation::ALL[random.below(2)], vec![b]);
        }
        // Two nouns half of the time, else three.
        if random.coin() {
            let pair = Group { count: 2, ..a };
            let relation = Relation::ALL[random.below(2)];
            let (first, second) = if random.coin() { (pair, b) } else { (b, pair) };
            return Self::Related(vec![first], relation, vec![second]);
        }
        match random.below(3) {
            0 => Self::Row([a, b, c]),
            1 => Self::Related(vec![a], Relation::Above, vec![b, c]),
            _ => Self::Related(vec![a, b], Relation::Above, vec![c]),
        }
    }
}

/// Draws until the scene is on the wanted side of the split.
///
/// The nouns are kept for a while, which keeps them balanced; some nouns fit no scene of the wanted
/// kind (their count is held out), and then others are drawn.
pub(super) fn draw(world: World, split: Split, random: &mut Random, objects: usize, equal: bool) -> Meaning {
    loop {
        let nouns = draw_nouns(world, random);
        for _ in 0..24 {
            let meaning = Meaning::draw(random, nouns, objects, equal);
            if holdout::is_held_out(world, &meaning) == (split == Split::HeldOut) {
                return meaning;
            }
        }
    }
}

/// Three different nouns, every noun equally likely.
fn draw_nouns(world: World, random: &mut Random) -> [usize; 3] {
    let mut all: Vec<usize> = (0..world.nouns().len()).collect();
    std::array::from_fn(|i| {
        let rest = all.len() - i;
        all.swap(i, i + random.below(rest));
        all[i]
    })
}
