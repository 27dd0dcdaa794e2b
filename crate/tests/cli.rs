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
    assert_eq!(line["result"]["text"], caption);
    let log_prob = line["result"]["captions"][0]["logProb"].as_f64().unwrap();
    assert!(log_prob < 0.0 && log_prob > -30.0, "{log_prob}");
}

/// "An orange whale at the bottom", says its scene.
#[test]
fn a_sample_is_asked_about_and_matched_by_the_embedded_model() {
    let ask = |question: &str| {
        let line = stdout(&blip(&["ask", "--question", question, text(&sample())]));
        line.trim_end().split('\t').nth(1).unwrap().to_owned()
    };
    assert_eq!(ask("what color is the whale?"), "orange");
    assert_eq!(ask("where is the whale?"), "at the bottom");
    let [right, wrong] = ["an orange whale at the bottom", "a blue car at the top"];
    let output = blip(&["match", "--json", "--text", right, "--text", wrong, text(&sample())]);
    let line: serde_json::Value = serde_json::from_str(stdout(&output).trim()).unwrap();
    for score in ["/itm/logit", "/itc"] {
        let of = |nth: usize| line["result"][nth].pointer(score).unwrap().as_f64().unwrap();
        assert!(of(0) > of(1), "{score}: {line}");
    }
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
    let (tiny, out, report) =
        (repository("tests/fixtures/models/captioner"), folder.join("model"), folder.join("report.json"));
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
    let sample = repository("tests/fixtures/models/captioner/scene-1.png");
    let caption = |model: &str| stdout(&blip(&["caption", "--json", "--model", model, text(&sample)]));
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
        std::fs::copy(repository("tests/fixtures/models/captioner").join(name), model.join(name)).unwrap();
    }
    let mut weights = std::fs::read(model.join("model.safetensors")).unwrap();
    let last = weights.len() - 1;
    weights[last] ^= 1;
    std::fs::write(model.join("model.safetensors"), weights).unwrap();
    assert_fails_with(&blip(&["caption", "--model", text(&model), text(&sample())]), "integrity");
}

/// The pictures that come with the page, copied into `folder`, and one that is none.
fn pictures(folder: &Path) -> PathBuf {
    let pictures = folder.join("pictures");
    std::fs::create_dir_all(pictures.join("more")).unwrap();
    for nth in 1..=5 {
        let sample = repository(&format!("www/samples/scene-{nth}.png"));
        std::fs::copy(&sample, pictures.join(format!("{nth}.png"))).unwrap();
    }
    std::fs::copy(sample(), pictures.join("more/1.PNG")).unwrap();
    std::fs::write(pictures.join("broken.png"), b"not a picture").unwrap();
    std::fs::write(pictures.join("notes.md"), b"not looked at").unwrap();
    pictures
}

fn lines(path: &Path) -> Vec<String> {
    std::fs::read_to_string(path).unwrap().lines().map(str::to_owned).collect()
}

#[test]
fn folders_are_captioned_into_every_output_and_bad_pictures_are_passed_over() {
    let folder = scratch("outputs");
    let pictures = pictures(&folder);
    let [csv, jsonl, texts] = ["table.csv", "list.jsonl", "texts"].map(|name| folder.join(name));
    let outputs = ["--csv", text(&csv), "--jsonl", text(&jsonl), "--out-dir", text(&texts)];
    let output = blip(&[&["caption", text(&pictures)], &outputs[..]].concat());
    assert_eq!(output.status.code(), Some(1));
    assert_fails_with(&output, "bad-image");
    assert!(output.stdout.is_empty());
    let shown = String::from_utf8(output.stderr).unwrap();
    assert!(shown.contains("broken.png") && shown.contains("6 done, 1 failed"), "{shown}");

    // One at a time, without files: the same lines.
    let alone = blip(&["caption", "--batch", "1", text(&pictures)]);
    assert_eq!(alone.status.code(), Some(1));
    let alone = String::from_utf8(alone.stdout).unwrap();
    let table = lines(&csv);
    assert_eq!(table[0], "image,caption,log_prob");
    let expected: Vec<String> = alone.lines().map(|line| line.replace('\t', ",")).collect();
    assert_eq!(table[1..], expected);
    assert_eq!(expected.len(), 6);
    for (line, row) in lines(&jsonl).iter().zip(&table[1..]) {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let (image, caption) = (line["image"].as_str().unwrap(), line["caption"].as_str().unwrap());
        assert!(row.starts_with(&format!("{image},{caption},")), "{row}");
        let inside = Path::new(image).strip_prefix(&pictures).unwrap().with_extension("txt");
        assert_eq!(std::fs::read_to_string(texts.join(inside)).unwrap(), format!("{caption}\n"));
    }
    let beside = blip(&["caption", "--beside", "--quiet", text(&pictures.join("more"))]);
    assert!(beside.status.success() && beside.stderr.is_empty());
    assert!(pictures.join("more/1.txt").exists());
}

#[test]
fn a_run_that_was_stopped_is_gone_on_with() {
    let folder = scratch("resume");
    let pictures = pictures(&folder);
    std::fs::remove_file(pictures.join("broken.png")).unwrap();
    let [csv, jsonl] = ["table.csv", "list.jsonl"].map(|name| folder.join(name));
    let arguments = ["caption", text(&pictures), "--csv", text(&csv), "--jsonl", text(&jsonl), "--resume"];
    stdout(&blip(&arguments));
    let (table, list) = (std::fs::read(&csv).unwrap(), lines(&jsonl));
    // Stopped in the middle of a line of one file: nobody knows whether the line before was its picture's last.
    std::fs::write(&csv, &table[..table.len() / 2]).unwrap();
    std::fs::write(&jsonl, format!("{}\n", list[..2].join("\n"))).unwrap();
    let shown = String::from_utf8(blip(&arguments).stderr).unwrap();
    assert!(shown.contains("5 done, 0 failed, 1 were there before"), "{shown}");
    assert_eq!(std::fs::read(&csv).unwrap(), table);
    let names = |lines: &[String]| -> Vec<serde_json::Value> {
        let read = |line: &String| serde_json::from_str::<serde_json::Value>(line).unwrap();
        lines
            .iter()
            .map(|line| [&read(line)["image"], &read(line)["caption"]].map(Clone::clone).into())
            .collect()
    };
    assert_eq!(names(&lines(&jsonl)), names(&list));
    let shown = String::from_utf8(blip(&arguments).stderr).unwrap();
    assert!(shown.contains("0 done, 0 failed, 6 were there before"), "{shown}");
    // Another table is not touched.
    std::fs::write(&csv, "something,else\n").unwrap();
    assert_eq!(blip(&arguments).status.code(), Some(2));
    assert_eq!(std::fs::read_to_string(&csv).unwrap(), "something,else\n");
}

#[test]
fn names_come_from_a_list_too() {
    let folder = scratch("list");
    let pictures = pictures(&folder);
    let names = format!("{}\n\n{}\r\n", pictures.join("2.png").display(), pictures.join("more").display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_blip"));
    command.args(["caption", "-"]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), names.as_bytes()).unwrap();
    let found = stdout(&child.wait_with_output().unwrap());
    assert_eq!(found.lines().count(), 2, "{found}");
    assert!(found.lines().nth(1).unwrap().contains("1.PNG"), "{found}");
}

#[test]
fn what_concerns_every_picture_ends_the_run_with_2() {
    let folder = scratch("usage");
    let sample = sample();
    let sample = text(&sample);
    let (empty, twice) = (folder.join("empty"), folder.join("twice"));
    for name in [&empty, &twice] {
        std::fs::create_dir_all(name).unwrap();
    }
    for name in ["a.png", "a.jpg"] {
        std::fs::copy(sample, twice.join(name)).unwrap();
    }
    let captioner = repository("tests/fixtures/models/captioner");
    let captioner = text(&captioner);
    for (arguments, code) in [
        (&["caption"][..], "error"),
        (&["caption", text(&empty)], "error"),
        (&["caption", sample, "--resume"], "error"),
        (&["caption", text(&twice), "--out-dir", text(&folder)], "error"),
        (&["caption", sample, "--batch", "9"], "bad-option"),
        (&["caption", sample, "--length-rule", "other"], "bad-option"),
        (&["ask", "--model", captioner, sample, "--question", "what is it?"], "task-unsupported"),
        (&["match", "--model", captioner, sample, "--text", "a cat"], "task-unsupported"),
        (&["classify", "--model", captioner, sample, "--label", "cat", "--head", "itm"], "task-unsupported"),
        (&["nlvr2", sample, "--statement", "both are red"], "bad-option"),
        (&["nlvr2", sample, sample, sample, "--statement", "both are red"], "bad-option"),
        (&["nlvr2", sample, sample, "--statement", "both are red"], "task-unsupported"),
        (&["embed", sample, "--kind", "text", "--text", "a cat"], "bad-option"),
        (&["caption", sample, "--model", text(&empty)], "bad-option"),
    ] {
        let output = blip(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert_fails_with(&output, code);
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(blip(&["match", sample]).status.code(), Some(2), "a match needs texts");
}

/// A model directory of a checkpoint among the fixtures.
fn converted(folder: &Path, checkpoint: &str) -> PathBuf {
    let out = folder.join(checkpoint.replace(['/', '.'], "-"));
    let vocab = repository("tests/fixtures/networks/vocab.txt");
    let checkpoint = repository("tests/fixtures").join(checkpoint);
    stdout(&blip(&[
        "convert",
        text(&checkpoint),
        "--vocab",
        text(&vocab),
        "--out",
        text(&out),
        "--dtype",
        "f32",
    ]));
    out
}

/// The objects of a `--json` run.
fn json(arguments: &[&str]) -> Vec<serde_json::Value> {
    let output = stdout(&blip(&[arguments, &["--json"]].concat()));
    output.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn float(value: &serde_json::Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is not a number"))
}

#[test]
fn every_task_answers_on_the_command_line() {
    let folder = scratch("tasks");
    let [itm, vqa, nlvr2] =
        ["networks/itm", "networks/vqa", "nlvr2/model.pth"].map(|name| converted(&folder, name));
    let [itm, vqa, nlvr2] = [text(&itm), text(&vqa), text(&nlvr2)];
    let place = repository("tests/fixtures/networks/pictures");
    let [first, second] = ["0.png", "1.png"].map(|name| place.join(name));
    let [first, second] = [text(&first), text(&second)];

    let answers =
        json(&["ask", "--model", vqa, "-q", "what is it?", "--answer", "dog", "--answer", "car", first]);
    let answers = answers[0]["result"]["answers"].as_array().unwrap();
    assert!(answers.len() == 2 && float(&answers[0]["score"]) >= float(&answers[1]["score"]));
    let sum: f64 = answers.iter().map(|answer| float(&answer["probability"])).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");
    assert_eq!(json(&["ask", "--model", vqa, "-q", "what is it?", first, second]).len(), 2);

    let texts = folder.join("texts");
    std::fs::write(&texts, "a dog\n\n  a red ball\n").unwrap();
    let from_file = format!("@{}", text(&texts));
    let matched = json(&["match", "--model", itm, "--texts", &from_file, first, second]);
    let again = json(&["match", "--model", itm, "--text", "a dog", "--text", "a red ball", first, second]);
    assert_eq!(matched, again);
    let found = &matched[1]["result"][1];
    assert_eq!(found["text"], "a red ball");
    let sum = float(&found["itm"]["logit"]) + float(&found["itc"]);
    assert!((float(&found["score"]) - sum).abs() < 1e-5);

    let without_place = ["classify", "--model", itm, "--label", "dog", "--template", "no place", first];
    assert_fails_with(&blip(&without_place), "bad-option");
    let labels = json(&["classify", "--model", itm, "--label", "dog", "--label", "car", first]);
    let sum: f64 =
        labels[0]["result"].as_array().unwrap().iter().map(|label| float(&label["probability"])).sum();
    assert!((sum - 1.0).abs() < 1e-6, "{sum}");

    let unit = |values: &serde_json::Value| {
        let square: f64 = values.as_array().unwrap().iter().map(|x| float(x).powi(2)).sum();
        assert!((square - 1.0).abs() < 1e-5, "{square}");
    };
    unit(&json(&["embed", "--model", itm, first])[0]["result"]["values"]);
    let texts = json(&["embed", "--model", itm, "--kind", "text", "--text", "a dog", "--text", "a car"]);
    unit(&texts[0]["result"][1]["values"]);
    let both = json(&["embed", "--model", itm, "--kind", "multimodal", "--text", "a dog", first, second]);
    assert!(both.len() == 2 && both[0]["result"]["values"] != both[1]["result"]["values"]);

    let statement = "there is one dog in both images.";
    let judged = json(&["nlvr2", "--model", nlvr2, "--statement", statement, first, second]);
    let exchanged = json(&["nlvr2", "--model", nlvr2, "--statement", statement, second, first]);
    let probability = |answer: &[serde_json::Value]| float(&answer[0]["result"]["probability"]);
    // Of the torch twin, see tests/fixtures/nlvr2/cases.json.
    assert!((probability(&judged) - 0.961_548).abs() < 1e-4 && judged[0]["result"]["answer"] == true);
    assert!((probability(&exchanged) - 0.096_630).abs() < 1e-4);
    assert_eq!(json(&["nlvr2", "--model", nlvr2, "--statement", statement, first, first]).len(), 1);
    // Pair after pair; one that cannot be read is passed over, and nothing is judged twice.
    let pairs = [first, second, first, "no/picture.png", second, first, first, second];
    let output =
        blip(&[&["nlvr2", "--json", "--model", nlvr2, "--statement", statement][..], &pairs].concat());
    assert_eq!(output.status.code(), Some(1));
    let lines = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<serde_json::Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    for (line, alone) in lines.iter().zip([&judged, &exchanged]) {
        assert_eq!(line["image"], alone[0]["image"]);
        let difference = float(&line["result"]["probability"]) - float(&alone[0]["result"]["probability"]);
        assert!(difference.abs() < 1e-5, "{line}");
    }

    let out = folder.join("overlays");
    let explain = ["explain", "--model", itm, "--text", "a red dog", "--overlay", text(&out)];
    let explained = json(&[&explain[..], &[first, second]].concat());
    let spoken = |line: &serde_json::Value| line["result"]["words"].as_array().unwrap().len();
    for (line, (name, path)) in explained.iter().zip([("0", first), ("1", second)]) {
        let picture = image::open(path).unwrap().to_rgb8();
        let drawn = |file: &str| image::open(out.join(name).join(file)).unwrap().to_rgb8();
        let sentence = drawn("text.png");
        assert!(sentence.dimensions() == picture.dimensions() && sentence != picture);
        assert_ne!(drawn("1-a.png"), drawn("3-dog.png"));
        assert_eq!(std::fs::read_dir(out.join(name)).unwrap().count(), 1 + spoken(line));
    }
    // Into the same folder: two pictures of one name.
    let twice = folder.join("0.png");
    std::fs::copy(first, &twice).unwrap();
    assert_eq!(blip(&[&explain[..], &[first, text(&twice)]].concat()).status.code(), Some(2));
    // The frames of a clip are drawn each over its own picture.
    std::fs::remove_dir_all(&out).unwrap();
    assert_eq!(json(&[&explain[..], &["--video", first, second]].concat()).len(), 1);
    assert!(["0", "1"].iter().all(|name| out.join(name).join("text.png").is_file()));

    let dialogue = ["dialogue", "--model", itm, "--caption", "a dog", "-q", "is it red?"];
    let candidates = ["--candidate", "yes", "--candidate", "no", first];
    let plain = json(&[&dialogue[..], &candidates].concat());
    let told = json(&[&dialogue[..], &["--history", "is it a dog?", "yes"], &candidates].concat());
    let replies = plain[0]["result"].as_array().unwrap();
    assert!(float(&replies[0]["probability"]) >= float(&replies[1]["probability"]));
    assert_ne!(plain, told, "what was said before matters");

    let clip = ["match", "--model", itm, "--text", "a dog", "--video", text(&place)];
    let whole = json(&clip);
    assert_eq!(whole.len(), 1);
    let frames = |count: &str| json(&[&clip[..], &["--frames", count]].concat());
    assert_eq!(frames("8")[0]["result"], whole[0]["result"]);
    assert_ne!(frames("2")[0]["result"], whole[0]["result"]);
}
