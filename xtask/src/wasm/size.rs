//! What a visitor downloads before any model: module, bindings and SDK, compressed as a server would.

use crate::process::output;
use crate::tally::Tally;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The most that it may be, in bytes after gzip.
const LIMIT: u64 = 2_000_000;

/// Prints the sizes of the parts that exist, and their sum.
pub fn report(workspace: &Workspace) -> Result<()> {
    measure(workspace).map(|_| ())
}

/// Whether module, bindings and the compiled SDK together are within the limit.
pub fn check(workspace: &Workspace) -> Result<Tally> {
    let total = measure(workspace)?;
    println!("runtime before any model: {total} bytes with gzip, limit {LIMIT}");
    Ok(Tally::one(total <= LIMIT))
}

fn measure(workspace: &Workspace) -> Result<u64> {
    let modules = ["blip_bg.wasm", "blip_baseline_bg.wasm"];
    let mut module = 0;
    for name in modules {
        let path = workspace.path("pkg/src/wasm").join(name);
        let bytes = fs::metadata(&path).with_context(|| format!("no {}", path.display()))?.len();
        let packed = gzip(std::slice::from_ref(&path))?;
        println!("{name}: {bytes} bytes, {packed} with gzip");
        // A browser loads one of them.
        module = module.max(packed);
    }
    let mut scripts = vec![workspace.path("pkg/src/wasm/blip.js")];
    scripts.extend(javascript(&workspace.path("pkg/dist"))?);
    let scripts_packed = gzip(&scripts)?;
    println!("{} scripts: {scripts_packed} with gzip", scripts.len());
    Ok(module + scripts_packed)
}

/// The scripts of the SDK; none when it was not compiled yet.
fn javascript(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let mut scripts = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "js") {
            scripts.push(path);
        }
    }
    scripts.sort();
    Ok(scripts)
}

/// The sum of the files' sizes, each compressed alone.
fn gzip(files: &[PathBuf]) -> Result<u64> {
    let script = "const z = require('zlib'), f = require('fs'); let sum = 0; \
                  for (const p of process.argv.slice(1)) sum += z.gzipSync(f.readFileSync(p), { level: 9 }).length; \
                  console.log(sum)";
    let sum = output(Command::new("node").args(["-e", script]).args(files))?;
    sum.trim().parse().context("node printed no number")
}
