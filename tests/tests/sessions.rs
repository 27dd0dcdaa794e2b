//! Sessions of several models: which of them answers, what they share, and what is refused.

use std::fs;

use blip_web::config::BlipConfig;
use blip_web::convert::{ModelDirectory, convert};
use blip_web::device::{DeviceKind, OpenDevice, block_on};
use blip_web::generate::{Control, GenerateConfig, Progress, generate};
use blip_web::image::{ImageOptions, decode};
use blip_web::model::{Grounding, TextMode, integers};
use blip_web::tasks::{
    Answer, AskOptions, CaptionOptions, Event, Frames, ModelDecoder, ModelLoader, Part, Picture, Request,
    Session, Task,
};
use blip_web::weights::manifest::FurtherNetwork;
use blip_web::weights::{Checkpoint, Manifest, Precision, Quantisation, StoredTensor};
use blip_web::{ErrorKind, Result};
use burn::tensor::Tensor;
use image::RgbImage;

fn folder() -> std::path::PathBuf {
    blip_tests::corpus::fixtures().join("networks")
}

fn device() -> OpenDevice {
    block_on(OpenDevice::open(DeviceKind::Cpu)).expect("this build has burn-flex")
}

fn vocab() -> Vec<u8> {
    fs::read(folder().join("vocab.txt")).expect("a fixture")
}

fn open(name: &str) -> (BlipConfig, Checkpoint) {
    let folder = folder().join(name);
    let config = fs::read_to_string(folder.join("config.json")).expect("a fixture");
    let checkpoint = Checkpoint::open(&folder.join("model.safetensors")).expect("a fixture");
    (BlipConfig::from_json(&config).expect("a fixture"), checkpoint)
}

fn part(name: &str, device: &OpenDevice) -> Part {
    let (config, checkpoint) = open(name);
    Part::from_checkpoint(&config, &checkpoint, &vocab(), device).expect("a fixture")
}

fn alone(name: &str, device: &OpenDevice) -> Session {
    let mut session = Session::new(device);
    session.add(vec![part(name, device)]).expect("one model serves its tasks");
    session
}

fn pictures() -> Vec<RgbImage> {
    let read = |nth: usize| {
        let bytes = fs::read(folder().join(format!("pictures/{nth}.png"))).expect("a fixture");
        decode(&bytes, &ImageOptions::default()).expect("a picture")
    };
    (0..3).map(read).collect()
}

fn ask(session: &Session, request: &str, pictures: &[Picture]) -> Result<Answer> {
    block_on(session.answer(&Request::from_json(request)?, pictures, &mut |_| Control::Continue))
}

/// Milliseconds are never the same twice.
fn timeless(answer: Answer) -> (serde_json::Value, Vec<Vec<f32>>) {
    let mut json: serde_json::Value = serde_json::from_str(&answer.json).expect("JSON");
    for result in json["results"].as_array_mut().expect("a list") {
        if let Some(result) = result.as_object_mut() {
            result.remove("ms");
        }
    }
    (json, answer.floats)
}

const REQUESTS: [(&str, &str); 8] = [
    ("caption", r#"{"task":"caption","numBeams":3,"maxLength":12}"#),
    ("caption", r#"{"task":"caption","maxLength":9,"prompt":"a"}"#),
    ("vqa", r#"{"task":"ask","question":"what is it?"}"#),
    ("vqa", r#"{"task":"ask","question":"what?","answers":["a","the","of it"],"candidates":2}"#),
    ("itm", r#"{"task":"match","texts":["a dog","the red one on it"]}"#),
    ("itm", r#"{"task":"classify","labels":["dog","cat"],"templates":["a {}","the {}"]}"#),
    ("itm", r#"{"task":"embed","kind":"image"}"#),
    ("itm", r#"{"task":"embed","kind":"multimodal","texts":["a dog"]}"#),
];

#[test]
fn models_together_answer_as_each_alone_and_share_what_is_equal() {
    let device = device();
    let mut all = Session::new(&device);
    all.add(["caption", "vqa", "itm"].map(|name| part(name, &device)).into()).unwrap();
    assert_eq!(all.tasks(), [Task::Caption, Task::Vqa, Task::Itm, Task::Itc]);
    assert_eq!(all.towers(), 1, "the image encoders of this corpus are equal");
    let images = pictures();
    let together = block_on(all.encode_many(&images)).unwrap();
    for (name, request) in REQUESTS {
        let session = alone(name, &device);
        let one_by_one: Vec<Picture> =
            images.iter().map(|image| block_on(session.encode(image)).unwrap()).collect();
        let expected = timeless(ask(&session, request, &one_by_one).unwrap());
        assert_eq!(timeless(ask(&all, request, &together).unwrap()), expected, "{request}");
        assert_eq!(timeless(ask(&all, request, &together).unwrap()), expected, "{request}, again");
    }
}

#[test]
fn an_image_encoder_of_its_own_is_run_when_it_is_asked_for() {
    let device = device();
    let other = || with_another_encoder("vqa", "vision_model.post_layernorm.bias", 0.0, &device);
    let mut both = Session::new(&device);
    both.add(vec![part("caption", &device), other()]).unwrap();
    assert_eq!(both.towers(), 2);
    let mut single = Session::new(&device);
    single.add(vec![other()]).unwrap();
    let images = pictures();
    for (session, request) in [(&alone("caption", &device), REQUESTS[0].1), (&single, REQUESTS[2].1)] {
        let expected = ask(session, request, &block_on(session.encode_many(&images)).unwrap()).unwrap();
        let found = ask(&both, request, &block_on(both.encode_many(&images)).unwrap()).unwrap();
        assert_eq!(timeless(found), timeless(expected));
    }
}

/// A network of the corpus with another image encoder: one tensor of it has this value everywhere.
fn with_another_encoder(name: &str, tensor: &str, value: f32, device: &OpenDevice) -> Part {
    let (config, mut checkpoint) = open(name);
    let stored = checkpoint.tensors[tensor].clone();
    let bytes: Vec<u8> = std::iter::repeat_n(value.to_le_bytes(), stored.elements()).flatten().collect();
    let changed = StoredTensor::new(stored.shape, stored.dtype, move || Ok(bytes.clone()));
    checkpoint.tensors.insert(tensor.to_owned(), changed);
    Part::from_checkpoint(&config, &checkpoint, &vocab(), device).expect("a fixture")
}

#[test]
fn only_the_image_encoder_that_a_task_looks_with_is_run() {
    let device = device();
    // What this one returns is too great for a float, so that a session notices when it runs.
    let broken = with_another_encoder("caption", "vision_model.post_layernorm.weight", 3e38, &device);
    let mut session = Session::new(&device);
    session.add(vec![broken, part("vqa", &device), part("itm", &device)]).unwrap();
    assert_eq!(session.towers(), 2);
    let images = pictures();
    assert_eq!(block_on(session.encode_many(&images)).unwrap_err().kind(), ErrorKind::Gpu);
    let further = [
        ("itm", r#"{"task":"explain","text":"a dog"}"#),
        ("itm", r#"{"task":"dialogue","caption":"a dog","question":"what?","candidates":["a dog","no"]}"#),
        ("itm", r#"{"task":"match","texts":["a dog"],"heads":["itc"]}"#),
        ("itm", r#"{"task":"classify","labels":["dog","cat"],"head":"itm"}"#),
        ("itm", r#"{"task":"embed","kind":"image","output":"class"}"#),
    ];
    for (name, json) in REQUESTS.into_iter().chain(further) {
        let request = Request::from_json(json).unwrap();
        let tasks = session.tasks_of(&request).unwrap();
        let encoded = block_on(session.encode_for(&tasks, &images));
        if name == "caption" {
            assert_eq!(encoded.unwrap_err().kind(), ErrorKind::Gpu, "{json}");
            continue;
        }
        let single = alone(name, &device);
        let expected = ask(&single, json, &block_on(single.encode_many(&images)).unwrap()).unwrap();
        assert_eq!(ask(&session, json, &encoded.unwrap()).unwrap(), expected, "{json}");
        let clip = block_on(session.encode_video_for(&tasks, &images)).unwrap();
        let expected = ask(&single, json, &[block_on(single.encode_video(&images)).unwrap()]).unwrap();
        assert_eq!(ask(&session, json, &[clip]).unwrap(), expected, "{json} of a clip");
    }
    let error = block_on(session.encode_for(&[Task::Nlvr2], &images)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskUnsupported, "{error}");
}

#[test]
fn the_frames_of_a_long_clip_are_what_each_is_alone() {
    let device = device();
    let session = alone("itm", &device);
    let images: Vec<RgbImage> = pictures().into_iter().cycle().take(19).collect();
    let tokens = r#"{"task":"embed","kind":"image","output":"tokens"}"#;
    let alone = ask(&session, tokens, &block_on(session.encode_many(&images)).unwrap()).unwrap();
    let clip = block_on(session.encode_video(&images)).unwrap();
    assert_eq!(clip.frames(), 19);
    assert_eq!(ask(&session, tokens, &[clip]).unwrap().floats, [alone.floats.concat()]);
    let too_many: Vec<RgbImage> = images.into_iter().cycle().take(33).collect();
    assert_eq!(block_on(session.encode_video(&too_many)).unwrap_err().kind(), ErrorKind::BadOption);
}

#[test]
fn models_for_some_tasks_leave_the_others_to_each_other() {
    let device = device();
    // Both of these match texts.
    let (mut one, mut other) =
        (vec![part("caption", &device), part("itm", &device)], vec![part("itm", &device)]);
    Part::keep(&mut one, &[Task::Caption, Task::Itc]).unwrap();
    Part::keep(&mut other, &[Task::Itm]).unwrap();
    let error = Part::keep(&mut other, &[Task::Itm, Task::Vqa]).unwrap_err();
    assert_eq!((error.kind(), other.len()), (ErrorKind::TaskUnsupported, 1), "{error}");
    let mut session = Session::new(&device);
    session.add(one).unwrap();
    session.add(other).unwrap();
    assert_eq!(session.tasks(), [Task::Caption, Task::Itc, Task::Itm]);
    let serving = |task| session.part(task).unwrap().tasks.clone();
    assert_eq!((serving(Task::Itc), serving(Task::Itm)), (vec![Task::Itc], vec![Task::Itm]));
}

#[test]
fn what_no_network_was_trained_for_has_its_code() {
    let device = device();
    let session = alone("caption", &device);
    let picture = block_on(session.encode(&pictures()[0])).unwrap();
    for request in [
        REQUESTS[2].1,
        REQUESTS[4].1,
        REQUESTS[5].1,
        REQUESTS[6].1,
        r#"{"task":"caption","matchScore":true}"#,
        r#"{"task":"classify","labels":["a"],"head":"itm"}"#,
    ] {
        let error = ask(&session, request, std::slice::from_ref(&picture)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TaskUnsupported, "{request}: {error}");
        assert!(error.message().contains("caption"), "{error} says what there is");
    }
    let mut session = alone("itm", &device);
    let error = session.add(vec![part("itm", &device)]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadOption, "two models for one task: {error}");
    assert_eq!(session.limit(&[Task::Vqa]).unwrap_err().kind(), ErrorKind::TaskUnsupported);
    session.limit(&[Task::Itc]).unwrap();
    assert_eq!(session.tasks(), [Task::Itc]);
    let error = block_on(Session::new(&device).encode(&pictures()[0])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TaskUnsupported);
}

#[test]
fn a_picture_of_an_earlier_session_is_refused() {
    let device = device();
    let mut session = alone("caption", &device);
    let picture = block_on(session.encode(&pictures()[0])).unwrap();
    session.add(vec![with_another_encoder("vqa", "vision_model.post_layernorm.bias", 1.0, &device)]).unwrap();
    assert_eq!(ask(&session, REQUESTS[2].1, &[picture]).unwrap_err().kind(), ErrorKind::BadOption);
}

#[test]
fn a_picture_belongs_to_the_session_that_encoded_it_and_to_the_places_of_its_models() {
    let device = device();
    let [mut session, other] = [0, 1].map(|_| {
        let mut session = Session::new(&device);
        session.add(["caption", "vqa", "itm"].map(|name| part(name, &device)).into()).unwrap();
        session
    });
    let requests = REQUESTS.map(|(_, request)| request);
    let explain = r#"{"task":"explain","text":"a dog"}"#;
    let dialogue = r#"{"task":"dialogue","caption":"a dog","question":"what?","candidates":["a dog","no"]}"#;
    let own = block_on(session.encode_many(&pictures())).unwrap();
    let foreign = block_on(other.encode_many(&pictures())).unwrap();
    for request in requests.into_iter().chain([explain, dialogue]) {
        ask(&session, request, &own).unwrap();
        let error = ask(&session, request, &foreign).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadOption, "{request}: {error}");
    }
    // The matcher takes the first place, where keys and values of the captioner were kept.
    session.limit(&[Task::Itm, Task::Itc]).unwrap();
    for request in [REQUESTS[4].1, REQUESTS[5].1, REQUESTS[6].1, explain] {
        let error = ask(&session, request, &own).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadOption, "{request}: {error}");
        let again = ask(&session, request, &block_on(session.encode_many(&pictures())).unwrap()).unwrap();
        assert_eq!(again, ask(&other, request, &foreign).unwrap(), "{request}");
    }
}

#[test]
fn of_models_that_do_not_go_together_none_is_added() {
    let device = device();
    let mut session = alone("caption", &device);
    for names in [["vqa", "caption"], ["itm", "itm"]] {
        let error = session.add(names.map(|name| part(name, &device)).into()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BadOption, "{error}");
        assert_eq!(session.tasks(), [Task::Caption], "{names:?}");
    }
    session.add(vec![part("vqa", &device)]).unwrap();
    assert_eq!((session.parts().len(), session.towers()), (2, 1));
}

#[test]
fn every_long_call_can_be_cancelled() {
    let device = device();
    for (name, request) in REQUESTS {
        let session = alone(name, &device);
        let pictures = block_on(session.encode_many(&pictures())).unwrap();
        let request = Request::from_json(request).unwrap();
        let mut events = 0;
        let mut cancel = |_: Event<'_>| {
            events += 1;
            Control::Cancel
        };
        let error = block_on(session.answer(&request, &pictures, &mut cancel)).unwrap_err();
        assert_eq!((error.kind(), events), (ErrorKind::Aborted, 1), "{request:?}");
    }
}

#[test]
fn the_last_steps_of_a_call_can_be_cancelled_as_well() {
    let device = device();
    let mut session = Session::new(&device);
    session.add(["caption", "itm"].map(|name| part(name, &device)).into()).unwrap();
    let pictures = block_on(session.encode_many(&pictures())).unwrap();
    let events = |request: &str, pictures: &[Picture], cancelled: usize| {
        let mut events = 0;
        let mut count = |_: Event<'_>| {
            events += 1;
            if events == cancelled { Control::Cancel } else { Control::Continue }
        };
        let request = Request::from_json(request).unwrap();
        let answer = block_on(session.answer(&request, pictures, &mut count));
        (events, answer.map_err(|error| error.kind()))
    };
    // Texts of labels are read at first; each of the pictures may be the last.
    let classify = r#"{"task":"classify","labels":["dog","cat"],"templates":["a {}","the {}"]}"#;
    let (all, answer) = events(classify, &pictures, 0);
    assert!(answer.is_ok() && all > pictures.len(), "{all} steps");
    for cancelled in 1..=all {
        assert_eq!(events(classify, &pictures, cancelled), (cancelled, Err(ErrorKind::Aborted)));
    }
    // Captions are scored when their last token is there, which is told once.
    let caption = r#"{"task":"caption","maxLength":9}"#;
    let (tokens, _) = events(caption, &pictures[..1], 0);
    let scored = r#"{"task":"caption","maxLength":9,"matchScore":true}"#;
    let (all, answer) = events(scored, &pictures[..1], 0);
    assert!(answer.is_ok() && all > tokens, "{all} events, {tokens} of tokens");
    let mut told = Vec::new();
    let mut note = |event: Event<'_>| {
        told.push(matches!(event, Event::Token { .. }));
        Control::Continue
    };
    block_on(session.answer(&Request::from_json(scored).unwrap(), &pictures[..1], &mut note)).unwrap();
    assert_eq!(told.iter().filter(|is_token| **is_token).count(), tokens);
    for cancelled in tokens + 1..=all {
        assert_eq!(events(scored, &pictures[..1], cancelled), (cancelled, Err(ErrorKind::Aborted)));
    }
}

#[test]
fn texts_are_read_once_for_many_pictures() {
    let device = device();
    let mut session = alone("itm", &device);
    let pictures = block_on(session.encode_many(&pictures())).unwrap();
    // Sixteen are read side by side.
    let texts: Vec<String> = (0..40).map(|nth| "dog ".repeat(1 + nth % 5) + "cat").collect();
    let json = |task: &str, rest: serde_json::Value| {
        let mut request = serde_json::json!({"task": task});
        request.as_object_mut().unwrap().extend(rest.as_object().unwrap().clone());
        Request::from_json(&request.to_string()).unwrap()
    };
    let steps = |session: &Session, request: &Request, pictures: &[Picture]| {
        let mut steps = 0;
        let mut count = |_: Event<'_>| {
            steps += 1;
            Control::Continue
        };
        (block_on(session.answer(request, pictures, &mut count)).unwrap(), steps)
    };
    let request = json("match", serde_json::json!({"texts": texts, "heads": ["itc"]}));
    let (all, count) = steps(&session, &request, &pictures);
    assert_eq!(count, 3 + 1 + 1, "three batches for the first picture");
    let results: serde_json::Value = serde_json::from_str(&all.json).unwrap();
    for (nth, picture) in pictures.iter().enumerate() {
        let (one, count) = steps(&session, &request, std::slice::from_ref(picture));
        assert_eq!(count, 1, "they are known from the call before");
        let one: serde_json::Value = serde_json::from_str(&one.json).unwrap();
        assert_eq!(one["results"][0], results["results"][nth]);
    }
    // Of another convention, or other texts, they are others.
    let fresh = alone("itm", &device);
    let own = block_on(fresh.encode_many(&self::pictures())).unwrap();
    let other = json("match", serde_json::json!({"texts": texts, "heads": ["itc"], "convention": "hf"}));
    let labels = json("classify", serde_json::json!({"labels": texts}));
    for (request, expected) in
        [(&other, 3 + 1 + 1), (&labels, 3 + 3), (&labels, 1 + 3), (&request, 3 + 1 + 1)]
    {
        let (found, count) = steps(&session, request, &pictures);
        assert_eq!(count, expected, "{request:?}");
        assert_eq!(found, block_on(fresh.answer(request, &own, &mut |_| Control::Continue)).unwrap());
    }
    // Another model has other features of them.
    session.add(vec![part("caption", &device)]).unwrap();
    assert_eq!(steps(&session, &request, &pictures).1, 3 + 1 + 1);
}

#[test]
fn a_question_about_the_frames_apart_is_its_states_beside_each_of_them() {
    let device = device();
    let session = alone("vqa", &device);
    let part = session.part(Task::Vqa).unwrap();
    let (encoder, decoder) = (part.model.text_encoder.as_ref().unwrap(), part.model.decoder().unwrap());
    // More than are looked at side by side.
    let frames: Vec<RgbImage> = pictures().into_iter().cycle().take(10).collect();
    let clip = block_on(session.encode_video(&frames)).unwrap();
    let mut options = AskOptions::new("what is it?");
    let joint = block_on(session.ask(&clip, &options, &mut |_| Control::Continue)).unwrap();
    options.frames = Frames::Apart;
    let apart = block_on(session.ask(&clip, &options, &mut |_| Control::Continue)).unwrap();
    assert_ne!(apart, joint);

    let mut ids = part.tokenizer.encode("what is it?").unwrap();
    ids[0] = part.tokenizer.enc();
    let ids: Vec<i32> = ids.iter().map(|id| id.cast_signed()).collect();
    let states = frames.iter().map(|frame| {
        let picture = block_on(session.encode(frame)).unwrap();
        let grounding = block_on(session.grounding(&picture, part)).unwrap();
        let ids = integers(ids.clone(), [1, ids.len()], &device.device);
        encoder.forward(ids, None, Some(&grounding), TextMode::Grounded)
    });
    let grounding = Grounding::new(decoder.cross_kv(Tensor::cat(states.collect(), 1)));
    let text = &part.config.text_config;
    let mut by_hand = ModelDecoder::new(&part.model, &device, grounding, text);
    let prompt = part.tokenizer.encode_prompt(None).unwrap();
    let mut go_on = |_: Progress<'_>| Control::Continue;
    let end = text.sep_token_id;
    let found = block_on(generate(&mut by_hand, &prompt, end, &options.generate, &mut go_on)).unwrap();
    let words: Vec<String> = found.iter().map(|one| part.tokenizer.decode(&one.ids, true)).collect();
    assert_eq!(apart.answers.iter().map(|one| one.text.clone()).collect::<Vec<_>>(), words);
    assert!((apart.answers[0].log_prob - found[0].log_prob).abs() < 1e-4);
    // A picture has one frame, and a question that is ranked is read in the same way.
    let picture = block_on(session.encode(&frames[0])).unwrap();
    let of =
        |options: &AskOptions| block_on(session.ask(&picture, options, &mut |_| Control::Continue)).unwrap();
    assert_eq!(of(&options), of(&AskOptions::new("what is it?")));
    let ranked = |frames: &str| {
        let rest = r#""question":"what is it?","answers":["a dog","yes","two"],"candidates":3"#;
        let json = format!(r#"{{"task":"ask","frames":"{frames}",{rest}}}"#);
        ask(&session, &json, std::slice::from_ref(&clip)).unwrap()
    };
    assert_ne!(ranked("joint"), ranked("apart"));
}

#[test]
fn a_model_that_reads_few_tokens_warms_up() {
    let device = device();
    for (name, table) in [
        ("caption", "text_decoder.bert.embeddings.position_embeddings.weight"),
        ("vqa", "text_decoder.bert.embeddings.position_embeddings.weight"),
    ] {
        let (mut config, mut checkpoint) = open(name);
        config.text_config.max_position_embeddings = 6;
        for (name, stored) in &mut checkpoint.tensors {
            if name.ends_with("position_embeddings.weight") {
                let width = stored.shape[1];
                let bytes = stored.bytes().unwrap()[..6 * width * 4].to_vec();
                *stored = StoredTensor::new(vec![6, width], stored.dtype, move || Ok(bytes.clone()));
            }
        }
        assert!(checkpoint.tensors.contains_key(table), "{name}");
        let mut session = Session::new(&device);
        session.add(vec![Part::from_checkpoint(&config, &checkpoint, &vocab(), &device).unwrap()]).unwrap();
        let mut steps = Vec::new();
        let mut note = |done, _| {
            steps.push(done);
            Control::Continue
        };
        block_on(session.warm_up(&mut note)).unwrap();
        assert!(steps.is_sorted() && steps.len() > 1, "{steps:?}");
    }
}

#[test]
fn warming_up_is_cancelled_between_steps_and_within_them() {
    let session = alone("caption", &device());
    let mut asked = Vec::new();
    let mut note = |done, total| {
        asked.push((done, total));
        Control::Continue
    };
    block_on(session.warm_up(&mut note)).expect("nobody stops it");
    assert_eq!((asked[0], asked.last()), ((1, 3), Some(&(3, 3))));
    assert!(asked.is_sorted() && asked.len() > 3 + 3, "tokens are asked about as well: {asked:?}");
    for stop in 0..asked.len() {
        let mut calls = 0;
        let mut cancel = |_, _| {
            calls += 1;
            if calls > stop { Control::Cancel } else { Control::Continue }
        };
        let error = block_on(session.warm_up(&mut cancel)).expect_err("it was cancelled");
        assert_eq!(error.kind(), ErrorKind::Aborted);
        // The token that was asked about, and the end of its step.
        assert!(calls <= stop + 2, "{calls} questions after the answer to number {stop}");
    }
}

#[test]
fn options_out_of_their_range_are_no_panic() {
    let device = device();
    let session = alone("caption", &device);
    let picture = block_on(session.encode(&pictures()[0])).unwrap();
    let generate = GenerateConfig { num_captions: usize::MAX, ..GenerateConfig::default() };
    let options = CaptionOptions { generate, ..CaptionOptions::default() };
    let error =
        block_on(session.caption_picture(&picture, &options, &mut |_| Control::Continue)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadOption, "{error}");
}

/// The model directory of one checkpoint: its manifest and its weights.
fn container(name: &str, over: bool) -> (Manifest, Vec<u8>) {
    let (config, mut checkpoint) = open(name);
    if over {
        checkpoint.tensors.retain(|name, _| !name.starts_with("vision_model."));
    }
    let directory = ModelDirectory {
        id: "several".to_owned(),
        config,
        tasks: None,
        licence: "MIT".to_owned(),
        knows: None,
    };
    let mut bytes = Vec::new();
    let quantisation = Quantisation::uniform(Precision::F32);
    let (manifest, _) = convert(&directory, &checkpoint, &vocab(), quantisation, &mut bytes, &mut |_, _| {})
        .expect("the fixture can be converted");
    (manifest, bytes)
}

#[test]
fn one_manifest_lists_several_text_networks_over_one_image_encoder() {
    let device = device();
    let (mut manifest, mut bytes) = container("caption", false);
    manifest.format_version = Manifest::FORMAT_VERSION_NETWORKS;
    for name in ["vqa", "itm"] {
        let (further, own) = container(name, true);
        let (tasks, config) = (further.tasks, Some(further.config));
        let weights = further.files.weights;
        manifest.networks.push(FurtherNetwork { tasks, weights, config, vision: false, source: None });
        bytes.extend(own);
    }
    let text = serde_json::to_string(&manifest).unwrap();
    let manifest = Manifest::from_json(&text).unwrap();
    assert_eq!(manifest.weights().count(), 3);
    let old = text.replace("\"formatVersion\":3", "\"formatVersion\":2");
    assert_eq!(Manifest::from_json(&old).unwrap_err().kind(), ErrorKind::BadConfig);
    // In pieces that do not end where files do.
    for piece in [bytes.len(), 999] {
        let mut loader = ModelLoader::new(manifest.clone(), &device);
        for piece in bytes.chunks(piece) {
            loader.push(piece).unwrap();
        }
        let mut session = Session::new(&device);
        session.add(loader.finish(&vocab()).unwrap()).unwrap();
        assert_eq!(session.towers(), 1);
        let pictures = block_on(session.encode_many(&pictures())).unwrap();
        for (name, request) in REQUESTS {
            let single = alone(name, &device);
            let own = block_on(single.encode_many(&self::pictures())).unwrap();
            let expected = timeless(ask(&single, request, &own).unwrap());
            assert_eq!(timeless(ask(&session, request, &pictures).unwrap()), expected, "{request}");
        }
    }
    let short = &bytes[..bytes.len() - 1];
    let mut loader = ModelLoader::new(manifest.clone(), &device);
    loader.push(short).unwrap();
    assert_eq!(loader.finish(&vocab()).unwrap_err().kind(), ErrorKind::Integrity);
    let mut loader = ModelLoader::new(manifest.clone(), &device);
    loader.push(&bytes).unwrap();
    assert_eq!(loader.push(&[0]).unwrap_err().kind(), ErrorKind::Integrity);
    // Alone, a file without an image encoder is no model.
    let (further, weights) = container("itm", true);
    let mut loader = ModelLoader::new(further, &device);
    loader.push(&weights).unwrap();
    assert_eq!(loader.finish(&vocab()).unwrap_err().kind(), ErrorKind::WeightsMissing);
}
