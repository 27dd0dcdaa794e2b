//! The npm package as it is published: packed, measured, linted, compiled against, bundled and documented.
//!
//! Everything is made in `<target>/packaging`, outside the checkout, so that nothing resolves by accident
//! to what is beside the sources.

use crate::process::{Transcript, run, succeeds, transcript};
use crate::setup::{digest, npm_packages};
use crate::tally::{Tally, skip_lines};
use crate::tarball::{self, Tarball};
use crate::workspace::{Workspace, copy_into, read};
use crate::{chromium, demo, site};
use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The largest tarball, in bytes: two browser modules, the packaged model, and room for scripts.
const TARBALL_LIMIT: u64 = 10_000_000;

/// The most files in it.
const FILE_LIMIT: usize = 160;

/// What npm is never asked for: to run code of packages, or to report.
const QUIET: [&str; 5] =
    ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error", "--prefer-offline"];

/// Sub-paths without types: files for a server or a bundler, not for a compiler.
const ASSETS: [&str; 3] = ["blip_bg.wasm", "blip_baseline_bg.wasm", "models/*"];

/// Packs the package; checks size, contents, `exports`, declarations and the code of its README.
pub fn package(workspace: &Workspace) -> Result<(Tally, Transcript)> {
    let tarball = pack(workspace)?;
    let mut tally = weigh(&tarball);
    let mut text = String::new();
    let Some(tools) = tools(workspace)? else {
        let reason = "the npm registry is unreachable and the tools of tests/packaging were never installed";
        tally += Tally::skip(reason);
        return Ok((tally, Transcript { text: format!("skipped: {reason}"), success: true }));
    };
    let bin = tools.join("node_modules/.bin");
    let excluded = ASSETS.iter().flat_map(|asset| ["--exclude-entrypoints", asset]);
    let mut checks = [Command::new(bin.join("publint")), Command::new(bin.join("attw"))];
    checks[0].arg(&tarball.path).arg("--strict");
    checks[1].arg(&tarball.path).args(["--profile", "esm-only", "--no-emoji"]).args(excluded);
    for check in &mut checks {
        // Outside the checkout they find no other package to look at.
        let result = transcript(check.current_dir(&tools))?;
        tally += Tally::one(result.success);
    }
    let types = transcript(
        Command::new("node")
            .current_dir(&workspace.root)
            .arg("tests/packaging/declarations.mjs")
            .args([&tarball.path, &folder(workspace)])
            .args([workspace.npm_tool("tsc"), bin.join("tsc")]),
    )?;
    tally += Tally::of_summary(&types.text, types.success);
    text.push_str(&skip_lines(&types.text).join("\n"));
    Ok((tally, Transcript { text, success: tally.is_green() }))
}

/// The packed package in the applications of `tests/packaging`, each of which must caption a sample as the
/// command line does.
pub fn bundlers(workspace: &Workspace) -> Result<(Tally, Transcript)> {
    let browser = chromium::find_or_install(workspace)?;
    let tarball = pack(workspace)?;
    let expected = demo::native_captions(workspace)?;
    let result = transcript(
        Command::new("node")
            .current_dir(&workspace.root)
            .env("CHROMIUM", browser)
            .arg("tests/packaging/bundlers.mjs")
            .args([&tarball.path, &folder(workspace), &expected]),
    )?;
    Ok((Tally::of_summary(&result.text, result.success), result))
}

/// The reference of the TypeScript API in `<target>/docs/npm`; anything without a description is a failure.
pub fn docs(workspace: &Workspace) -> Result<(Tally, Transcript)> {
    npm_packages(workspace)?;
    let Some(tools) = tools(workspace)? else {
        let reason = "the npm registry is unreachable and TypeDoc was never installed";
        let text = format!("skipped: {reason}");
        return Ok((Tally::skip(reason), Transcript { text, success: true }));
    };
    let out = workspace.target.join("docs/npm");
    let result = transcript(
        Command::new(tools.join("node_modules/.bin/typedoc"))
            .current_dir(workspace.path("pkg"))
            .args(["--options", "typedoc.json", "--out"])
            .arg(&out),
    )?;
    if result.success {
        println!("docs: {}", out.join("index.html").display());
    }
    Ok((Tally::one(result.success), result))
}

/// Where all of it is made.
fn folder(workspace: &Workspace) -> PathBuf {
    workspace.target.join("packaging")
}

/// Compiles the SDK and packs it.
fn pack(workspace: &Workspace) -> Result<Tarball> {
    site::compile_sdk(workspace)?;
    tarball::pack(workspace)
}

/// Whether the tarball is within its budget and holds what its readers expect, and nothing else.
fn weigh(tarball: &Tarball) -> Tally {
    const EXPECTED: [&str; 15] = [
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "THIRD-PARTY-NOTICES",
        "README.md",
        "package.json",
        "dist/index.js",
        "dist/worker.js",
        "dist/react.js",
        "dist/compat.js",
        "dist/wasm/blip_bg.wasm",
        "dist/wasm/blip_baseline_bg.wasm",
        "models/manifest.json",
        "models/tiny/blip.json",
        "models/tiny/model.safetensors",
        "models/tiny/model-vqa.safetensors",
    ];
    let count = tarball.files.len();
    println!("tarball: {} bytes of {TARBALL_LIMIT}, {count} files of {FILE_LIMIT}", tarball.bytes);
    let mut tally = Tally::one(tarball.bytes <= TARBALL_LIMIT && count <= FILE_LIMIT);
    for name in EXPECTED {
        let found = tarball.files.iter().any(|file| file == name);
        if !found {
            println!("the tarball lacks {name}");
        }
        tally += Tally::one(found);
    }
    let folders = ["dist/", "models/"];
    for file in &tarball.files {
        let wanted =
            EXPECTED.contains(&file.as_str()) || folders.iter().any(|folder| file.starts_with(folder));
        if !wanted || file.ends_with(".ts") && !file.ends_with(".d.ts") || file.ends_with(".map") {
            println!("the tarball holds {file}, which nobody needs");
            tally += Tally::one(false);
        }
    }
    tally
}

/// The packages of `tests/packaging/tools`, installed once for each lock file; none when they cannot be had.
fn tools(workspace: &Workspace) -> Result<Option<PathBuf>> {
    let (source, folder) = (workspace.path("tests/packaging/tools"), folder(workspace).join("tools"));
    let lock = digest(read(&source.join("package-lock.json"))?.as_bytes());
    let stamp = folder.join("node_modules/.installed-lock");
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(Some(folder));
    }
    copy_into(&source, &folder)?;
    println!("installing: publint, arethetypeswrong and TypeDoc of tests/packaging/tools");
    if let Err(error) = run(Command::new("npm").current_dir(&folder).arg("ci").args(QUIET)) {
        if registry_answers(&folder) {
            bail!(error);
        }
        return Ok(None);
    }
    fs::write(stamp, lock)?;
    Ok(Some(folder))
}

fn registry_answers(folder: &Path) -> bool {
    succeeds(Command::new("npm").current_dir(folder).args(["ping", "--fetch-retries=0"]))
}
