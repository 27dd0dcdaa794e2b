//! Models from a hub and from a plain server: cached, resumed, refused.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use blip_tests::captioner;
use blip_tests::place::slow;
use blip_web::config::BlipConfig;
use blip_web::hub::{
    Cache, Client, Event, Patience, Repository, convert_file, convert_repository, fetch_directory,
    fetch_repository,
};
use blip_web::weights::{Checkpoint, Container, Manifest, Precision, Quantisation, random_checkpoint};
use blip_web::{ErrorKind, Result};

use super::conversions::{checkpoint, tensors};
use super::server::{COMMIT, Fault, Server, digest};

const Q8: Quantisation = Quantisation::uniform(Precision::Q8);

/// A folder that is removed at the end of the test.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new(name: &str) -> Self {
        let folder = std::env::temp_dir().join(format!("blip-hub-{name}-{}", std::process::id()));
        // Left over from a test that was killed, if it is there at all.
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder).unwrap();
        Self(folder)
    }

    pub fn cache(&self) -> Cache {
        Cache::new(self.0.join("cache"))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A client that does not wait long.
pub fn client(server: &Server) -> Client {
    patient(server, 4, None)
}

pub fn patient(server: &Server, attempts: u32, token: Option<&str>) -> Client {
    let patience = Patience {
        attempts,
        pause: Duration::from_millis(5),
        longest_pause: Duration::from_millis(1500),
        silence: Duration::from_millis(700),
        save_every: 100_000,
    };
    Client::new(&server.endpoint(), token.map(str::to_owned), patience)
}

/// A captioner of some megabytes, as the hub would have it: weights, configuration, vocabulary.
fn model() -> (Vec<u8>, String, Vec<u8>) {
    let config = BlipConfig::tiny(300, 298, 3);
    let mut weights = Vec::new();
    let random = random_checkpoint(&config, 5);
    let plain = Quantisation::uniform(Precision::F32);
    Container::new(&config, &random, plain).unwrap().write("x", &mut weights, &mut |_| {}).unwrap();
    let mut words: Vec<String> = (4..298).map(|id| format!("word{id}")).collect();
    words.splice(0..0, ["[PAD]", "[UNK]", "[CLS]", "[SEP]"].map(str::to_owned));
    (weights, serde_json::to_string(&config).unwrap(), (words.join("\n") + "\n").into_bytes())
}

pub fn publish(server: &Server) -> Vec<u8> {
    let (weights, config, vocab) = model();
    server.add(
        "a/b",
        &[
            ("model.safetensors", &weights),
            ("config.json", config.as_bytes()),
            ("vocab.txt", &vocab),
            ("pytorch_model.bin", b"not this one"),
        ],
    );
    weights
}

/// Ignores progress, keeps notices.
pub fn fetch(client: &Client, cache: &Cache, notices: &mut Vec<String>) -> Result<PathBuf> {
    fetch_repository(client, "a/b", "main", Q8, cache, &mut |event| {
        if let Event::Notice(text) = event {
            notices.push(text.to_owned());
        }
    })
}

/// The directory holds what a conversion on this machine would have made.
pub fn assert_is_the_model(folder: &Path, weights: &[u8]) {
    let manifest = Manifest::from_json(&std::fs::read_to_string(folder.join("blip.json")).unwrap()).unwrap();
    let container = std::fs::read(folder.join("model.safetensors")).unwrap();
    manifest.files.weights.verify(&container).unwrap();
    manifest.files.vocab.verify(&std::fs::read(folder.join("vocab.txt")).unwrap()).unwrap();
    let source = manifest.source.clone().unwrap();
    assert_eq!((&*source.repo, &*source.revision, &*source.sha256), ("a/b", COMMIT, &*digest(weights)));
    assert_eq!((&*manifest.id, &*manifest.licence), ("b", "BSD-3-Clause"));
    let whole = Checkpoint::from_safetensors(weights.to_vec()).unwrap();
    let mut expected = Vec::new();
    let expecting = Container::new(&manifest.config, &whole, manifest.quantisation).unwrap();
    expecting.write("x", &mut expected, &mut |_| {}).unwrap();
    assert_eq!(tensors(container), tensors(expected));
    let left: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 3, "{left:?}");
}

#[test]
fn a_repository_is_converted_once_and_then_cached() {
    let (server, scratch) = (Server::start(), Scratch::new("once"));
    let weights = publish(&server);
    let (cache, mut notices) = (scratch.cache(), Vec::new());
    let folder = fetch(&client(&server), &cache, &mut notices).unwrap();
    assert_is_the_model(&folder, &weights);
    let vocab = std::fs::read_to_string(folder.join("vocab.txt")).unwrap();
    assert!(vocab.ends_with("word297\n[DEC]\n[ENC]\n"));
    server.requests();
    assert_eq!(fetch(&client(&server), &cache, &mut notices).unwrap(), folder);
    let requests = server.requests();
    assert!(
        requests.len() == 1 && requests[0].path.contains("/api/models/a/b/revision/main"),
        "{requests:?}"
    );
    // A commit needs no question.
    let by_commit = fetch_repository(&client(&server), "a/b", COMMIT, Q8, &cache, &mut |_| {}).unwrap();
    assert!(by_commit == folder && server.requests().is_empty() && notices.is_empty());
    // Without a network, what the branch was last.
    server.set_down(true);
    assert_eq!(fetch(&client(&server), &cache, &mut notices).unwrap(), folder);
    assert!(notices.len() == 1 && notices[0].contains(COMMIT), "{notices:?}");
    let other = fetch_repository(&client(&server), "a/b", "other", Q8, &cache, &mut |_| {}).unwrap_err();
    assert_eq!(other.kind(), ErrorKind::DownloadFailed);
}

#[test]
fn cuts_silence_refusals_and_servers_without_ranges_do_not_matter() {
    let (server, scratch) = (Server::start(), Scratch::new("faults"));
    let weights = publish(&server);
    server.fail([
        // While the header is looked at.
        Fault::Cut(100),
        Fault::Status(503, None),
        Fault::Status(429, Some(1)),
        // The rest of the header, then the file.
        Fault::Cut(0),
        Fault::Cut(usize::MAX),
        Fault::Cut(500_000),
        Fault::Whole(1_200_000),
        Fault::Cut(1_000_003),
        Fault::Silence(70_000),
        Fault::Status(500, None),
        Fault::Cut(1),
    ]);
    let started = std::time::Instant::now();
    let folder = fetch(&patient(&server, 6, None), &scratch.cache(), &mut Vec::new()).unwrap();
    assert_is_the_model(&folder, &weights);
    assert_eq!(server.faults_left(), 0);
    assert!(started.elapsed() >= Duration::from_secs(1), "the server asked for a pause");
    let resumed = server.requests().into_iter().filter(|request| request.headers.contains_key("if-range"));
    assert!(resumed.count() >= 4);
}

#[test]
fn a_download_that_failed_goes_on_in_the_next_process() {
    let (server, scratch) = (Server::start(), Scratch::new("next"));
    let weights = publish(&server);
    let attempts = 3;
    server.fail([Fault::Cut(usize::MAX), Fault::Cut(2_000_000)]);
    // The cut is the first failure in a row.
    server.fail(vec![Fault::Status(503, None); attempts - 1]);
    let client = patient(&server, attempts as u32, None);
    let error = fetch(&client, &scratch.cache(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DownloadFailed);
    assert!(error.to_string().contains("503, 3 times in a row"), "{error}");
    server.requests();
    let folder = fetch(&client, &scratch.cache(), &mut Vec::new()).unwrap();
    assert_is_the_model(&folder, &weights);
    let starts = bytes_asked_for(&server);
    assert!(starts.len() == 1 && starts[0] > 1_000_000, "{starts:?}");
}

/// First bytes of the requests for the weights.
fn bytes_asked_for(server: &Server) -> Vec<u64> {
    let requests = server.requests().into_iter();
    let weights =
        requests.filter(|request| request.path.starts_with("/cdn/") && request.path.contains("model.safe"));
    weights.map(|request| request.start()).collect()
}

#[test]
fn a_process_that_was_killed_is_gone_on_from() {
    let (server, scratch) = (Server::start(), Scratch::new("killed"));
    let weights = publish(&server);
    // No destructor saves anything: what is on the disk is what was put there on the way.
    for least in [1_500_000, 4_000_000] {
        let client = client(&server);
        let killed = catch_unwind(AssertUnwindSafe(|| {
            let cache = scratch.cache();
            fetch_repository(&client, "a/b", "main", Q8, &cache, &mut |event| match event {
                Event::Progress { done, .. } if done > least => std::panic::resume_unwind(Box::new("killed")),
                _ => {}
            })
        }));
        assert!(killed.is_err());
    }
    server.requests();
    // A write that was torn by the kill: bytes beyond what the state counts on.
    let unfinished =
        std::fs::read_dir(scratch.0.join("cache/a--b")).unwrap().map(|entry| entry.unwrap().path());
    let unfinished =
        unfinished.into_iter().find(|path| path.to_string_lossy().ends_with(".unfinished")).unwrap();
    let mut torn =
        std::fs::OpenOptions::new().append(true).open(unfinished.join("model.safetensors")).unwrap();
    std::io::Write::write_all(&mut torn, b"torn").unwrap();
    let folder = fetch(&client(&server), &scratch.cache(), &mut Vec::new()).unwrap();
    assert_is_the_model(&folder, &weights);
    let starts = bytes_asked_for(&server);
    assert!(starts.len() == 1 && starts[0] > 3_000_000, "{starts:?}");
}

#[test]
fn another_digest_than_the_hub_tells_is_refused_and_forgotten() {
    let (server, scratch) = (Server::start(), Scratch::new("digest"));
    let weights = publish(&server);
    server.pretend_digest("model.safetensors", &"ab".repeat(32));
    let error = fetch(&client(&server), &scratch.cache(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Integrity);
    assert!(error.to_string().contains(&digest(&weights)), "{error}");
    server.pretend_digest("model.safetensors", &digest(&weights));
    server.requests();
    let folder = fetch(&client(&server), &scratch.cache(), &mut Vec::new()).unwrap();
    assert_is_the_model(&folder, &weights);
    assert!(bytes_asked_for(&server).contains(&0));
}

#[test]
fn a_file_that_changes_while_it_is_downloaded_is_refused() {
    let (server, scratch) = (Server::start(), Scratch::new("changes"));
    let mut weights = publish(&server);
    server.fail([Fault::Cut(usize::MAX), Fault::Cut(900_000)]);
    let (_, config, vocab) = model();
    let last = weights.len() - 1;
    weights[last] ^= 0x40;
    let client = client(&server);
    let error = fetch_repository(&client, "a/b", "main", Q8, &scratch.cache(), &mut |_| {
        let files = [
            ("model.safetensors", &weights[..]),
            ("config.json", config.as_bytes()),
            ("vocab.txt", &vocab[..]),
        ];
        server.add("a/b", &files);
    })
    .unwrap_err();
    assert!(error.kind() == ErrorKind::DownloadFailed && error.to_string().contains("changed"), "{error}");
}

#[test]
fn what_a_repository_lacks_is_said() {
    let (server, scratch) = (Server::start(), Scratch::new("lacks"));
    let (weights, config, vocab) = model();
    let refusal = |files: &[(&str, &[u8])]| {
        server.add("a/b", files);
        let error = fetch(&client(&server), &scratch.cache(), &mut Vec::new()).unwrap_err();
        (error.kind(), error.to_string())
    };
    let (config, vocab) = (config.as_bytes(), &vocab[..]);
    type Files<'a> = &'a [(&'a str, &'a [u8])];
    let cases: [(Files<'_>, ErrorKind, &str); 6] = [
        (&[], ErrorKind::DownloadFailed, "it has no files"),
        (
            &[("README.md", b"")],
            ErrorKind::DownloadFailed,
            "no model.safetensors nor pytorch_model.bin; it has README.md",
        ),
        (
            &[("model.safetensors", &weights), ("vocab.txt", vocab)],
            ErrorKind::DownloadFailed,
            "no config.json",
        ),
        (
            &[("model.safetensors", &weights), ("config.json", config)],
            ErrorKind::DownloadFailed,
            "no vocab.txt",
        ),
        (
            &[("model.safetensors", &weights), ("config.json", config), ("vocab.txt", b"[PAD]\n")],
            ErrorKind::BadVocabulary,
            "[DEC]",
        ),
        (
            &[("model.safetensors", &[7; 20_000]), ("config.json", config), ("vocab.txt", vocab)],
            ErrorKind::WeightsFormat,
            "header",
        ),
    ];
    for (files, kind, text) in cases {
        let (found, message) = refusal(files);
        assert!(found == kind && message.contains(text), "{message}");
    }
    let missing = fetch_repository(&client(&server), "no/body", "main", Q8, &scratch.cache(), &mut |_| {});
    let missing = missing.unwrap_err();
    assert!(
        missing.kind() == ErrorKind::DownloadFailed && missing.to_string().contains("HF_TOKEN"),
        "{missing}"
    );
    let nowhere = Client::new(
        "http://127.0.0.1:1",
        None,
        Patience { attempts: 2, ..patient(&server, 2, None).patience() },
    );
    let error = fetch(&nowhere, &scratch.cache(), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("2 times in a row"), "{error}");
}

#[test]
fn a_token_is_shown_to_the_endpoint_only() {
    let (server, scratch) = (Server::start(), Scratch::new("token"));
    publish(&server);
    fetch(&patient(&server, 2, Some("secret")), &scratch.cache(), &mut Vec::new()).unwrap();
    let requests = server.requests();
    for request in &requests {
        let shown = request.headers.get("authorization").is_some_and(|value| value == "Bearer secret");
        assert_eq!(shown, !request.path.starts_with("/cdn/"), "{request:?}");
    }
    assert!(requests.iter().any(|request| request.path.starts_with("/cdn/")));
}

#[test]
fn pickles_and_heads_that_are_not_tied_come_from_repositories_too() {
    let (server, scratch) = (Server::start(), Scratch::new("pickle"));
    let (path, weights, config) = checkpoint("caption_untied", "pytorch_model.bin");
    let parsed = BlipConfig::from_json(&config).unwrap();
    let words = parsed.text_config.vocab_size;
    let mut vocab: Vec<String> = (0..words).map(|id| format!("word{id}")).collect();
    vocab[parsed.text_config.bos_token_id as usize] = "[DEC]".to_owned();
    let enc = vocab.iter().rposition(|word| word.starts_with("word")).unwrap();
    vocab[enc] = "[ENC]".to_owned();
    let vocab = vocab.join("\n");
    server.add(
        "a/b",
        &[
            ("pytorch_model.bin", &weights),
            ("config.json", config.as_bytes()),
            ("vocab.txt", vocab.as_bytes()),
        ],
    );
    let client = client(&server);
    let repository = Repository::look_up(&client, "a/b", "main").unwrap();
    let (out, mut notices) = (scratch.0.join("out"), Vec::new());
    // Into a folder that exists, twice.
    for id in ["first", "second"] {
        let about = (Some(id), Some("MIT"));
        let mut listener = |event: Event<'_>| {
            if let Event::Notice(text) = event {
                notices.push(text.to_owned());
            }
        };
        let folder = convert_repository(&client, &repository, Q8, about, &out, &mut listener).unwrap();
        let manifest =
            Manifest::from_json(&std::fs::read_to_string(folder.join("blip.json")).unwrap()).unwrap();
        assert_eq!((&*manifest.id, &*manifest.licence), (id, "MIT"));
    }
    assert!(notices.len() == 2 && notices[0].contains("not tied"), "{notices:?}");
    let whole = Checkpoint::open(&path).unwrap();
    let mut expected = Vec::new();
    Container::new(&parsed, &whole, Q8).unwrap().write("x", &mut expected, &mut |_| {}).unwrap();
    assert_eq!(tensors(std::fs::read(out.join("model.safetensors")).unwrap()), tensors(expected));
}

/// The smallest file that is taken for an original one: ViT-B at 16 pixels, a decoder, in the original's names.
fn original() -> (BlipConfig, Vec<u8>) {
    let mut config = BlipConfig::base();
    config.vision_config.image_size = 32;
    config.vision_config.layer_norm_eps = 1e-6;
    let mut weights = Vec::new();
    let random = random_checkpoint(&config, 8);
    let plain = Quantisation::uniform(Precision::F16);
    Container::new(&config, &random, plain).unwrap().write("x", &mut weights, &mut |_| {}).unwrap();
    (config, weights)
}

#[test]
fn a_file_without_anything_beside_it_is_converted_with_a_vocabulary() {
    if !slow() {
        return;
    }
    let (server, scratch) = (Server::start(), Scratch::new("file"));
    let (config, weights) = original();
    server.add_plain("/models/original.safetensors", &weights);
    let url = format!("{}/models/original.safetensors", server.endpoint());
    let vocab: String = (0..30_522).map(|id| format!("word{id}\n")).collect();
    let out = scratch.0.join("out");
    let options = ("mine", "MIT", Q8);
    server.fail([Fault::Cut(1), Fault::Cut(100_000_000)]);
    let made = convert_file(&client(&server), &url, vocab.as_bytes(), options, &out, &mut |_| {}).unwrap();
    let manifest = Manifest::from_json(&std::fs::read_to_string(made.join("blip.json")).unwrap()).unwrap();
    assert_eq!(manifest.config, config);
    let source = manifest.source.unwrap();
    assert!(
        source.repo == url && source.sha256 == digest(&weights) && source.revision.contains(&source.sha256)
    );
    let whole = Checkpoint::from_safetensors(weights).unwrap();
    let mut expected = Vec::new();
    Container::new(&config, &whole, Q8).unwrap().write("x", &mut expected, &mut |_| {}).unwrap();
    assert_eq!(tensors(std::fs::read(out.join("model.safetensors")).unwrap()), tensors(expected));
    let error = convert_file(&client(&server), &url, b"[PAD]\n", options, &out, &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::BadVocabulary);
}

/// A model directory on a plain server.
pub fn publish_directory(server: &Server) -> Vec<u8> {
    let folder = captioner::folder();
    for file in ["blip.json", "model.safetensors", "vocab.txt"] {
        server.add_plain(&format!("/models/captioner/{file}"), &std::fs::read(folder.join(file)).unwrap());
    }
    std::fs::read(folder.join("model.safetensors")).unwrap()
}

#[test]
fn a_model_directory_on_a_server_is_downloaded_and_cached() {
    let (server, scratch) = (Server::start(), Scratch::new("directory"));
    let weights = publish_directory(&server);
    let url = format!("{}/models/captioner/blip.json", server.endpoint());
    server.fail([Fault::Cut(300_000), Fault::Status(503, None), Fault::Status(503, None)]);
    let impatient = patient(&server, 2, None);
    let error = fetch_directory(&impatient, &url, &scratch.cache(), &mut |_| {}).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DownloadFailed);
    server.requests();
    let folder = fetch_directory(&impatient, &url, &scratch.cache(), &mut |_| {}).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), weights);
    let starts: Vec<u64> = server.requests().iter().map(|request| request.start()).collect();
    assert!(starts.contains(&300_000), "{starts:?}");
    // From the cache; without a network, too.
    assert_eq!(fetch_directory(&impatient, &url, &scratch.cache(), &mut |_| {}).unwrap(), folder);
    assert_eq!(server.requests().len(), 1);
    server.set_down(true);
    let mut notices = 0;
    let cached = fetch_directory(&impatient, &url, &scratch.cache(), &mut |event| {
        notices += usize::from(matches!(event, Event::Notice(_)));
    });
    assert!(cached.unwrap() == folder && notices == 1);
}

#[test]
fn a_model_directory_that_is_not_what_it_says_is_refused() {
    let (server, scratch) = (Server::start(), Scratch::new("refused"));
    let mut weights = publish_directory(&server);
    let url = format!("{}/models/captioner/blip.json", server.endpoint());
    let refusal = || fetch_directory(&client(&server), &url, &scratch.cache(), &mut |_| {}).unwrap_err();
    weights[1000] ^= 1;
    server.add_plain("/models/captioner/model.safetensors", &weights);
    assert_eq!(refusal().kind(), ErrorKind::Integrity);
    // What was wrong is not gone on with.
    publish_directory(&server);
    fetch_directory(&client(&server), &url, &scratch.cache(), &mut |_| {}).unwrap();
    let text = std::fs::read_to_string(captioner::folder().join("blip.json")).unwrap();
    for path in ["../escape", "/etc/passwd", "a/../../b", "c:\\x", "", "blip.json", "a%2fb"] {
        let path = serde_json::to_string(path).unwrap();
        server.add_plain("/models/captioner/blip.json", text.replace("\"vocab.txt\"", &path).as_bytes());
        assert_eq!(refusal().kind(), ErrorKind::BadConfig, "{path}");
    }
    server.add_plain("/models/captioner/blip.json", b"<html>");
    assert_eq!(refusal().kind(), ErrorKind::BadConfig);
}

#[test]
fn a_repository_with_a_model_directory_needs_no_conversion() {
    let (server, scratch) = (Server::start(), Scratch::new("ours"));
    let folder = captioner::folder();
    let files = ["blip.json", "model.safetensors", "vocab.txt"]
        .map(|name| (name, std::fs::read(folder.join(name)).unwrap()));
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(name, bytes)| (*name, &bytes[..])).collect();
    server.add("a/b", &borrowed);
    let fetched = fetch(&client(&server), &scratch.cache(), &mut Vec::new()).unwrap();
    for (name, bytes) in &files {
        assert_eq!(std::fs::read(fetched.join(name)).unwrap(), *bytes, "{name}");
    }
}
