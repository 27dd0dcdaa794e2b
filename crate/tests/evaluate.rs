//! `blip eval` and the measures behind it, on models of random weights and pictures of the fixtures.
#![cfg(feature = "train")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[allow(dead_code, reason = "the tests of other commands read shards, too")]
mod shards;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use blip_web::Result;
use blip_web::config::BlipConfig;
use blip_web::device::{DeviceKind, OpenDevice, block_on};
use blip_web::generate::Control;
use blip_web::image::{ImageOptions, decode};
use blip_web::tasks::Session;
use blip_web::train::data::{Dataset, Record, Texts};
use blip_web::train::evaluate::{Examples, RetrievalOptions, retrieval};
use blip_web::weights::{Checkpoint, complete_vocabulary};
use serde_json::{Value, json};
use shards::{networks, picture, repository, tar};

/// A fresh folder for one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("evaluate-{name}"));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    folder
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn blip(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blip")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Pictures of the fixtures with their texts.
struct Pictures(Vec<Vec<String>>);

impl Dataset for Pictures {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, index: usize) -> Result<Record> {
        let image = decode(&picture(index), &ImageOptions::default())?;
        let texts = Texts { captions: self.0[index].clone(), ..Texts::default() };
        Ok(Record { key: index.to_string(), images: vec![image], texts })
    }

    fn describe(&self) -> String {
        "pictures of the fixtures".to_owned()
    }
}

fn matcher() -> Session {
    let config = fs::read_to_string(networks("itm/config.json")).unwrap();
    let config = BlipConfig::from_json(&config).unwrap();
    let vocab = complete_vocabulary(&fs::read(networks("vocab.txt")).unwrap(), &config).unwrap();
    let checkpoint = Checkpoint::open(&networks("itm/model.safetensors")).unwrap();
    let device = block_on(OpenDevice::open(DeviceKind::Cpu)).unwrap();
    Session::from_checkpoint(&config, &checkpoint, &vocab, &device).unwrap()
}

#[test]
fn retrieval_is_that_of_the_reference() {
    let file = fs::read(repository("tests/fixtures/tasks/retrieval.json")).unwrap();
    let case = serde_json::from_slice::<Value>(&file).unwrap()["cases"][0].take();
    let mut captions = vec![Vec::new(); case["pictures"].as_array().unwrap().len()];
    for (text, owner) in case["texts"].as_array().unwrap().iter().zip(case["truth"].as_array().unwrap()) {
        captions[owner.as_u64().unwrap() as usize].push(text.as_str().unwrap().to_owned());
    }
    let pictures = Pictures(captions);
    let session = matcher();
    let kept = case["kept"].as_u64().unwrap() as usize;
    let measure = |options: RetrievalOptions| {
        let examples = Examples::new(&pictures, None);
        block_on(retrieval(&session, &examples, options, &mut |_, _| Control::Continue))
    };
    let report = measure(RetrievalOptions { rerank: Some(kept), ..RetrievalOptions::default() }).unwrap();
    assert_eq!((report.pictures, report.texts, report.left.count()), (8, 10, 0));
    let reranked = report.reranked.unwrap();
    for (found, expected) in [(reranked.to_text, &case["toText"]), (reranked.to_image, &case["toImage"])] {
        let recalls: Vec<f64> =
            expected["recalls"].as_array().unwrap().iter().map(|recall| recall.as_f64().unwrap()).collect();
        assert_eq!(found.summary.recall[..], recalls);
        let ranks = expected["ranks"].as_array().unwrap();
        let sum: u64 = ranks.iter().map(|rank| 1 + rank.as_u64().unwrap()).sum();
        assert!((found.summary.mean_rank - sum as f64 / ranks.len() as f64).abs() < 1e-9);
    }
    assert!((reranked.mean_recall - case["mean"].as_f64().unwrap()).abs() < 1e-9);

    // Among two at a time, everything is found in the first two places; and of none nothing is.
    let among = |among| RetrievalOptions { among: Some(among), ..RetrievalOptions::default() };
    let report = measure(among(2)).unwrap();
    assert_eq!((report.pictures, report.by_contrast.to_image.summary.recall[1]), (8, 100.0));
    assert!(report.reranked.is_none());
    assert_eq!(measure(among(0)).unwrap_err().code(), "bad-option");
}

/// Three networks over one image encoder, in a directory.
fn three(folder: &Path) -> PathBuf {
    let out = folder.join("three");
    let [caption, vqa, itm, vocab] = ["caption", "vqa", "itm", "vocab.txt"].map(networks);
    let fixed = ["convert", text(&caption), "--vocab", text(&vocab), "--out", text(&out), "--dtype", "f32"];
    stdout(&blip(&[&fixed[..], &["--with", text(&vqa), "--with", text(&itm)]].concat()));
    out
}

fn single(nth: usize) -> [(String, Vec<u8>); 2] {
    let colours = ["red", "blue"];
    let texts = json!({
        "captions": [format!("a {} ball", colours[nth % 2]), "a ball"],
        "questions": [{"question": "what colour is it?", "answers": [[colours[nth % 2], 1.0]]}],
        "hard_negatives": [format!("a {} ball", colours[(nth + 1) % 2])],
        "dialogue": {"caption": "a ball", "rounds": [
            {"question": "is it big?", "answer": "no"},
            {"question": "what colour?", "answer": "red", "candidates": ["blue", "red", "green"]},
        ]},
    });
    [(format!("{nth:03}.json"), texts.to_string().into_bytes()), (format!("{nth:03}.png"), picture(nth))]
}

#[test]
fn every_measure_that_fits_is_taken_and_damage_is_counted() {
    let folder = scratch("measures");
    let model = three(&folder);
    let mut files: Vec<_> = (0..12).flat_map(single).collect();
    files[5].1.truncate(50);
    files.push(("words.json".to_owned(), b"{}".to_vec()));
    let shard = folder.join("test.tar");
    fs::write(&shard, tar(&files)).unwrap();
    let said = folder.join("said.jsonl");
    let base = ["eval", "--model", text(&model), "--shards", text(&shard), "--max-length", "8"];
    let further = ["--rerank", "4", "--answers", "own", "--same-words", "--said", text(&said), "--json", "-"];
    let report: Value = serde_json::from_str(&stdout(&blip(&[&base[..], &further].concat()))).unwrap();
    for measure in ["caption", "vqa", "retrieval", "negatives", "dialogue"] {
        let left = report[measure]["left"].as_object().unwrap();
        assert_eq!(left.values().filter_map(Value::as_u64).sum::<u64>(), 2, "{measure}: {report}");
    }
    assert!(report.get("nlvr2").is_none());
    let whole = |value: &Value, total: u64| {
        let (right, share) = (value["right"].as_u64().unwrap(), value["share"].as_f64().unwrap());
        assert_eq!(value["total"], total);
        assert!((share - right as f64 / total as f64).abs() < 1e-9);
        assert!(
            value["interval"]["low"].as_f64() <= Some(share)
                && Some(share) <= value["interval"]["high"].as_f64()
        );
    };
    whole(&report["caption"]["exact"], 11);
    assert!(report["caption"]["cider"]["value"].is_number() && report["caption"]["bleu"][3].is_number());
    whole(&report["vqa"]["generated"]["exact"], 11);
    assert_eq!(report["vqa"]["list"], 2);
    // Two answers to choose from: the right one in about half of the pictures.
    assert!(report["vqa"]["ranked"]["accuracy"]["value"].as_f64().unwrap() > 0.2, "{}", report["vqa"]);
    assert_eq!((&report["retrieval"]["pictures"], &report["retrieval"]["texts"]), (&11.into(), &22.into()));
    assert_eq!(report["retrieval"]["reranked"]["toText"]["count"], 11);
    whole(&report["negatives"]["pairs"], 11);
    whole(&report["negatives"]["decisions"], 22);
    assert_eq!(report["dialogue"]["ranks"]["count"], 11);
    assert_eq!(report["dialogue"]["ranks"]["recall"][1], 100.0, "there are three candidates");
    let lines = fs::read_to_string(&said).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (said, answered): (Vec<_>, Vec<_>) = lines.iter().partition(|line| line["caption"].is_string());
    assert_eq!((said.len(), answered.len()), (11, 11));
    assert_eq!(said[0]["references"], json!(["a red ball", "a ball"]));
    // The lines say what the report counts.
    let right = |line: &&&Value| line["generated"] == line["answers"][0][0];
    assert_eq!(report["vqa"]["generated"]["exact"]["right"], answered.iter().filter(right).count());
    assert!(answered.iter().all(|line| line["key"].is_string() && line["question"].is_string()));
    assert!(answered.iter().all(|line| line["ranked"].is_string()), "{answered:?}");

    // One of them, as a table, of the first few.
    let few = ["--measures", "retrieval", "--limit", "4", "--among", "2"];
    let table = stdout(&blip(&[&base[..], &few].concat()));
    assert!(table.starts_with("12 records in 1 shards") || table.starts_with("13 records"), "{table}");
    assert!(table.contains("retrieval  ITC, text for picture, R@1") && !table.contains("caption"), "{table}");
}

#[test]
fn coco_and_folders_are_read_too() {
    let folder = scratch("sources");
    let model = three(&folder);
    let pictures = folder.join("pictures");
    fs::create_dir_all(&pictures).unwrap();
    let ids = [3, 5, 8];
    for id in ids {
        fs::write(pictures.join(format!("{id}.png")), picture(id)).unwrap();
        fs::write(pictures.join(format!("{id}.txt")), "a dog\na red dog\n").unwrap();
    }
    let coco = folder.join("captions.json");
    let images: Vec<Value> =
        ids.iter().map(|id| json!({"id": id, "file_name": format!("{id}.png")})).collect();
    let caption = |id: &usize| json!({"id": 10 + id, "image_id": id, "caption": "A dog."});
    let annotations: Vec<Value> = ids.iter().map(caption).collect();
    fs::write(&coco, json!({"images": images, "annotations": annotations}).to_string()).unwrap();
    for data in
        [vec!["--coco", text(&coco), "--pictures", text(&pictures)], vec!["--folder", text(&pictures)]]
    {
        let base = ["eval", "--model", text(&model), "--measures", "caption,retrieval", "--json", "-"];
        let report: Value = serde_json::from_str(&stdout(&blip(&[&base[..], &data].concat()))).unwrap();
        assert_eq!(report["caption"]["exact"]["total"], 3, "{report}");
        assert_eq!(report["retrieval"]["pictures"], 3);
    }
}

#[test]
fn statements_are_about_two_pictures() {
    let folder = scratch("statements");
    let model = folder.join("model");
    let [from, vocab] = [repository("tests/fixtures/nlvr2"), networks("vocab.txt")];
    let weights = from.join("model.pth");
    let fixed = ["convert", text(&weights), "--vocab", text(&vocab), "--out", text(&model)];
    stdout(&blip(&[&fixed[..], &["--dtype", "f32"]].concat()));
    let files: Vec<_> = (0..6)
        .flat_map(|nth| {
            let texts = json!({"statements": [{"text": "both are red", "holds": nth % 2 == 0}]});
            [
                (format!("{nth}.0.png"), picture(nth)),
                (format!("{nth}.1.png"), picture(nth + 1)),
                (format!("{nth}.json"), texts.to_string().into_bytes()),
            ]
        })
        .collect();
    let shard = folder.join("pairs.tar");
    fs::write(&shard, tar(&files)).unwrap();
    let output = blip(&["eval", "--model", text(&model), "--shards", text(&shard), "--json", "-"]);
    let report: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let nlvr2 = &report["nlvr2"];
    assert_eq!((&nlvr2["accuracy"]["total"], &nlvr2["holding"]["total"]), (&6.into(), &3.into()));
    let right = |name: &str| nlvr2[name]["right"].as_u64().unwrap();
    assert_eq!(right("accuracy"), right("holding") + right("failing"));
}

/// A clip is one picture to the model: what it says is what `--video` says of the same frames.
#[test]
fn clips_are_seen_as_one_picture() {
    const FRAMES: usize = 6;
    let folder = scratch("clips");
    let model = three(&folder);
    let clip = |nth: usize| {
        let texts = json!({
            "captions": [format!("a ball number {nth}")],
            "questions": [{"question": "what colour is it?", "answers": [["red", 1.0]]}],
            "hard_negatives": ["a cup"],
        });
        let frames = (0..FRAMES).map(move |at| (format!("{nth}.{at}.png"), picture(nth + at)));
        frames.chain([(format!("{nth}.json"), texts.to_string().into_bytes())])
    };
    let shard = folder.join("clips.tar");
    fs::write(&shard, tar(&(0..3).flat_map(clip).collect::<Vec<_>>())).unwrap();
    let said = folder.join("said.jsonl");
    let base = ["eval", "--model", text(&model), "--shards", text(&shard), "--max-length", "8"];
    let further = ["--frames", "4", "--rerank", "2", "--said", text(&said), "--json", "-"];
    let report: Value = serde_json::from_str(&stdout(&blip(&[&base[..], &further].concat()))).unwrap();
    assert_eq!(
        (&report["retrieval"]["pictures"], &report["negatives"]["pairs"]["total"]),
        (&3.into(), &3.into())
    );
    assert!(report.get("nlvr2").is_none() && report["caption"]["left"] == json!({}), "{report}");
    let lines = fs::read_to_string(&said).unwrap();
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 6);
    for nth in 0..3 {
        let frames: Vec<PathBuf> = (0..FRAMES)
            .map(|at| {
                let path = folder.join(format!("{nth}-{at}.png"));
                fs::write(&path, picture(nth + at)).unwrap();
                path
            })
            .collect();
        let frames: Vec<&str> = frames.iter().map(|path| text(path)).collect();
        let alone = |task: &[&str]| {
            let video = ["--video", "--frames", "4", "--model", text(&model), "--max-length", "8"];
            let line = stdout(&blip(&[task, &video[..], &frames].concat()));
            line.trim_end().split('\t').nth(1).unwrap().to_owned()
        };
        assert_eq!(lines[nth]["caption"], alone(&["caption"]));
        assert_eq!(lines[3 + nth]["generated"], alone(&["ask", "--question", "what colour is it?"]));
    }
    let output = blip(&[&base[..], &["--frames", "33"]].concat());
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("option frames is 33"));
}

#[test]
fn what_cannot_be_measured_is_an_error() {
    let folder = scratch("refused");
    let model = three(&folder);
    let shard = folder.join("bare.tar");
    fs::write(&shard, tar(&[("a.png".to_owned(), picture(0))])).unwrap();
    let refused = |arguments: &[&str], code: &str| {
        let base = ["eval", "--model", text(&model)];
        let output = blip(&[&base[..], arguments].concat());
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(code), "{said}");
    };
    refused(&["--shards", text(&shard)], "[bad-option]");
    refused(&["--shards", text(&shard), "--measures", "caption"], "no example has a picture and a caption");
    refused(&["--shards", text(&shard), "--measures", "nlvr2"], "[task-unsupported]");
    refused(&["--shards", text(&shard), "--beams", "0"], "[bad-option]");
    refused(&["--shards", text(&folder.join("none.tar"))], "[io]");
    refused(&[], "required");
    refused(&["--coco", "a.json"], "--pictures");
}
