//! What can be said about a scene beside its caption: questions, nearly true sentences, dialogues,
//! statements about two scenes, and clips.
//!
//! Every text is a function of (world, split, seed, index). **No text of the training split puts a
//! noun together with a quality that is held out for it, neither as true nor as false** (see
//! [`super::holdout::may_say`]); a text of the held-out split may.

pub(super) mod clips;
pub(super) mod dialogue;
pub(super) mod negatives;
pub(super) mod pairs;
pub(super) mod questions;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use super::colours::COLOURS;
use super::holdout::{self, Trait};
use super::layout::Square;
use super::meaning::{Group, Meaning, Place, Relation};
use super::nouns::Noun;
use super::plan::Plan;
use super::{Split, World, grammar};
use crate::train::random::Random;

/// The words for numbers, from zero.
const NUMBERS: [&str; 7] = ["zero", "one", "two", "three", "four", "five", "six"];

/// Every word of every text, sorted, with "," and "?" as words of their own.
pub(super) fn words(world: World) -> Vec<String> {
    let mut words: BTreeSet<String> = grammar::words(world).into_iter().collect();
    let fixed = [questions::WORDS, pairs::WORDS, clips::WORDS].into_iter().flat_map(str::split_whitespace);
    words.extend(fixed.chain(NUMBERS).map(str::to_owned));
    words.into_iter().collect()
}

/// Every answer there is, sorted.
pub(super) fn answers(world: World) -> Vec<String> {
    let nouns = world.nouns().iter().flat_map(|noun| [noun.one, noun.many]);
    let colours = COLOURS.iter().map(|colour| colour.word);
    let places = Place::ALL.iter().map(|place| place.phrase());
    let all = nouns.chain(colours).chain(places).chain(NUMBERS[..4].iter().copied()).chain(["yes", "no"]);
    let all: BTreeSet<&str> = all.chain(clips::DIRECTIONS.map(clips::Direction::word)).collect();
    all.into_iter().map(str::to_owned).collect()
}

/// Who speaks: the nouns that can be named, and what must not be said of them.
#[derive(Clone, Copy, Debug)]
struct Speech {
    world: World,
    split: Split,
}

impl Speech {
    fn noun(self, noun: usize) -> Noun {
        self.world.nouns()[noun]
    }

    /// "car" or "cars".
    fn name(self, group: Group) -> &'static str {
        self.noun(group.noun).counted(group.count)
    }

    /// "is the car", "are the cars".
    fn is_the(self, group: Group) -> String {
        format!("{} the {}", if group.count == 1 { "is" } else { "are" }, self.name(group))
    }

    fn may_say(self, claims: &[(usize, Trait)]) -> bool {
        holdout::may_say(self.world, self.split, claims)
    }

    /// A noun that none of the groups shows, and that no word of theirs could be taken for.
    fn absent(self, groups: &[Group], random: &mut Random) -> usize {
        loop {
            let noun = random.below(self.world.nouns().len());
            let shown = |group: &Group| self.noun(noun).resembles(self.noun(group.noun));
            if !groups.iter().any(shown) {
                return noun;
            }
        }
    }

    /// A colour other than that of a group, half of the time one that another group has.
    fn another_colour(self, group: Group, groups: &[Group], random: &mut Random) -> Option<usize> {
        let shown: Vec<usize> =
            groups.iter().map(|other| other.colour).filter(|&colour| colour != group.colour).collect();
        let colour = if random.coin() && !shown.is_empty() {
            *random.pick(&shown)
        } else {
            (group.colour + 1 + random.below(COLOURS.len() - 1)) % COLOURS.len()
        };
        self.may_say(&[(group.noun, Trait::Colour(colour))]).then_some(colour)
    }
}

/// What "first, relation, second" says of two nouns.
fn relation_claims(first: usize, relation: Relation, second: usize) -> [(usize, Trait); 2] {
    [(first, Trait::First(relation)), (second, Trait::Second(relation))]
}

/// "left of" from the left side, "right of" from the right one.
fn relation_words(relation: Relation, from_first: bool) -> &'static str {
    match (relation, from_first) {
        (_, true) => relation.phrase(),
        (Relation::LeftOf, false) => "right of",
        (Relation::Above, false) => "below",
    }
}

fn other_axis(relation: Relation) -> Relation {
    match relation {
        Relation::LeftOf => Relation::Above,
        Relation::Above => Relation::LeftOf,
    }
}

/// Whether all of the first squares end before all of the second ones begin.
fn stands(first: &[Square], relation: Relation, second: &[Square]) -> bool {
    let end = |square: &Square| match relation {
        Relation::LeftOf => square.left + square.side,
        Relation::Above => square.top + square.side,
    };
    let start = |square: &Square| end(square) - square.side;
    first.iter().all(|a| second.iter().all(|b| end(a) <= start(b)))
}

/// The squares of the first and of the second side of a relation.
fn sides(plan: &Plan, first: &[Group]) -> (Vec<Square>, Vec<Square>) {
    let count = first.iter().map(|group| group.count).sum();
    let mut squares: Vec<Square> = plan.objects.iter().map(|object| object.square).collect();
    let second = squares.split_off(count);
    (squares, second)
}

/// Whether nobody would say that something at one place is at the other: "at the top" is nearly true
/// of what is at the top left.
fn are_clearly_different(a: Place, b: Place) -> bool {
    let (columns, rows) = (a.column.abs_diff(b.column), a.row.abs_diff(b.row));
    columns == 2 || rows == 2 || (columns > 0 && rows > 0)
}

/// The only group of each side, where each has one.
fn simple_relation(meaning: &Meaning) -> Option<(Group, Relation, Group)> {
    match meaning {
        Meaning::Related(first, relation, second) => match (&first[..], &second[..]) {
            ([a], [b]) => Some((*a, *relation, *b)),
            _ => None,
        },
        _ => None,
    }
}
