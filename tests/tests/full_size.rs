//! BLIP base at 384 px, 224 million weights from a formula; `BLIP_SLOW=1` runs it (3 GB of memory).

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "a passing test shows how close it came")]

use std::collections::BTreeMap;

use blip_tests::compare::{Report, values};
use blip_tests::corpus::fixtures;
use blip_tests::formula;
use blip_tests::layouts::layouts;
use blip_tests::place::slow;
use blip_web::config::BlipConfig;
use blip_web::model::{Grounding, KvCache};
use blip_web::weights::{self, Checkpoint, Dtype, StoredTensor};
use burn::tensor::{Device, Tensor, TensorData};
use serde::Deserialize;

/// `parity/base.json`.
#[derive(Deserialize)]
struct BaseCase {
    probes: Vec<f32>,
    norm: f64,
    mean: f64,
    top_ids: Vec<u32>,
    top_logits: Vec<f32>,
}

#[test]
fn a_full_size_model_agrees() {
    if !slow() {
        return;
    }
    let device = &Device::flex();
    let case = std::fs::read_to_string(fixtures().join("parity/base.json")).unwrap();
    let case: BaseCase = serde_json::from_str(&case).unwrap();
    let (model, networks) = weights::load(&BlipConfig::base(), &formula_checkpoint(), device).unwrap();
    assert_eq!(networks.tasks(), ["caption"]);
    let pixels = TensorData::new(formula::image("base.image", 384, 16), [1, 3, 384, 384]);
    let tokens = model.vision.forward(Tensor::from_data(pixels, device));
    assert_eq!(tokens.dims(), [1, 577, 768]);
    let flat = values(tokens.clone());

    let seed = formula::fnv1a("base.probe");
    let probe = |index| flat[(formula::bits(seed, index) % flat.len() as u64) as usize];
    let (mut error, mut size) = (0.0, 0.0);
    for (index, expected) in case.probes.iter().enumerate() {
        error += f64::from(probe(index as u64) - expected).powi(2);
        size += f64::from(*expected).powi(2);
    }
    let relative = (error / size).sqrt();
    println!("relative error of the image tokens: {relative:e}");
    assert!(relative <= 1e-4, "relative error of {} probes: {relative:e}", case.probes.len());
    let norm = flat.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    assert!((norm / case.norm - 1.0).abs() <= 1e-4, "norm {norm}, expected {}", case.norm);
    let mean = flat.iter().map(|x| f64::from(*x)).sum::<f64>() / flat.len() as f64;
    assert!((mean - case.mean).abs() <= 1e-4, "mean {mean}, expected {}", case.mean);

    let grounding = Grounding::new(model.decoder().unwrap().cross_kv(tokens));
    let mut cache = KvCache::new(model.decoder().unwrap(), 1, 1, device);
    cache.feed(&[0], &[30_522]);
    let logits = values(model.step_logits(&grounding, &mut cache));
    let mut ranked: Vec<usize> = (0..logits.len()).collect();
    ranked.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
    assert_eq!(ranked[0], case.top_ids[0] as usize, "the first token");
    let top: Vec<f32> = case.top_ids.iter().map(|id| logits[*id as usize]).collect();
    let mut report = Report::default();
    report.close("logits", &top, &case.top_logits, 1e-3);
    report.finish();
}

/// All tensors of a caption checkpoint of base size; values are computed when they are read.
fn formula_checkpoint() -> Checkpoint {
    let mut tensors = BTreeMap::new();
    for (name, shape) in layouts()["hf caption base"].names() {
        if name.ends_with("predictions.decoder.weight") {
            continue; // tied
        }
        let (key, dims) = (name.clone(), shape.clone());
        let read = move || Ok(formula::weight(&key, &dims).into_iter().flat_map(f32::to_le_bytes).collect());
        tensors.insert(name, StoredTensor::new(shape, Dtype::F32, read));
    }
    Checkpoint { tensors }
}
