//! Short clips: two objects, one of which moves, appears or disappears.
//!
//! Each object keeps to its own half of the picture, so that one sentence is true of all frames (which
//! of them is above, or left), and another one says what happens.

use super::negatives::{Change, negatives};
use super::questions::{Asked, Topic, questions};
use super::{Speech, stands};
use crate::train::random::Random;
use crate::train::scenes::layout::{self, Square};
use crate::train::scenes::meaning::{Group, Meaning, Relation};
use crate::train::scenes::plan::{Object, Plan};
use crate::train::scenes::random::{Purpose, stream};
use crate::train::scenes::{COLOURS, Split, World, grammar, holdout};

/// The words of clips that captions do not have.
pub(super) const WORDS: &str =
    "what moves move which way does up down left right appears appear disappears disappear";

/// Where something moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// To the left edge.
    Left,
    /// To the right edge.
    Right,
    /// To the upper edge.
    Up,
    /// To the lower edge.
    Down,
}

/// Every direction.
pub(super) const DIRECTIONS: [Direction; 4] =
    [Direction::Left, Direction::Right, Direction::Up, Direction::Down];

impl Direction {
    /// The word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
            Self::Up => "up",
            Self::Down => "down",
        }
    }

    fn is_horizontal(self) -> bool {
        matches!(self, Self::Left | Self::Right)
    }

    fn opposite(self) -> Self {
        match self {
            Self::Left => Self::Right,
            Self::Right => Self::Left,
            Self::Up => Self::Down,
            Self::Down => Self::Up,
        }
    }
}

/// What happens in a clip.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// An object moves.
    Moves(Direction),
    /// An object is there from some frame on.
    Appears,
    /// An object is there up to some frame.
    Disappears,
}

impl Event {
    /// "moves left", "appears".
    fn happens(self) -> String {
        match self {
            Self::Moves(direction) => format!("moves {}", direction.word()),
            Self::Appears => "appears".to_owned(),
            Self::Disappears => "disappears".to_owned(),
        }
    }

    /// "move left", "appear".
    fn happen(self) -> String {
        match self {
            Self::Moves(direction) => format!("move {}", direction.word()),
            Self::Appears => "appear".to_owned(),
            Self::Disappears => "disappear".to_owned(),
        }
    }

    /// "moves", "appears".
    fn verb(self) -> &'static str {
        match self {
            Self::Moves(_) => "moves",
            Self::Appears => "appears",
            Self::Disappears => "disappears",
        }
    }

    /// What could have happened instead: the other direction, or the reverse.
    fn reverse(self) -> Self {
        match self {
            Self::Moves(direction) => Self::Moves(direction.opposite()),
            Self::Appears => Self::Disappears,
            Self::Disappears => Self::Appears,
        }
    }
}

/// A clip before it is drawn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clip {
    /// Both objects, as they stand when they are first seen.
    pub plan: Plan,
    /// For every frame, which objects are seen and where.
    pub frames: Vec<Vec<(usize, Square)>>,
    /// Which of the objects something happens to.
    pub actor: usize,
    /// What happens.
    pub event: Event,
    /// The sentence that is true of every frame that shows both, then the one that says what happens.
    pub captions: [String; 2],
    /// Questions about both.
    pub questions: Vec<Asked>,
    /// Nearly true sentences of both kinds.
    pub negatives: Vec<String>,
}

impl World {
    /// Clip `index` of a split in so many frames, at least two.
    ///
    /// `index` decides the event: half of the clips are movements, and each direction is as likely.
    /// Texts of training clips hold no held-out combination.
    pub fn clip(self, split: Split, seed: u64, index: u64, frames: usize) -> Clip {
        let frames = frames.max(2);
        let mut random = stream(self, split, seed, index, Purpose::Clip);
        let speech = Speech { world: self, split };
        let event = match index % 8 {
            turn @ 0..4 => Event::Moves(DIRECTIONS[turn as usize]),
            4 | 5 => Event::Appears,
            _ => Event::Disappears,
        };
        let rows = match event {
            Event::Moves(direction) => direction.is_horizontal(),
            _ => random.coin(),
        };
        let relation = if rows { Relation::Above } else { Relation::LeftOf };
        let (a, b) = things(speech, relation, &mut random);
        let actor = random.below(2);
        let lanes = [0, 1].map(|lane| Lane::draw(self, lane, &mut random));
        let turned = |square: Square| if rows { square } else { square.swapped() };

        let still = lanes[1 - actor].at(self, random.below(101) as i32);
        let (start, end) = match event {
            Event::Moves(direction) => {
                let (near, far) = (random.below(26) as i32, 75 + random.below(26) as i32);
                if matches!(direction, Direction::Right | Direction::Down) {
                    (near, far)
                } else {
                    (far, near)
                }
            }
            _ => [random.below(101) as i32; 2].into(),
        };
        let change = 1 + random.below(frames - 1);
        let moving = |frame: usize| {
            let at = start + (end - start) * frame as i32 / (frames as i32 - 1);
            lanes[actor].at(self, at)
        };
        let frame = |frame: usize| {
            let is_seen = match event {
                Event::Moves(_) => true,
                Event::Appears => frame >= change,
                Event::Disappears => frame < change,
            };
            let seen = |object: usize| (object, turned(if object == actor { moving(frame) } else { still }));
            (0..2).filter(|&object| object != actor || is_seen).map(seen).collect()
        };
        let squares = [0, 1].map(|object| turned(if object == actor { moving(0) } else { still }));
        let objects = [a, b].into_iter().zip(squares).map(|(group, square)| Object {
            noun: group.noun,
            colour: group.colour,
            style: random.below(2),
            square,
        });
        let objects = objects.collect();
        let plan = Plan { world: self, meaning: Meaning::Related(vec![a], relation, vec![b]), objects };
        debug_assert!(stands(&squares[..1], relation, &squares[1..]), "lanes keep apart");

        let (subject, other) = if actor == 0 { (a, b) } else { (b, a) };
        let sentence = |group, event: Event| format!("{} {}", grammar::phrase(self, group), event.happens());
        let mut questions = questions(&plan, split, &mut random);
        // Over time these may have several answers.
        questions.retain(|asked| asked.topic != Topic::Position && asked.about.is_some());
        questions.extend(events(speech, event, subject, other, &mut random));
        let mut nearly: Vec<String> = negatives(&plan, split, &mut random)
            .into_iter()
            .filter(|negative| negative.change != Change::Relation)
            .map(|negative| negative.text)
            .collect();
        nearly.extend([sentence(subject, event.reverse()), sentence(other, event)]);
        Clip {
            captions: [plan.caption(), sentence(subject, event)],
            frames: (0..frames).map(frame).collect(),
            negatives: nearly,
            plan,
            actor,
            event,
            questions,
        }
    }
}

/// Two different things that stand to each other as is said, on the right side of the split.
fn things(speech: Speech, relation: Relation, random: &mut Random) -> (Group, Group) {
    loop {
        let mut thing = || Group {
            count: 1,
            colour: random.below(COLOURS.len()),
            noun: random.below(speech.world.nouns().len()),
        };
        let (a, b) = (thing(), thing());
        let meaning = Meaning::Related(vec![a], relation, vec![b]);
        let fits = holdout::is_held_out(speech.world, &meaning) == (speech.split == Split::HeldOut);
        if fits && !speech.noun(a.noun).resembles(speech.noun(b.noun)) {
            return (a, b);
        }
    }
}

/// The upper or the lower half of the picture, and the object that keeps to it.
#[derive(Clone, Copy, Debug)]
struct Lane {
    top: i32,
    side: i32,
}

impl Lane {
    fn draw(world: World, lane: i32, random: &mut Random) -> Self {
        let half = layout::WHOLE / 2;
        match world {
            World::V0 => {
                let top = layout::on_grid(lane * half + random.between(0, 24));
                Self { top, side: layout::on_grid(72) }
            }
            World::V1 => {
                let side = random.between(48, 84);
                // Eight pixels stay free between the lanes.
                Self { top: lane * (half + 4) + random.between(0, half - 4 - side), side }
            }
        }
    }

    /// The square after so many hundredths of the way from the left to the right edge.
    fn at(self, world: World, hundredths: i32) -> Square {
        let left = (layout::WHOLE - self.side) * hundredths / 100;
        let left = if world == World::V0 { layout::on_grid(left) } else { left };
        Square { left, top: self.top, side: self.side }
    }
}

/// What happens, as questions.
fn events(speech: Speech, event: Event, subject: Group, other: Group, random: &mut Random) -> Vec<Asked> {
    let about = Some(subject.noun);
    let name = speech.name(subject);
    let asked = |question: String, answer: &str| Asked::new(Topic::Event, about, question, answer);
    let mut all = vec![asked(format!("what {}?", event.verb()), name)];
    if let Event::Moves(direction) = event {
        all.push(asked(format!("which way does the {name} move?"), direction.word()));
    }
    all.push(if random.coin() {
        asked(format!("does the {name} {}?", event.happen()), "yes")
    } else if random.coin() {
        asked(format!("does the {name} {}?", event.reverse().happen()), "no")
    } else {
        asked(format!("does the {} {}?", speech.name(other), event.happen()), "no")
    });
    all
}
