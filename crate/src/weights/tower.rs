//! Whether the image encoders of two checkpoints are the same, tensor by tensor.

use std::fmt;

use serde_json::Value;

use super::checkpoint::Checkpoint;
use super::fingerprint::Fingerprint;
use super::keymap::{Meaning, meaning};
use super::plan::SCALES;
use crate::config::VisionConfig;

/// The image encoder of a checkpoint, by its dimensions and a fingerprint of each of its tensors.
///
/// The fingerprint is the one that loading shares image encoders by, of the numbers as f32: those are
/// what a conversion writes, so that equal towers stay equal in any precision, whatever type their
/// numbers came in.
#[derive(Clone, Debug, PartialEq)]
pub struct Tower {
    config: VisionConfig,
    /// Names in files, in the order in which a model is built.
    tensors: Vec<(String, Fingerprint)>,
}

/// Where two image encoders first differ.
#[derive(Clone, Debug, PartialEq)]
pub enum TowerDifference {
    /// In what their configurations say.
    Dimension {
        /// Its name in a `config.json`.
        name: String,
        /// What the one says, and the other.
        values: [Value; 2],
    },
    /// In numbers.
    Tensors {
        /// The first of them, in the order in which a model is built.
        first: String,
        /// How many differ.
        differ: usize,
        /// How many there are.
        of: usize,
    },
}

impl Tower {
    pub(super) fn new(config: &VisionConfig) -> Self {
        Self { config: config.clone(), tensors: Vec::new() }
    }

    /// Adds the next tensor: its name in files, that in our words, and its numbers.
    pub(super) fn add(&mut self, name: &str, path: &str, values: &[f32]) {
        let mut fingerprint = Fingerprint::default();
        fingerprint.add(path, bytemuck::cast_slice(values));
        self.tensors.push((name.to_owned(), fingerprint));
    }

    /// Where this image encoder and another differ; nothing when they are the same.
    pub fn difference(&self, other: &Self) -> Option<TowerDifference> {
        if let Some(difference) = dimension(&self.config, &other.config) {
            return Some(difference);
        }
        // Of equal dimensions, they have the same tensors in the same order.
        let pairs = self.tensors.iter().zip(&other.tensors);
        let mut differing = pairs.filter(|(own, theirs)| own != theirs).map(|((name, _), _)| name);
        let first = differing.next()?.clone();
        Some(TowerDifference::Tensors { first, differ: 1 + differing.count(), of: self.tensors.len() })
    }
}

/// The first field in which two configurations differ.
fn dimension(one: &VisionConfig, other: &VisionConfig) -> Option<TowerDifference> {
    if one == other {
        return None;
    }
    // A structure of numbers and names can always be written.
    let fields = |config: &VisionConfig| serde_json::to_value(config).unwrap_or_default();
    let (one, other) = (fields(one), fields(other));
    let name = one.as_object()?.keys().find(|name| one[name.as_str()] != other[name.as_str()])?.clone();
    let values = [one[&name].clone(), other[&name].clone()];
    Some(TowerDifference::Dimension { name, values })
}

impl fmt::Display for TowerDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dimension { name, values: [one, other] } => {
                write!(f, "`vision_config.{name}` is {one} in the one and {other} in the other")
            }
            Self::Tensors { first, differ, of } => {
                write!(f, "{differ} of {of} tensors differ, the first is `{first}`")
            }
        }
    }
}

impl Checkpoint {
    /// This checkpoint with the image encoder of another, where it has none of its own: what a further
    /// network of a model directory is without its directory.
    #[must_use]
    pub fn over(mut self, tower: &Self) -> Self {
        if !self.tensors.keys().any(|name| is_vision(name)) {
            let lent = tower.tensors.iter().filter(|(name, _)| is_vision(name));
            self.tensors.extend(lent.map(|(name, tensor)| (name.clone(), tensor.clone())));
        }
        self
    }
}

/// Whether a tensor of that name in a file belongs to the image encoder.
fn is_vision(name: &str) -> bool {
    let stem = name.strip_suffix(SCALES).unwrap_or(name);
    matches!(meaning(stem), Meaning::Parameter(path) if path.starts_with("vision."))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BlipConfig;

    fn tower(tensors: &[(&str, f32)]) -> Tower {
        let mut tower = Tower::new(&BlipConfig::base().vision_config);
        for (name, value) in tensors {
            tower.add(name, name, &[0.0, *value]);
        }
        tower
    }

    #[test]
    fn the_first_difference_is_named() {
        let own = tower(&[("b", 1.0), ("a", 2.0), ("c", 3.0)]);
        assert_eq!(own.difference(&own.clone()), None);
        let difference = own.difference(&tower(&[("b", 1.0), ("a", 2.5), ("c", 4.0)])).unwrap();
        assert_eq!(
            difference,
            TowerDifference::Tensors { first: "a".to_owned(), differ: 2, of: 3 },
            "in the order of the model, not of the alphabet"
        );
        assert_eq!(difference.to_string(), "2 of 3 tensors differ, the first is `a`");
        let mut larger = own.clone();
        larger.config.image_size = 480;
        let said = own.difference(&larger).unwrap().to_string();
        assert_eq!(said, "`vision_config.image_size` is 384 in the one and 480 in the other");
    }
}
