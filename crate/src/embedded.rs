//! The model that is part of the binary.

use crate::Result;
use crate::device::OpenDevice;
use crate::tasks::{ModelLoader, Session};
use crate::weights::Manifest;

/// `blip.json` of `models/tiny`.
pub const MANIFEST: &str = include_str!("../assets/tiny/blip.json");
/// Its weights files, in the manifest's order: all but questions, and the networks for those.
const WEIGHTS: [&[u8]; 2] = [
    include_bytes!("../assets/tiny/model.safetensors"),
    include_bytes!("../assets/tiny/model-vqa.safetensors"),
];
const VOCAB: &[u8] = include_bytes!("../assets/tiny/vocab.txt");

/// A session of `models/tiny` on this device.
///
/// # Errors
/// What [`ModelLoader::finish`] fails with, where the files are not those of a release.
pub fn tiny(device: &OpenDevice) -> Result<Session> {
    let mut loader = ModelLoader::new(Manifest::from_json(MANIFEST)?, device);
    WEIGHTS.into_iter().try_for_each(|bytes| loader.push(bytes))?;
    let mut session = Session::new(device);
    session.add(loader.finish(VOCAB)?)?;
    Ok(session)
}
