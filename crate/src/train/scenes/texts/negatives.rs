//! Sentences that are nearly true of a scene: one thing in its caption is another.

use super::{Speech, are_clearly_different, other_axis, sides, simple_relation, stands};
use crate::train::random::Random;
use crate::train::scenes::meaning::{Group, Meaning, Place};
use crate::train::scenes::plan::Plan;
use crate::train::scenes::random::{Purpose, stream};
use crate::train::scenes::{COLOURS, Split, World, grammar, holdout};

/// What is wrong with a nearly true caption.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Change {
    /// One colour is another.
    Colour,
    /// Two things have each other's colour.
    Colours,
    /// One noun is another, of something that is not there.
    Noun,
    /// A number is another.
    Count,
    /// A place is another.
    Place,
    /// "Left of" instead of "above", or the other way round.
    Relation,
    /// The two sides have changed places.
    Sides,
}

impl Change {
    /// Every change.
    pub const ALL: [Self; 7] =
        [Self::Colour, Self::Colours, Self::Noun, Self::Count, Self::Place, Self::Relation, Self::Sides];
}

/// A sentence in the form of a caption that is false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Negative {
    /// What is wrong with it.
    pub change: Change,
    /// The sentence.
    pub text: String,
}

impl World {
    /// Nearly true captions of scene `index`: one of every change that the scene allows.
    ///
    /// They have the form of true captions, so that no text alone gives them away. Those of training
    /// scenes hold no held-out combination.
    pub fn negatives(self, split: Split, seed: u64, index: u64) -> Vec<Negative> {
        let mut random = stream(self, split, seed, index, Purpose::Negatives);
        negatives(&self.plan(split, seed, index), split, &mut random)
    }
}

/// As [`World::negatives`], of any plan.
pub(super) fn negatives(plan: &Plan, split: Split, random: &mut Random) -> Vec<Negative> {
    let speech = Speech { world: plan.world, split };
    let mut all = Vec::new();
    for change in Change::ALL {
        // A try fails when it says what is held out, or nothing new.
        let tries = (0..12).filter_map(|_| changed(speech, plan, change, random));
        let allowed =
            |meaning: &Meaning| *meaning != plan.meaning && holdout::may_describe(plan.world, split, meaning);
        if let Some(meaning) = tries.into_iter().find(allowed) {
            all.push(Negative { change, text: grammar::caption(plan.world, &meaning) });
        }
    }
    all
}

/// The meaning with one change; `None` when the scene does not have what would change, or this try
/// does not come out false.
fn changed(speech: Speech, plan: &Plan, change: Change, random: &mut Random) -> Option<Meaning> {
    let mut meaning = plan.meaning.clone();
    let groups = meaning.groups();
    let chosen = random.below(groups.len());
    match change {
        Change::Colour => {
            let group = *meaning.groups_mut()[chosen];
            meaning.groups_mut()[chosen].colour =
                (group.colour + 1 + random.below(COLOURS.len() - 1)) % COLOURS.len();
        }
        Change::Colours => {
            let other = (chosen + 1) % groups.len();
            let colours = (groups[chosen].colour, groups[other].colour);
            let mut changed = meaning.groups_mut();
            (changed[other].colour, changed[chosen].colour) = colours;
        }
        Change::Noun => meaning.groups_mut()[chosen].noun = speech.absent(&groups, random),
        Change::Count => recount(&mut meaning, random)?,
        Change::Place => {
            let Meaning::Alone(_, place) = &mut meaning else { return None };
            let other = *random.pick(&Place::ALL);
            if !are_clearly_different(*place, other) {
                return None;
            }
            *place = other;
        }
        Change::Relation => {
            simple_relation(&meaning)?;
            let Meaning::Related(first, relation, _) = &mut meaning else { return None };
            let (first, second) = sides(plan, first);
            *relation = other_axis(*relation);
            if stands(&first, *relation, &second) {
                return None;
            }
        }
        Change::Sides => {
            let Meaning::Related(first, _, second) = &mut meaning else { return None };
            std::mem::swap(first, second);
        }
    }
    Some(meaning)
}

/// Another number of the same things, such as captions have: two instead of three, or two of the one
/// thing and one of the two things.
fn recount(meaning: &mut Meaning, random: &mut Random) -> Option<()> {
    match meaning {
        Meaning::Many(group) => group.count = 5 - group.count,
        Meaning::Related(first, _, second) => {
            let (Ok([a]), Ok([b])) =
                (<&mut [Group; 1]>::try_from(&mut first[..]), <&mut [Group; 1]>::try_from(&mut second[..]))
            else {
                return None;
            };
            if a.count == b.count {
                (if random.coin() { a } else { b }).count = 2;
            } else {
                std::mem::swap(&mut a.count, &mut b.count);
            }
        }
        Meaning::Alone(..) | Meaning::Row(_) => return None,
    }
    Some(())
}
