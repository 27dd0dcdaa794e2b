//! Where words are in pictures: the reverse pass of our own against torch, automatic differentiation and
//! differences, on every device and with quantised weights.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![allow(clippy::print_stdout, reason = "a passing test shows how close it came")]

mod oracle;

use std::fs;
use std::time::Instant;

use blip_tests::calls::{Calls, picture, session, vocabulary};
use blip_tests::captioner;
use blip_tests::compare::{Report, values};
use blip_tests::corpus::fixtures;
use blip_tests::on_every_device;
use blip_tests::place::{Place, slow};
use blip_web::config::BlipConfig;
use blip_web::device::{OpenDevice, block_on};
use blip_web::generate::Control;
use blip_web::model::Networks;
use blip_web::tasks::{Convention, ExplainOptions, Explanation, Picture, Session, Task};
use blip_web::weights::{
    Checkpoint, Container, Dtype, Precision, Quantisation, StoredTensor, random_networks,
};
use burn::tensor::{DType, Device, Tensor, TensorData};
use image::RgbImage;

use oracle::{Oracle, Pair};

on_every_device! {
    explanations_equal_those_of_torch
    explanations_equal_automatic_differentiation
    every_frame_of_a_clip_has_its_map
    explaining_stops_when_told_to
}

/// A device, and how far maps may be from the reference, `‖got - expected‖ / ‖expected‖`.
struct On {
    open: OpenDevice,
    tolerance: f64,
}

fn run(place: Place, test: fn(&On)) {
    if let Some(open) = place.device() {
        // Sums in another order, through up to nine layers forward and back. Where the gradient of a
        // probability is near zero its sign may turn, and with it a term of the map appears or goes, but
        // then it is small.
        test(&On { open: open.with_halves(false).unwrap(), tolerance: f64::from(place.tolerance()) });
    }
}

/// A matching network, and where its numbers come from.
struct Model {
    config: BlipConfig,
    checkpoint: Checkpoint,
    vocab: Vec<u8>,
}

impl Model {
    /// The one that torch was asked about.
    fn of_corpus() -> Self {
        let folder = fixtures().join("networks/itm");
        let config = fs::read_to_string(folder.join("config.json")).unwrap();
        let config = BlipConfig::from_json(&config).unwrap();
        let checkpoint = Checkpoint::open(&folder.join("model.safetensors")).unwrap();
        Self { config, checkpoint, vocab: vocabulary() }
    }

    /// One of another shape: five layers of three heads over 36 patches, with weights that are large
    /// enough for attention to prefer some places.
    fn random(seed: u64) -> Self {
        let mut config = Self::of_corpus().config;
        let text = &mut config.text_config;
        (text.hidden_size, text.num_attention_heads, text.num_hidden_layers) = (48, 3, 5);
        text.intermediate_size = 100;
        (config.vision_config.image_size, config.vision_config.patch_size) = (48, 8);
        config.validate().unwrap();
        let mut checkpoint = random_networks(&config, &matching(), seed);
        for tensor in checkpoint.tensors.values_mut().filter(|tensor| tensor.shape.len() == 2) {
            let values = tensor.to_f32().unwrap();
            let read = move || Ok(values.iter().flat_map(|value| (8.0 * value).to_le_bytes()).collect());
            *tensor = StoredTensor::new(tensor.shape.clone(), Dtype::F32, read);
        }
        Self { config, checkpoint, vocab: vocabulary() }
    }

    fn session(&self, open: &OpenDevice) -> Session {
        Session::from_checkpoint(&self.config, &self.checkpoint, &self.vocab, open).unwrap()
    }

    /// The same stored otherwise. Of a quantised one, `F32` is the same numbers written out.
    fn stored_as(&self, quantisation: Quantisation) -> Self {
        let mut bytes = Vec::new();
        let container = Container::new(&self.config, &self.checkpoint, quantisation).unwrap();
        container.write("model.safetensors", &mut bytes, &mut |_| {}).unwrap();
        let checkpoint = Checkpoint::from_safetensors(bytes).unwrap();
        Self { config: self.config.clone(), checkpoint, vocab: self.vocab.clone() }
    }
}

fn matching() -> Networks {
    Networks {
        vision: true,
        text_encoder: true,
        decoder: None,
        tied_lm: false,
        itc: false,
        itm: true,
        nlvr2: false,
    }
}

fn options(text: &str, layer: Option<usize>, convention: Convention) -> ExplainOptions {
    ExplainOptions { text: text.to_owned(), layer, convention }
}

fn explain(session: &Session, picture: &Picture, options: &ExplainOptions) -> Explanation {
    block_on(session.explain(picture, options, &mut |_, _| Control::Continue)).unwrap()
}

/// `‖got - expected‖ / ‖expected‖`; of nothing but zeros, 0 if they are all there.
fn relative_error(got: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(got.len(), expected.len());
    if got == expected {
        return 0.0;
    }
    let square = |x: f32| f64::from(x) * f64::from(x);
    let off: f64 = got.iter().zip(expected).map(|(got, expected)| square(got - expected)).sum();
    (off / expected.iter().copied().map(square).sum::<f64>()).sqrt()
}

/// The largest of some errors, which must all be allowed.
fn all_within(errors: &[(String, f64)], allowed: f64) {
    let worst = errors.iter().map(|(_, error)| *error).fold(0.0, f64::max);
    let far: Vec<_> = errors.iter().filter(|(_, error)| error.is_nan() || *error > allowed).collect();
    assert!(!errors.is_empty() && far.is_empty(), "allowed {allowed:e}: {far:#?}");
    println!("largest relative error: {worst:.1e}");
}

fn explanations_equal_those_of_torch(on: &On) {
    let session = session(&on.open);
    let calls = Calls::open("explain");
    let (mut report, mut errors) = (Report::default(), Vec::new());
    for call in calls.of("explain.") {
        let answer = call.make(&session);
        let json: serde_json::Value = serde_json::from_str(&answer.json).unwrap();
        report.json(&call.name, &json["results"], &call.results, on.tolerance as f32);
        assert_eq!((answer.floats.len(), call.floats.len()), (3, 3));
        for (got, name) in answer.floats.iter().zip(&call.floats) {
            // Of the last layer only the first token has a map.
            errors.push((name.clone(), relative_error(got, calls.tensor(name))));
        }
    }
    report.finish();
    all_within(&errors, on.tolerance);
}

const TEXTS: [(&str, Convention); 3] = [
    ("a dog sitting on the house.", Convention::Orig),
    ("Two cats playing with the blue balls: near a zebra", Convention::Lavis),
    ("yes", Convention::Hf),
];

fn explanations_equal_automatic_differentiation(on: &On) {
    let mut errors = Vec::new();
    for (name, model) in [("corpus", Model::of_corpus()), ("random", Model::random(3))] {
        let session = model.session(&on.open);
        let device = Device::flex().autodiff();
        let oracle = Oracle::new(&model.config.text_config, &model.checkpoint, &device, DType::F32);
        for (nth, (text, convention)) in TEXTS.into_iter().enumerate() {
            let picture = block_on(session.encode(&picture(nth))).unwrap();
            for layer in 0..model.config.text_config.num_hidden_layers {
                let found = explain(&session, &picture, &options(text, Some(layer), convention));
                let expected = expected(&session, &picture, &oracle, &found);
                errors.push((format!("{name} {nth} {layer}"), relative_error(&found.maps.tokens, &expected)));
            }
        }
    }
    all_within(&errors, on.tolerance);
}

/// What automatic differentiation finds, the columns of class tokens left out.
fn expected(session: &Session, picture: &Picture, oracle: &Oracle, found: &Explanation) -> Vec<f32> {
    let part = session.part(Task::Itm).unwrap();
    let tokens = values(block_on(session.tokens(picture, part)).unwrap());
    let ids: Vec<u32> = found.tokens.iter().map(|token| token.id).collect();
    let map = oracle.relevance(&Pair { ids: &ids, tokens: &tokens }, found.layer);
    let places = found.grid[0] * found.grid[1];
    map.chunks(1 + places).flat_map(|frame| frame[1..].to_vec()).collect()
}

/// Differences of the match logit in double precision, for one number of the map after another.
#[test]
fn explanations_equal_differences() {
    const STEP: f64 = 1e-4;
    let open = Place::Flex.device().unwrap();
    let model = Model::of_corpus();
    let session = model.session(&open);
    let picture = block_on(session.encode(&picture(0))).unwrap();
    let found = explain(&session, &picture, &options("a dog sitting", Some(1), Convention::Orig));
    let ids: Vec<u32> = found.tokens.iter().map(|token| token.id).collect();
    let tokens = values(block_on(session.tokens(&picture, session.part(Task::Itm).unwrap())).unwrap());
    let pair = Pair { ids: &ids, tokens: &tokens };
    let device = Device::flex();
    let oracle = Oracle::new(&model.config.text_config, &model.checkpoint, &device, DType::F64);
    let probabilities = oracle.probabilities(&pair, 1);
    let dims @ [_, heads, seq, states] = probabilities.dims();
    let plain: Vec<f64> = probabilities.into_data().iter::<f64>().collect();
    let logit = |index: usize, by: f64| -> f64 {
        let mut changed = plain.clone();
        changed[index] += by;
        let changed = Tensor::<4>::from_data(TensorData::new(changed, dims), (&device, DType::F64));
        oracle.logit(&pair, 1, changed).into_data().iter::<f64>().next().unwrap()
    };
    let mut map = Vec::new();
    for place in 0..seq * states {
        let slope = |index: usize| (logit(index, STEP) - logit(index, -STEP)) / (2.0 * STEP);
        let terms = (0..heads).map(|head| head * seq * states + place);
        map.push(
            (terms.map(|index| plain[index] * slope(index).max(0.0)).sum::<f64>() / heads as f64) as f32,
        );
    }
    let map: Vec<f32> = map.chunks(states).flat_map(|row| row[1..].to_vec()).collect();
    all_within(&[("map".to_owned(), relative_error(&found.maps.tokens, &map))], 1e-4);
}

fn every_frame_of_a_clip_has_its_map(on: &On) {
    let model = Model::random(4);
    let session = model.session(&on.open);
    let device = Device::flex().autodiff();
    let oracle = Oracle::new(&model.config.text_config, &model.checkpoint, &device, DType::F32);
    let frames: Vec<RgbImage> = [1, 2, 1].map(picture).to_vec();
    let clip = block_on(session.encode_video(&frames)).unwrap();
    let found = explain(&session, &clip, &options("a dog sitting on the house", None, Convention::Orig));
    assert_eq!((found.layer, found.grid, found.frames), (2, [6, 6], 3));
    let all_within_one = |got: &[f32], expected: &[f32]| {
        all_within(&[("clip".to_owned(), relative_error(got, expected))], on.tolerance);
    };
    all_within_one(&found.maps.tokens, &expected(&session, &clip, &oracle, &found));
    // Equal frames are equally relevant, and others are not.
    let [first, second, third] = [0, 1, 2].map(|frame| &found.maps.sentence[36 * frame..][..36]);
    all_within_one(third, first);
    assert!(relative_error(second, first) > 0.01);
    assert_eq!(found.maps.words.len(), found.words.len() * 3 * 36);
}

fn explaining_stops_when_told_to(on: &On) {
    let session = session(&on.open);
    let picture = block_on(session.encode(&picture(0))).unwrap();
    let options = options("a dog", Some(1), Convention::Orig);
    let mut steps = Vec::new();
    let mut count = |done, total| {
        steps.push((done, total));
        Control::Continue
    };
    block_on(session.explain(&picture, &options, &mut count)).unwrap();
    // Forward, then layers 3, 2 and 1.
    assert_eq!(steps, [(1, 4), (2, 4), (3, 4), (4, 4)]);
    for last in 1..=4 {
        let mut asked = 0;
        let mut stop = |done, _| {
            asked += 1;
            if done == last { Control::Cancel } else { Control::Continue }
        };
        let error = block_on(session.explain(&picture, &options, &mut stop)).unwrap_err();
        assert_eq!((error.code(), asked), ("aborted", last));
    }
}

#[test]
fn what_cannot_be_explained_is_an_error() {
    let open = Place::Flex.device().unwrap();
    let matcher = session(&open);
    let picture_of = |session: &Session| block_on(session.encode(&picture(0))).unwrap();
    let code = |session: &Session, options: &ExplainOptions| {
        let picture = picture_of(session);
        block_on(session.explain(&picture, options, &mut |_, _| Control::Continue)).unwrap_err().code()
    };
    for (text, layer) in [("", None), (" ... ", None), ("a dog", Some(4)), ("a dog", Some(usize::MAX))] {
        assert_eq!(code(&matcher, &options(text, layer, Convention::Orig)), "bad-option", "{text} {layer:?}");
    }
    let captioner = captioner::session(&open);
    assert_eq!(code(&captioner, &options("a dog", None, Convention::Orig)), "task-unsupported");
    // Longer than the network reads: cut, as every task does it.
    let long = "a dog near the house and ".repeat(100);
    let found = explain(&matcher, &picture_of(&matcher), &options(&long, None, Convention::Hf));
    assert_eq!((found.tokens.len(), found.words.len()), (40, 38));
    assert_eq!(found.tokens[39].text, "[SEP]");
}

const Q8: Quantisation = Quantisation::uniform(Precision::Q8);
const Q4: Quantisation = Quantisation::uniform(Precision::Q4);
const F32: Quantisation = Quantisation::uniform(Precision::F32);

/// Maps out of codes against those out of the numbers that the codes stand for, on the CPU.
fn quantised_equals_the_numbers_written_out(open: &OpenDevice, models: &[(&str, Model)], allowed: f64) {
    let reference = Place::Flex.device().unwrap();
    let mut errors = Vec::new();
    for (name, model) in models {
        for (bits, quantisation) in [(8, Q8), (4, Q4)] {
            let codes = model.stored_as(quantisation);
            let numbers = codes.stored_as(F32);
            assert!(codes.checkpoint.tensors.values().any(|tensor| tensor.dtype != Dtype::F32));
            let (session, plain) = (codes.session(open), numbers.session(&reference));
            for (nth, (text, convention)) in TEXTS.into_iter().enumerate() {
                let maps = |session: &Session| {
                    let picture = block_on(session.encode(&picture(nth))).unwrap();
                    explain(session, &picture, &options(text, None, convention)).maps.tokens
                };
                errors
                    .push((format!("{name} q{bits} {nth}"), relative_error(&maps(&session), &maps(&plain))));
            }
        }
    }
    all_within(&errors, allowed);
}

#[test]
fn wgpu_explains_with_the_numbers_that_codes_stand_for() {
    if let Some(open) = Place::Wgpu.device() {
        // Every factor is exact in f32; only sums are in another order.
        let models = [("corpus", Model::of_corpus()), ("random", Model::random(5))];
        quantised_equals_the_numbers_written_out(&open.with_halves(false).unwrap(), &models, 1e-4);
    }
}

#[test]
fn wgpu_with_halves_explains_with_the_numbers_that_codes_stand_for() {
    let Some(open) = Place::Wgpu.device() else { return };
    match open.with_halves(true) {
        Ok(open) => {
            // Activations and the matrices that are read back keep eleven bits.
            let models = [("random", Model::random(5)), ("another", Model::random(6))];
            quantised_equals_the_numbers_written_out(&open, &models, 2e-2);
        }
        Err(reason) => println!("skipped: {reason}"),
    }
}

#[test]
fn the_cpu_explains_with_the_numbers_that_codes_stand_for() {
    // Activations keep seven bits on the way forward, about 1 % each, and layers add to that. The corpus
    // is left out: its weights are so far apart that the probability of a match itself moves by 0.13.
    let models = [("random", Model::random(5)), ("another", Model::random(6))];
    quantised_equals_the_numbers_written_out(&Place::Flex.device().unwrap(), &models, 0.12);
}

/// BLIP base at 384 px, 12 tokens: how long it takes; `BLIP_SLOW=1` runs it (3 GB of memory).
#[test]
fn a_full_size_model_explains() {
    if !slow() {
        return;
    }
    let config = BlipConfig::base();
    let checkpoint = random_networks(&config, &matching(), 1);
    let vocab: String = (0..config.text_config.vocab_size - 2)
        .map(|id| match id {
            0 => "[PAD]\n".to_owned(),
            100 => "[UNK]\n".to_owned(),
            101 => "[CLS]\n".to_owned(),
            102 => "[SEP]\n".to_owned(),
            103..113 => format!("{}\n", char::from(b'a' + (id - 103) as u8)),
            _ => format!("[unused{id}]\n"),
        })
        .collect();
    let model = Model { config, checkpoint, vocab: vocab.into_bytes() }.stored_as(Q8);
    let session = model.session(&Place::Flex.device().unwrap());
    let picture = block_on(session.encode(&picture(0))).unwrap();
    let options = options("a b c d e f g h i j", None, Convention::Orig);
    for _ in 0..2 {
        let start = Instant::now();
        let found = explain(&session, &picture, &options);
        println!("explained {} tokens in {} ms", found.tokens.len(), start.elapsed().as_millis());
        assert_eq!((found.layer, found.grid, found.tokens.len()), (6, [24, 24], 12));
        assert!(found.maps.sentence.iter().any(|value| *value > 0.0));
    }
}
