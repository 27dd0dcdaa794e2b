//! `models/tiny`: what its manifest says is true, and it captions scenes it never saw.
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::path::PathBuf;

use blip_tests::icons::icons;
use blip_web::device::{DeviceKind, OpenDevice, block_on};
use blip_web::embedded;
use blip_web::generate::Control;
use blip_web::tasks::{CaptionOptions, CaptionProgress, Session};
use blip_web::train::evaluate::score;
use blip_web::train::scenes::{Plan, SceneWorld, Split, knowledge};
use blip_web::weights::Manifest;

/// The seed of the split that the samples of the page and the published score come from.
const SEED: u64 = 0;

fn session() -> Session {
    embedded::tiny(&block_on(OpenDevice::open(DeviceKind::Cpu)).unwrap()).unwrap()
}

fn samples() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../www/samples"))
}

#[test]
fn the_embedded_model_is_small_and_says_what_it_knows() {
    let manifest = Manifest::from_json(embedded::MANIFEST).unwrap();
    assert_eq!(manifest.id, "tiny");
    assert_eq!(manifest.tasks, ["caption"]);
    assert!(manifest.files.weights.bytes <= 8_000_000, "{}", manifest.files.weights.bytes);
    let knows = manifest.knows.unwrap();
    assert_eq!(knows["nouns"].as_array().unwrap().len(), knowledge().nouns.len());
    assert!(knowledge().nouns.len() >= 60);
}

#[test]
fn the_samples_of_the_page_are_the_first_held_out_scenes() {
    let index = std::fs::read_to_string(samples().join("samples.json")).unwrap();
    let index: Vec<serde_json::Value> = serde_json::from_str(&index).unwrap();
    assert_eq!(index.len(), 8);
    for (number, sample) in index.iter().enumerate() {
        let plan = Plan::new(Split::HeldOut, SEED, number as u64);
        assert_eq!(sample["truth"], plan.caption());
        assert!(samples().join(sample["image"].as_str().unwrap()).exists());
    }
}

#[test]
fn captions_stream_word_by_word_and_can_be_cancelled() {
    let session = session();
    let bytes = std::fs::read(samples().join("scene-1.png")).unwrap();
    let mut seen = Vec::new();
    let mut watch = |progress: CaptionProgress| {
        seen.push(progress.text);
        Control::Continue
    };
    let captions = block_on(session.caption(&bytes, &CaptionOptions::default(), &mut watch)).unwrap();
    assert!(seen.len() >= captions.captions[0].tokens.len());
    assert!(seen.windows(2).all(|pair| pair[1].starts_with(&pair[0])), "{seen:?}");
    assert_eq!(seen.last(), Some(&captions.text));
    let mut cancel = |_: CaptionProgress| Control::Cancel;
    let error = block_on(session.caption(&bytes, &CaptionOptions::default(), &mut cancel)).unwrap_err();
    assert_eq!(error.code(), "aborted");
}

#[test]
fn held_out_scenes_are_captioned_exactly() {
    const SCENES: u64 = 500;
    let Some(icons) = icons() else { return };
    let world = SceneWorld::load(&icons).unwrap();
    let session = session();
    let options = CaptionOptions::default();
    let result = score(&world, Split::HeldOut, SEED, SCENES, |scene| {
        let mut ignore = |_: CaptionProgress| Control::Continue;
        Ok(block_on(session.caption_image(&scene.image, &options, &mut ignore))?.text)
    })
    .unwrap();
    println!("tiny on {SCENES} held-out scenes: {:.3} exact, {:?}", result.all.rate(), result.by_objects);
    assert!(result.all.rate() >= 0.6, "{result:?}");
}
