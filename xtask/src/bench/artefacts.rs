//! What the comparison needs and is made once: packages, an interpreter, one random checkpoint, and
//! its models for both engines.
//!
//! Everything lies in `<target>/bench`. Each folder remembers what it was made from and is made again
//! when that changes.

use super::native::blip;
use crate::process::{output, run};
use crate::setup::digest;
use crate::workspace::{Workspace, read};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Any seed would do; every artefact has it.
const SEED: &str = "7";
/// What decides on the numbers in a model directory.
const WEIGHTS: &[&str] = &["crate/src/convert.rs", "crate/src/weights"];
/// The size of the published base models.
const FULL: u32 = 384;
/// Small enough for a software GPU to encode.
const MEDIUM: u32 = 224;
/// Where only the decoder matters.
const SMALL: u32 = 64;

/// Where everything is.
pub struct Artefacts {
    /// `<target>/bench`: `checkpoint-*`, `onnx-*` and `ours-*`, each with its image size at the end.
    pub folder: PathBuf,
    /// The files of onnxruntime-web.
    pub onnxruntime: PathBuf,
    /// The Python that has onnx and onnxruntime.
    pub python: PathBuf,
}

impl Artefacts {
    /// Makes what is missing or out of date.
    pub fn prepare(workspace: &Workspace, quick: bool) -> Result<Self> {
        let folder = workspace.target.join("bench");
        fs::create_dir_all(&folder)?;
        let onnxruntime = onnxruntime_web(workspace, &folder)?;
        let python = python(workspace, &folder)?;
        let artefacts = Self { folder, onnxruntime, python };
        artefacts.checkpoint(workspace, FULL)?;
        artefacts.graphs(workspace, FULL, "vision,crosskv,step", &["int8", "q4"])?;
        for kind in ["q8", "q4"] {
            artefacts.ours(workspace, kind, FULL)?;
        }
        artefacts.ours(workspace, "mixed", FULL)?;
        artefacts.ours(workspace, "mixed", SMALL)?;
        if !quick {
            artefacts.checkpoint(workspace, MEDIUM)?;
            artefacts.graphs(workspace, MEDIUM, "vision", &["q4"])?;
            artefacts.ours(workspace, "mixed", MEDIUM)?;
        }
        Ok(artefacts)
    }

    /// The full-size ONNX graphs.
    pub fn full_graphs(&self) -> PathBuf {
        self.folder.join(format!("onnx-{FULL}"))
    }

    /// Our full-size model of a kind: `q8`, `q4` or `mixed`.
    pub fn full_model(&self, kind: &str) -> PathBuf {
        self.folder.join(format!("ours-{kind}-{FULL}"))
    }

    /// The full-size f32 checkpoint.
    pub fn full_checkpoint(&self) -> PathBuf {
        self.folder.join(format!("checkpoint-{FULL}"))
    }

    /// Random weights as f32 in Hugging Face's layout.
    fn checkpoint(&self, workspace: &Workspace, size: u32) -> Result<()> {
        self.convert(workspace, &format!("checkpoint-{size}"), size, &["--id", "f32", "--dtype", "f32"])
    }

    /// ONNX graphs of a checkpoint: f32 and the given precisions.
    fn graphs(&self, workspace: &Workspace, size: u32, parts: &str, precisions: &[&str]) -> Result<()> {
        let sources = [WEIGHTS, &["bench/ort/graphs.py", "bench/ort/quantise.py"]].concat();
        let recipe = format!("{SEED} {parts} {}", precisions.join(" "));
        made(workspace, &self.folder.join(format!("onnx-{size}")), &sources, &recipe, |out| {
            let checkpoint = self.folder.join(format!("checkpoint-{size}"));
            let mut command = self.script(workspace, "graphs.py");
            run(command.args(["--parts", parts, "--checkpoint"]).arg(checkpoint).arg("--out").arg(out))?;
            let graphs = parts.split(',').map(|part| out.join(format!("{part}.fp32.onnx")));
            let graphs: Vec<PathBuf> = graphs.collect();
            for precision in precisions {
                run(self.script(workspace, "quantise.py").args(["--to", precision]).args(&graphs))?;
            }
            Ok(())
        })
    }

    /// A model directory of ours: all 8 bit (`q8`), all 4 bit (`q4`), or 8-bit vision with 4-bit text.
    fn ours(&self, workspace: &Workspace, kind: &str, size: u32) -> Result<()> {
        let dtype: &[&str] = match kind {
            "mixed" => &["--id", "mixed", "--vision", "q8", "--text", "q4"],
            kind => &["--id", kind, "--dtype", kind],
        };
        self.convert(workspace, &format!("ours-{kind}-{size}"), size, dtype)
    }

    /// BLIP-base with seeded random weights at an image size; the same seed gives every size and
    /// precision the same network.
    fn convert(&self, workspace: &Workspace, name: &str, size: u32, options: &[&str]) -> Result<()> {
        let recipe = format!("{SEED} {}", options.join(" "));
        made(workspace, &self.folder.join(name), WEIGHTS, &recipe, |out| {
            let shape = if size == FULL { PathBuf::from("base") } else { self.resized_config(size)? };
            run(blip(workspace)
                .args(["convert", "--seed", SEED, "--licence", "CC0-1.0"])
                .args(options)
                .arg("--random")
                .arg(shape)
                .arg("--out")
                .arg(out))
        })
    }

    /// The configuration of the full-size checkpoint with another image size, as a file.
    fn resized_config(&self, size: u32) -> Result<PathBuf> {
        let manifest = read(&self.full_checkpoint().join("blip.json"))?;
        let mut config = serde_json::from_str::<Value>(&manifest)?["config"].take();
        config["vision_config"]["image_size"] = json!(size);
        let path = self.folder.join(format!("config-{size}.json"));
        fs::write(&path, config.to_string())?;
        Ok(path)
    }

    /// A script of `bench/ort` about to be run.
    pub fn script(&self, workspace: &Workspace, name: &str) -> Command {
        let mut command = Command::new(&self.python);
        command.current_dir(&workspace.root).arg(workspace.path("bench/ort").join(name));
        command
    }
}

/// Lets `make` fill a folder unless it was made from the same recipe and sources before.
fn made(
    workspace: &Workspace,
    folder: &Path,
    sources: &[&str],
    recipe: &str,
    make: impl FnOnce(&Path) -> Result<()>,
) -> Result<()> {
    let mut ingredients = recipe.to_owned();
    for source in sources {
        ingredients += &source_text(&workspace.path(source))?;
    }
    let (stamp, ingredients) = (folder.join(".made-from"), digest(ingredients.as_bytes()));
    if fs::read_to_string(&stamp).is_ok_and(|before| before == ingredients) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    println!("making: {}", folder.display());
    make(folder)?;
    fs::write(stamp, ingredients)?;
    Ok(())
}

/// The text of a file, or of all files in a folder, in order.
fn source_text(path: &Path) -> Result<String> {
    if !path.is_dir() {
        return read(path);
    }
    let mut entries: Vec<PathBuf> =
        fs::read_dir(path)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    entries.sort();
    entries.iter().map(|entry| source_text(entry)).collect()
}

/// onnxruntime-web of `bench/ort/package-lock.json`, beside the target and not among our own tools.
fn onnxruntime_web(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    let (packages, home) = (["package.json", "package-lock.json"], folder.join("npm"));
    let sources = &["bench/ort/package-lock.json"];
    made(workspace, &home, sources, "npm ci", |home| {
        for name in packages {
            fs::copy(workspace.path("bench/ort").join(name), home.join(name))?;
        }
        println!("installing: onnxruntime-web");
        run(Command::new("npm").current_dir(home).args([
            "ci",
            "--ignore-scripts",
            "--no-audit",
            "--no-fund",
            "--loglevel=error",
        ]))
    })?;
    Ok(home.join("node_modules/onnxruntime-web/dist"))
}

/// The interpreter in `BLIP_BENCH_PYTHON`, or one of our own with `bench/ort/requirements.txt`.
fn python(workspace: &Workspace, folder: &Path) -> Result<PathBuf> {
    if let Some(named) = env::var_os("BLIP_BENCH_PYTHON").map(PathBuf::from) {
        output(Command::new(&named).args(["-c", "import numpy, onnx, onnxruntime"])).with_context(|| {
            format!("BLIP_BENCH_PYTHON is {}; it needs bench/ort/requirements.txt", named.display())
        })?;
        return Ok(named);
    }
    let home = folder.join("venv");
    let python = home.join(if cfg!(windows) { "Scripts/python.exe" } else { "bin/python" });
    made(workspace, &home, &["bench/ort/requirements.txt"], "venv", |home| {
        println!("installing: Python packages of bench/ort/requirements.txt");
        run(Command::new("python3").args(["-m", "venv"]).arg(home))
            .context("Python 3 with its venv module is needed to write ONNX graphs")?;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"])
            .arg(workspace.path("bench/ort/requirements.txt")))
    })?;
    Ok(python)
}

/// Bytes of all files in a folder whose names do not begin with a dot.
pub fn bytes_in(folder: &Path) -> Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let entry = entry?;
        if !entry.file_name().to_string_lossy().starts_with('.') {
            sum += entry.metadata()?.len();
        }
    }
    Ok(sum)
}
