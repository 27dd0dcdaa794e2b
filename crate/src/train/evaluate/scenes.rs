//! How well a captioner does on scenes.

use serde::Serialize;

use crate::Result;
use crate::train::scenes::{Scene, SceneWorld, Split};

/// Exact captions, in all and by the number of objects in the scene.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SceneScore {
    /// All scenes.
    pub all: Share,
    /// Scenes with one, two and three objects.
    pub by_objects: [Share; 3],
}

/// How many of how many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Share {
    /// Captions equal to the truth.
    pub exact: usize,
    /// Scenes.
    pub total: usize,
}

impl Share {
    fn count(&mut self, exact: bool) {
        self.exact += usize::from(exact);
        self.total += 1;
    }

    /// The share, 0 to 1.
    pub fn rate(&self) -> f64 {
        self.exact as f64 / self.total.max(1) as f64
    }
}

/// Captions the first `count` scenes of a split and counts those that are exactly true.
///
/// # Errors
/// Whatever `caption` fails with.
pub fn score(
    world: &SceneWorld,
    split: Split,
    seed: u64,
    count: u64,
    mut caption: impl FnMut(&Scene) -> Result<String>,
) -> Result<SceneScore> {
    let mut score = SceneScore::default();
    for index in 0..count {
        let scene = world.scene(split, seed, index);
        let exact = caption(&scene)? == scene.caption;
        score.all.count(exact);
        score.by_objects[scene.objects - 1].count(exact);
    }
    Ok(score)
}
