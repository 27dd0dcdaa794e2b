//! `blip convert --to hf`: what comes out is what went in, by name and byte; `tests/fixtures/roundtrip.py`
//! asks transformers itself.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use blip_web::config::BlipConfig;
use blip_web::convert::{ModelDirectory, convert as write, manifest_json};
use blip_web::model::Networks;
use blip_web::tokenizer::Tokenizer;
use blip_web::weights::{Checkpoint, Dtype, Precision, Quantisation, complete_vocabulary, random_networks};
use serde_json::Value;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn fixture(path: &str) -> PathBuf {
    repository("tests/fixtures").join(path)
}

/// A fresh folder for one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("hugging-face-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn convert(from: &Path, out: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blip"))
        .args(["convert", text(from), "--out", text(out)])
        .args(arguments)
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A fixture as a model directory.
fn model_directory(name: &str, out: &Path, arguments: &[&str]) {
    let vocab = fixture("networks/vocab.txt");
    let arguments = [&["--vocab", text(&vocab)], arguments].concat();
    stdout(&convert(&fixture(name), out, &arguments));
}

/// Shape, type and bytes of every tensor.
fn tensors(folder: &Path) -> BTreeMap<String, (Vec<usize>, Dtype, Vec<u8>)> {
    let tensors = Checkpoint::open(&folder.join("model.safetensors")).unwrap().tensors;
    tensors
        .into_iter()
        .map(|(name, tensor)| (name, (tensor.shape.clone(), tensor.dtype, tensor.bytes().unwrap())))
        .collect()
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// The folder has the tensors and the dimensions that the fixture has, and what else a reader asks for.
fn assert_is_back(folder: &Path, name: &str, class: &str) {
    let (found, expected) = (tensors(folder), tensors(&fixture(name)));
    let names = |tensors: &BTreeMap<String, (Vec<usize>, Dtype, Vec<u8>)>| {
        tensors.keys().cloned().collect::<Vec<String>>()
    };
    assert_eq!(names(&found), names(&expected), "{name}");
    for (tensor, value) in &expected {
        assert!(found[tensor] == *value, "{name}: {tensor}");
    }
    let config = fs::read_to_string(folder.join("config.json")).unwrap();
    let original = fs::read_to_string(fixture(name).join("config.json")).unwrap();
    let original = BlipConfig::from_json(&original).unwrap();
    assert_eq!(BlipConfig::from_json(&config).unwrap(), original, "{name}");
    let config: Value = serde_json::from_str(&config).unwrap();
    assert_eq!(config["architectures"], serde_json::json!([class]));
    assert_eq!(config["text_config"]["encoder_hidden_size"], original.vision_config.hidden_size);
    let pixels = json(&folder.join("preprocessor_config.json"));
    assert_eq!(pixels["size"]["height"], original.vision_config.image_size);
    assert_eq!((&pixels["resample"], &pixels["image_mean"][0]), (&3.into(), &0.481_454_66.into()));
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    let expected = [
        "README.md",
        "config.json",
        "model.safetensors",
        "preprocessor_config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
    ];
    assert_eq!(files, expected, "nothing else, and nothing hidden");
}

const CLASSES: [(&str, &str); 4] = [
    ("networks/caption", "BlipForConditionalGeneration"),
    ("networks/vqa", "BlipForQuestionAnswering"),
    ("networks/itm", "BlipForImageTextRetrieval"),
    // A head with a matrix of its own, and a bias of its own with it.
    ("parity/caption_untied", "BlipForConditionalGeneration"),
];

#[test]
fn what_hugging_face_wrote_comes_back_byte_for_byte() {
    for (name, class) in CLASSES {
        let folder = scratch(&format!("back-{}", name.replace('/', "-")));
        let (model, out) = (folder.join("model"), folder.join("out"));
        model_directory(name, &model, &["--dtype", "f32"]);
        let said = stdout(&convert(&model, &out, &["--to", "hf"]));
        assert!(said.contains(class) && said.contains("as f32,"), "{said}");
        assert_is_back(&out, name, class);
        // Again over itself, and from the folder itself.
        stdout(&convert(&out, &out, &["--to", "hf"]));
        assert_is_back(&out, name, class);
    }
}

#[test]
fn a_model_of_several_tasks_becomes_a_folder_for_each_class() {
    let folder = scratch("several");
    let (model, out) = (folder.join("model"), folder.join("out"));
    let [vqa, itm] = ["networks/vqa", "networks/itm"].map(|name| text(&fixture(name)).to_owned());
    model_directory("networks/caption", &model, &["--dtype", "f32", "--with", &vqa, "--with", &itm]);
    let said = stdout(&convert(&model, &out, &["--to", "hf", "--licence", "MIT"]));
    assert_eq!(said.lines().count(), 3, "{said}");
    for ((name, class), folder) in CLASSES.into_iter().zip(["caption", "vqa", "retrieval"]) {
        assert_is_back(&out.join(folder), name, class);
    }
    let page = fs::read_to_string(out.join("vqa/README.md")).unwrap();
    assert!(page.contains("license_name: \"MIT\"") && page.contains("BlipForQuestionAnswering"), "{page}");
}

#[test]
fn a_pre_trained_model_becomes_a_captioner_and_a_matcher() {
    let folder = scratch("pretrained");
    let config =
        BlipConfig::from_json(&fs::read_to_string(fixture("networks/itm/config.json")).unwrap()).unwrap();
    let networks = Networks {
        text_encoder: true,
        itc: true,
        itm: true,
        ..Networks::caption(config.vision_config.hidden_size)
    };
    let checkpoint = random_networks(&config, &networks, 3);
    let (model, out) = (folder.join("model"), folder.join("out"));
    fs::create_dir_all(&model).unwrap();
    let vocab = fs::read(fixture("networks/vocab.txt")).unwrap();
    let vocab = complete_vocabulary(&vocab, &config).unwrap();
    let about = ModelDirectory { id: "both".into(), config, tasks: None, licence: "MIT".into(), knows: None };
    let mut weights = fs::File::create(model.join("model.safetensors")).unwrap();
    let exact = Quantisation::uniform(Precision::F32);
    let (manifest, _) = write(&about, &checkpoint, &vocab, exact, &mut weights, &mut |_, _| {}).unwrap();
    fs::write(model.join("vocab.txt"), &vocab).unwrap();
    fs::write(model.join("blip.json"), manifest_json(&manifest).unwrap()).unwrap();
    assert_eq!(manifest.tasks, ["caption", "itm", "itc"]);
    stdout(&convert(&model, &out, &["--to", "hf"]));
    let whole = tensors(&model);
    let [caption, retrieval] = ["caption", "retrieval"].map(|name| tensors(&out.join(name)));
    assert_eq!(fs::read_dir(&out).unwrap().count(), 2);
    let of = |starts: &[&str]| {
        let mut own = whole.clone();
        own.retain(|name, _| starts.iter().any(|start| name.starts_with(start)));
        own
    };
    assert!(caption == of(&["vision_model.", "text_decoder."]));
    let heads = ["vision_model.", "text_encoder.", "vision_proj.", "text_proj.", "itm_head."];
    assert!(retrieval == of(&heads) && retrieval.len() > heads.len());
}

#[test]
fn halves_are_halves_throughout_and_quantised_matrices_what_they_stand_for() {
    let folder = scratch("rounded");
    let (model, half) = (folder.join("model"), folder.join("half"));
    model_directory("networks/itm", &model, &["--dtype", "f32"]);
    stdout(&convert(&model, &half, &["--to", "hf", "--dtype", "f16"]));
    assert!(tensors(&half).values().all(|(_, dtype, _)| *dtype == Dtype::F16));
    assert_eq!(json(&half.join("config.json"))["dtype"], "float16");

    for (dtype, most) in [("q8", 0.01), ("q4", 0.12)] {
        let (quantised, out) = (folder.join(dtype), folder.join(format!("{dtype}-out")));
        model_directory("networks/itm", &quantised, &["--dtype", dtype]);
        let said = stdout(&convert(&quantised, &out, &["--to", "hf"]));
        assert!(said.contains("as f32, dequantised"), "{said}");
        let (found, exact) = (
            Checkpoint::open(&out.join("model.safetensors")).unwrap(),
            Checkpoint::open(&fixture("networks/itm/model.safetensors")).unwrap(),
        );
        let (mut off, mut size) = (0.0, 0.0);
        for (name, tensor) in &exact.tensors {
            for (found, exact) in found.tensors[name].to_f32().unwrap().iter().zip(tensor.to_f32().unwrap()) {
                off += f64::from(found - exact).powi(2);
                size += f64::from(exact).powi(2);
            }
        }
        let error = (off / size).sqrt();
        assert!(error > 1e-5 && error < most, "{dtype}: {error}");
    }
}

#[test]
fn the_tokenizer_has_every_word_and_the_task_tokens_as_special_ones() {
    let folder = scratch("words");
    stdout(&convert(&repository("tests/fixtures/models/captioner"), &folder.join("tiny"), &["--to", "hf"]));
    let vocab = fs::read(repository("tests/fixtures/models/captioner/vocab.txt")).unwrap();
    assert_eq!(fs::read(folder.join("tiny/vocab.txt")).unwrap(), vocab);
    let ours = Tokenizer::from_vocab(&vocab).unwrap();
    let written = json(&folder.join("tiny/tokenizer.json"));
    let words = written["model"]["vocab"].as_object().unwrap();
    assert_eq!(words.len(), ours.vocab_size());
    assert_eq!(words["[DEC]"], ours.dec());
    let added = written["added_tokens"].as_array().unwrap();
    assert!(added.iter().any(|token| token["content"] == "[ENC]" && token["id"] == ours.enc()));
    let config = json(&folder.join("tiny/tokenizer_config.json"));
    assert_eq!(
        (&config["bos_token"], &config["tokenizer_class"]),
        (&"[DEC]".into(), &"BertTokenizer".into())
    );
}

#[test]
fn what_transformers_cannot_hold_is_refused_before_anything_is_written() {
    let folder = scratch("refused");
    let out = folder.join("out");
    let vocab = fixture("networks/vocab.txt");
    let said = refusal(&convert(&fixture("nlvr2/model.pth"), &out, &["--to", "hf", "--vocab", text(&vocab)]));
    assert!(said.contains("[task-unsupported]") && said.contains("nlvr2"), "{said}");
    let caption = fixture("networks/caption");
    let refused = |arguments: &[&str]| {
        let arguments = [&["--to", "hf", "--vocab", text(&vocab)], arguments].concat();
        let said = refusal(&convert(&caption, &out, &arguments));
        assert!(said.contains("[bad-option]"), "{said}");
        said
    };
    assert!(refused(&["--dtype", "q8"]).contains("q8"));
    assert!(refused(&["--with", text(&caption)]).contains("--with"));
    assert!(refused(&["--report", "-"]).contains("--report"));
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left");
    model_directory("networks/caption", &out, &[]);
    let before = fs::read(out.join("model.safetensors")).unwrap();
    assert!(refused(&[]).contains("is a model directory"));
    assert!(fs::read(out.join("model.safetensors")).unwrap() == before);
}
