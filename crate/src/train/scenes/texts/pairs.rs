//! Statements about two pictures, true or false.

use super::{NUMBERS, Speech};
use crate::train::random::Random;
use crate::train::scenes::holdout::Trait;
use crate::train::scenes::meaning::{Group, Meaning, draw};
use crate::train::scenes::plan::Plan;
use crate::train::scenes::random::{Purpose, stream};
use crate::train::scenes::{Split, World, grammar, holdout};

/// The words of statements that captions do not have.
pub(super) const WORDS: &str = "both pictures show exactly one picture shows there are in the two is left right \
                                more objects than same color";

/// What a statement is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Claim {
    /// "both pictures show a car"
    Both,
    /// "exactly one picture shows a car"
    ExactlyOne,
    /// "there are three cars in the two pictures"
    Total,
    /// "a red car is in the left picture and two keys are in the right picture"
    Sides,
    /// "there are more objects in the left picture than in the right picture"
    More,
    /// "the car is the same color in both pictures"
    SameColour,
}

impl Claim {
    /// Every claim.
    pub const ALL: [Self; 6] =
        [Self::Both, Self::ExactlyOne, Self::Total, Self::Sides, Self::More, Self::SameColour];
}

/// Two scenes and a statement about them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The left and the right picture.
    pub plans: [Plan; 2],
    /// What the statement is about.
    pub claim: Claim,
    /// The statement.
    pub text: String,
    /// Whether it is true.
    pub holds: bool,
}

impl World {
    /// Pair `index` of a split: two scenes of that split and a statement.
    ///
    /// Every claim is as often true as false, and seldom can one of the pictures alone tell which.
    /// Statements about training scenes hold no held-out combination.
    pub fn pair(self, split: Split, seed: u64, index: u64) -> Pair {
        let mut random = stream(self, split, seed, index, Purpose::Pair);
        let claim = Claim::ALL[(index % 6) as usize];
        let holds = random.coin();
        let speech = Speech { world: self, split };
        // A try fails when what it needs is held out, or turns out differently.
        loop {
            if let Some((plans, text)) = pair(speech, claim, holds, &mut random) {
                return Pair { plans, claim, text, holds };
            }
        }
    }
}

/// Any scene of the split.
fn any(speech: Speech, random: &mut Random) -> Plan {
    let objects = random.below(3) + 1;
    let equal = random.below(6) == 0;
    let meaning = draw(speech.world, speech.split, random, objects, equal);
    Plan::lay_out(speech.world, meaning, random)
}

/// A scene of the split with a thing put into it that `fits`, or `None` when none is found soon.
fn with(
    speech: Speech,
    random: &mut Random,
    noun: usize,
    fits: impl Fn(Group) -> bool,
) -> Option<(Plan, Group)> {
    for _ in 0..60 {
        let mut plan = any(speech, random);
        let groups = plan.meaning.groups();
        if groups.iter().any(|group| speech.noun(group.noun).resembles(speech.noun(noun))) {
            continue;
        }
        let chosen = random.below(groups.len());
        let group = Group { noun, ..groups[chosen] };
        plan.meaning.groups_mut()[chosen].noun = noun;
        if fits(group) && is_in_split(speech, &plan.meaning) {
            let plan = Plan::lay_out(speech.world, plan.meaning, random);
            return Some((plan, group));
        }
    }
    None
}

fn is_in_split(speech: Speech, meaning: &Meaning) -> bool {
    holdout::is_held_out(speech.world, meaning) == (speech.split == Split::HeldOut)
}

/// A scene without a thing, or anything like it.
fn without(speech: Speech, random: &mut Random, noun: usize) -> Plan {
    loop {
        let plan = any(speech, random);
        let like = |group: &Group| speech.noun(group.noun).resembles(speech.noun(noun));
        if !plan.meaning.groups().iter().any(like) {
            return plan;
        }
    }
}

fn pair(speech: Speech, claim: Claim, holds: bool, random: &mut Random) -> Option<([Plan; 2], String)> {
    let noun = random.below(speech.world.nouns().len());
    let thing = speech.noun(noun);
    match claim {
        Claim::Both | Claim::ExactlyOne => {
            // The number of pictures that show the thing.
            let shown = match (claim, holds) {
                (Claim::Both, true) => 2,
                (Claim::Both, false) | (_, true) => 1,
                (_, false) => {
                    if random.coin() {
                        2
                    } else {
                        0
                    }
                }
            };
            let single = |group: Group| group.count == 1;
            let mut plans = Vec::with_capacity(2);
            for i in 0..2 {
                plans.push(if i < shown {
                    with(speech, random, noun, single)?.0
                } else {
                    without(speech, random, noun)
                });
            }
            if random.coin() {
                plans.reverse();
            }
            let start = if claim == Claim::Both { "both pictures show" } else { "exactly one picture shows" };
            Some((plans.try_into().ok()?, format!("{start} {}", thing.with_article())))
        }
        Claim::Total => {
            let (left, a) = with(speech, random, noun, |_| true)?;
            let (right, b) = with(speech, random, noun, |_| true)?;
            let total = a.count + b.count;
            let said = match (holds, total) {
                (true, _) => total,
                (false, 2) => 3,
                (false, 6) => 5,
                (false, _) => {
                    if random.coin() {
                        total - 1
                    } else {
                        total + 1
                    }
                }
            };
            let text = format!("there are {} {} in the two pictures", NUMBERS[said], thing.many);
            speech.may_say(&[(noun, Trait::Count(said))]).then_some(([left, right], text))
        }
        Claim::Sides => sides(speech, holds, random),
        Claim::More => {
            let plans = [any(speech, random), any(speech, random)];
            let [left, right] = [plans[0].objects.len(), plans[1].objects.len()];
            // Equal numbers are never asked about, so that one picture tells less.
            let (more, less) = if random.coin() { ("left", "right") } else { ("right", "left") };
            let is_true = if more == "left" { left > right } else { right > left };
            let text = format!("there are more objects in the {more} picture than in the {less} picture");
            (left != right && is_true == holds).then_some((plans, text))
        }
        Claim::SameColour => {
            let (left, a) = with(speech, random, noun, |group| group.count == 1)?;
            let fits = |group: Group| group.count == 1 && (group.colour == a.colour) == holds;
            let (right, _) = with(speech, random, noun, fits)?;
            let text = format!("the {} is the same color in both pictures", thing.one);
            Some(([left, right], text))
        }
    }
}

/// One thing of each picture, or when it is false: in the other picture, or of another colour.
fn sides(speech: Speech, holds: bool, random: &mut Random) -> Option<([Plan; 2], String)> {
    let plans = [any(speech, random), any(speech, random)];
    let groups = [plans[0].meaning.groups(), plans[1].meaning.groups()];
    let mut named = [*random.pick(&groups[0]), *random.pick(&groups[1])];
    let shares = |group: &Group, others: &[Group]| {
        others.iter().any(|other| speech.noun(group.noun).resembles(speech.noun(other.noun)))
    };
    if shares(&named[0], &groups[1]) || shares(&named[1], &groups[0]) {
        return None;
    }
    if !holds {
        match random.below(3) {
            0 => named.reverse(),
            _ => {
                let wrong = random.below(2);
                let colour = speech.another_colour(named[wrong], &groups[wrong], random)?;
                named[wrong].colour = colour;
            }
        }
    }
    let side = |group: Group, side: &str| {
        let is = if group.count == 1 { "is" } else { "are" };
        format!("{} {is} in the {side} picture", grammar::phrase(speech.world, group))
    };
    Some((plans, format!("{} and {}", side(named[0], "left"), side(named[1], "right"))))
}
