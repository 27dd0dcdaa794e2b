//! The demonstration page: served for a person, or driven by a headless browser.

use crate::process::{output, transcript};
use crate::setup::{npm_packages, wasm_target};
use crate::tally::Tally;
use crate::workspace::{Workspace, read};
use crate::{chromium, serve, site};
use anyhow::{Context, Result, ensure};
use serde_json::{Map, Value, json};
use std::fs;
use std::process::Command;

/// Where `demo` serves unless told otherwise.
pub const DEFAULT_PORT: u16 = 8080;

/// Builds the site and serves it until the program is stopped.
pub fn serve(workspace: &Workspace, port: u16) -> Result<()> {
    let folder = site::build(workspace)?;
    let site = serve::start(&folder, port)?;
    println!("\nserving {} (stop with Ctrl-C)", site.url);
    site.wait();
    Ok(())
}

/// Builds everything, then lets the page caption every sample on WebGPU in headless Chromium.
///
/// Each caption must equal the native output of the same build. One JSON line an image.
pub fn check(workspace: &Workspace) -> Result<Tally> {
    wasm_target()?;
    npm_packages(workspace)?;
    let browser = chromium::find_or_install(workspace)?;
    let folder = site::build(workspace)?;
    let expected = native_captions(workspace)?;
    let site = serve::start(&folder, 0)?;
    let result = transcript(
        Command::new("node")
            .current_dir(&workspace.root)
            .env("CHROMIUM", browser)
            .args(["tests/browser/demo-check.mjs", &site.url])
            .arg(expected),
    )?;
    let mut tally = Tally::default();
    for line in result.text.lines().filter(|line| line.starts_with('{')) {
        tally += Tally::one(serde_json::from_str::<Value>(line).is_ok_and(|line| line["ok"] == true));
    }
    if tally.is_green() && (!result.success || tally.passed == 0) {
        tally.failed += 1;
    }
    Ok(tally)
}

/// Captions the samples with the command line tool of this checkout; the path of a JSON object that
/// maps image names to captions.
pub fn native_captions(workspace: &Workspace) -> Result<std::path::PathBuf> {
    let samples: Value = serde_json::from_str(&read(&workspace.path("www/samples/samples.json"))?)?;
    let samples = samples.as_array().context("www/samples/samples.json is not a list")?;
    let names: Vec<&str> = samples.iter().filter_map(|sample| sample["image"].as_str()).collect();
    ensure!(!names.is_empty() && names.len() == samples.len(), "www/samples/samples.json has no images");
    println!("captioning {} samples natively", names.len());
    let lines = output(
        Command::new("cargo")
            .current_dir(workspace.path("www/samples"))
            .args(["run", "--quiet", "--package", "blip-web", "--features", "train", "--bin", "blip", "--"])
            .args(["caption", "--json"])
            .args(&names),
    )?;
    let mut captions = Map::new();
    for line in lines.lines().filter(|line| line.starts_with('{')) {
        let line: Value = serde_json::from_str(line)?;
        let image = line["image"].as_str().context("a line of `blip caption --json` has no `image`")?;
        captions.insert(image.to_owned(), line["caption"].clone());
    }
    for sample in samples {
        let name = sample["image"].as_str().unwrap_or_default();
        let native =
            captions.get(name).with_context(|| format!("`blip caption --json` said nothing about {name}"))?;
        if sample.get("expected").is_some_and(|expected| expected != native) {
            println!(
                "note: samples.json expects {} for {name}, this build says {native}",
                sample["expected"]
            );
        }
    }
    let path = workspace.target.join("native-captions.json");
    fs::write(&path, json!(captions).to_string())?;
    Ok(path)
}
