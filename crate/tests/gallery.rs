//! `blip gallery` as a user runs it, on a small model that compares images with texts.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn blip(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blip")).args(arguments).output().unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// 1 when some pictures failed, 2 when nothing could be done.
fn assert_fails_with(output: &Output, status: i32, words: &str) {
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(words), "expected {words}: {text}");
    assert_eq!(output.status.code(), Some(status), "{text}");
}

fn fixtures(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures").join(path)
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// A folder of its own with a model, eight pictures, and where the gallery will be.
struct Place {
    folder: PathBuf,
    model: PathBuf,
    pictures: PathBuf,
    gallery: PathBuf,
}

impl Place {
    fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("gallery-{name}"));
        let _ = fs::remove_dir_all(&folder);
        let pictures = folder.join("pictures");
        fs::create_dir_all(pictures.join("more")).unwrap();
        for number in 0..8 {
            let below = if number < 4 { "" } else { "more/" };
            let from = fixtures(&format!("networks/pictures/{number}.png"));
            fs::copy(from, pictures.join(format!("{below}{number}.png"))).unwrap();
        }
        let [model, gallery] = ["model", "gallery.blip"].map(|name| folder.join(name));
        let place = Self { folder, model, pictures, gallery };
        place.convert("networks/itm", &place.model);
        place
    }

    fn convert(&self, fixture: &str, out: &Path) {
        let vocabulary = fixtures("networks/vocab.txt");
        let dtype = ["--dtype", "f32", "--vocab", text(&vocabulary), "--out", text(out)];
        stdout(&blip(&[&["convert", text(&fixtures(fixture))], &dtype[..]].concat()));
    }

    fn run(&self, command: &str, arguments: &[&str]) -> Output {
        blip(&[&["gallery", command, text(&self.gallery)], arguments].concat())
    }

    fn add(&self, arguments: &[&str]) -> Output {
        let model = ["--json", "--model", text(&self.model)];
        self.run("add", &[&[text(&self.pictures)], arguments, &model].concat())
    }

    /// Added, skipped, failed and in all.
    fn added(&self, arguments: &[&str]) -> [u64; 4] {
        let counts = lines(&self.add(arguments)).remove(0);
        ["added", "skipped", "failed", "size"].map(|name| counts[name].as_u64().unwrap())
    }

    fn search(&self, arguments: &[&str]) -> Vec<Value> {
        let model = ["--json", "--model", text(&self.model)];
        lines(&self.run("search", &[arguments, &model].concat()))
    }

    fn list(&self) -> Vec<(String, String)> {
        let field = |line: &Value, name: &str| line[name].as_str().unwrap().to_owned();
        let list = lines(&self.run("list", &["--json"]));
        list.iter().map(|line| (field(line, "key"), field(line, "hash"))).collect()
    }
}

#[test]
fn pictures_are_found_by_words_by_pictures_and_looked_at_again() {
    let place = Place::new("search");
    assert_eq!(place.added(&[]), [8, 0, 0, 8]);
    assert_eq!(place.added(&[]), [0, 8, 0, 8], "by content, and once");
    assert_eq!(place.list().len(), 8);

    let picture = place.pictures.join("more/5.png");
    let like = place.search(&["--image", text(&picture), "--top", "3"]);
    assert_eq!((like.len(), like[0]["key"].as_str()), (3, Some(text(&picture))));
    assert!(like[0]["score"].as_f64().unwrap() > 0.999, "{}", like[0]);

    let words = "word5 word9 word20";
    let plain = place.search(&[words]);
    assert_eq!(plain.len(), 8);
    assert!(plain.is_sorted_by(|a, b| a["score"].as_f64() >= b["score"].as_f64()));
    assert!(plain.iter().all(|line| line["score"] == line["cosine"] && line.get("itm").is_none()));

    let again = place.search(&[words, "--rerank", "5", "--top", "6"]);
    assert_eq!(again.len(), 6);
    let score = |line: &Value| line["score"].as_f64().unwrap();
    for line in &again[..5] {
        let sum = line["itm"]["logit"].as_f64().unwrap() + line["cosine"].as_f64().unwrap();
        assert!((score(line) - sum).abs() < 1e-5, "{line}");
        let probability = line["itm"]["probability"].as_f64().unwrap();
        assert!((0.0..=1.0).contains(&probability), "{line}");
    }
    assert!(again[..5].is_sorted_by(|a, b| score(a) >= score(b)));
    assert_eq!(again[5]["key"], plain[5]["key"]);
    let keys = |found: &[Value]| {
        let mut keys: Vec<String> = found.iter().map(|line| line["key"].to_string()).collect();
        keys.sort();
        keys
    };
    assert_eq!(keys(&again[..5]), keys(&plain[..5]));
    let order = |found: &[Value]| found.iter().map(|line| line["key"].to_string()).collect::<Vec<_>>();
    assert_ne!(order(&again[..5]), order(&plain[..5]), "the second look says something else");
}

#[test]
fn pictures_that_are_not_there_any_more_are_not_looked_at_again_and_the_rest_is_found() {
    let place = Place::new("gone");
    place.added(&[]);
    let [gone, other] = ["2.png", "more/6.png"].map(|name| place.pictures.join(name));
    fs::remove_file(&gone).unwrap();
    // A picture, but another one than was indexed under this name.
    fs::copy(place.pictures.join("0.png"), &other).unwrap();
    let arguments = ["word5", "--rerank", "8", "--json", "--model", text(&place.model)];
    let output = place.run("search", &arguments);
    assert_fails_with(&output, 1, text(&gone));
    assert_fails_with(&output, 1, &format!("{} is not what was indexed", text(&other)));
    let found = String::from_utf8(output.stdout).unwrap();
    let found: Vec<Value> = found.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let keys = |found: &[Value]| found.iter().map(|line| line["key"].to_string()).collect::<Vec<_>>();
    assert!(found.len() == 8 && found[..6].iter().all(|line| line.get("itm").is_some()));
    let mut last = keys(&found[6..]);
    last.sort();
    assert_eq!(last, [&gone, &other].map(|path| Value::from(text(path)).to_string()));
    assert!(found[6..].iter().all(|line| line.get("itm").is_none()));
}

#[test]
fn files_that_change_move_or_are_no_pictures() {
    let place = Place::new("changes");
    fs::write(place.pictures.join("broken.png"), b"no picture").unwrap();
    fs::write(place.pictures.join("notes.txt"), b"not asked for").unwrap();
    let output = place.add(&["--save-every", "3"]);
    assert_fails_with(&output, 1, "[bad-image]");
    assert!(String::from_utf8_lossy(&output.stderr).contains("broken.png"));
    let counts: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((counts["added"].as_u64(), counts["failed"].as_u64()), (Some(8), Some(1)));
    fs::remove_file(place.pictures.join("broken.png")).unwrap();

    let before = place.list();
    let at = |name: &str| place.pictures.join(name);
    // Moved; overwritten by a copy of another; exchanged with each other; a copy beside.
    fs::rename(at("0.png"), at("moved.png")).unwrap();
    fs::copy(at("2.png"), at("1.png")).unwrap();
    fs::rename(at("3.png"), at("spare")).unwrap();
    fs::rename(at("more/4.png"), at("3.png")).unwrap();
    fs::rename(at("spare"), at("more/4.png")).unwrap();
    fs::copy(at("2.png"), at("copy.png")).unwrap();
    assert_eq!(place.added(&[]), [0, 9, 0, 7]);
    let hash = |name: &str| {
        let key = text(&at(name)).to_owned();
        before.iter().find(|(known, _)| *known == key).map(|(_, hash)| hash.clone()).unwrap()
    };
    let after = place.list();
    for (now, was) in [("moved.png", "0.png"), ("3.png", "more/4.png"), ("more/4.png", "3.png")] {
        assert!(after.contains(&(text(&at(now)).to_owned(), hash(was))), "{now}");
    }
    assert!(!after.iter().any(|(_, known)| *known == hash("1.png")), "what it held is nowhere any more");
}

#[test]
fn pictures_are_taken_out_by_path_and_by_hash() {
    let place = Place::new("remove");
    place.added(&[]);
    let list = place.list();
    let output = place.run("remove", &[&list[0].0, &list[1].1]);
    assert!(stdout(&output).starts_with("2 removed"));
    let left: Vec<_> = place.list();
    assert_eq!(left, list[2..]);
    let output = place.run("remove", &[&list[0].0, &list[2].0]);
    assert_fails_with(&output, 1, "is not in the gallery");
    assert_eq!(place.list(), list[3..], "the others are removed all the same");
}

#[test]
fn galleries_are_copied_and_joined_and_damage_is_noticed() {
    let place = Place::new("files");
    place.added(&[]);
    let copy = place.folder.join("copy");
    stdout(&place.run("export", &[text(&copy)]));
    let bytes = fs::read(&copy).unwrap();
    assert_eq!(bytes, fs::read(&place.gallery).unwrap());

    let list = place.list();
    let [first, second] = [&list[0].0, &list[1].0];
    stdout(&place.run("remove", &[first, second]));
    assert!(stdout(&place.run("import", &[text(&copy)])).starts_with("2 added, 6 known"));
    assert_eq!(fs::read(&place.gallery).unwrap(), bytes, "the order of filling does not show");

    let damaged = place.folder.join("damaged");
    let mut wrong = bytes.clone();
    wrong[bytes.len() / 2] ^= 1;
    fs::write(&damaged, &wrong).unwrap();
    assert_fails_with(&place.run("import", &[text(&damaged)]), 2, "[integrity]");
    assert_fails_with(&place.run("import", &[text(&fixtures("networks/vocab.txt"))]), 2, "[bad-option]");

    // Another model: its own embeddings, not to be mixed with these.
    let other = place.folder.join("other");
    place.convert("parity/itm", &other);
    let output = place.run("search", &["word5", "--model", text(&other)]);
    assert_fails_with(&output, 2, "[bad-option]");
    assert!(String::from_utf8_lossy(&output.stderr).contains("another model"));
    // And one that has none.
    let captions = place.folder.join("captions");
    place.convert("networks/caption", &captions);
    let output = place.run("search", &["word5", "--model", text(&captions)]);
    assert_fails_with(&output, 2, "[task-unsupported]");
}

#[test]
fn one_command_at_a_time_changes_a_gallery() {
    let place = Place::new("lock");
    place.added(&[]);
    let lock = fs::File::open(format!("{}.lock", text(&place.gallery))).unwrap();
    lock.lock().unwrap();
    assert_fails_with(&place.add(&[]), 2, "another command");
    // Reading is always possible.
    assert_eq!(place.list().len(), 8);
    drop(lock);
    assert_eq!(place.added(&[]), [0, 8, 0, 8]);
}
