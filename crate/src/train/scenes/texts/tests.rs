//! The promises of all texts: true to the scene, balanced, and silent about what is held out.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::clips::{Clip, Event};
use super::negatives::Change;
use super::pairs::Claim;
use super::questions::Topic;
use super::*;
use crate::train::scenes::meaning::Group;

const WORLDS: [World; 2] = [World::V0, World::V1];
const SPLITS: [Split; 2] = [Split::Train, Split::HeldOut];
const SEED: u64 = 11;

/// Every text about scenes, pairs and clips `0..count`.
fn texts(world: World, split: Split, count: u64) -> Vec<String> {
    let mut all = Vec::new();
    for index in 0..count {
        for asked in world.questions(split, SEED, index) {
            all.extend([asked.question, asked.answer]);
        }
        all.extend(world.negatives(split, SEED, index).into_iter().map(|negative| negative.text));
        let dialogue = world.dialogue(split, SEED, index);
        all.push(dialogue.caption);
        for turn in dialogue.rounds {
            all.extend([turn.asked.question, turn.asked.answer]);
            all.extend(turn.candidates);
        }
        all.push(world.pair(split, SEED, index).text);
        let Clip { captions, questions, negatives, .. } = world.clip(split, SEED, index, 4);
        all.extend(captions.into_iter().chain(negatives));
        all.extend(questions.into_iter().flat_map(|asked| [asked.question, asked.answer]));
    }
    all
}

/// A text as words, with its marks.
fn words_of(text: &str) -> Vec<String> {
    text.replace('?', " ?").replace(',', " ,").split(' ').map(str::to_owned).collect()
}

#[test]
fn texts_use_only_the_listed_words_and_all_of_them_are_used() {
    for world in WORLDS {
        let words: HashSet<String> = world.text_words().into_iter().collect();
        let mut seen = HashSet::new();
        for split in SPLITS {
            for text in texts(world, split, 2500) {
                for word in words_of(&text) {
                    assert!(words.contains(&word), "{word:?} of {text:?}");
                    seen.insert(word);
                }
            }
        }
        let unused: Vec<&String> = words.difference(&seen).collect();
        assert!(unused.is_empty(), "{unused:?}");
    }
}

#[test]
fn every_answer_is_in_the_list() {
    for world in WORLDS {
        let answers: HashSet<String> = world.answers().into_iter().collect();
        for split in SPLITS {
            for index in 0..3000 {
                let clip = world.clip(split, SEED, index, 3);
                for asked in world.questions(split, SEED, index).into_iter().chain(clip.questions) {
                    assert!(answers.contains(&asked.answer), "{asked:?}");
                    assert!(asked.question.ends_with('?'));
                }
            }
        }
    }
}

/// What a text says about nouns, read from its words: (noun, quality) as the holdout names them.
fn combinations(world: World, text: &str, nouns: &HashMap<&str, usize>) -> Vec<String> {
    let words = words_of(text.trim_end_matches('?'));
    // Longer names first: "teddy bear" is no bear.
    let mut things: Vec<(usize, usize, usize)> = Vec::new();
    let mut at = 0;
    while at < words.len() {
        let two = words.get(at + 1).map(|next| format!("{} {next}", words[at]));
        if let Some(&noun) = two.as_deref().and_then(|two| nouns.get(two)) {
            things.push((at, at + 2, noun));
            at += 2;
        } else {
            if let Some(&noun) = nouns.get(&words[at][..]) {
                things.push((at, at + 1, noun));
            }
            at += 1;
        }
    }
    let mut found = Vec::new();
    for &(start, end, noun) in &things {
        let one = world.nouns()[noun].one;
        let before = if start > 0 { &words[start - 1][..] } else { "" };
        if COLOURS.iter().any(|colour| colour.word == before) {
            found.push(format!("{before} {one}"));
        }
        for number in ["two", "three"] {
            let counted = words[..start].iter().rev().take(2).any(|word| word == number);
            if counted {
                found.push(format!("{number} {}", world.nouns()[noun].many));
            }
        }
        let after = words[end..].join(" ");
        if COLOURS.iter().any(|colour| after == colour.word) {
            found.push(format!("{after} {one}"));
        }
        if let Some(place) = Place::ALL.iter().find(|place| after == place.phrase()) {
            found.push(format!("{one} {}", place.phrase()));
        }
    }
    for pair in things.windows(2) {
        let between = words[pair[0].1..pair[1].0].join(" ");
        let names = [world.nouns()[pair[0].2].one, world.nouns()[pair[1].2].one];
        for relation in Relation::ALL {
            let phrase = relation.phrase();
            for (words, [first, second]) in
                [(phrase, names), (relation_words(relation, false), [names[1], names[0]])]
            {
                if between.starts_with(words) {
                    found.push(format!("{first} {phrase} something"));
                    found.push(format!("something {phrase} {second}"));
                }
            }
        }
    }
    found
}

#[test]
fn no_text_of_the_training_split_names_what_is_held_out() {
    for world in WORLDS {
        let held_out: HashSet<String> = world.knowledge().held_out.into_iter().collect();
        let mut nouns = HashMap::new();
        for (index, noun) in world.nouns().iter().enumerate() {
            nouns.extend([(noun.one, index), (noun.many, index)]);
        }
        let mut named = HashSet::new();
        for text in texts(world, Split::Train, 4000) {
            for combination in combinations(world, &text, &nouns) {
                assert!(!held_out.contains(&combination), "{combination:?} in {text:?}");
                named.insert(combination);
            }
        }
        // The reader sees what is there: most combinations of the small world are named.
        assert!(world == World::V1 || named.len() > 1000, "{}", named.len());
        let mut found = 0;
        for text in texts(world, Split::HeldOut, 300) {
            found +=
                combinations(world, &text, &nouns).iter().filter(|name| held_out.contains(*name)).count();
        }
        assert!(found > 300, "{found}");
    }
}

#[test]
fn a_question_and_its_answer_make_no_held_out_combination_in_training() {
    for world in WORLDS {
        let held_out: HashSet<String> = world.knowledge().held_out.into_iter().collect();
        for index in 0..6000 {
            let clip = world.clip(Split::Train, SEED, index, 2);
            let rounds = world.dialogue(Split::Train, SEED, index).rounds;
            let asked = world.questions(Split::Train, SEED, index).into_iter().chain(clip.questions);
            let answers = asked.map(|asked| {
                let answers = vec![asked.answer.clone()];
                (asked, answers)
            });
            let ranked = rounds.into_iter().map(|turn| (turn.asked, turn.candidates));
            for (asked, answers) in answers.chain(ranked) {
                let Some(noun) = asked.about.map(|noun| world.nouns()[noun]) else { continue };
                for answer in answers {
                    let made = match asked.topic {
                        Topic::Colour => format!("{answer} {}", noun.one),
                        Topic::Count => format!("{answer} {}", noun.many),
                        Topic::Where => format!("{} {answer}", noun.one),
                        _ => continue,
                    };
                    assert!(!held_out.contains(&made), "{asked:?}: {answer}");
                }
            }
        }
    }
}

#[test]
fn yes_and_no_are_balanced_in_every_topic_and_numbers_all_occur() {
    for world in WORLDS {
        for split in SPLITS {
            let mut counts: BTreeMap<(Topic, String), usize> = BTreeMap::new();
            for index in 0..6000 {
                for asked in world.questions(split, SEED, index) {
                    *counts.entry((asked.topic, asked.answer)).or_default() += 1;
                }
            }
            let count = |topic, answer: &str| counts.get(&(topic, answer.to_owned())).copied().unwrap_or(0);
            for topic in [Topic::Existence, Topic::Attribute, Topic::Position] {
                let (yes, no) = (count(topic, "yes"), count(topic, "no"));
                assert!(yes + no > 3000 && yes.abs_diff(no) * 16 < yes + no, "{topic:?}: {yes} and {no}");
            }
            for number in &NUMBERS[..4] {
                assert!(count(Topic::Count, number) > 600, "{number}: {}", count(Topic::Count, number));
            }
            for colour in COLOURS {
                let asked = count(Topic::Colour, colour.word);
                assert!(asked.abs_diff(750) < 150, "{}: {asked}", colour.word);
            }
            for place in Place::ALL {
                assert!(count(Topic::Where, place.phrase()) > 120);
            }
            assert!(Topic::Event > Topic::Position && count(Topic::Event, "yes") == 0);
        }
    }
}

/// Reads a caption back into its meaning, by trying everything that is near to it.
fn is_true_of(plan: &Plan, text: &str) -> bool {
    plan.caption() == text
}

#[test]
fn negatives_look_like_captions_are_false_and_differ_in_little() {
    for world in WORLDS {
        for split in SPLITS {
            let mut changes: BTreeMap<Change, usize> = BTreeMap::new();
            for index in 0..3000 {
                let plan = world.plan(split, SEED, index);
                let negatives = world.negatives(split, SEED, index);
                assert!(negatives.len() >= 2, "{}: {negatives:?}", plan.caption());
                for negative in negatives {
                    assert!(!is_true_of(&plan, &negative.text));
                    *changes.entry(negative.change).or_default() += 1;
                    let (now, then) = (words_of(&negative.text), words_of(&plan.caption()));
                    let new = now.iter().filter(|word| !then.contains(word)).count();
                    let limit = match negative.change {
                        Change::Colours | Change::Sides => 1, // "a" becomes "an"
                        Change::Place => 4,
                        _ => 3,
                    };
                    assert!(new <= limit, "{negative:?} of {}", plan.caption());
                }
            }
            assert_eq!(changes.len(), Change::ALL.len(), "{changes:?}");
            assert!(changes.values().all(|&count| count > 150), "{changes:?}");
        }
    }
}

#[test]
fn answers_about_scenes_are_true() {
    for world in WORLDS {
        for index in 0..3000 {
            let plan = world.plan(Split::HeldOut, SEED, index);
            let groups = plan.meaning.groups();
            let of = |noun: Option<usize>| groups.iter().find(|group| Some(group.noun) == noun);
            for asked in world.questions(Split::HeldOut, SEED, index) {
                let yes = asked.answer == "yes";
                let ends = |text: &str| asked.question.ends_with(&format!("{text}?"));
                match (asked.topic, of(asked.about)) {
                    (Topic::Colour, Some(group)) => assert_eq!(asked.answer, COLOURS[group.colour].word),
                    (Topic::Count, group) => {
                        let total: usize = groups.iter().map(|group| group.count).sum();
                        let count = group.map_or(0, |group| group.count);
                        let count = if asked.about.is_none() { total } else { count };
                        assert_eq!(asked.answer, NUMBERS[count]);
                    }
                    (Topic::What, Some(group)) => {
                        assert_eq!(asked.answer, world.nouns()[group.noun].counted(group.count));
                    }
                    (Topic::Attribute, Some(group)) => assert_eq!(yes, ends(COLOURS[group.colour].word)),
                    (Topic::Existence, None) => assert!(!yes),
                    (Topic::Existence, Some(group)) => {
                        let named =
                            COLOURS.iter().find(|c| asked.question.contains(&format!(" {} ", c.word)));
                        let colour = named.is_none_or(|c| c.word == COLOURS[group.colour].word);
                        let number =
                            ["two", "three"].iter().find(|n| asked.question.contains(&format!(" {n} ")));
                        let count = number.is_none_or(|n| *n == NUMBERS[group.count]);
                        assert_eq!(yes, colour && count, "{asked:?} of {}", plan.caption());
                    }
                    (Topic::Where, Some(_)) | (Topic::Position, Some(_)) => {
                        if let Meaning::Alone(_, place) = plan.meaning {
                            let is_there = if asked.topic == Topic::Where {
                                asked.answer == place.phrase()
                            } else {
                                yes == ends(place.phrase())
                            };
                            assert!(is_there, "{asked:?} of {}", plan.caption());
                        }
                    }
                    other => panic!("{other:?} of {asked:?}"),
                }
            }
        }
    }
}

#[test]
fn relation_questions_are_true_of_the_squares() {
    for world in WORLDS {
        let mut asked_of = 0;
        for index in 0..4000 {
            let plan = world.plan(Split::Train, SEED, index);
            let Some((a, _, b)) = simple_relation(&plan.meaning) else { continue };
            let (first, second) = sides(&plan, &[a]);
            let questions = world.questions(Split::Train, SEED, index);
            let Some(asked) = questions.iter().find(|asked| asked.topic == Topic::Position) else { continue };
            asked_of += 1;
            let (subject, object) =
                if asked.about == Some(a.noun) { (&first, &second) } else { (&second, &first) };
            let holds = if asked.question.contains("left of") {
                stands(subject, Relation::LeftOf, object)
            } else if asked.question.contains("right of") {
                stands(object, Relation::LeftOf, subject)
            } else if asked.question.contains("above") {
                stands(subject, Relation::Above, object)
            } else {
                stands(object, Relation::Above, subject)
            };
            assert_eq!(holds, asked.answer == "yes", "{asked:?} of {plan:?}");
            let _ = b;
        }
        assert!(asked_of > 1000);
    }
}

#[test]
fn statements_about_pairs_are_balanced_and_true_of_both_pictures() {
    for world in WORLDS {
        for split in SPLITS {
            let mut counts: BTreeMap<(Claim, bool), usize> = BTreeMap::new();
            for index in 0..3000 {
                let pair = world.pair(split, SEED, index);
                *counts.entry((pair.claim, pair.holds)).or_default() += 1;
                for plan in &pair.plans {
                    assert_eq!(plan.held_out().is_empty(), split == Split::Train);
                }
                assert_eq!(pair, world.pair(split, SEED, index));
                let groups = [0, 1].map(|side: usize| pair.plans[side].meaning.groups());
                let shows = |side: usize, text: &str| {
                    let named =
                        |group: &Group| text.ends_with(&format!(" {}", world.nouns()[group.noun].one));
                    groups[side].iter().any(named)
                };
                let holds = match pair.claim {
                    Claim::Both => shows(0, &pair.text) && shows(1, &pair.text),
                    Claim::ExactlyOne => shows(0, &pair.text) != shows(1, &pair.text),
                    Claim::More => {
                        let more = pair.plans[0].objects.len() > pair.plans[1].objects.len();
                        pair.text.contains("in the left picture than") == more
                    }
                    Claim::Total => {
                        let named = |group: &&Group| {
                            pair.text.ends_with(&format!(
                                " {} in the two pictures",
                                world.nouns()[group.noun].many
                            ))
                        };
                        let total: usize =
                            groups.iter().flatten().filter(named).map(|group| group.count).sum();
                        pair.text.starts_with(&format!("there are {} ", NUMBERS[total]))
                    }
                    Claim::SameColour => {
                        let named = |group: &&Group| {
                            pair.text.starts_with(&format!("the {} is the", world.nouns()[group.noun].one))
                        };
                        let [a, b] =
                            [0, 1].map(|side: usize| groups[side].iter().find(named).unwrap().colour);
                        a == b
                    }
                    Claim::Sides => {
                        let (left, right) = pair.text.split_once(" in the left picture and ").unwrap();
                        let says = |side: usize, text: &str| {
                            groups[side].iter().any(|group| {
                                text.strip_prefix(&grammar::phrase(world, *group))
                                    .is_some_and(|rest| rest.starts_with(" is") || rest.starts_with(" are"))
                            })
                        };
                        says(0, left) && says(1, right)
                    }
                };
                assert_eq!(holds, pair.holds, "{pair:?}");
            }
            for claim in Claim::ALL {
                let [yes, no] = [true, false].map(|holds| counts[&(claim, holds)]);
                assert!(yes.abs_diff(no) < 90, "{claim:?}: {yes} and {no}");
            }
        }
    }
}

#[test]
fn clips_show_what_their_captions_say() {
    for world in WORLDS {
        for split in SPLITS {
            for index in 0..1000 {
                let clip = world.clip(split, SEED, index, 5);
                assert_eq!(clip, world.clip(split, SEED, index, 5));
                assert_eq!(clip.plan.held_out().is_empty(), split == Split::Train);
                assert_eq!(clip.frames.len(), 5);
                let squares = |object: usize| -> Vec<Option<Square>> {
                    let seen = |frame: &Vec<(usize, Square)>| {
                        frame.iter().find(|(index, _)| *index == object).map(|(_, square)| *square)
                    };
                    clip.frames.iter().map(seen).collect()
                };
                let (actor, other) = (squares(clip.actor), squares(1 - clip.actor));
                assert!(other.iter().all(|square| *square == other[0] && square.is_some()));
                let Meaning::Related(_, relation, _) = clip.plan.meaning else { panic!("{clip:?}") };
                for square in actor.iter().flatten() {
                    let (a, b) = (*square, other[0].unwrap());
                    let (first, second) = if clip.actor == 0 { (a, b) } else { (b, a) };
                    assert!(stands(&[first], relation, &[second]), "{clip:?}");
                    assert!(a.left >= 0 && a.top >= 0 && a.left + a.side <= 192 && a.top + a.side <= 192);
                }
                let phrase = grammar::phrase(world, clip.plan.meaning.groups()[clip.actor]);
                assert!(clip.captions[1].starts_with(&phrase));
                match clip.event {
                    Event::Moves(direction) => {
                        let (start, end) = (actor[0].unwrap(), actor[4].unwrap());
                        let far = match direction {
                            clips::Direction::Left => start.left - end.left,
                            clips::Direction::Right => end.left - start.left,
                            clips::Direction::Up => start.top - end.top,
                            clips::Direction::Down => end.top - start.top,
                        };
                        assert!(far >= 48, "{clip:?}");
                    }
                    Event::Appears => assert!(actor[0].is_none() && actor[4].is_some()),
                    Event::Disappears => assert!(actor[0].is_some() && actor[4].is_none()),
                }
                assert!(clip.negatives.iter().all(|text| !clip.captions.contains(text)));
            }
        }
    }
}

#[test]
fn a_dialogue_asks_different_things_with_ten_candidates_each() {
    for world in WORLDS {
        for index in 0..2000 {
            let dialogue = world.dialogue(Split::Train, SEED, index);
            assert!(!dialogue.rounds.is_empty() && dialogue.rounds.len() <= 4);
            assert!(
                COLOURS.iter().all(|colour| !words_of(&dialogue.caption).contains(&colour.word.to_owned()))
            );
            for turn in dialogue.rounds {
                let unique: HashSet<&String> = turn.candidates.iter().collect();
                assert_eq!(unique.len(), 10, "{turn:?}");
                assert!(unique.contains(&turn.asked.answer));
            }
        }
    }
}
