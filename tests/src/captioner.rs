//! The captioner of `fixtures/models/captioner`: a small trained model in one file of halves.

use std::path::PathBuf;

use blip_web::device::OpenDevice;
use blip_web::tasks::Session;
use blip_web::weights::{Checkpoint, Manifest};

/// Its folder.
pub fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/models/captioner"))
}

/// The text of its `blip.json`.
///
/// # Panics
/// When the checkout has no such file.
pub fn manifest_json() -> String {
    std::fs::read_to_string(folder().join("blip.json")).expect("the fixture is part of the repository")
}

/// Its `blip.json`.
///
/// # Panics
/// When the checkout has no such file.
pub fn manifest() -> Manifest {
    Manifest::from_json(&manifest_json()).expect("the fixture is a model directory")
}

/// Its weights.
///
/// # Panics
/// When the checkout has no such file.
pub fn checkpoint() -> Checkpoint {
    Checkpoint::open(&folder().join("model.safetensors")).expect("the fixture is a checkpoint")
}

/// A session of it.
///
/// # Panics
/// When the checkout has no such model.
pub fn session(device: &OpenDevice) -> Session {
    let read = |name| std::fs::read(folder().join(name)).expect("the fixture is part of the repository");
    let (weights, vocab) = (read("model.safetensors"), read("vocab.txt"));
    Session::from_manifest(&manifest(), &weights, &vocab, device).expect("the fixture is a model")
}
