//! `cargo xtask golden`: the public checkpoints say what is published of them.
//!
//! Downloads gigabytes, converts them as f32 through the command line tool, and keeps them in the target
//! directory. Without a network it says so and succeeds.

mod rows;

use std::fs;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use self::rows::{Checkpoint, Expected, GOLDENS, Golden, Picture};
use crate::process::{output, run};
use crate::tally::Tally;
use crate::workspace::Workspace;

const HUB: &str = "https://huggingface.co";
/// Where the original's files are, and LAVIS's.
const BUCKET: &str = "https://storage.googleapis.com/sfr-vision-language-research";
/// Every published checkpoint has the same words; original files come without them.
const WORDS: &str = "Salesforce/blip-image-captioning-base/resolve/main/vocab.txt";

impl Checkpoint {
    /// Its name on the terminal.
    fn name(self) -> &'static str {
        match self {
            Self::Hub(name) => name,
            Self::Original(path) => path.rsplit('/').next().unwrap_or(path),
        }
    }
}

impl Picture {
    /// Its name on this machine, and its address.
    fn place(self) -> (&'static str, String) {
        match self {
            Self::Beach => ("demo.jpg", format!("{BUCKET}/BLIP/demo.jpg")),
            Self::Merlion => {
                let address =
                    "https://raw.githubusercontent.com/salesforce/LAVIS/main/docs/_static/merlion.png";
                ("merlion.png", address.to_owned())
            }
        }
    }
}

/// Where everything is kept, and where it comes from.
struct Place<'a> {
    workspace: &'a Workspace,
    folder: PathBuf,
    endpoint: String,
}

/// Runs every question, and says where answers part.
pub fn check(workspace: &Workspace) -> Result<Tally> {
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| HUB.to_owned());
    for place in [&*endpoint, BUCKET] {
        if let Err(reason) = reachable(place) {
            return Ok(Tally::skip(&format!("{place} cannot be reached: {reason:#}")));
        }
    }
    let folder = workspace.target.join("golden");
    fs::create_dir_all(&folder)?;
    let place = Place { workspace, folder, endpoint };
    let mut tally = Tally::default();
    for golden in GOLDENS {
        let (name, address) = golden.picture.place();
        let picture = match place.downloaded(name, &address) {
            Ok(picture) => picture,
            // A host of its own, which may be out of reach when the others are not.
            Err(reason) => {
                tally += Tally::skip(&format!("{address} cannot be downloaded: {reason:#}"));
                continue;
            }
        };
        let held = place.held(golden, &picture).unwrap_or_else(|error| {
            println!("FAILED {}: {error:#}", golden.checkpoint.name());
            false
        });
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

impl Place<'_> {
    fn held(&self, golden: &Golden, picture: &Path) -> Result<bool> {
        let model = self.converted(golden.checkpoint)?;
        let lines = output(
            self.blip()
                .args(golden.command.split_whitespace())
                .args(golden.texts)
                .args(["--json", "--model"])
                .arg(&model)
                .arg(picture),
        )?;
        let line = lines.lines().find(|line| line.starts_with('{')).context("no result")?;
        let answer: Value = serde_json::from_str(line)?;
        let (held, found) = compare(&answer, &golden.expected);
        let mark = if held { "ok    " } else { "FAILED" };
        let task = golden.command.split(' ').next().unwrap_or_default();
        println!("{mark} {} {task} {}: {found}", golden.checkpoint.name(), golden.texts.join(" "));
        Ok(held)
    }

    /// A file at an address, from an earlier run or downloaded.
    fn downloaded(&self, name: &str, address: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if !path.exists() {
            let fresh = self.folder.join(format!("{name}.new"));
            run(Command::new("curl").args(["-fsSL", "-o"]).arg(&fresh).arg(address))?;
            fs::rename(&fresh, &path)?;
        }
        Ok(path)
    }

    /// The checkpoint as f32, from an earlier run or converted while it is downloaded.
    fn converted(&self, checkpoint: Checkpoint) -> Result<PathBuf> {
        let model = self.folder.join(checkpoint.name().replace('/', "--"));
        if !model.join("blip.json").exists() {
            let mut convert = self.blip();
            convert.args(["convert", "--dtype", "f32", "--out"]).arg(&model);
            match checkpoint {
                Checkpoint::Hub(repo) => convert.arg(repo),
                Checkpoint::Original(path) => {
                    let words = self.downloaded("vocab.txt", &format!("{}/{WORDS}", self.endpoint))?;
                    convert.arg(format!("{BUCKET}/{path}")).arg("--vocab").arg(words)
                }
            };
            run(&mut convert)?;
        }
        ensure!(model.join("blip.json").exists(), "{} has no blip.json", model.display());
        Ok(model)
    }

    fn blip(&self) -> Command {
        let mut command = Command::new("cargo");
        command.current_dir(&self.workspace.root).args([
            "run",
            "--quiet",
            "--package",
            "blip-web",
            "--features",
            "train",
            "--bin",
            "blip",
            "--",
        ]);
        command
    }
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
        Expected::Mean(expected) => {
            let values: Vec<f64> =
                result["values"].as_array().into_iter().flatten().filter_map(Value::as_f64).collect();
            // Of no numbers there is no mean.
            let found = values.iter().sum::<f64>() / values.len() as f64;
            let held = (found - expected).abs() <= 0.1 * expected.abs();
            (held, format!("{} numbers of mean {found:.6}, expected {expected}", values.len()))
        }
    }
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
        let mean = Expected::Mean(-0.02);
        let answer = |second: f64| json!({"result": {"shape": [2], "values": [-0.03, second]}});
        assert!(compare(&answer(-0.009), &mean).0);
        assert!(!compare(&answer(-0.005), &mean).0);
        assert!(!compare(&json!({"result": {"values": []}}), &mean).0);
    }

    #[test]
    fn every_question_is_one_that_the_command_line_knows() {
        for golden in GOLDENS {
            let task = golden.command.split(' ').next().unwrap_or_default();
            let fits = match golden.expected {
                Expected::Text(_) => ["caption", "ask"].contains(&task),
                Expected::Scores(_) => task == "match",
                Expected::Mean(_) => task == "embed",
            };
            assert!(fits, "{}", golden.command);
            let (pairs, rest) = golden.texts.as_chunks::<2>();
            assert!(rest.is_empty() && pairs.iter().all(|[option, _]| option.starts_with("--")));
        }
    }

    #[test]
    fn nobody_answers_where_nobody_is() {
        assert!(reachable("http://127.0.0.1:1").is_err() || std::env::var_os("HTTPS_PROXY").is_some());
        assert!(reachable("nonsense").is_err() || std::env::var_os("HTTPS_PROXY").is_some());
    }
}
