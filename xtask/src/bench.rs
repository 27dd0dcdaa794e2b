//! `cargo xtask bench`: our engine and onnxruntime-web side by side, and a report of every figure.
//!
//! The measuring is done by `bench/run.mjs` in a browser and by the command line tool natively; this
//! module prepares what they need, puts the figures beside their bars and writes the report.

mod artefacts;
mod figures;
mod measurements;
mod native;
mod report;
mod statistics;

use crate::process::run as execute;
use crate::setup::{npm_packages, software_vulkan};
use crate::workspace::Workspace;
use crate::{chromium, site, wasm};
use anyhow::Result;
use artefacts::Artefacts;
use measurements::Measurements;
use serde_json::json;
use std::fs;
use std::process::Command;

/// Makes what the full measurement needs, so that it can begin at once later.
pub fn prepare(workspace: &Workspace) -> Result<bool> {
    npm_packages(workspace)?;
    Artefacts::prepare(workspace, false)?;
    Ok(true)
}

/// Prepares, measures, judges and reports; `false` when a figure misses its bar.
///
/// `quick` leaves out what takes minutes; the figures that it cannot judge say so.
pub fn run(workspace: &Workspace, quick: bool) -> Result<bool> {
    npm_packages(workspace)?;
    let browser = chromium::find_or_install(workspace)?;
    software_vulkan();
    wasm::build(workspace)?;
    site::compile_sdk(workspace)?;
    let artefacts = Artefacts::prepare(workspace, quick)?;

    let plan = artefacts.folder.join("plan.json");
    let seen = artefacts.folder.join("measurements.json");
    let mounts = json!({
        "/bench/": workspace.path("bench"),
        "/pkg/": workspace.path("pkg/dist"),
        "/onnxruntime/": artefacts.onnxruntime,
        "/models/": artefacts.folder,
    });
    fs::write(&plan, json!({ "quick": quick, "mounts": mounts }).to_string())?;
    execute(
        Command::new("node")
            .current_dir(&workspace.root)
            .env("CHROMIUM", browser)
            .arg("bench/run.mjs")
            .args([&plan, &seen]),
    )?;
    let measured = Measurements::read(&seen)?;
    let native = native::measure(workspace, &artefacts, quick);
    let rows = figures::rows(&measured, &native, &artefacts);
    let paths = report::write(&artefacts.folder, quick, &measured, &native, &rows)?;
    for path in paths {
        println!("{}", path.display());
    }
    Ok(rows.iter().all(|row| row.holds != Some(false)))
}
