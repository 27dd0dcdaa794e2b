//! The model that is part of the binary.

use crate::Result;
use crate::device::OpenDevice;
use crate::tasks::Session;
use crate::weights::Manifest;

/// `blip.json` of `models/tiny`.
pub const MANIFEST: &str = include_str!("../assets/tiny/blip.json");
const WEIGHTS: &[u8] = include_bytes!("../assets/tiny/model.safetensors");
const VOCAB: &[u8] = include_bytes!("../assets/tiny/vocab.txt");

/// A session of `models/tiny` on this device.
///
/// # Errors
/// What [`Session::from_manifest`] fails with.
pub fn tiny(device: &OpenDevice) -> Result<Session> {
    Session::from_manifest(&Manifest::from_json(MANIFEST)?, WEIGHTS, VOCAB, device)
}
