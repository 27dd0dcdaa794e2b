//! Checkpoints that nobody trained, for measuring and testing without a download.

use std::collections::BTreeMap;

use burn::tensor::Device;

use super::checkpoint::{Checkpoint, Dtype, StoredTensor};
use super::keymap::hugging_face;
use super::schema::{Kind, schema};
use crate::config::BlipConfig;
use crate::model::Networks;

/// The deviation of fresh weights in the reference.
const DEVIATION: f32 = 0.02;

/// A captioner of this shape in Hugging Face's layout: weights and biases normal with deviation 0.02,
/// norms near 1. The same seed gives the same numbers on every machine.
pub fn random_checkpoint(config: &BlipConfig, seed: u64) -> Checkpoint {
    random_networks(config, &Networks::caption(config.vision_config.hidden_size), seed)
}

/// As [`random_checkpoint`], with these networks.
pub fn random_networks(config: &BlipConfig, networks: &Networks, seed: u64) -> Checkpoint {
    let mut tensors = BTreeMap::new();
    for parameter in schema(config, networks, &Device::flex()) {
        for (index, part) in parameter.parts.into_iter().enumerate() {
            let name = hugging_face(&part.path).expect("what a network needs has a name in files");
            let mean = if parameter.kind == Kind::Norm && index == 0 { 1.0 } else { 0.0 };
            let (start, len) = (mix(seed ^ mix(hash(&name))), part.rows * part.columns);
            let read = move || {
                let mut bytes = Vec::with_capacity(len * 4);
                for index in 0..len as u64 {
                    let value = mean + DEVIATION * normal(mix(start.wrapping_add(index)));
                    bytes.extend_from_slice(&value.to_le_bytes());
                }
                Ok(bytes)
            };
            tensors.insert(name, StoredTensor::new(part.shape, Dtype::F32, read));
        }
    }
    Checkpoint { tensors }
}

/// The sum of four 16-bit numbers, as good as normal up to 3.4 deviations, and the same everywhere.
fn normal(bits: u64) -> f32 {
    let sum = (0..4).map(|part| (bits >> (16 * part) & 0xFFFF) as i32).sum::<i32>() - 2 * 0xFFFF;
    // Four uniform numbers have a variance of 4/12 times the square of their range.
    sum as f32 * (3f32.sqrt() / 65_535.0)
}

/// The output function of splitmix64.
fn mix(state: u64) -> u64 {
    let z = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// FNV-1a.
fn hash(name: &str) -> u64 {
    name.bytes()
        .fold(0xCBF2_9CE4_8422_2325, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_gives_the_same_numbers_and_another_seed_others() {
        let config = BlipConfig::tiny(100, 98, 3);
        let name = "vision_model.encoder.layers.1.mlp.fc1.weight";
        let values = |seed| random_checkpoint(&config, seed).tensors[name].to_f32().unwrap();
        let first = values(1);
        assert_eq!(first, values(1));
        assert_ne!(first, values(2));
        let count = first.len() as f32;
        let mean = first.iter().sum::<f32>() / count;
        let deviation = (first.iter().map(|x| x * x).sum::<f32>() / count).sqrt();
        assert!(mean.abs() < 5e-4 && (deviation - 0.02).abs() < 2e-4, "{mean} {deviation}");
        let norms = random_checkpoint(&config, 1).tensors["vision_model.post_layernorm.weight"].to_f32();
        assert!(norms.unwrap().iter().all(|x| (x - 1.0).abs() < 0.1));
    }
}
