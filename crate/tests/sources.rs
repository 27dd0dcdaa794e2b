//! Where `--model` finds models: folders as they come from the hub, several at once, repositories, servers.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "a test may stop at what it did not expect")]

#[path = "../../tests/tests/hub/server.rs"]
#[allow(dead_code, reason = "the tests of the library ask more of it")]
mod server;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use server::Server;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)
}

/// A fresh folder for one test.
fn scratch(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("sources-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn picture() -> String {
    repository("tests/fixtures/networks/pictures/0.png").to_str().unwrap().to_owned()
}

/// The command in an environment of its own; `endpoint` is nowhere when there is none.
fn blip(arguments: &[&str], cache: &Path, endpoint: Option<&str>) -> Output {
    Command::new(env!("CARGO_BIN_EXE_blip"))
        .args(arguments)
        .env("HF_ENDPOINT", endpoint.unwrap_or("http://127.0.0.1:1"))
        .env("BLIP_CACHE", cache)
        .env_remove("HF_TOKEN")
        .output()
        .unwrap()
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refusal(output: &Output) -> String {
    assert!(!output.status.success());
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A folder as a clone of a repository has it.
fn cloned(folder: &Path, network: &str) -> String {
    let (from, to) = (repository("tests/fixtures/networks"), folder.join(network));
    std::fs::create_dir_all(&to).unwrap();
    for file in ["config.json", "model.safetensors"] {
        std::fs::copy(from.join(network).join(file), to.join(file)).unwrap();
    }
    std::fs::copy(from.join("vocab.txt"), to.join("vocab.txt")).unwrap();
    to.to_str().unwrap().to_owned()
}

#[test]
fn several_models_serve_one_task_each() {
    let folder = scratch("several");
    let [caption, vqa, itm] = ["caption", "vqa", "itm"].map(|network| cloned(&folder, network));
    let all = format!("caption={caption},vqa={vqa},itm={itm},itc={itm}");
    let (all, picture) = (all.as_str(), picture());
    let ask = ["ask", "-q", "what is it?", "--json", &picture, "--model"];
    let together = stdout(&blip(&[&ask[..], &[all]].concat(), &folder, None));
    assert_eq!(together, stdout(&blip(&[&ask[..], &[&vqa]].concat(), &folder, None)));
    let matched = ["match", "--text", "a dog", "--json", &picture, "--model"];
    let together = stdout(&blip(&[&matched[..], &[all]].concat(), &folder, None));
    let result: serde_json::Value = serde_json::from_str(&together).unwrap();
    assert!(result["result"][0]["itm"]["logit"].is_f64() && result["result"][0]["itc"].is_f64(), "{result}");
    stdout(&blip(&["caption", &picture, "--model", all], &folder, None));
    // Without the word in front, each serves what it was trained for.
    let plain = format!("{caption},{itm}");
    stdout(&blip(&[&matched[..], &[&plain]].concat(), &folder, None));

    let refused = |model: &str| refusal(&blip(&["caption", &picture, "--model", model], &folder, None));
    assert!(refused(&format!("vqa={caption},itm={itm}")).contains("[task-unsupported]"));
    assert!(refused(&format!("caption={caption},{caption}")).contains("named twice"));
    assert!(refused(&format!("{itm},vqa={vqa}")).contains("[task-unsupported]"));
    assert!(refused("what is this").contains("[bad-option]"));
    assert!(refused("no/folder").contains("[download-failed] there is no file or folder `no/folder`"));
}

#[test]
fn a_folder_without_a_vocabulary_says_so() {
    let folder = scratch("vocabulary");
    let model = cloned(&folder, "caption");
    std::fs::remove_file(Path::new(&model).join("vocab.txt")).unwrap();
    let refused = refusal(&blip(&["caption", &picture(), "--model", &model], &folder, None));
    assert!(refused.contains("vocab.txt"), "{refused}");
}

/// The captioner of the fixtures, on a hub.
fn publish(server: &Server) {
    let from = repository("tests/fixtures/networks");
    let read = |path: &str| std::fs::read(from.join(path)).unwrap();
    server.add(
        "owner/captioner",
        &[
            ("model.safetensors", &read("caption/model.safetensors")),
            ("config.json", &read("caption/config.json")),
            ("vocab.txt", &read("vocab.txt")),
        ],
    );
}

#[test]
fn a_repository_is_a_model_and_can_be_converted() {
    let (folder, server) = (scratch("repository"), Server::start());
    publish(&server);
    let (endpoint, picture) = (server.endpoint(), picture());
    let caption = |model: &str, endpoint: Option<&str>| {
        stdout(&blip(&["caption", "--min-length", "6", &picture, "--model", model], &folder, endpoint))
    };
    let first = caption("owner/captioner", Some(&endpoint));
    assert!(folder.join("models/owner--captioner").is_dir());
    server.requests();
    assert_eq!(caption("owner/captioner@main", Some(&endpoint)), first);
    assert_eq!(server.requests().len(), 1, "the second time it is in the cache");
    assert_eq!(caption("owner/captioner", None), first, "and stays there without a network");
    let entries = std::fs::read_dir(folder.join("models/owner--captioner")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path().join("model.safetensors"));
    let weights = paths.find(|path| path.exists()).unwrap();
    let mut bytes = std::fs::read(&weights).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    std::fs::write(&weights, bytes).unwrap();
    assert_eq!(caption("owner/captioner", Some(&endpoint)), first, "damage is mended");
    assert_eq!(caption("owner/captioner", None), first);

    let out = folder.join("converted");
    let out = out.to_str().unwrap();
    let arguments = ["convert", "owner/captioner", "--out", out, "--dtype", "q8", "--id", "mine"];
    let said = stdout(&blip(&arguments, &folder, Some(&endpoint)));
    assert!(said.contains("caption as q8"), "{said}");
    assert_eq!(caption(out, None), first);
    let inspected = stdout(&blip(&["inspect", out], &folder, None));
    assert!(inspected.contains("mine (q8, BSD-3-Clause)"), "{inspected}");
    let report = ["convert", "owner/captioner", "--out", out, "--report", "-"];
    assert!(refusal(&blip(&report, &folder, Some(&endpoint))).contains("--report"));
}

#[test]
fn a_server_with_a_model_directory_will_do() {
    let (folder, server) = (scratch("server"), Server::start());
    let tiny = repository("tests/fixtures/models/captioner");
    for file in ["blip.json", "model.safetensors", "vocab.txt"] {
        server.add_plain(&format!("/m/{file}"), &std::fs::read(tiny.join(file)).unwrap());
    }
    let picture = picture();
    let caption = |model: &str| stdout(&blip(&["caption", &picture, "--model", model], &folder, None));
    let here = caption(tiny.to_str().unwrap());
    assert_eq!(caption(&format!("{}/m", server.endpoint())), here);
    assert_eq!(caption(&format!("{}/m/blip.json", server.endpoint())), here);
}
