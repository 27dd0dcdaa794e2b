//! What was downloaded and is damaged since, on the disk or on the way: noticed, and read again alone.

use std::path::{Path, PathBuf};

use blip_tests::corpus::fixtures;
use blip_web::device::{DeviceKind, OpenDevice, block_on};
use blip_web::hub::{Cache, Event, Models, fetch_directory};
use blip_web::tasks::Task;
use blip_web::{ErrorKind, Result};

use super::downloads::{Scratch, assert_is_the_model, client, fetch, publish, publish_directory};
use super::server::{Fault, Server};

const CHUNK: u64 = 4 << 20;

/// A model directory behind `/models/captioner`, and its address.
fn directory(server: &Server) -> (Vec<u8>, String) {
    (publish_directory(server), format!("{}/models/captioner/blip.json", server.endpoint()))
}

/// Changes a byte of a file.
fn damage(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

/// File and first byte of each request, but for the manifest.
fn asked(server: &Server) -> Vec<(String, u64)> {
    let name = |path: &str| path.rsplit('/').next().unwrap_or_default().to_owned();
    let requests = server.requests().into_iter().map(|request| (name(&request.path), request.start()));
    requests.filter(|(name, _)| name != "blip.json").collect()
}

fn weights(start: u64) -> (String, u64) {
    ("model.safetensors".to_owned(), start)
}

#[test]
fn a_damaged_chunk_is_read_again_alone() {
    let (server, scratch) = (Server::start(), Scratch::new("chunk"));
    let (bytes, url) = directory(&server);
    let cache = scratch.cache();
    let fetch = || fetch_directory(&client(&server), &url, &cache, &mut |_| {}).unwrap();
    let folder = fetch();
    assert!(cache.check(&folder).unwrap());
    for at in [5, CHUNK as usize + 5] {
        damage(&folder.join("model.safetensors"), at);
        assert!(!cache.check(&folder).unwrap());
        server.requests();
        assert_eq!(fetch(), folder);
        assert_eq!(asked(&server), [weights(at as u64 / CHUNK * CHUNK)]);
        assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), bytes);
        assert!(cache.check(&folder).unwrap());
    }
    // A file of its own, which has no chunks.
    damage(&folder.join("vocab.txt"), 3);
    assert!(!cache.check(&folder).unwrap());
    server.requests();
    assert_eq!(fetch(), folder);
    assert_eq!(asked(&server), [("vocab.txt".to_owned(), 0)]);
}

#[test]
fn a_file_of_another_size_is_noticed_at_once_and_completed() {
    let (server, scratch) = (Server::start(), Scratch::new("size"));
    let (bytes, url) = directory(&server);
    let cache = scratch.cache();
    let fetch = || fetch_directory(&client(&server), &url, &cache, &mut |_| {}).unwrap();
    let path = fetch().join("model.safetensors");
    for (length, expected) in
        [(bytes.len() - 9, vec![weights(bytes.len() as u64 - 9)]), (bytes.len() + 9, vec![])]
    {
        let mut changed = bytes.clone();
        changed.resize(length, 7);
        std::fs::write(&path, changed).unwrap();
        server.requests();
        fetch();
        assert_eq!(asked(&server), expected);
        assert_eq!(std::fs::read(&path).unwrap(), bytes);
    }
    std::fs::remove_file(path.with_file_name("vocab.txt")).unwrap();
    server.requests();
    fetch();
    assert_eq!(asked(&server), [("vocab.txt".to_owned(), 0)]);
}

#[test]
fn a_chunk_that_arrives_damaged_is_asked_for_once_more() {
    let (server, scratch) = (Server::start(), Scratch::new("arrives"));
    let (bytes, url) = directory(&server);
    server.fail([Fault::Wrong(100)]);
    let fetch = |cache: Cache| fetch_directory(&client(&server), &url, &cache, &mut |_| {});
    let folder = fetch(scratch.cache()).unwrap();
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), bytes);
    let expected = [weights(0), weights(0), ("vocab.txt".to_owned(), 0)];
    assert_eq!(asked(&server), expected);

    // What is wrong on the server is refused, and what was right is not asked for again.
    let scratch = Scratch::new("wrong");
    let mut wrong = bytes.clone();
    wrong[CHUNK as usize] ^= 1;
    server.add_plain("/models/captioner/model.safetensors", &wrong);
    let error = fetch(scratch.cache()).unwrap_err();
    assert!(
        error.kind() == ErrorKind::Integrity && error.to_string().contains("from byte 4194304"),
        "{error}"
    );
    assert_eq!(asked(&server), [weights(0), weights(CHUNK)]);
    server.add_plain("/models/captioner/model.safetensors", &bytes);
    let folder = fetch(scratch.cache()).unwrap();
    assert_eq!(asked(&server), [weights(CHUNK), ("vocab.txt".to_owned(), 0)]);
    assert_eq!(std::fs::read(folder.join("model.safetensors")).unwrap(), bytes);
}

/// The notices of opening a model, and whether that went well.
fn opened(models: &Models, name: &str) -> (Vec<String>, Result<Vec<Task>>) {
    let device = block_on(OpenDevice::open(DeviceKind::Cpu)).unwrap();
    let mut notices = Vec::new();
    let mut listener = |event: Event<'_>| {
        if let Event::Notice(text) = event {
            notices.push(text.to_owned());
        }
    };
    let session = models.open(name, &device, &mut listener);
    (notices, session.map(|session| session.tasks()))
}

#[test]
fn a_model_that_was_damaged_in_the_cache_is_mended_when_it_is_opened() {
    let (server, scratch) = (Server::start(), Scratch::new("mended"));
    let checkpoint = publish(&server);
    let models = Models::new(client(&server), scratch.cache());
    assert_eq!(opened(&models, "a/b").1.unwrap(), [Task::Caption]);
    let folder = fetch(&client(&server), &scratch.cache(), &mut Vec::new()).unwrap();
    for damaged in ["model.safetensors", "vocab.txt"] {
        damage(&folder.join(damaged), 20);
        let (notices, tasks) = opened(&models, "a/b");
        assert_eq!(tasks.unwrap(), [Task::Caption], "{damaged}");
        assert!(notices.len() == 1 && notices[0].contains("is damaged"), "{notices:?}");
        assert_is_the_model(&folder, &checkpoint);
        server.requests();
        assert!(opened(&models, "a/b").0.is_empty());
        assert_eq!(server.requests().len(), 1, "whole again, it is in the cache");
    }
    // Without a network there is nothing to mend it with, and nothing wrong is used.
    damage(&folder.join("model.safetensors"), 20);
    server.set_down(true);
    assert_eq!(opened(&models, "a/b").1.unwrap_err().kind(), ErrorKind::DownloadFailed);
    server.set_down(false);
    assert_eq!(opened(&models, "a/b").1.unwrap(), [Task::Caption]);
    assert_is_the_model(&folder, &checkpoint);
}

#[test]
fn several_models_are_opened_each_for_its_tasks() {
    let (server, scratch) = (Server::start(), Scratch::new("several"));
    let networks = fixtures().join("networks");
    let read = |path: &str| std::fs::read(networks.join(path)).unwrap();
    for network in ["caption", "itm"] {
        let files =
            ["model.safetensors", "config.json"].map(|file| (file, read(&format!("{network}/{file}"))));
        let files = files.into_iter().chain([("vocab.txt", read("vocab.txt"))]).collect();
        server.add_owned(&format!("owner/{network}"), files);
    }
    let models = Models::new(client(&server), scratch.cache());
    let tasks = |name: &str| opened(&models, name).1;
    assert_eq!(tasks("caption=owner/caption,itm=owner/itm").unwrap(), [Task::Caption, Task::Itm]);
    assert_eq!(tasks("owner/caption,owner/itm").unwrap(), [Task::Caption, Task::Itm, Task::Itc]);
    for (name, kind) in [
        ("vqa=owner/caption", ErrorKind::TaskUnsupported),
        ("owner/itm,owner/itm", ErrorKind::BadOption),
        ("no model at all", ErrorKind::BadOption),
        ("owner/other", ErrorKind::DownloadFailed),
        ("https://example.org/model.pth", ErrorKind::BadOption),
    ] {
        assert_eq!(tasks(name).unwrap_err().kind(), kind, "{name}");
    }
    // On this machine, as it came from the hub.
    let here: PathBuf = scratch.0.join("here");
    std::fs::create_dir_all(&here).unwrap();
    for (file, from) in [
        ("model.safetensors", "vqa/model.safetensors"),
        ("config.json", "vqa/config.json"),
        ("vocab.txt", "vocab.txt"),
    ] {
        std::fs::copy(networks.join(from), here.join(file)).unwrap();
    }
    assert_eq!(tasks(here.to_str().unwrap()).unwrap(), [Task::Vqa]);
    std::fs::remove_file(here.join("vocab.txt")).unwrap();
    assert_eq!(tasks(here.to_str().unwrap()).unwrap_err().kind(), ErrorKind::Io);
}
