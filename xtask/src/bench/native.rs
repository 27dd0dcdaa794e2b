//! Figures that need no browser: sizes on disk, the quality of quantised models, fractions of what a
//! GPU can do. One that cannot be had is the reason why.

use super::artefacts::{Artefacts, bytes_in};
use crate::process::{output, run};
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Held-out scenes of the small captioner's exam.
const SCENES: u32 = 500;
const F32_LOGITS: &str = "logits.f32";

/// Figures by name, each there or with the reason why not.
#[derive(Default)]
pub struct Native(BTreeMap<String, Result<f64, String>>);

impl Native {
    /// The figure of this name, or why there is none.
    pub fn value(&self, name: &str) -> Result<f64, String> {
        self.0.get(name).cloned().unwrap_or_else(|| Err(format!("{name} was not measured in this mode")))
    }

    /// All of them, for the report.
    pub fn json(&self) -> Value {
        let found =
            self.0.iter().filter_map(|(name, value)| Some((name.clone(), json!(value.as_ref().ok()?))));
        Value::Object(found.collect())
    }

    /// Puts a figure where a test needs one.
    #[cfg(test)]
    pub fn set_for_test(&mut self, name: &str, value: f64) {
        self.put(name, Ok(value));
    }

    fn put(&mut self, name: &str, value: Result<f64>) {
        let value = value.map_err(|error| format!("{error:#}").replace('\n', "; "));
        self.0.insert(name.to_owned(), value);
    }

    /// Every number of a flat JSON object, its name after `prefix`.
    fn put_all(&mut self, prefix: &str, names: &[&str], answer: Result<Value>) {
        match answer {
            Ok(answer) => {
                for name in names {
                    let value = answer[*name].as_f64().with_context(|| format!("no {name} in {answer}"));
                    self.put(&format!("{prefix}{name}"), value);
                }
            }
            Err(error) => {
                for name in names {
                    self.put(&format!("{prefix}{name}"), Err(anyhow::anyhow!("{error:#}")));
                }
            }
        }
    }
}

/// The command line tool of this checkout, built as for every other check.
pub fn blip(workspace: &Workspace) -> Command {
    let mut command = Command::new("cargo");
    command.current_dir(&workspace.root).args([
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

/// Takes every native figure; `quick` leaves out the exam of the small captioner.
pub fn measure(workspace: &Workspace, artefacts: &Artefacts, quick: bool) -> Native {
    let mut native = Native::default();
    for kind in ["mixed", "q8"] {
        let bytes = bytes_in(&artefacts.full_model(kind)).map(|bytes| bytes as f64);
        native.put(&format!("disk.ours.{kind}"), bytes);
    }
    for precision in ["q4", "int8"] {
        native.put(&format!("disk.theirs.{precision}"), graph_bytes(&artefacts.full_graphs(), precision));
    }
    native.put_all("logits.ours.", &["q8", "q4", "mixed"], our_logits(workspace, artefacts));
    native.put_all("logits.theirs.", &["int8", "q4", "f32"], their_logits(workspace, artefacts));
    native.put_all("kernels.", &["gemm", "gemv", "software"], kernel_fractions(workspace));
    if !quick {
        for kind in ["f32", "q8", "q4"] {
            native.put(&format!("captioner.{kind}"), exact_captions(workspace, artefacts, kind));
        }
    }
    native
}

fn graph_bytes(folder: &Path, precision: &str) -> Result<f64> {
    let sizes = ["vision", "crosskv", "step"].map(|part| {
        let path = folder.join(format!("{part}.{precision}.onnx"));
        fs::metadata(&path).map(|file| file.len()).with_context(|| format!("no {}", path.display()))
    });
    sizes.into_iter().try_fold(0.0, |sum, size| Ok(sum + size? as f64))
}

/// Relative errors of our quantised models against our own f32, whose logits are kept.
fn our_logits(workspace: &Workspace, artefacts: &Artefacts) -> Result<Value> {
    let models = ["q8", "q4", "mixed"].map(|kind| artefacts.full_model(kind));
    last_json(
        blip(workspace)
            .args(["probe", "logits", "--write"])
            .arg(artefacts.folder.join(F32_LOGITS))
            .arg(artefacts.full_checkpoint())
            .args(models),
    )
}

/// Those of onnxruntime's quantised graphs against its own f32; and `f32`, that of ours from theirs.
fn their_logits(workspace: &Workspace, artefacts: &Artefacts) -> Result<Value> {
    let mut command = artefacts.script(workspace, "forward.py");
    command.args(["--precisions", "int8,q4", "--graphs"]).arg(artefacts.full_graphs());
    let ours = artefacts.folder.join(F32_LOGITS);
    if ours.is_file() {
        command.arg("--compare").arg(ours);
    }
    last_json(&mut command)
}

/// What our matrix kernels reach of a pure multiply-add loop and of a copy on the native adapter.
fn kernel_fractions(workspace: &Workspace) -> Result<Value> {
    last_json(blip(workspace).args(["probe", "kernels"]))
}

/// Per cent of held-out scenes that the captioner of the tests, which comes in halves, captions exactly
/// with its weights stored as `kind`.
fn exact_captions(workspace: &Workspace, artefacts: &Artefacts, kind: &str) -> Result<f64> {
    let model = artefacts.folder.join(format!("captioner-{kind}"));
    run(blip(workspace)
        .args(["convert", "--dtype", kind, "--out"])
        .arg(&model)
        .arg(workspace.path("tests/fixtures/models/captioner")))?;
    let answer = last_json(
        blip(workspace)
            .args(["scenes", "evaluate", "--world", "v0", "--count", &SCENES.to_string(), "--icons"])
            .arg(workspace.path("node_modules/@iconify-json"))
            .arg("--model")
            .arg(&model),
    )?;
    let (exact, total) = (answer["all"]["exact"].as_f64(), answer["all"]["total"].as_f64());
    let (exact, total) = exact.zip(total).with_context(|| format!("no share in {answer}"))?;
    ensure!(total > 0.0, "no scene was captioned");
    Ok(100.0 * exact / total)
}

/// The last line of a program's output, which is JSON.
fn last_json(command: &mut Command) -> Result<Value> {
    let text = output(command)?;
    let line = text.lines().rev().find(|line| line.starts_with('{')).context("it printed no JSON")?;
    Ok(serde_json::from_str(line)?)
}
