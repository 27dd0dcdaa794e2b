//! The names and shapes in the public checkpoints: `fixtures/state_dict_keys.json`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::corpus::fixtures;

/// One kind of public checkpoint.
#[derive(Debug, Deserialize)]
pub struct Layout {
    /// Number of tensors.
    pub total: usize,
    /// Pattern with `{i}` for a layer, shape, and number of layers (0 outside of them).
    tensors: Vec<(String, Vec<usize>, usize)>,
}

impl Layout {
    /// Name and shape of every tensor.
    pub fn names(&self) -> Vec<(String, Vec<usize>)> {
        let mut names = Vec::with_capacity(self.total);
        for (pattern, shape, layers) in &self.tensors {
            names.extend(
                (0..(*layers).max(1))
                    .map(|layer| (pattern.replace("{i}", &layer.to_string()), shape.clone())),
            );
        }
        names
    }
}

/// Every layout by its name.
///
/// # Panics
/// When the fixture is damaged.
pub fn layouts() -> BTreeMap<String, Layout> {
    let text = std::fs::read_to_string(fixtures().join("state_dict_keys.json")).expect("a committed file");
    serde_json::from_str(&text).expect("made by fixtures/keys.py")
}
