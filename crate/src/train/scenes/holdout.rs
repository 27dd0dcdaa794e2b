//! The combinations of a noun with a colour, place, count or relation that training never shows.
//!
//! Fixed for ever by a hash of the names, so that no seed can leak one. Hash order deals them out
//! like cards: one colour in eight and one place in nine for every noun, one count and one side of
//! a relation for some, every colour, place and side equally often.

use std::sync::OnceLock;

use super::colours::COLOURS;
use super::grammar::count_word;
use super::meaning::{Group, Meaning, Place, Relation};
use super::{Split, World};

/// The part of a caption that a noun is combined with; a combination is a noun and one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Trait {
    /// A colour.
    Colour(usize),
    /// The place of a single object.
    Place(Place),
    /// 2 or 3; other counts are never held out.
    Count(usize),
    /// The left or upper side of a relation.
    First(Relation),
    /// The right or lower side of a relation.
    Second(Relation),
}

/// The names of the held-out combinations that a scene contains; empty for every training scene.
pub(super) fn held_out(world: World, meaning: &Meaning) -> Vec<String> {
    let mut names = Vec::new();
    visit(meaning, &mut |noun, quality| {
        if is_combination(world, noun, quality) {
            names.push(name(world, noun, quality));
        }
    });
    names
}

/// Whether a scene contains any held-out combination.
pub(super) fn is_held_out(world: World, meaning: &Meaning) -> bool {
    let mut found = false;
    visit(meaning, &mut |noun, quality| found |= is_combination(world, noun, quality));
    found
}

fn is_combination(world: World, noun: usize, quality: Trait) -> bool {
    table(world)[noun].contains(&Some(quality))
}

/// Whether a text of a split may put a noun and a quality together, be it as true or as false.
///
/// A text of the training split never does so with a held-out combination: said to be true it would
/// give the combination away, and said to be false it would teach that the combination is never true.
pub(super) fn may_say(world: World, split: Split, claims: &[(usize, Trait)]) -> bool {
    split == Split::HeldOut || !claims.iter().any(|&(noun, quality)| is_combination(world, noun, quality))
}

/// [`may_say`] of everything that a caption says.
pub(super) fn may_describe(world: World, split: Split, meaning: &Meaning) -> bool {
    split == Split::HeldOut || !is_held_out(world, meaning)
}

/// The name of every held-out combination, noun by noun.
pub(super) fn combinations(world: World) -> Vec<String> {
    let named =
        |(noun, row): (usize, &Row)| row.map(|quality| quality.map(|quality| name(world, noun, quality)));
    table(world).iter().enumerate().flat_map(named).flatten().collect()
}

fn visit(meaning: &Meaning, each: &mut impl FnMut(usize, Trait)) {
    for Group { count, colour, noun } in meaning.groups() {
        each(noun, Trait::Colour(colour));
        if count > 1 {
            each(noun, Trait::Count(count));
        }
    }
    match meaning {
        Meaning::Alone(group, place) => each(group.noun, Trait::Place(*place)),
        Meaning::Related(first, relation, second) => {
            first.iter().for_each(|group| each(group.noun, Trait::First(*relation)));
            second.iter().for_each(|group| each(group.noun, Trait::Second(*relation)));
        }
        Meaning::Many(_) | Meaning::Row(_) => {}
    }
}

fn name(world: World, noun: usize, quality: Trait) -> String {
    let noun = world.nouns()[noun];
    match quality {
        Trait::Colour(colour) => format!("{} {}", COLOURS[colour].word, noun.one),
        Trait::Place(place) => format!("{} {}", noun.one, place.phrase()),
        Trait::Count(count) => format!("{} {}", count_word(count), noun.many),
        Trait::First(relation) => format!("{} {} something", noun.one, relation.phrase()),
        Trait::Second(relation) => format!("something {} {}", relation.phrase(), noun.one),
    }
}

/// The held-out colour, place, count and relation of one noun.
type Row = [Option<Trait>; 4];

fn table(world: World) -> &'static [Row] {
    static TABLES: [OnceLock<Vec<Row>>; 2] = [OnceLock::new(), OnceLock::new()];
    TABLES[world as usize].get_or_init(|| {
        let mut table = vec![[None; 4]; world.nouns().len()];
        deal((world, &mut table), 0, "colour", COLOURS.len(), |card| Some(Trait::Colour(card)));
        deal((world, &mut table), 1, "place", Place::ALL.len(), |card| Some(Trait::Place(Place::ALL[card])));
        deal((world, &mut table), 2, "count", 8, |card| match card {
            0 => Some(Trait::Count(2)),
            1 => Some(Trait::Count(3)),
            _ => None,
        });
        deal((world, &mut table), 3, "relation", 8, |card| match card {
            0 | 1 => Some(Trait::First(Relation::ALL[card])),
            2 | 3 => Some(Trait::Second(Relation::ALL[card - 2])),
            _ => None,
        });
        table
    })
}

/// Deals `cards` cards in turn to the nouns, in the order of the hash of "noun|kind".
fn deal(
    (world, table): (World, &mut [Row]),
    slot: usize,
    kind: &str,
    cards: usize,
    card: impl Fn(usize) -> Option<Trait>,
) {
    let nouns = world.nouns();
    let mut order: Vec<usize> = (0..nouns.len()).collect();
    order.sort_by_key(|&noun| (fnv1a(&format!("{}|{kind}", nouns[noun].one)), noun));
    for (turn, noun) in order.into_iter().enumerate() {
        table[noun][slot] = card(turn % cards);
    }
}

/// FNV-1a, 64 bits: stable across machines and releases, unlike the standard library's hasher.
fn fnv1a(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORLDS: [World; 2] = [World::V0, World::V1];

    fn colour_of(world: World, noun: usize) -> usize {
        match table(world)[noun][0] {
            Some(Trait::Colour(colour)) => colour,
            other => panic!("every noun has a held-out colour: {other:?}"),
        }
    }

    #[test]
    fn every_colour_and_place_is_held_out_for_equally_many_nouns() {
        for world in WORLDS {
            let nouns = world.nouns().len();
            let count =
                |slot: usize, quality| table(world).iter().filter(|row| row[slot] == Some(quality)).count();
            assert!(
                (0..COLOURS.len()).all(|colour| count(0, Trait::Colour(colour)) == nouns / COLOURS.len())
            );
            assert!(Place::ALL.iter().all(|place| count(1, Trait::Place(*place)).abs_diff(nouns / 9) <= 1));
        }
    }

    #[test]
    fn combination_names_are_unique_and_about_one_in_ten() {
        for world in WORLDS {
            let mut names = combinations(world);
            let total = names.len();
            let possible = world.nouns().len() * (COLOURS.len() + Place::ALL.len() + 2 + 4);
            assert!((8..=13).contains(&(100 * total / possible)), "{total} of {possible}");
            names.sort();
            names.dedup();
            assert_eq!(names.len(), total);
        }
    }

    #[test]
    fn a_held_out_combination_is_found_and_named() {
        for world in WORLDS {
            let noun = 5;
            let colour = colour_of(world, noun);
            let group = Group { count: 2, colour, noun };
            let expected = format!("{} {}", COLOURS[colour].word, world.nouns()[noun].one);
            assert!(held_out(world, &Meaning::Many(group)).contains(&expected));
            assert!(is_held_out(world, &Meaning::Many(group)));
            let other = Group { colour: (colour + 1) % COLOURS.len(), ..group };
            assert!(!held_out(world, &Meaning::Many(other)).contains(&expected));
        }
    }

    #[test]
    fn only_texts_of_the_held_out_split_may_name_what_is_held_out() {
        for world in WORLDS {
            let claim = [(3, Trait::Colour(colour_of(world, 3)))];
            assert!(!may_say(world, Split::Train, &claim));
            assert!(may_say(world, Split::HeldOut, &claim));
        }
    }
}
