//! The `blip` command as a user runs it: results on standard output, errors with their code.
#![cfg(all(feature = "cli", feature = "embedded"))]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn blip(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blip")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// The stable part of an error: its code in brackets.
fn assert_fails_with(output: &Output, code: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && text.contains(&format!("[{code}]")), "expected [{code}]: {text}");
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A fresh folder for one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A vocabulary of 80 tokens with `[SEP]` = 3, `[DEC]` = 78 and `[ENC]` = 79, as the fixtures' configurations say.
fn fixture_vocabulary(folder: &Path) -> PathBuf {
    let mut lines: Vec<String> = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned).to_vec();
    lines.extend((4..78).map(|index| format!("word{index}")));
    lines.extend(["[DEC]", "[ENC]"].map(str::to_owned));
    let path = folder.join("vocab.txt");
    std::fs::write(&path, lines.join("\n")).unwrap();
    path
}

fn sample() -> PathBuf {
    repository("www/samples/scene-1.png")
}

#[test]
fn a_sample_is_captioned_by_the_embedded_model() {
    let output = blip(&["caption", "--json", text(&sample())]);
    let line: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    let caption = line["caption"].as_str().unwrap();
    assert!(caption.split(' ').count() >= 3, "{caption}");
    let log_prob = line["captions"][0]["logProb"].as_f64().unwrap();
    assert!(log_prob < 0.0 && log_prob > -30.0, "{log_prob}");
}

#[test]
fn beams_and_samples_are_available() {
    let sample = sample();
    let beams = stdout(&blip(&["caption", "--beams", "3", "--captions", "2", text(&sample)]));
    assert_eq!(beams.lines().count(), 2);
    let arguments = ["caption", "--sample", "--seed", "7", "--captions", "3", text(&sample)];
    let first = stdout(&blip(&arguments));
    assert_eq!(first.lines().count(), 3);
    assert_eq!(first, stdout(&blip(&arguments)), "a seed gives the same captions again");
}

#[test]
fn every_layout_converts_to_the_same_model() {
    let folder = scratch("convert");
    let vocab = fixture_vocabulary(&folder);
    let fixtures = repository("tests/fixtures/parity/caption_untied");
    let mut captions = Vec::new();
    for (file, dtype) in
        [("model.safetensors", "f32"), ("pytorch_model.bin", "f32"), ("model.safetensors", "f16")]
    {
        let out = folder.join(format!("{file}-{dtype}"));
        let checkpoint = fixtures.join(file);
        let converted = blip(&[
            "convert",
            text(&checkpoint),
            "--vocab",
            text(&vocab),
            "--out",
            text(&out),
            "--dtype",
            dtype,
        ]);
        stdout(&converted);
        let output = blip(&[
            "caption",
            "--json",
            "--min-length",
            "8",
            "--max-length",
            "12",
            "--model",
            text(&out),
            text(&sample()),
        ]);
        let line: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
        captions.push(line["caption"].as_str().unwrap().to_owned());
        let inspected = stdout(&blip(&["inspect", text(&out)]));
        assert!(inspected.contains("tasks    caption") && inspected.contains(dtype), "{inspected}");
    }
    assert!(!captions[0].is_empty());
    assert_eq!(captions[0], captions[1]);
    let sizes = ["model.safetensors-f32", "model.safetensors-f16"]
        .map(|name| std::fs::metadata(folder.join(name).join("model.safetensors")).unwrap().len());
    assert!(sizes[1] * 3 < sizes[0] * 2, "half precision takes about half the bytes: {sizes:?}");
    stdout(&blip(&["index", text(&folder)]));
    let index = std::fs::read_to_string(folder.join("manifest.json")).unwrap();
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&index).unwrap()["models"].as_array().unwrap().len(),
        3
    );
}

#[test]
fn a_quantised_model_directory_captions_like_the_one_it_was_made_of() {
    let folder = scratch("quantised");
    let (tiny, out, report) = (repository("models/tiny"), folder.join("model"), folder.join("report.json"));
    let [tiny, out] = [text(&tiny), text(&out)];
    stdout(&blip(&[
        "convert",
        tiny,
        "--out",
        out,
        "--vision",
        "q8",
        "--text",
        "q4",
        "--report",
        text(&report),
    ]));
    let caption = |model: &str| stdout(&blip(&["caption", "--json", "--model", model, text(&sample())]));
    let words = |model: &str| {
        let line: serde_json::Value = serde_json::from_str(caption(model).trim()).unwrap();
        line["caption"].as_str().unwrap().to_owned()
    };
    assert_eq!(words(out), words(tiny));
    assert!(stdout(&blip(&["inspect", out])).contains("q8/q4"));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(report).unwrap()).unwrap();
    let bytes = std::fs::metadata(Path::new(out).join("model.safetensors")).unwrap().len();
    assert_eq!(report["bytes"], bytes);
    let error = report["relativeRms"].as_f64().unwrap();
    assert!(error > 1e-3 && error < 0.1, "{error}");
}

#[test]
fn random_weights_are_those_of_their_seed() {
    let folder = scratch("random");
    let shape = repository("tests/fixtures/parity/caption/config.json");
    let weights = |name: &str, seed: &str| {
        let out = folder.join(name);
        stdout(&blip(&[
            "convert",
            "--random",
            text(&shape),
            "--seed",
            seed,
            "--out",
            text(&out),
            "--dtype",
            "q8",
        ]));
        stdout(&blip(&[
            "caption",
            "--min-length",
            "8",
            "--max-length",
            "9",
            "--model",
            text(&out),
            text(&sample()),
        ]));
        std::fs::read(out.join("model.safetensors")).unwrap()
    };
    let first = weights("first", "1");
    assert!(first == weights("second", "1") && first != weights("third", "2"));
}

#[test]
fn an_original_checkpoint_says_what_was_dropped() {
    let folder = scratch("original");
    let vocab = fixture_vocabulary(&folder);
    let checkpoint = repository("tests/fixtures/parity/original/model.pth");
    let out = folder.join("model");
    let output = stdout(&blip(&["convert", text(&checkpoint), "--vocab", text(&vocab), "--out", text(&out)]));
    assert!(output.contains("dropped") && output.contains("position_ids"), "{output}");
}

#[test]
fn bad_pictures_options_and_checkpoints_have_their_codes() {
    let folder = scratch("bad");
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let png = std::fs::read(sample()).unwrap();
    for (name, bytes) in
        [("text.jpg", &b"not a picture"[..]), ("empty.png", &b""[..]), ("cut.png", &png[..png.len() / 2])]
    {
        assert_fails_with(&blip(&["caption", text(&file(name, bytes))]), "bad-image");
    }
    assert_fails_with(&blip(&["caption", "--beams", "0", text(&sample())]), "bad-option");
    assert_fails_with(&blip(&["caption", "--max-length", "400", text(&sample())]), "bad-option");

    let vocab = fixture_vocabulary(&folder);
    let damaged = file("damaged.safetensors", b"\x08\0\0\0\0\0\0\0{}      rest");
    let out = folder.join("out");
    let convert = |path: &Path| blip(&["convert", text(path), "--vocab", text(&vocab), "--out", text(&out)]);
    assert_fails_with(&convert(&damaged), "weights-format");

    let model = folder.join("tampered");
    std::fs::create_dir_all(&model).unwrap();
    for name in ["blip.json", "model.safetensors", "vocab.txt"] {
        std::fs::copy(repository("models/tiny").join(name), model.join(name)).unwrap();
    }
    let mut weights = std::fs::read(model.join("model.safetensors")).unwrap();
    let last = weights.len() - 1;
    weights[last] ^= 1;
    std::fs::write(model.join("model.safetensors"), weights).unwrap();
    assert_fails_with(&blip(&["caption", "--model", text(&model), text(&sample())]), "integrity");
}
