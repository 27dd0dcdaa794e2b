//! Statements about two pictures, against a torch twin of the original's network (`fixtures/twin.py`).

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;

use blip_tests::compare::{Report, values};
use blip_tests::corpus::{fixtures, ids};
use blip_tests::place::Place;
use blip_web::config::BlipConfig;
use blip_web::device::{OpenDevice, block_on};
use blip_web::generate::Control;
use blip_web::image::{ImageOptions, decode};
use blip_web::model::{Grounding, TextMode};
use blip_web::tasks::{Event, Nlvr2Answer, Nlvr2Options, Picture, Request, Session};
use blip_web::weights::keymap::{Meaning, meaning};
use blip_web::weights::{self, Checkpoint, Container, Precision, Quantisation};
use burn::tensor::Device;
use safetensors::SafeTensors;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    ids: Vec<u32>,
    /// Indices of pictures, each a list of one frame.
    pictures: [[usize; 1]; 2],
    request: serde_json::Value,
    results: [Expected; 1],
}

#[derive(Deserialize)]
struct Expected {
    probability: f32,
    logits: [f32; 2],
    answer: bool,
}

impl Case {
    fn options(&self) -> Nlvr2Options {
        Nlvr2Options { statement: self.request["statement"].as_str().unwrap().to_owned() }
    }

    /// The encoded pictures, the first one first.
    fn pictures(&self, session: &Session) -> Vec<Picture> {
        let image = |[index]: &[usize; 1]| {
            let path = fixtures().join(format!("networks/pictures/{index}.png"));
            decode(&std::fs::read(path).unwrap(), &ImageOptions::default()).unwrap()
        };
        let images: Vec<_> = self.pictures.iter().map(image).collect();
        block_on(session.encode_many(&images)).unwrap()
    }

    fn ask(&self, session: &Session) -> Nlvr2Answer {
        let pictures = self.pictures(session);
        let mut go_on = |_: usize, _: usize| Control::Continue;
        block_on(session.nlvr2([&pictures[0], &pictures[1]], &self.options(), &mut go_on)).unwrap()
    }
}

fn cases() -> Vec<Case> {
    let text = std::fs::read_to_string(fixtures().join("nlvr2/cases.json")).unwrap();
    let Cases { cases } = serde_json::from_str(&text).unwrap();
    assert!(cases.len() >= 5);
    cases
}

fn config() -> BlipConfig {
    BlipConfig::from_json(&std::fs::read_to_string(fixtures().join("nlvr2/config.json")).unwrap()).unwrap()
}

fn original() -> Checkpoint {
    Checkpoint::open(&fixtures().join("nlvr2/model.pth")).unwrap()
}

fn session(checkpoint: &Checkpoint, device: &OpenDevice) -> Session {
    let vocab = std::fs::read(fixtures().join("networks/vocab.txt")).unwrap();
    Session::from_checkpoint(&config(), checkpoint, &vocab, device).unwrap()
}

fn flex() -> Session {
    session(&original(), &Place::Flex.device().unwrap())
}

#[test]
fn answers_agree_on_flex() {
    answers_agree(Place::Flex);
}

#[test]
fn answers_agree_on_wgpu() {
    answers_agree(Place::Wgpu);
}

fn answers_agree(place: Place) {
    let Some(device) = place.device() else { return };
    let session = session(&original(), &device);
    assert_eq!(session.tasks().iter().map(|task| task.name()).collect::<Vec<_>>(), ["nlvr2"]);
    let mut report = Report::default();
    for case in cases() {
        let [Expected { probability, logits, answer }] = case.results;
        let found = case.ask(&session);
        // Logits reach 10, of which the tolerance is for numbers near one.
        let tolerance = 4.0 * place.tolerance();
        report.close(&format!("{} logits", case.name), &found.logits, &logits, tolerance);
        report.close(&case.name, &[found.probability], &[probability], tolerance);
        assert_eq!(found.answer, answer, "{}", case.name);
    }
    report.finish();
}

#[test]
fn text_states_agree_with_the_twin_on_flex() {
    states_agree(Place::Flex);
}

#[test]
fn text_states_agree_with_the_twin_on_wgpu() {
    states_agree(Place::Wgpu);
}

fn states_agree(place: Place) {
    let Some(open) = place.device() else { return };
    let session = session(&original(), &open);
    let part = &session.parts()[0];
    let encoder = part.model.text_encoder.as_ref().unwrap();
    let bytes = std::fs::read(fixtures().join("nlvr2/expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let mut report = Report::default();
    for case in cases() {
        let pictures = case.pictures(&session);
        let [first, second] = [0, 1].map(|nth| block_on(session.tokens(&pictures[nth], part)).unwrap());
        let grounding = Grounding::new(encoder.cross_kv_pair(first, second));
        let ids = ids(std::slice::from_ref(&case.ids), &open.device);
        let states = values(encoder.forward(ids, None, Some(&grounding), TextMode::Grounded));
        let name = format!("{}.block.{}", case.name, encoder.depth() - 1);
        let floats = expected.tensor(&name).unwrap().data().as_chunks::<4>().0;
        let floats: Vec<f32> = floats.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
        report.close(&name, &states, &floats, place.tolerance());
    }
    report.finish();
}

/// The bytes of a container with these weights.
fn written(checkpoint: &Checkpoint, quantisation: Quantisation) -> Checkpoint {
    let mut bytes = Vec::new();
    let container = Container::new(&config(), checkpoint, quantisation).unwrap();
    container.write("model.safetensors", &mut bytes, &mut |_| {}).unwrap();
    Checkpoint::from_safetensors(bytes).unwrap()
}

#[test]
fn a_container_keeps_the_originals_text_names_and_gives_the_same_answers() {
    let device = Place::Flex.device().unwrap();
    let plain = written(&original(), Quantisation::uniform(Precision::F32));
    let text_names = |checkpoint: &Checkpoint| -> BTreeSet<String> {
        let named = |name: &&String| name.starts_with("text_") || name.starts_with("cls_head.");
        let known = |name: &&String| matches!(meaning(name), Meaning::Parameter(_));
        checkpoint.tensors.keys().filter(named).filter(known).cloned().collect()
    };
    assert_eq!(text_names(&plain), text_names(&original()));
    let (first, again) = (flex(), session(&plain, &device));
    for case in cases() {
        assert_eq!(case.ask(&first), case.ask(&again), "{}", case.name);
    }
}

#[test]
fn a_model_that_is_written_and_read_again_is_unchanged() {
    let (model, networks) = weights::load(&config(), &original(), &Device::flex()).unwrap();
    assert!(networks.nlvr2 && networks.text_encoder && !networks.itm && networks.decoder.is_none());
    let saved: Checkpoint = weights::named_tensors(&model).unwrap().into();
    let parameters = |checkpoint: &Checkpoint| {
        let mut all = Vec::new();
        for (name, tensor) in &checkpoint.tensors {
            if let Meaning::Parameter(ours) = meaning(name) {
                all.push((ours, tensor.shape.clone(), tensor.to_f32().unwrap()));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    };
    assert!(parameters(&saved) == parameters(&original()));
}

#[test]
fn quantised_weights_are_the_numbers_that_codes_stand_for() {
    let reference = Place::Flex.device().unwrap();
    for precision in [Precision::F16, Precision::Q8, Precision::Q4] {
        let codes = written(&original(), Quantisation::uniform(precision));
        let numbers = session(&written(&codes, Quantisation::uniform(Precision::F32)), &reference);
        for place in [Place::Flex, Place::Wgpu] {
            let Some(device) = place.device() else { continue };
            // On the CPU the activations beside codes have seven bits, which matrices of 24 columns do
            // little to average out; logits reach 10.
            let seven_bits = place == Place::Flex && precision != Precision::F16;
            let tolerance = if seven_bits { 1.0 } else { 4.0 * place.tolerance() };
            let session = session(&codes, &device);
            let mut report = Report::default();
            for case in cases() {
                let (found, expected) = (case.ask(&session).logits, case.ask(&numbers).logits);
                report.close(&format!("{} {precision:?} {place:?}", case.name), &found, &expected, tolerance);
            }
            report.finish();
        }
    }
}

#[test]
fn a_file_that_lacks_a_part_is_refused_by_name() {
    for (left_out, kept) in [
        ("cls_head.", "nlvr2.hidden.weight"),
        ("text_encoder.encoder.layer.3.crossattention.output.merge_layer.", "crossattention.merge.weight"),
        ("text_encoder.encoder.layer.0.crossattention.self1.", "layers.0.crossattention.second.key.weight"),
    ] {
        let mut checkpoint = original();
        checkpoint.tensors.retain(|name, _| !name.starts_with(left_out));
        let error = weights::load(&config(), &checkpoint, &Device::flex()).unwrap_err();
        assert_eq!(error.code(), "weights-missing", "{left_out}: {error}");
        assert!(error.to_string().contains(kept), "{left_out}: {error}");
    }
    // The first half of the layers takes the mean.
    let mut checkpoint = original();
    let merge = "text_encoder.encoder.layer.3.crossattention.output.merge_layer.weight";
    let tensor = checkpoint.tensors[merge].clone();
    checkpoint.tensors.insert(merge.replace(".3.", ".0."), tensor);
    let error = weights::load(&config(), &checkpoint, &Device::flex()).unwrap_err();
    assert_eq!(error.code(), "weights-unknown", "{error}");
}

#[test]
fn requests_are_about_two_pictures() {
    let session = flex();
    let case = &cases()[0];
    let pictures = case.pictures(&session);
    let request = Request::from_json(&case.request.to_string()).unwrap();
    let mut steps = Vec::new();
    let mut on_event = |event: Event<'_>| {
        if let Event::Step { done, total } = event {
            steps.push((done, total));
        }
        Control::Continue
    };
    let answer = block_on(session.answer(&request, &pictures, &mut on_event)).unwrap();
    let json: serde_json::Value = serde_json::from_str(&answer.json).unwrap();
    assert_eq!(json["results"][0]["answer"], case.results[0].answer);
    assert_eq!(json["results"].as_array().unwrap().len(), 1);
    assert_eq!(steps, [(1, 2), (2, 2)]);
    for few in [&pictures[..1], &[]] {
        let error = block_on(session.answer(&request, few, &mut |_| Control::Continue)).unwrap_err();
        assert_eq!(error.code(), "bad-option");
    }
    let error = block_on(session.answer(&request, &pictures, &mut |_| Control::Cancel)).unwrap_err();
    assert_eq!(error.code(), "aborted");
    let caption = Request::from_json(r#"{"task":"caption"}"#).unwrap();
    let error = block_on(session.answer(&caption, &pictures, &mut |_| Control::Continue)).unwrap_err();
    assert_eq!(error.code(), "task-unsupported");
}
