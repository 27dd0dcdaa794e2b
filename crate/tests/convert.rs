//! `blip convert --with`: several networks over one image encoder, as the command writes and the library
//! reads them.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "../../tests/tests/hub/server.rs"]
#[allow(dead_code, reason = "the tests of the library ask more of it")]
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use blip_web::device::{DeviceKind, OpenDevice, block_on};
use blip_web::generate::Control;
use blip_web::image::{ImageOptions, decode};
use blip_web::tasks::{Request, Session};
use blip_web::weights::{Checkpoint, Manifest};
use blip_web::{ErrorKind, Result};
use serde_json::Value;
use server::Server;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

fn fixture(path: &str) -> PathBuf {
    repository("tests/fixtures/networks").join(path)
}

/// A fresh folder for one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("convert-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// `blip convert FIRST`, into `out`, with further arguments.
fn convert(first: &str, out: &Path, arguments: &[&str], endpoint: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blip"))
        .args(["convert", first, "--out", &text(out)])
        .args(arguments)
        .env("HF_ENDPOINT", endpoint)
        .env_remove("HF_TOKEN")
        .output()
        .unwrap()
}

/// No server.
const NOWHERE: &str = "http://127.0.0.1:1";

/// `blip convert` of checkpoints that are folders here, with the vocabulary of the fixtures.
fn convert_here(first: &Path, out: &Path, arguments: &[&str]) -> Output {
    let vocab = text(&fixture("vocab.txt"));
    convert(&text(first), out, &[&["--vocab", &vocab], arguments].concat(), NOWHERE)
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// What was said instead, with the code in brackets; there must be nothing that was not there before.
fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn manifest(folder: &Path) -> Manifest {
    Manifest::from_json(&fs::read_to_string(folder.join("blip.json")).unwrap()).unwrap()
}

/// The three networks of the fixtures in one directory.
fn all_three(out: &Path, arguments: &[&str]) -> String {
    let [vqa, itm] = ["vqa", "itm"].map(|name| format!("{name}={}", text(&fixture(name))));
    let itc = format!("itc={}", text(&fixture("itm")));
    let with = ["--with", &vqa, "--with", &itm, "--with", &itc];
    stdout(&convert_here(&fixture("caption"), out, &[&with[..], arguments].concat()))
}

fn open(folder: &Path) -> Result<Session> {
    let manifest = Manifest::from_json(&fs::read_to_string(folder.join("blip.json")).unwrap())?;
    let mut weights = Vec::new();
    for file in manifest.weights() {
        weights.extend(fs::read(folder.join(&file.path)).unwrap());
    }
    let vocab = fs::read(folder.join("vocab.txt")).unwrap();
    let device = block_on(OpenDevice::open(DeviceKind::Cpu)).unwrap();
    Session::from_manifest(&manifest, &weights, &vocab, &device)
}

const REQUESTS: [(&str, &str); 6] = [
    ("caption", r#"{"task":"caption","numBeams":3,"maxLength":12}"#),
    ("vqa", r#"{"task":"ask","question":"what is it?"}"#),
    ("vqa", r#"{"task":"ask","question":"what?","answers":["a","the","of it"],"candidates":2}"#),
    ("itm", r#"{"task":"match","texts":["a dog","the red one on it"]}"#),
    ("itm", r#"{"task":"classify","labels":["dog","cat"],"templates":["a {}","the {}"]}"#),
    ("itm", r#"{"task":"embed","kind":"multimodal","texts":["a dog"]}"#),
];

/// The answer about three pictures, without times, which are never the same twice.
fn answer(session: &Session, request: &str) -> (Value, Vec<Vec<f32>>) {
    let read = |nth: usize| {
        let bytes = fs::read(fixture(&format!("pictures/{nth}.png"))).unwrap();
        decode(&bytes, &ImageOptions::default()).unwrap()
    };
    let pictures = block_on(session.encode_many(&[0, 1, 2].map(read))).unwrap();
    let request = Request::from_json(request).unwrap();
    let answer = block_on(session.answer(&request, &pictures, &mut |_| Control::Continue)).unwrap();
    let mut json: Value = serde_json::from_str(&answer.json).unwrap();
    for result in json["results"].as_array_mut().unwrap() {
        result.as_object_mut().map(|result| result.remove("ms"));
    }
    (json, answer.floats)
}

/// The bytes of every tensor of a weights file.
fn tensors(path: &Path) -> Vec<(String, Vec<u8>)> {
    let tensors = Checkpoint::open(path).unwrap().tensors;
    tensors.into_iter().map(|(name, tensor)| (name, tensor.bytes().unwrap())).collect()
}

fn is_vision(tensor: &(String, Vec<u8>)) -> bool {
    tensor.0.starts_with("vision_model.")
}

#[test]
fn three_checkpoints_over_one_image_encoder_answer_as_each_converted_alone() {
    for dtype in ["f32", "f16", "q8", "q4"] {
        let folder = scratch(&format!("three-{dtype}"));
        let all = folder.join("all");
        let said = all_three(&all, &["--dtype", dtype]);
        assert!(said.contains("model-itm-itc.safetensors for itm, itc"), "{said}");
        let listed = manifest(&all);
        assert_eq!(listed.format_version, 3);
        assert_eq!(listed.all_tasks(), ["caption", "vqa", "itm", "itc"]);
        assert!(listed.networks.iter().all(|network| !network.vision));
        assert_eq!(
            listed.bytes(),
            listed.weights().map(|file| file.bytes).sum::<u64>() + listed.files.vocab.bytes
        );
        let session = open(&all).unwrap();
        assert_eq!(session.towers(), 1);
        for name in ["caption", "vqa", "itm"] {
            let single = folder.join(name);
            stdout(&convert_here(&fixture(name), &single, &["--dtype", dtype]));
            let alone = open(&single).unwrap();
            for (_, request) in REQUESTS.iter().filter(|(of, _)| *of == name) {
                assert_eq!(answer(&session, request), answer(&alone, request), "{dtype}: {request}");
            }
        }
        // The image encoder is stored once, everything else as it is alone.
        let first = fs::read(all.join("model.safetensors")).unwrap();
        assert!(first == fs::read(folder.join("caption/model.safetensors")).unwrap());
        for (name, path) in [("vqa", "model-vqa.safetensors"), ("itm", "model-itm-itc.safetensors")] {
            let (mut expected, found) =
                (tensors(&folder.join(name).join("model.safetensors")), tensors(&all.join(path)));
            let whole = expected.len();
            expected.retain(|tensor| !is_vision(tensor));
            assert!(expected.len() < whole && found == expected, "{dtype}: {path}");
        }
        let names: Vec<_> = fs::read_dir(&all).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(names.len(), 5, "{names:?}");
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 4, "nothing is left beside the directories");
    }
}

#[test]
fn the_manifest_is_the_one_that_the_tests_of_the_package_read() {
    let folder = scratch("manifest");
    all_three(&folder.join("several"), &["--dtype", "f32"]);
    let written = fs::read_to_string(folder.join("several/blip.json")).unwrap();
    let known = fs::read_to_string(repository("pkg/test/several-networks.json")).unwrap();
    assert!(written == known, "pkg/test/several-networks.json should be:\n{written}");
}

#[test]
fn what_is_there_is_told() {
    let folder = scratch("told");
    let (all, report) = (folder.join("all"), folder.join("report.json"));
    all_three(&all, &["--dtype", "q8", "--report", &text(&report)]);
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    let listed = manifest(&all);
    assert_eq!(report["bytes"], listed.files.weights.bytes);
    let networks = report["networks"].as_array().unwrap();
    assert_eq!(networks.len(), 2);
    for (network, expected) in networks.iter().zip(&listed.networks) {
        assert_eq!(network["path"], expected.weights.path);
        assert_eq!(network["tasks"], serde_json::to_value(&expected.tasks).unwrap());
        assert_eq!((&network["vision"], &network["bytes"]), (&false.into(), &expected.weights.bytes.into()));
        let off = network["relativeRms"].as_f64().unwrap();
        assert!(off > 1e-4 && off < 0.1, "{off}");
        assert!(network["tensors"].as_array().unwrap().len() > 10);
    }
    let inspect = Command::new(env!("CARGO_BIN_EXE_blip")).args(["inspect", &text(&all)]).output().unwrap();
    let inspected = stdout(&inspect);
    let row = |start: &str| {
        let line =
            inspected.lines().find(|line| line.starts_with(start)).unwrap_or_else(|| panic!("{inspected}"));
        line.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert_eq!(row("tasks "), "tasks caption, vqa, itm, itc");
    assert!(row("model.safetensors").contains("caption its own, lent to 2"));
    assert!(row("model-vqa.safetensors").contains("vqa of model.safetensors"));
    let megabytes = format!(" {:.1}", listed.bytes() as f64 / 1e6);
    assert!(row("all ").ends_with(&megabytes), "{inspected}");
    assert_eq!(
        inspected.matches("\nvision ").count(),
        3,
        "f32, q8 and scales of the first file:\n{inspected}"
    );
    let index = Command::new(env!("CARGO_BIN_EXE_blip")).args(["index", &text(&folder)]).output().unwrap();
    stdout(&index);
    let index: Value = serde_json::from_slice(&fs::read(folder.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(index["models"][0]["tasks"], serde_json::json!(["caption", "vqa", "itm", "itc"]));
    assert_eq!(index["models"][0]["bytes"], listed.bytes());
}

/// A copy of a fixture in which a tensor is other numbers, and its configuration another text.
fn altered(folder: &Path, name: &str, tensor: Option<(&str, f32)>, config: (&str, &str)) -> PathBuf {
    let out = folder.join(format!("altered-{name}"));
    fs::create_dir_all(&out).unwrap();
    let text = fs::read_to_string(fixture(name).join("config.json")).unwrap();
    assert!(config.0.is_empty() || text.contains(config.0));
    fs::write(out.join("config.json"), text.replace(config.0, config.1)).unwrap();
    let mut bytes = fs::read(fixture(name).join("model.safetensors")).unwrap();
    if let Some((tensor, value)) = tensor {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + length]).unwrap();
        let start = 8 + length + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
        bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
    }
    fs::write(out.join("model.safetensors"), bytes).unwrap();
    out
}

const NO_CHANGE: (&str, &str) = ("", "");

#[test]
fn another_image_encoder_is_refused_or_kept() {
    let folder = scratch("differing");
    let name = "vision_model.encoder.layers.1.mlp.fc1.weight";
    let vqa = altered(&folder, "vqa", Some((name, 0.5)), NO_CHANGE);
    let (out, with) = (folder.join("model"), text(&vqa));
    let said = refusal(&convert_here(&fixture("caption"), &out, &["--with", &with, "--dtype", "q4"]));
    assert!(said.contains("[bad-option]") && said.contains(&with), "{said}");
    assert!(said.contains("1 of 30 tensors differ") && said.contains(name), "{said}");
    assert!(said.contains("--keep-vision"), "{said}");
    assert!(!out.exists());

    // Its neighbour still shares, and the answers are its own.
    let itm = text(&fixture("itm"));
    let arguments = ["--with", &with, "--with", &itm, "--keep-vision", "--dtype", "f32"];
    let said = stdout(&convert_here(&fixture("caption"), &out, &arguments));
    assert!(said.contains("with an image encoder of its own"), "{said}");
    let listed = manifest(&out);
    assert_eq!([0, 1].map(|nth| listed.networks[nth].vision), [true, false]);
    let session = open(&out).unwrap();
    assert_eq!(session.towers(), 2);
    let single = folder.join("single");
    stdout(&convert_here(&vqa, &single, &["--dtype", "f32"]));
    assert_eq!(answer(&session, REQUESTS[1].1), answer(&open(&single).unwrap(), REQUESTS[1].1));
    let expected = fs::read(single.join("model.safetensors")).unwrap();
    assert!(fs::read(out.join("model-vqa.safetensors")).unwrap() == expected);
}

#[test]
fn other_dimensions_of_an_image_encoder_are_named_and_can_be_kept() {
    let folder = scratch("dimensions");
    // Of the vision configuration, the text's is 1e-12.
    let vqa = altered(&folder, "vqa", None, ("\"layer_norm_eps\": 1e-05", "\"layer_norm_eps\": 1e-06"));
    let (out, with) = (folder.join("model"), format!("vqa={}", text(&vqa)));
    let said = refusal(&convert_here(&fixture("caption"), &out, &["--with", &with]));
    assert!(
        said.contains("`vision_config.layer_norm_eps` is 0.00001 in the one and 1e-6 in the other"),
        "{said}"
    );
    stdout(&convert_here(&fixture("caption"), &out, &["--with", &with, "--keep-vision"]));
    let session = open(&out).unwrap();
    assert_eq!(session.towers(), 2);
    answer(&session, REQUESTS[1].1);
    // A network of other dimensions that claims to share is refused, and so is a file that lacks the image
    // encoder which is promised.
    let path = out.join("blip.json");
    let json = fs::read_to_string(&path).unwrap();
    let mut without: Value = serde_json::from_str(&json).unwrap();
    without["networks"][0].as_object_mut().unwrap().remove("vision").unwrap();
    assert_eq!(Manifest::from_json(&without.to_string()).unwrap_err().kind(), ErrorKind::BadConfig);
    let shared = folder.join("shared");
    all_three(&shared, &[]);
    let mut listed: Value = serde_json::from_slice(&fs::read(shared.join("blip.json")).unwrap()).unwrap();
    listed["networks"][0]["vision"] = true.into();
    fs::write(shared.join("blip.json"), listed.to_string()).unwrap();
    assert_eq!(open(&shared).unwrap_err().kind(), ErrorKind::WeightsMissing);
}

#[test]
fn a_directory_of_several_networks_converts_to_one_of_several_networks() {
    let folder = scratch("again");
    let (exact, again, direct) = (folder.join("exact"), folder.join("again"), folder.join("direct"));
    all_three(&exact, &["--dtype", "f32"]);
    stdout(&convert(&text(&exact), &again, &["--dtype", "q8", "--id", "same"], NOWHERE));
    all_three(&direct, &["--dtype", "q8", "--id", "same"]);
    for entry in fs::read_dir(&direct).unwrap() {
        let name = entry.unwrap().file_name();
        assert!(fs::read(again.join(&name)).unwrap() == fs::read(direct.join(&name)).unwrap(), "{name:?}");
    }
    // One of its networks can be had for another model, in place.
    let caption = folder.join("caption");
    stdout(&convert_here(&fixture("caption"), &caption, &["--dtype", "f32"]));
    let with = format!("vqa={}", text(&exact));
    let arguments = ["--with", &with, "--dtype", "f32"];
    stdout(&convert(&text(&caption), &caption, &arguments, NOWHERE));
    assert_eq!(manifest(&caption).all_tasks(), ["caption", "vqa"]);
    open(&caption).unwrap();
    // And goes when the model is made again without it.
    stdout(&convert_here(&fixture("caption"), &caption, &[]));
    assert_eq!(manifest(&caption).format_version, 2);
    let mut names: Vec<_> = fs::read_dir(&caption).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["blip.json", "model.safetensors", "vocab.txt"]);
}

#[test]
fn what_does_not_go_together_is_refused_before_anything_is_written() {
    let folder = scratch("refused");
    let out = folder.join("out");
    let [caption, vqa, itm] = ["caption", "vqa", "itm"].map(|name| text(&fixture(name)));
    let refused = |arguments: &[&str]| {
        let said = refusal(&convert_here(&fixture("caption"), &out, arguments));
        assert!(!out.exists() && fs::read_dir(&folder).unwrap().count() == 0, "{arguments:?} left something");
        said
    };
    let said = refused(&["--with", &format!("itm={vqa}")]);
    assert!(
        said.contains("[task-unsupported]") && said.contains("not trained for itm, only for vqa"),
        "{said}"
    );
    let said = refused(&["--with", &caption]);
    assert!(said.contains("[bad-option]") && said.contains("two networks for caption"), "{said}");
    assert!(refused(&["--with", &vqa, "--with", &vqa]).contains("twice"));
    assert!(refused(&["--with", &format!("itm={itm}"), "--with", &itm]).contains("twice"));
    assert!(refused(&["--with", "no/folder"]).contains("there is no file or folder `no/folder`"));
    assert!(refused(&["--with", "what is this"]).contains("[bad-option]"));
    assert!(refused(&["--keep-vision"]).contains("--with"));
    let tiny = text(&repository("tests/fixtures/models/captioner"));
    assert!(refused(&["--with", &tiny]).contains("[bad-vocabulary]"));
}

#[test]
fn a_conversion_that_fails_in_a_later_file_leaves_what_was_there() {
    let folder = scratch("late");
    let bad = ("text_encoder.encoder.layer.1.output.dense.weight", f32::NAN);
    let vqa = text(&altered(&folder, "vqa", Some(bad), NO_CHANGE));
    let out = folder.join("model");
    let fail = || {
        let said = refusal(&convert_here(&fixture("caption"), &out, &["--with", &vqa]));
        assert!(said.contains("model.safetensors: 91/91 tensors"), "the first file was written: {said}");
        assert!(said.contains("[weights-not-finite]") && said.contains(&vqa), "{said}");
        assert!(said.contains("`text_encoder.layers.1.ffn.output.weight` holds NaN"), "{said}");
    };
    fail();
    assert!(!out.exists());
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "nothing but the source");
    all_three(&out, &["--dtype", "q8"]);
    let before = fs::read(out.join("blip.json")).unwrap();
    fail();
    assert_eq!(fs::read(out.join("blip.json")).unwrap(), before);
    assert_eq!(open(&out).unwrap().towers(), 1);
    assert_eq!(fs::read_dir(&out).unwrap().count(), 5);
}

#[test]
fn repositories_and_addresses_are_sources_too() {
    let (folder, server) = (scratch("remote"), Server::start());
    let read = |path: &str| fs::read(fixture(path)).unwrap();
    for name in ["caption", "itm"] {
        let (weights, config) =
            (read(&format!("{name}/model.safetensors")), read(&format!("{name}/config.json")));
        let files =
            [("model.safetensors", &*weights), ("config.json", &*config), ("vocab.txt", &*read("vocab.txt"))];
        server.add(&format!("owner/{name}"), &files);
    }
    let local = folder.join("vqa");
    stdout(&convert_here(&fixture("vqa"), &local, &["--dtype", "f32"]));
    for file in ["blip.json", "model.safetensors", "vocab.txt"] {
        server.add_plain(&format!("/m/{file}"), &fs::read(local.join(file)).unwrap());
    }
    let endpoint = server.endpoint();
    let (out, address) = (folder.join("out"), format!("vqa={endpoint}/m"));
    let with = ["--with", &address, "--with", "itm=owner/itm", "--with", "itc=owner/itm", "--id", "same"];

    // Refused after the download: another attempt has it already.
    let caption = format!("vqa={}", text(&altered(&folder, "vqa", Some((LAST_VISION, 9.0)), NO_CHANGE)));
    let refused = convert("owner/caption", &out, &["--with", "itm=owner/itm", "--with", &caption], &endpoint);
    let said = refusal(&refused);
    assert!(said.contains("[bad-option]") && said.contains("kept in"), "{said}");
    assert!(!out.exists());
    server.requests();

    let report = ["--report", "-", "--dtype", "q8"];
    let said = stdout(&convert("owner/caption", &out, &[&with[..], &report].concat(), &endpoint));
    let report: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(report["networks"].as_array().unwrap().len(), 2);
    let asked = server.requests();
    assert!(!asked.iter().any(|request| request.path.contains("/resolve/")), "{asked:?}");
    // As from files of this machine, but for where they are from.
    let expected = folder.join("expected");
    all_three(&expected, &["--dtype", "q8", "--id", "same"]);
    for file in manifest(&expected).weights() {
        assert!(fs::read(out.join(&file.path)).unwrap() == fs::read(expected.join(&file.path)).unwrap());
    }
    let listed = manifest(&out);
    let origin = |source: &Option<blip_web::weights::manifest::Origin>| {
        source.as_ref().map(|source| (source.repo.clone(), source.file.clone(), source.revision.clone()))
    };
    let of = |repo: &str| Some((repo.to_owned(), "model.safetensors".to_owned(), server::COMMIT.to_owned()));
    assert_eq!(origin(&listed.source), of("owner/caption"));
    assert_eq!(
        listed.networks.iter().map(|n| origin(&n.source)).collect::<Vec<_>>(),
        [None, of("owner/itm")]
    );
    open(&out).unwrap();
    let mut names: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["altered-vqa", "expected", "out", "vqa"], "the copies are gone");
}

/// The last of the image encoder.
const LAST_VISION: &str = "vision_model.post_layernorm.bias";
