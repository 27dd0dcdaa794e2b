//! The checks that run in headless Chromium: the wasm tests of the crate, and the tests of the SDK.

use crate::process::{Transcript, run, transcript};
use crate::setup::WASM_TARGET;
use crate::tally::Tally;
use crate::wasm::{self, FEATURES, PROFILE};
use crate::workspace::{Workspace, read};
use crate::{chromium, serve, site};
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::env;
use std::fs;
use std::path::Path;
use std::process::Command;

/// The command under which cargo calls this program to run a test module.
pub const RUNNER_COMMAND: &str = "wasm-test-runner";

/// A software GPU compiles shaders slowly: seconds that the wasm tests may take.
const WASM_TEST_SECONDS: &str = "900";

/// Runs a compiled test module in a browser; called by cargo, with the module first.
pub fn run_wasm_tests(arguments: &[String]) -> Result<bool> {
    let program = "wasm-bindgen-test-runner".to_owned();
    wasm_bindgen_cli::wasm_bindgen_test_runner::run_cli_with_args(
        std::iter::once(program).chain(arguments.iter().cloned()),
    )?;
    Ok(true)
}

/// `crate/tests/web.rs` in headless Chromium, with the profile and features of the module itself.
pub fn wasm_tests(workspace: &Workspace) -> Result<(Tally, Transcript)> {
    let browser = chromium::find_or_install(workspace)?;
    let driver =
        chromium::find_or_install_driver().context("no chromedriver found and none could be installed")?;
    let capabilities = capabilities(workspace, &browser)?;
    let runner = format!("{} {RUNNER_COMMAND}", env::current_exe()?.display());
    let result = transcript(
        wasm::cargo(workspace, "test")?
            .env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_RUNNER", runner)
            .env("CHROMEDRIVER", driver)
            .env("WASM_BINDGEN_TEST_WEBDRIVER_JSON", capabilities)
            .env("WASM_BINDGEN_TEST_TIMEOUT", WASM_TEST_SECONDS)
            .args(["--package", "blip-web", "--test", "web"])
            .args(["--target", WASM_TARGET, "--profile", PROFILE])
            .args(FEATURES),
    )?;
    Ok((Tally::of_cargo_test(&result.text, result.success), result))
}

/// `crate/webdriver.json` with the browser of this machine named in it.
fn capabilities(workspace: &Workspace, browser: &Path) -> Result<std::path::PathBuf> {
    let mut capabilities: Value = serde_json::from_str(&read(&workspace.path("crate/webdriver.json"))?)?;
    capabilities["goog:chromeOptions"]["binary"] = json!(browser);
    let path = workspace.target.join("webdriver.json");
    fs::write(&path, capabilities.to_string())?;
    Ok(path)
}

/// Every shader of the crate in the browser's compiler, which is stricter than the native one.
pub fn shaders(workspace: &Workspace) -> Result<(Tally, Transcript)> {
    let browser = chromium::find_or_install(workspace)?;
    let listing = workspace.target.join("shaders.json");
    run(Command::new("cargo")
        .current_dir(&workspace.root)
        .env("BLIP_WGSL_LISTING", &listing)
        .args(["test", "--quiet", "--package", "blip-web", "--features", "train", "--lib"])
        .arg("every_listed_source_is_filled"))?;
    let result = transcript(
        Command::new("node")
            .current_dir(&workspace.root)
            .env("CHROMIUM", browser)
            .arg("tests/browser/wgsl.mjs")
            .arg(listing),
    )?;
    Ok((Tally::of_summary(&result.text, result.success), result))
}

/// `tests/browser/sdk.mjs` against the assembled site.
pub fn sdk_tests(workspace: &Workspace) -> Result<(Tally, Transcript)> {
    // The page has to answer what the command line tool answers.
    run(Command::new("cargo").current_dir(&workspace.root).args([
        "build",
        "--quiet",
        "--package",
        "blip-web",
        "--features",
        "train",
        "--bin",
        "blip",
    ]))?;
    site_tests(workspace, "tests/browser/sdk.mjs")
}

/// `tests/browser/cache.mjs`: downloads, the cache and model repositories, with servers of its own.
pub fn cache_tests(workspace: &Workspace) -> Result<(Tally, Transcript)> {
    site_tests(workspace, "tests/browser/cache.mjs")
}

/// A script that is told where the assembled site is, and counts at its end.
fn site_tests(workspace: &Workspace, script: &str) -> Result<(Tally, Transcript)> {
    let browser = chromium::find_or_install(workspace)?;
    let site = serve::start(&site::assemble(workspace)?, 0)?;
    let result = transcript(
        Command::new("node")
            .current_dir(&workspace.root)
            .env("CHROMIUM", browser)
            .env("BLIP", workspace.target.join("debug/blip"))
            .args([script, &site.url]),
    )?;
    Ok((Tally::of_summary(&result.text, result.success), result))
}
