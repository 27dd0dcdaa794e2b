//! A dialogue about a scene: a caption that leaves the colours out, then questions with candidates.

use super::clips::{DIRECTIONS, Direction};
use super::questions::{Asked, Topic, questions};
use super::{NUMBERS, Speech};
use crate::train::random::Random;
use crate::train::scenes::holdout::Trait;
use crate::train::scenes::meaning::{Group, Place};
use crate::train::scenes::random::{Purpose, stream};
use crate::train::scenes::{COLOURS, Split, World, grammar};

/// How many answers are to be ranked in every round.
const CANDIDATES: usize = 10;
/// The most rounds.
const ROUNDS: usize = 4;

/// A caption that everybody knows, and what is asked about the scene.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversation {
    /// The things in the scene: "two keys and a car".
    pub caption: String,
    /// The rounds.
    pub rounds: Vec<Turn>,
}

/// A question, its answer, and the answers to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The question with its answer.
    pub asked: Asked,
    /// Different answers in any order, the given one among them.
    pub candidates: Vec<String>,
}

impl World {
    /// A dialogue about scene `index`: up to four questions, ten candidates each.
    ///
    /// Neither the caption nor an earlier round answers a later one. In training no candidate makes a
    /// held-out combination with what is asked about.
    pub fn dialogue(self, split: Split, seed: u64, index: u64) -> Conversation {
        let mut random = stream(self, split, seed, index, Purpose::Dialogue);
        let plan = self.plan(split, seed, index);
        let speech = Speech { world: self, split };
        let mut asked = questions(&plan, split, &mut random);
        // The caption says already what there is and how often.
        asked.retain(|asked| match asked.topic {
            Topic::Count | Topic::What => false,
            Topic::Existence => COLOURS.iter().any(|colour| asked.question.contains(colour.word)),
            _ => true,
        });
        random.shuffle(&mut asked);
        let mut known: Vec<(Topic, Option<usize>)> = Vec::new();
        asked.retain(|asked| {
            let fact = match asked.topic {
                Topic::Attribute | Topic::Existence => Topic::Colour,
                Topic::Position => Topic::Where,
                topic => topic,
            };
            let new = !known.contains(&(fact, asked.about));
            known.push((fact, asked.about));
            new
        });
        asked.truncate(ROUNDS);
        let turn = |asked| {
            let candidates = candidates(speech, &asked, &mut random);
            Turn { asked, candidates }
        };
        Conversation {
            caption: things(speech, &plan.meaning.groups()),
            rounds: asked.into_iter().map(turn).collect(),
        }
    }
}

fn things(speech: Speech, groups: &[Group]) -> String {
    let things: Vec<String> = groups.iter().map(|group| grammar::bare_phrase(speech.world, *group)).collect();
    match &things[..] {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        _ => things.concat(),
    }
}

/// The answer and others, those that could answer the same question first.
fn candidates(speech: Speech, asked: &Asked, random: &mut Random) -> Vec<String> {
    let allowed = |quality| asked.about.is_none_or(|noun| speech.may_say(&[(noun, quality)]));
    let colours = (0..COLOURS.len()).filter(|&colour| allowed(Trait::Colour(colour)));
    let mut colours: Vec<&str> = colours.map(|colour| COLOURS[colour].word).collect();
    let mut places: Vec<&str> =
        (Place::ALL.into_iter()).filter(|&place| allowed(Trait::Place(place))).map(Place::phrase).collect();
    let mut numbers: Vec<&str> =
        (0..4).filter(|&count| allowed(Trait::Count(count))).map(|count| NUMBERS[count]).collect();
    let mut others: Vec<&str> = ["yes", "no"].into_iter().chain(DIRECTIONS.map(Direction::word)).collect();
    for list in [&mut colours, &mut places, &mut numbers] {
        random.shuffle(list);
    }
    match asked.topic {
        Topic::Colour => others.splice(0..0, colours.into_iter().chain(places).chain(numbers)),
        Topic::Where => others.splice(0..0, places.into_iter().chain(colours).chain(numbers)),
        Topic::Count => others.splice(0..0, numbers.into_iter().chain(colours).chain(places)),
        // "yes" and "no" stay first.
        _ => others.splice(2..2, numbers.into_iter().chain(colours).chain(places)),
    };
    let others = others.into_iter().filter(|other| *other != asked.answer).take(CANDIDATES - 1);
    let mut all: Vec<String> = others.map(str::to_owned).chain([asked.answer.clone()]).collect();
    random.shuffle(&mut all);
    all
}
