//! From a checkpoint to a model, strictly.

use burn::tensor::Device;

use super::assembly::Assembly;
use super::checkpoint::Checkpoint;
use super::fingerprint::Fingerprint;
use crate::Result;
use crate::config::BlipConfig;
use crate::kernels::Format;
use crate::model::{Blip, Networks};

/// A model of this configuration with the weights of the checkpoint, on `device`.
///
/// # Errors
/// [`ErrorKind::WeightsUnknown`](crate::ErrorKind::WeightsUnknown),
/// [`ErrorKind::WeightsMissing`](crate::ErrorKind::WeightsMissing),
/// [`ErrorKind::WeightsShape`](crate::ErrorKind::WeightsShape) and
/// [`ErrorKind::WeightsNotFinite`](crate::ErrorKind::WeightsNotFinite) name the tensors concerned;
/// [`ErrorKind::WeightsFormat`](crate::ErrorKind::WeightsFormat) when the file cannot be read.
pub fn load(config: &BlipConfig, checkpoint: &Checkpoint, device: &Device) -> Result<(Blip, Networks)> {
    load_as(config, checkpoint, device, false)
}

/// As [`load`], with f16 activations and float matrices if `halves`: for adapters with `shader-f16`.
///
/// # Errors
/// As [`load`].
pub fn load_as(
    config: &BlipConfig,
    checkpoint: &Checkpoint,
    device: &Device,
    halves: bool,
) -> Result<(Blip, Networks)> {
    let (model, networks, _) = load_marked(config, checkpoint, device, halves)?;
    Ok((model, networks))
}

/// As [`load_as`], with the fingerprints of the image encoder and of the projections of ITC.
///
/// # Errors
/// As [`load`].
pub fn load_marked(
    config: &BlipConfig,
    checkpoint: &Checkpoint,
    device: &Device,
    halves: bool,
) -> Result<(Blip, Networks, [Fingerprint; 2])> {
    let entries = checkpoint.entries();
    let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    let mut assembly = Assembly::new(config, entries, device)?.in_halves(halves);
    for index in assembly.order() {
        assembly.accept(index, checkpoint.tensors[&names[index]].bytes()?)?;
    }
    let fingerprints = [assembly.vision, assembly.itc];
    let (model, networks) = assembly.finish(None)?;
    Ok((model, networks, fingerprints))
}

/// Which networks a checkpoint holds; reads only what may be stored twice.
///
/// # Errors
/// As [`load`], apart from what is wrong with values.
pub fn find_networks(config: &BlipConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Networks> {
    let entries = checkpoint.entries();
    let names: Vec<String> = entries.iter().map(|entry| entry.name.clone()).collect();
    let mut assembly = Assembly::new(config, entries, device)?;
    for index in assembly.copies() {
        // One difference tells that the text networks are two.
        if assembly.is_watched(index) {
            assembly.compare(index, &checkpoint.tensors[&names[index]].bytes()?)?;
        }
    }
    Ok(assembly.networks())
}

/// How the matrices of a checkpoint are stored, each way once.
///
/// # Errors
/// As [`load`], for what names and shapes tell.
pub fn formats(config: &BlipConfig, checkpoint: &Checkpoint, device: &Device) -> Result<Vec<Format>> {
    Ok(Assembly::new(config, checkpoint.entries(), device)?.formats())
}
