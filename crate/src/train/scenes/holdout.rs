//! The combinations of a noun with a colour, place, count or relation that training never shows.
//!
//! Fixed for ever by a hash of the names, so that no seed can leak one. Hash order deals them out
//! like cards: one colour in eight and one place in nine for every noun, one count and one side of
//! a relation for some, every colour, place and side equally often.

use std::sync::OnceLock;

use super::colours::COLOURS;
use super::grammar::count_word;
use super::meaning::{Group, Meaning, Place, Relation};
use super::nouns::NOUNS;

/// The part of a caption that a noun is combined with; a combination is a noun and one of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Trait {
    Colour(usize),
    Place(Place),
    /// 2 or 3.
    Count(usize),
    First(Relation),
    Second(Relation),
}

/// The names of the held-out combinations that a scene contains; empty for every training scene.
pub(super) fn held_out(meaning: &Meaning) -> Vec<String> {
    let mut names = Vec::new();
    visit(meaning, &mut |noun, quality| {
        if table()[noun].contains(&Some(quality)) {
            names.push(name(noun, quality));
        }
    });
    names
}

/// Whether a scene contains any held-out combination.
pub(super) fn is_held_out(meaning: &Meaning) -> bool {
    let mut found = false;
    visit(meaning, &mut |noun, quality| found |= table()[noun].contains(&Some(quality)));
    found
}

/// The name of every held-out combination, noun by noun.
pub fn combinations() -> Vec<String> {
    let named = |(noun, row): (usize, &Row)| row.map(|quality| quality.map(|quality| name(noun, quality)));
    table().iter().enumerate().flat_map(named).flatten().collect()
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

fn name(noun: usize, quality: Trait) -> String {
    let noun = NOUNS[noun];
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

fn table() -> &'static [Row] {
    static TABLE: OnceLock<Vec<Row>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = vec![[None; 4]; NOUNS.len()];
        deal(&mut table, 0, "colour", COLOURS.len(), |card| Some(Trait::Colour(card)));
        deal(&mut table, 1, "place", Place::ALL.len(), |card| Some(Trait::Place(Place::ALL[card])));
        deal(&mut table, 2, "count", 8, |card| match card {
            0 => Some(Trait::Count(2)),
            1 => Some(Trait::Count(3)),
            _ => None,
        });
        deal(&mut table, 3, "relation", 8, |card| match card {
            0 | 1 => Some(Trait::First(Relation::ALL[card])),
            2 | 3 => Some(Trait::Second(Relation::ALL[card - 2])),
            _ => None,
        });
        table
    })
}

/// Deals `cards` cards in turn to the nouns, in the order of the hash of "noun|kind".
fn deal(table: &mut [Row], slot: usize, kind: &str, cards: usize, card: impl Fn(usize) -> Option<Trait>) {
    let mut order: Vec<usize> = (0..NOUNS.len()).collect();
    order.sort_by_key(|&noun| (fnv1a(&format!("{}|{kind}", NOUNS[noun].one)), noun));
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

    #[test]
    fn every_colour_is_held_out_for_equally_many_nouns() {
        for colour in 0..COLOURS.len() {
            let nouns = table().iter().filter(|row| row[0] == Some(Trait::Colour(colour))).count();
            assert_eq!(nouns, NOUNS.len() / COLOURS.len());
        }
    }

    #[test]
    fn combination_names_are_unique_and_about_one_in_ten() {
        let mut names = combinations();
        let total = names.len();
        let possible = NOUNS.len() * (COLOURS.len() + Place::ALL.len() + 2 + 4);
        assert!((8..=13).contains(&(100 * total / possible)), "{total} of {possible}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), total);
    }

    #[test]
    fn a_held_out_combination_is_found_and_named() {
        let noun = 5;
        let Some(Trait::Colour(colour)) = table()[noun][0] else {
            panic!("every noun has a held-out colour")
        };
        let group = Group { count: 2, colour, noun };
        let expected = format!("{} {}", COLOURS[colour].word, NOUNS[noun].one);
        assert!(held_out(&Meaning::Many(group)).contains(&expected));
        assert!(is_held_out(&Meaning::Many(group)));
        let other = Group { colour: (colour + 1) % COLOURS.len(), ..group };
        assert!(!held_out(&Meaning::Many(other)).contains(&expected));
    }
}
