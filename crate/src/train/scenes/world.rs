//! The two worlds: which nouns there are, and how freely their objects stand.

use serde::{Deserialize, Serialize};

use super::nouns::{NOUNS, NOUNS_V1, Noun};
use super::plan::Plan;
use super::random::{Purpose, stream};
use super::{Knowledge, Place, Relation, Split, colours::COLOURS, grammar, holdout, meaning, texts};

/// A world: its nouns and its layout. The language and the colours are the same in both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum World {
    /// 64 nouns, objects on a grid of 24 pixels: a quick world to learn, whose pictures suit a small captioner.
    #[default]
    V0 = 0,
    /// 360 nouns, the first 64 those of v0; objects anywhere and of many sizes: the world of `models/tiny`.
    V1 = 1,
}

impl World {
    /// Every noun, in the order that seeds mean.
    pub const fn nouns(self) -> &'static [Noun] {
        match self {
            Self::V0 => &NOUNS,
            Self::V1 => &NOUNS_V1,
        }
    }

    /// The plan of scene `index` of a split: a function of its arguments alone.
    ///
    /// `index % 3` decides the number of objects, `index / 3 % 6 == 1` asks for equal objects where
    /// there is more than one; the rest is drawn.
    pub fn plan(self, split: Split, seed: u64, index: u64) -> Plan {
        let mut random = stream(self, split, seed, index, Purpose::Plan);
        let objects = (index % 3) as usize + 1;
        let equal = index / 3 % 6 == 1;
        let meaning = meaning::draw(self, split, &mut random, objects, equal);
        Plan::lay_out(self, meaning, &mut random)
    }

    /// Every word a caption can have, sorted, with "," as a word of its own.
    pub fn words(self) -> Vec<String> {
        grammar::words(self)
    }

    /// Every word that any text of this world can have: those of captions, and of questions, answers,
    /// statements and clips; sorted.
    pub fn text_words(self) -> Vec<String> {
        texts::words(self)
    }

    /// Every answer to a question about a picture or a clip, sorted.
    pub fn answers(self) -> Vec<String> {
        texts::answers(self)
    }

    /// What can be shown and said.
    pub fn knowledge(self) -> Knowledge {
        Knowledge {
            nouns: self.nouns().iter().map(|noun| noun.one).collect(),
            colours: COLOURS.iter().map(|colour| colour.word).collect(),
            places: Place::ALL.iter().map(|place| place.phrase()).collect(),
            relations: Relation::ALL.iter().map(|relation| relation.phrase()).collect(),
            most_objects: 3,
            held_out: holdout::combinations(self),
        }
    }
}
