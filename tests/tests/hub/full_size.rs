//! A captioner of the published size, in the published layout; `BLIP_SLOW=1` runs it (5 GB of memory).
//!
//! The file has what the published one has and ours have not: the head's matrix a second time, under its own
//! name, and the position ids of an older transformers.

#![allow(clippy::print_stdout, reason = "a passing test shows what it took, and a process what it fetched")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use blip_tests::formula;
use blip_tests::layouts::layouts;
use blip_tests::place::slow;
use blip_web::ErrorKind;
use blip_web::config::BlipConfig;
use blip_web::hub::{Cache, Client, Event, Patience, fetch_repository};
use blip_web::weights::{Checkpoint, Container, Manifest, Precision, Quantisation};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::archives::{Storage, View, archive};
use super::conversions::{begun, options, tensors};
use super::downloads::Scratch;
use super::server::{Fault, Server};

const Q8: Quantisation = Quantisation::uniform(Precision::Q8);
const TABLE: &str = "text_decoder.bert.embeddings.word_embeddings.weight";
const HEAD: &str = "text_decoder.cls.predictions.decoder.weight";
const BIAS: &str = "text_decoder.cls.predictions.bias";
const HEAD_BIAS: &str = "text_decoder.cls.predictions.decoder.bias";
const POSITIONS: &str = "text_decoder.bert.embeddings.position_ids";

/// The tests take turns: each of them holds gigabytes.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A tensor: its name, its element type, its shape and its bytes.
type Tensor = (String, &'static str, Vec<usize>, Arc<Vec<u8>>);

/// Every tensor; of what is tied, the same bytes twice.
fn published() -> Vec<Tensor> {
    let floats = |name: &str, shape: &[usize]| {
        let bytes: Vec<u8> = formula::weight(name, shape).into_iter().flat_map(f32::to_le_bytes).collect();
        Arc::new(bytes)
    };
    let layout = &layouts()["hf caption base"];
    let mut tensors = Vec::with_capacity(layout.total + 1);
    for (name, shape) in layout.names().into_iter().filter(|(name, _)| name != HEAD) {
        let bytes = floats(&name, &shape);
        if name == TABLE {
            tensors.push((HEAD.to_owned(), "F32", shape.clone(), Arc::clone(&bytes)));
        }
        tensors.push((name, "F32", shape, bytes));
    }
    assert_eq!(tensors.len(), layout.total);
    let positions: Vec<u8> = (0..512i64).flat_map(i64::to_le_bytes).collect();
    tensors.push((POSITIONS.to_owned(), "I64", vec![1, 512], Arc::new(positions)));
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

/// As safetensors.
fn safetensors() -> Vec<u8> {
    let tensors = published();
    let mut header = serde_json::Map::new();
    header.insert("__metadata__".to_owned(), json!({"format": "pt"}));
    let mut end = 0;
    for (name, dtype, shape, bytes) in &tensors {
        let begin = end;
        end += bytes.len();
        let about = json!({"dtype": dtype, "shape": shape, "data_offsets": [begin, end]});
        header.insert(name.clone(), about);
    }
    let header = serde_json::Value::from(header).to_string();
    let mut file = Vec::with_capacity(8 + header.len() + end);
    file.extend((header.len() as u64).to_le_bytes());
    file.extend(header.as_bytes());
    for (_, _, _, bytes) in tensors {
        file.extend_from_slice(&bytes);
    }
    file
}

/// As `torch.save` writes it: what is tied is one storage.
fn pickled() -> Vec<u8> {
    let tensors = published();
    let (mut views, mut storages): (Vec<View<'_>>, Vec<Storage>) = (Vec::new(), Vec::new());
    for (name, dtype, shape, bytes) in &tensors {
        if name == HEAD {
            continue;
        }
        let storage = match *dtype {
            "I64" => Storage { class: "LongStorage", width: 8, bytes: bytes.to_vec() },
            _ => Storage::floats(bytes.to_vec()),
        };
        views.push((name, shape, 0, storages.len()));
        for (tied, other) in [(TABLE, HEAD), (BIAS, HEAD_BIAS)] {
            if name == tied {
                views.push((other, shape, 0, storages.len()));
            }
        }
        storages.push(storage);
    }
    archive(&views, storages)
}

/// What a conversion of the whole file on this machine gives.
fn expected() -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let whole = Checkpoint::from_safetensors(safetensors()).unwrap();
    let mut container = Vec::new();
    let conversion = Container::new(&BlipConfig::base(), &whole, Q8).unwrap();
    assert!(conversion.networks().tied_lm && conversion.networks().tasks() == ["caption"]);
    conversion.write("model.safetensors", &mut container, &mut |_| {}).unwrap();
    tensors(container)
}

fn config() -> String {
    serde_json::to_string(&BlipConfig::base()).unwrap()
}

#[test]
fn it_streams_within_little_memory() {
    if !slow() {
        return;
    }
    let _turn = turn();
    let bytes = safetensors();
    let mut conversion = begun("model.safetensors", &bytes, &config(), options(Q8, false));
    let started = Instant::now();
    let (mut out, mut largest) = (Vec::new(), 0);
    for piece in bytes.chunks(1 << 20) {
        let written = conversion.push(piece).unwrap();
        largest = largest.max(written.len());
        out.extend(written);
    }
    let seconds = started.elapsed().as_secs_f64();
    let saved = conversion.checkpoint().len();
    println!(
        "{} MB in, {} MB out, {seconds:.1} s, pieces of at most {} MB, a checkpoint of {} kB",
        bytes.len() / 1_000_000,
        out.len() / 1_000_000,
        largest / 1_000_000,
        saved / 1000
    );
    conversion.finish(b"x\n").unwrap().manifest.files.weights.verify(&out).unwrap();
    // No piece is larger than the largest tensor with its scales, the word embedding, and a little.
    assert!(largest < 30_524 * 768 * 9 / 8, "{largest}");
    assert!(saved < 500_000, "{saved}");
    drop(bytes);
    assert_eq!(tensors(out), expected());
}

#[test]
fn it_comes_from_a_hub_over_connections_that_break() {
    if is_fetching() || !slow() {
        return;
    }
    let _turn = turn();
    comes_from_a_hub("it_comes_from_a_hub_over_connections_that_break", "model.safetensors", safetensors());
}

#[test]
fn its_pickle_comes_from_a_hub_over_connections_that_break() {
    if is_fetching() || !slow() {
        return;
    }
    let _turn = turn();
    comes_from_a_hub(
        "its_pickle_comes_from_a_hub_over_connections_that_break",
        "pytorch_model.bin",
        pickled(),
    );
}

/// The hub is this process, and each attempt to fetch from it is one of its own.
fn comes_from_a_hub(test: &str, name: &str, weights: Vec<u8>) {
    let (server, scratch) = (Server::start(), Scratch::new(name));
    let total = weights.len();
    let words: String = (0..30_522).map(|id| format!("word{id}\n")).collect();
    let files =
        vec![(name, weights), ("config.json", config().into_bytes()), ("vocab.txt", words.into_bytes())];
    server.add_owned("a/b", files);
    let cache = scratch.0.join("cache");
    let fetch = || Fetched::by_another_process(test, &server.endpoint(), &cache);
    let started = Instant::now();
    // The vocabulary; then what says where the tensors are, of an archive in four places; then the file
    // itself, twice cut and given up.
    server.fail([Fault::Cut(1000), Fault::Cut(usize::MAX), Fault::Cut(300)]);
    server.fail(vec![Fault::Cut(usize::MAX); if name.ends_with(".bin") { 4 } else { 1 }]);
    server.fail([Fault::Cut(100_000_000), Fault::Cut(300_000_000), Fault::Status(503, None)]);
    let first = fetch();
    assert_eq!(first.failed.as_deref(), Some(ErrorKind::DownloadFailed.code()));
    assert_eq!(server.faults_left(), 0);
    assert!((395_000_000..=400_000_000).contains(&first.reached), "{first:?}");
    server.requests();
    server.fail([Fault::Cut(usize::MAX), Fault::Cut(200_000_000), Fault::Cut(1)]);
    let second = fetch();
    let seconds = started.elapsed().as_secs_f64();
    let requests = server.requests();
    let starts = requests
        .iter()
        .filter(|request| request.path.starts_with("/cdn/") && request.path.ends_with(name))
        .map(|request| request.start())
        .collect::<Vec<u64>>();
    // What was converted before is not asked for again, but for the tensor that was under way.
    assert!(starts.len() == 3 && starts.iter().all(|start| *start > 300_000_000), "{starts:?}");
    let most = [&first, &second].into_iter().filter_map(|fetched| fetched.kilobytes).max();
    println!(
        "{name}: {} MB in {seconds:.1} s, with {}",
        total / 1_000_000,
        most.map_or("memory unknown".to_owned(), |most| format!("at most {} MB of memory", most / 1000))
    );
    assert!(most.is_none_or(|most| most < 120_000), "{most:?} kB");
    assert_holds(&second.folder.unwrap());
}

/// Where a process finds its hub, and puts what it fetches.
const HUB: &str = "BLIP_TESTS_HUB";
const CACHE: &str = "BLIP_TESTS_CACHE";

/// What became of an attempt.
#[derive(Debug, Deserialize, Serialize)]
struct Fetched {
    folder: Option<PathBuf>,
    /// The code of the error.
    failed: Option<String>,
    /// Bytes of the weights so far.
    reached: u64,
    /// The most memory that the process had, where the system tells.
    kilobytes: Option<u64>,
}

impl Fetched {
    /// Runs a test of this file alone, which then is [`is_fetching`].
    fn by_another_process(test: &str, endpoint: &str, cache: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args([&format!("full_size::{test}"), "--exact", "--nocapture"]);
        let output = command.env(HUB, endpoint).env(CACHE, cache).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let json = text.lines().find_map(|line| line.split_once("fetched "));
        serde_json::from_str(json.expect("it says what became of it").1).unwrap()
    }
}

/// Whether this process is one that another has started to fetch; then it has done so.
fn is_fetching() -> bool {
    let (Ok(endpoint), Ok(cache)) = (std::env::var(HUB), std::env::var(CACHE)) else { return false };
    let pause = Duration::from_millis(5);
    let patience = Patience { attempts: 2, pause, longest_pause: pause, ..Patience::default() };
    let client = Client::new(&endpoint, None, patience);
    let mut reached = 0;
    let mut listener = |event: Event<'_>| {
        if let Event::Progress { done, .. } = event {
            reached = done;
        }
    };
    let fetched = fetch_repository(&client, "a/b", "main", Q8, &Cache::new(cache.into()), &mut listener);
    let (folder, failed) = match fetched {
        Ok(folder) => (Some(folder), None),
        Err(error) => (None, Some(error.code().to_owned())),
    };
    let fetched = Fetched { folder, failed, reached, kilobytes: most_memory() };
    println!("fetched {}", serde_json::to_string(&fetched).unwrap());
    true
}

/// The most memory that this process had, in kilobytes.
fn most_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

/// The directory holds the model, and what is beside it.
fn assert_holds(folder: &Path) {
    let manifest = Manifest::from_json(&std::fs::read_to_string(folder.join("blip.json")).unwrap()).unwrap();
    let container = std::fs::read(folder.join("model.safetensors")).unwrap();
    manifest.files.weights.verify(&container).unwrap();
    manifest.files.vocab.verify(&std::fs::read(folder.join("vocab.txt")).unwrap()).unwrap();
    assert_eq!((manifest.tasks, manifest.config), (vec!["caption".to_owned()], BlipConfig::base()));
    assert_eq!(tensors(container), expected());
}
