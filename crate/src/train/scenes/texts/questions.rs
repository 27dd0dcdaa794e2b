//! Questions about a scene with short answers.

use super::{
    NUMBERS, Speech, are_clearly_different, other_axis, relation_claims, relation_words, sides,
    simple_relation, stands,
};
use crate::train::random::Random;
use crate::train::scenes::holdout::Trait;
use crate::train::scenes::meaning::{Group, Meaning, Place};
use crate::train::scenes::plan::Plan;
use crate::train::scenes::random::{Purpose, stream};
use crate::train::scenes::{COLOURS, Split, World};

/// The words of questions and answers that captions do not have.
pub(super) const WORDS: &str = "what color is are the how many there objects picture in where between right of \
                                below yes no ?";

/// What a question asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// The colour of something.
    Colour,
    /// How many there are.
    Count,
    /// What is there, or at a place.
    What,
    /// The place of something.
    Where,
    /// Whether something is there.
    Existence,
    /// Whether something has a colour.
    Attribute,
    /// Whether something is at a place or beside something else.
    Position,
    /// What happens in a clip.
    Event,
}

/// A question with its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// What it asks for.
    pub topic: Topic,
    /// The question, lower case, with its question mark.
    pub question: String,
    /// The answer: one word, or the few of a place.
    pub answer: String,
    /// The noun that it asks about, where it asks about one.
    pub(super) about: Option<usize>,
}

impl Asked {
    pub(super) fn new(
        topic: Topic,
        about: Option<usize>,
        question: impl Into<String>,
        answer: impl Into<String>,
    ) -> Self {
        Self { topic, about, question: question.into(), answer: answer.into() }
    }
}

impl World {
    /// Questions about scene `index`, at most one of each [`Topic`].
    ///
    /// "yes" and "no" are equally likely whatever is asked. Those of training scenes hold no held-out
    /// combination.
    pub fn questions(self, split: Split, seed: u64, index: u64) -> Vec<Asked> {
        let mut random = stream(self, split, seed, index, Purpose::Questions);
        questions(&self.plan(split, seed, index), split, &mut random)
    }
}

/// As [`World::questions`], of any plan.
pub(super) fn questions(plan: &Plan, split: Split, random: &mut Random) -> Vec<Asked> {
    let speech = Speech { world: plan.world, split };
    let groups = plan.meaning.groups();
    let asked = [
        Some(colour(speech, &groups, random)),
        Some(count(speech, &groups, random)),
        what(speech, &plan.meaning, random),
        place(speech, &plan.meaning),
        Some(existence(speech, &groups, random)),
        Some(attribute(speech, &groups, random)),
        position(speech, plan, random),
    ];
    asked.into_iter().flatten().collect()
}

fn colour(speech: Speech, groups: &[Group], random: &mut Random) -> Asked {
    let group = *random.pick(groups);
    let question = format!("what color {}?", speech.is_the(group));
    Asked::new(Topic::Colour, Some(group.noun), question, COLOURS[group.colour].word)
}

fn count(speech: Speech, groups: &[Group], random: &mut Random) -> Asked {
    let several = groups.iter().find(|group| group.count > 1);
    if random.below(4) == 0 {
        let total: usize = groups.iter().map(|group| group.count).sum();
        return Asked::new(Topic::Count, None, "how many objects are there?", NUMBERS[total]);
    }
    // Where nothing is there twice, the answers are one and zero.
    let (noun, count) = match several {
        Some(group) => (group.noun, group.count),
        None if random.coin() => (speech.absent(groups, random), 0),
        None => (random.pick(groups).noun, 1),
    };
    let question = format!("how many {} are there?", speech.noun(noun).many);
    Asked::new(Topic::Count, Some(noun), question, NUMBERS[count])
}

fn what(speech: Speech, meaning: &Meaning, random: &mut Random) -> Option<Asked> {
    let (question, group) = match meaning {
        Meaning::Alone(group, place) => (format!("what is {}?", place.phrase()), *group),
        Meaning::Many(group) => ("what is in the picture?".to_owned(), *group),
        Meaning::Row([a, b, c]) => {
            (format!("what is between the {} and the {}?", speech.name(*a), speech.name(*c)), *b)
        }
        Meaning::Related(..) => {
            let (first, relation, second) = simple_relation(meaning)?;
            let about_first = random.coin();
            let (asked, known) = if about_first { (first, second) } else { (second, first) };
            let words = relation_words(relation, about_first);
            (format!("what is {words} the {}?", speech.name(known)), asked)
        }
    };
    Some(Asked::new(Topic::What, Some(group.noun), question, speech.name(group)))
}

fn place(speech: Speech, meaning: &Meaning) -> Option<Asked> {
    let Meaning::Alone(group, place) = meaning else { return None };
    let question = format!("where {}?", speech.is_the(*group));
    Some(Asked::new(Topic::Where, Some(group.noun), question, place.phrase()))
}

fn yes_or_no(yes: bool) -> &'static str {
    if yes { "yes" } else { "no" }
}

/// The first that `ask` makes: it fails only where it would say what is held out, of whose few
/// combinations it leaves the most part free.
fn asked(random: &mut Random, mut ask: impl FnMut(&mut Random) -> Option<Asked>) -> Asked {
    loop {
        if let Some(asked) = ask(random) {
            return asked;
        }
    }
}

fn existence(speech: Speech, groups: &[Group], random: &mut Random) -> Asked {
    let yes = random.coin();
    asked(random, |random| {
        let group = *random.pick(groups);
        let many = group.count > 1;
        let (noun, question) = match random.below(3) {
            0 => {
                let noun = if yes { group.noun } else { speech.absent(groups, random) };
                let question = if many {
                    format!("are there {}?", speech.noun(noun).many)
                } else {
                    format!("is there {}?", speech.noun(noun).with_article())
                };
                (noun, question)
            }
            1 if many => {
                let count = if yes { group.count } else { 5 - group.count };
                if !speech.may_say(&[(group.noun, Trait::Count(count))]) {
                    return None;
                }
                (group.noun, format!("are there {} {}?", NUMBERS[count], speech.name(group)))
            }
            _ => {
                let colour = if yes { group.colour } else { speech.another_colour(group, groups, random)? };
                let word = COLOURS[colour].word;
                let question = if many {
                    format!("are there {word} {}?", speech.name(group))
                } else {
                    let article = if word == "orange" { "an" } else { "a" };
                    format!("is there {article} {word} {}?", speech.name(group))
                };
                (group.noun, question)
            }
        };
        Some(Asked::new(Topic::Existence, Some(noun), question, yes_or_no(yes)))
    })
}

fn attribute(speech: Speech, groups: &[Group], random: &mut Random) -> Asked {
    let yes = random.coin();
    asked(random, |random| {
        let group = *random.pick(groups);
        let colour = if yes { group.colour } else { speech.another_colour(group, groups, random)? };
        let question = format!("{} {}?", speech.is_the(group), COLOURS[colour].word);
        Some(Asked::new(Topic::Attribute, Some(group.noun), question, yes_or_no(yes)))
    })
}

fn position(speech: Speech, plan: &Plan, random: &mut Random) -> Option<Asked> {
    let yes = random.coin();
    if let Meaning::Alone(group, place) = &plan.meaning {
        return Some(asked(random, |random| {
            let said = if yes { *place } else { *random.pick(&Place::ALL) };
            if !yes && !are_clearly_different(said, *place)
                || !speech.may_say(&[(group.noun, Trait::Place(said))])
            {
                return None;
            }
            let question = format!("{} {}?", speech.is_the(*group), said.phrase());
            Some(Asked::new(Topic::Position, Some(group.noun), question, yes_or_no(yes)))
        }));
    }
    let (first, relation, second) = simple_relation(&plan.meaning)?;
    let (squares, others) = sides(plan, &[first]);
    // All that can be said of the two with what is true of them.
    let mut sayings = Vec::new();
    for said in [relation, other_axis(relation)] {
        for (a, b, holds) in [
            (first, second, stands(&squares, said, &others)),
            (second, first, stands(&others, said, &squares)),
        ] {
            if holds == yes && speech.may_say(&relation_claims(a.noun, said, b.noun)) {
                sayings.extend([(a, relation_words(said, true), b), (b, relation_words(said, false), a)]);
            }
        }
    }
    if sayings.is_empty() {
        return None;
    }
    let &(subject, words, object) = random.pick(&sayings);
    let question = format!("{} {words} the {}?", speech.is_the(subject), speech.name(object));
    Some(Asked::new(Topic::Position, Some(subject.noun), question, yes_or_no(yes)))
}
