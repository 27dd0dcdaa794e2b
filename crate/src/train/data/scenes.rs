//! Composed scenes as a dataset: nothing is stored, every record is made when it is asked for.

use std::sync::Arc;

use super::{Dataset, Dialogue, Question, Record, Round, Statement, Texts};
use crate::train::scenes::{Asked, SceneWorld, Split};
use crate::{Error, ErrorKind, Result};

/// What a record of a [`SceneDataset`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SceneKind {
    /// One picture with a caption, questions, nearly true captions and a dialogue.
    Single,
    /// Two pictures with one statement, and their captions.
    Pair,
    /// A clip of so many frames, at least two: a caption of what is seen, one of what happens,
    /// questions and nearly true sentences.
    Clip(usize),
}

/// Scenes, pairs or clips of a split, from one index to another.
#[derive(Clone, Debug)]
pub struct SceneDataset {
    world: Arc<SceneWorld>,
    split: Split,
    seed: u64,
    start: u64,
    len: usize,
    kind: SceneKind,
}

impl SceneDataset {
    /// The records `start` to `start + len` of (split, seed).
    ///
    /// # Errors
    /// [`ErrorKind::BadOption`] when there are none.
    pub fn new(
        world: Arc<SceneWorld>,
        split: Split,
        seed: u64,
        start: u64,
        len: usize,
        kind: SceneKind,
    ) -> Result<Self> {
        if len == 0 || start.checked_add(len as u64).is_none() {
            let message = format!("{len} scenes from {start}: expected at least one");
            return Err(Error::new(ErrorKind::BadOption, message));
        }
        Ok(Self { world, split, seed, start, len, kind })
    }

    /// Where a record is in the world.
    pub(super) fn place(&self, index: usize) -> (&Arc<SceneWorld>, Split, u64, u64) {
        (&self.world, self.split, self.seed, self.start + index as u64)
    }

    /// Whether a record is one scene.
    pub(super) fn is_single(&self) -> bool {
        self.kind == SceneKind::Single
    }

    fn name(&self) -> &'static str {
        match self.kind {
            SceneKind::Single => "scene",
            SceneKind::Pair => "pair",
            SceneKind::Clip(_) => "clip",
        }
    }
}

fn question(asked: Asked) -> Question {
    Question { question: asked.question, answers: vec![(asked.answer, 1.0)] }
}

/// Every text of a single scene.
fn texts(world: &SceneWorld, split: Split, seed: u64, index: u64, caption: String) -> Texts {
    let world = world.world();
    let dialogue = world.dialogue(split, seed, index);
    let round = |turn: crate::train::scenes::Turn| Round {
        question: turn.asked.question,
        answer: turn.asked.answer,
        candidates: turn.candidates,
    };
    Texts {
        captions: vec![caption],
        questions: world.questions(split, seed, index).into_iter().map(question).collect(),
        dialogue: Some(Dialogue {
            caption: dialogue.caption,
            rounds: dialogue.rounds.into_iter().map(round).collect(),
        }),
        hard_negatives: world
            .negatives(split, seed, index)
            .into_iter()
            .map(|negative| negative.text)
            .collect(),
        ..Texts::default()
    }
}

impl Dataset for SceneDataset {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, index: usize) -> Result<Record> {
        let (world, split, seed, index) = self.place(index);
        let (images, mut texts) = match self.kind {
            SceneKind::Single => {
                let scene = world.scene(split, seed, index);
                (vec![scene.image], texts(world, split, seed, index, scene.caption))
            }
            SceneKind::Pair => {
                let (pair, images) = world.pair(split, seed, index);
                let texts = Texts {
                    captions: pair.plans.iter().map(|plan| plan.caption()).collect(),
                    statements: vec![Statement { text: pair.text, holds: pair.holds }],
                    ..Texts::default()
                };
                (images.into(), texts)
            }
            SceneKind::Clip(frames) => {
                let (clip, images) = world.clip(split, seed, index, frames);
                let texts = Texts {
                    captions: clip.captions.into(),
                    questions: clip.questions.into_iter().map(question).collect(),
                    hard_negatives: clip.negatives,
                    ..Texts::default()
                };
                (images, texts)
            }
        };
        texts.image_id = Some(index);
        Ok(Record { key: format!("{}-{index:08}", self.name()), images, texts })
    }

    fn describe(&self) -> String {
        let nouns = self.world.world().nouns().len();
        let (split, name) = (if self.split == Split::Train { "training" } else { "held-out" }, self.name());
        let end = self.start + self.len as u64;
        format!("{split} {name}s {} to {end} of seed {} with {nouns} nouns", self.start, self.seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::scenes::World;
    use std::path::Path;

    fn dataset(kind: SceneKind) -> Option<SceneDataset> {
        let Some(icons) = std::env::var_os("BLIP_ICONS") else {
            eprintln!("skipped: BLIP_ICONS is not set (icons are installed by `cargo xtask`)");
            return None;
        };
        let world = Arc::new(SceneWorld::of(World::V0, Path::new(&icons)).unwrap());
        Some(SceneDataset::new(world, Split::Train, 7, 100, 20, kind).unwrap())
    }

    #[test]
    fn a_single_scene_has_every_kind_of_text() {
        let Some(dataset) = dataset(SceneKind::Single) else { return };
        for index in 0..dataset.len() {
            let record = dataset.get(index).unwrap();
            assert_eq!(record.key, format!("scene-{:08}", 100 + index));
            assert_eq!((record.images.len(), record.texts.captions.len()), (1, 1));
            assert!(record.texts.questions.len() >= 4 && record.texts.hard_negatives.len() >= 2);
            let dialogue = record.texts.dialogue.as_ref().unwrap();
            assert!(dialogue.rounds.iter().all(|round| round.candidates.contains(&round.answer)));
            assert_eq!(record, dataset.get(index).unwrap());
        }
    }

    #[test]
    fn pairs_have_a_statement_and_clips_have_frames() {
        let Some(pairs) = dataset(SceneKind::Pair) else { return };
        let record = pairs.get(3).unwrap();
        assert_eq!((record.images.len(), record.texts.statements.len()), (2, 1));
        let Some(clips) = dataset(SceneKind::Clip(6)) else { return };
        let record = clips.get(3).unwrap();
        assert_eq!((record.images.len(), record.texts.captions.len()), (6, 2));
        assert_eq!(clips.describe(), "training clips 100 to 120 of seed 7 with 64 nouns");
    }
}
