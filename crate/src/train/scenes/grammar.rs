//! The one sentence that describes a scene.
//!
//! The caption is a function of the [`Meaning`]: one word order, the left or upper side first, so
//! that every scene has exactly one true caption in this language.

use std::collections::BTreeSet;

use super::World;
use super::colours::COLOURS;
use super::meaning::{Group, Meaning, Place, Relation};

const COUNTS: [&str; 2] = ["two", "three"];

/// The caption: lower case, no full stop, at most 13 words where nouns are one word each.
pub(super) fn caption(world: World, meaning: &Meaning) -> String {
    sentence(meaning, |group| phrase(world, group))
}

/// The caption without colours: true as well, but poorer.
pub(super) fn bare_caption(world: World, meaning: &Meaning) -> String {
    sentence(meaning, |group| bare_phrase(world, group))
}

fn sentence(meaning: &Meaning, phrase: impl Fn(Group) -> String) -> String {
    let side = |groups: &[Group]| groups.iter().map(|group| phrase(*group)).collect::<Vec<_>>().join(" and ");
    match meaning {
        Meaning::Alone(group, place) => format!("{} {}", phrase(*group), place.phrase()),
        Meaning::Many(group) => phrase(*group),
        Meaning::Related(first, relation, second) => {
            format!("{} {} {}", side(first), relation.phrase(), side(second))
        }
        Meaning::Row(groups) => {
            let [a, b, c] = groups.map(phrase);
            format!("{a}, {b} and {c}")
        }
    }
}

/// Every word a caption can have, sorted, with "," as a word of its own.
pub(super) fn words(world: World) -> Vec<String> {
    let fixed = ["a", "an", "and", ","].into_iter().chain(COUNTS);
    let phrases = Place::ALL.map(Place::phrase).into_iter().chain(Relation::ALL.map(Relation::phrase));
    let mut words: BTreeSet<&str> = fixed.collect();
    words.extend(phrases.flat_map(str::split_whitespace));
    words.extend(COLOURS.map(|colour| colour.word));
    let nouns = world.nouns().iter().flat_map(|noun| [noun.one, noun.many]);
    words.extend(nouns.flat_map(str::split_whitespace));
    words.into_iter().map(str::to_owned).collect()
}

/// "two" or "three".
pub(super) fn count_word(count: usize) -> &'static str {
    COUNTS[count - 2]
}

/// "a red car", "two blue keys".
pub(super) fn phrase(world: World, group: Group) -> String {
    let (colour, noun) = (COLOURS[group.colour].word, world.nouns()[group.noun]);
    if group.count > 1 {
        return format!("{} {colour} {}", count_word(group.count), noun.many);
    }
    let article = if colour.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {colour} {}", noun.one)
}

/// "a car", "two keys".
pub(super) fn bare_phrase(world: World, group: Group) -> String {
    let noun = world.nouns()[group.noun];
    if group.count > 1 { format!("{} {}", count_word(group.count), noun.many) } else { noun.with_article() }
}

#[cfg(test)]
mod tests {
    use super::super::nouns::NOUNS;
    use super::*;

    fn caption(meaning: &Meaning) -> String {
        super::caption(World::V0, meaning)
    }

    fn named(count: usize, colour: &str, noun: &str) -> Group {
        let colour = COLOURS.iter().position(|c| c.word == colour).unwrap();
        Group { count, colour, noun: NOUNS.iter().position(|n| n.one == noun).unwrap() }
    }

    #[test]
    fn captions_are_the_documented_sentences() {
        let (car, key, tree) = (named(1, "red", "car"), named(1, "orange", "key"), named(1, "green", "tree"));
        let place = Place { column: 2, row: 0 };
        assert_eq!(caption(&Meaning::Alone(car, place)), "a red car at the top right");
        assert_eq!(caption(&Meaning::Many(named(3, "blue", "butterfly"))), "three blue butterflies");
        let pair = named(2, "pink", "leaf");
        assert_eq!(
            caption(&Meaning::Related(vec![pair], Relation::LeftOf, vec![key])),
            "two pink leaves left of an orange key"
        );
        assert_eq!(
            caption(&Meaning::Related(vec![car, key], Relation::Above, vec![tree])),
            "a red car and an orange key above a green tree"
        );
        let row = Meaning::Row([car, key, tree]);
        assert_eq!(caption(&row), "a red car, an orange key and a green tree");
        assert_eq!(bare_caption(World::V0, &row), "a car, a key and a tree");
        assert_eq!(bare_caption(World::V0, &Meaning::Many(pair)), "two leaves");
    }

    #[test]
    fn words_are_sorted_and_unique_single_words() {
        for words in [words(World::V0), words(World::V1)] {
            assert!(words.is_sorted_by(|a, b| a < b));
            assert!(words.iter().all(|word| word == "," || word.chars().all(|c| c.is_ascii_lowercase())));
            assert_eq!(words.iter().filter(|word| *word == "fish").count(), 1);
        }
    }
}
