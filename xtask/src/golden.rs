//! `cargo xtask golden`: the public checkpoints say what the reference's own tests say they do.
//!
//! Downloads gigabytes, converts them as f32 through the command line tool, and keeps them in the target
//! directory. Without a network it says so and succeeds.

use std::fs;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::process::{output, run};
use crate::tally::Tally;
use crate::workspace::Workspace;

/// The picture of the reference's tests: a woman and a dog on a beach.
const PICTURE: &str = "https://storage.googleapis.com/sfr-vision-language-research/BLIP/demo.jpg";
const HUB: &str = "https://huggingface.co";

/// A question to a checkpoint, and what transformers' own tests expect.
struct Golden {
    repo: &'static str,
    arguments: &'static [&'static str],
    expected: Expected,
}

enum Expected {
    /// The text of the first result.
    Text(&'static str),
    /// ITM probability and ITC cosine, each within a thousandth.
    Scores([f64; 2]),
}

const GOLDENS: &[Golden] = &[
    Golden {
        repo: "Salesforce/blip-image-captioning-base",
        arguments: &["caption", "--beams", "1", "--min-length", "1", "--max-length", "20"],
        expected: Expected::Text("a woman sitting on the beach with her dog"),
    },
    Golden {
        repo: "Salesforce/blip-image-captioning-base",
        arguments: &[
            "caption",
            "--prompt",
            "a picture of",
            "--beams",
            "1",
            "--min-length",
            "1",
            "--max-length",
            "20",
        ],
        // Results leave the prompt out.
        expected: Expected::Text("a woman and her dog on the beach"),
    },
    Golden {
        repo: "Salesforce/blip-vqa-base",
        arguments: &[
            "ask",
            "--question",
            "how many dogs are in the picture?",
            "--convention",
            "hf",
            "--beams",
            "1",
        ],
        expected: Expected::Text("1"),
    },
    Golden {
        repo: "Salesforce/blip-itm-base-coco",
        arguments: &["match", "--text", "A woman and her dog sitting in a beach", "--convention", "hf"],
        expected: Expected::Scores([0.9971, 0.5162]),
    },
];

/// Runs every question, and says where answers part.
pub fn check(workspace: &Workspace) -> Result<Tally> {
    let folder = workspace.target.join("golden");
    fs::create_dir_all(&folder)?;
    let picture = folder.join("demo.jpg");
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| HUB.to_owned());
    if let Err(reason) = reachable(&endpoint) {
        return Ok(Tally::skip(&format!("{endpoint} cannot be reached: {reason}")));
    }
    if !picture.exists() {
        let fresh = folder.join("demo.jpg.new");
        if let Err(reason) = run(Command::new("curl").args(["-fsSL", "-o"]).arg(&fresh).arg(PICTURE)) {
            return Ok(Tally::skip(&format!("{PICTURE} cannot be downloaded: {reason:#}")));
        }
        fs::rename(&fresh, &picture)?;
    }
    let mut tally = Tally::default();
    for golden in GOLDENS {
        let held = match held(workspace, golden, &folder, &picture) {
            Ok(held) => held,
            Err(error) => {
                println!("FAILED {}: {error:#}", golden.repo);
                false
            }
        };
        tally += Tally::one(held);
    }
    Ok(tally)
}

/// Whether somebody answers there; behind a proxy, only the proxy can tell.
fn reachable(endpoint: &str) -> Result<()> {
    let is_proxied = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()));
    if is_proxied {
        return Ok(());
    }
    let (scheme, rest) = endpoint.split_once("://").context("it is no address")?;
    let host = rest.split('/').next().unwrap_or_default();
    let port = if scheme == "http" { 80 } else { 443 };
    let place = if host.contains(':') { host.to_owned() } else { format!("{host}:{port}") };
    let address = place.to_socket_addrs()?.next().context("the name has no address")?;
    TcpStream::connect_timeout(&address, Duration::from_secs(10))?;
    Ok(())
}

fn held(workspace: &Workspace, golden: &Golden, folder: &Path, picture: &Path) -> Result<bool> {
    let model = converted(workspace, golden.repo, folder)?;
    let lines =
        output(blip(workspace).args(golden.arguments).args(["--json", "--model"]).arg(&model).arg(picture))?;
    let line = lines.lines().find(|line| line.starts_with('{')).context("no result")?;
    let answer: Value = serde_json::from_str(line)?;
    let (held, found) = compare(&answer, &golden.expected);
    println!("{} {} {}: {found}", if held { "ok    " } else { "FAILED" }, golden.repo, golden.arguments[0]);
    Ok(held)
}

/// Whether an answer is the expected one, and what it says.
fn compare(answer: &Value, expected: &Expected) -> (bool, String) {
    let result = &answer["result"];
    match expected {
        Expected::Text(expected) => {
            let found = [&result["text"], &answer["caption"], &answer["text"]];
            let found = found.into_iter().find_map(Value::as_str).unwrap_or_default();
            (found == *expected, format!("`{found}`, expected `{expected}`"))
        }
        Expected::Scores(expected) => {
            let found = [&result[0]["itm"]["probability"], &result[0]["itc"]]
                .map(|value| value.as_f64().unwrap_or(f64::NAN));
            let held = found.iter().zip(expected).all(|(found, expected)| (found - expected).abs() <= 1e-3);
            (held, format!("{found:?}, expected {expected:?}"))
        }
    }
}

/// The checkpoint as f32, from an earlier run or the hub.
fn converted(workspace: &Workspace, repo: &str, folder: &Path) -> Result<PathBuf> {
    let model = folder.join(repo.replace('/', "--"));
    if !model.join("blip.json").exists() {
        run(blip(workspace).args(["convert", repo, "--dtype", "f32", "--out"]).arg(&model))?;
    }
    ensure!(model.join("blip.json").exists(), "{} has no blip.json", model.display());
    Ok(model)
}

fn blip(workspace: &Workspace) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(&workspace.root).args([
        "run",
        "--quiet",
        "--package",
        "blip-web",
        "--all-features",
        "--bin",
        "blip",
        "--",
    ]);
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn answers_are_compared_with_what_is_expected() {
        let text = Expected::Text("a dog");
        assert!(compare(&json!({"result": {"text": "a dog"}}), &text).0);
        assert!(compare(&json!({"caption": "a dog"}), &text).0);
        assert!(!compare(&json!({"result": {"text": "a cat"}}), &text).0);
        let scores = Expected::Scores([0.9971, 0.5162]);
        let answer = |itc: f64| json!({"result": [{"itm": {"probability": 0.9968}, "itc": itc}]});
        assert!(compare(&answer(0.517), &scores).0);
        assert!(!compare(&answer(0.519), &scores).0);
        assert!(!compare(&json!({"result": []}), &scores).0);
    }

    #[test]
    fn nobody_answers_where_nobody_is() {
        assert!(reachable("http://127.0.0.1:1").is_err() || std::env::var_os("HTTPS_PROXY").is_some());
        assert!(reachable("nonsense").is_err() || std::env::var_os("HTTPS_PROXY").is_some());
    }
}
