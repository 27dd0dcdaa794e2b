//! `cargo xtask test`: every check, cheapest first, and one line at the end that counts them.

use crate::process::{Transcript, output, succeeds, transcript};
use crate::setup::{self, WASM_TARGET};
use crate::tally::{Tally, skip_lines};
use crate::wasm::{FEATURES, PROFILE};
use crate::workspace::Workspace;
use crate::{browser, demo, packaging, site, tidy, wasm};
use anyhow::{Result, bail};
use std::fs;
use std::process::Command;
use std::time::Instant;

/// The registry takes no larger package.
const CRATE_LIMIT: u64 = 10 * 1024 * 1024;

/// What a check counted, and why it skipped what it skipped.
struct Outcome {
    tally: Tally,
    skips: Vec<String>,
}

impl From<Tally> for Outcome {
    fn from(tally: Tally) -> Self {
        Self { tally, skips: Vec::new() }
    }
}

impl From<(Tally, Transcript)> for Outcome {
    fn from((tally, transcript): (Tally, Transcript)) -> Self {
        Self { tally, skips: skip_lines(&transcript.text).into_iter().map(str::to_owned).collect() }
    }
}

type Check = fn(&Workspace) -> Result<Outcome>;

/// Feature `cuda` brings crates whose build scripts download LLVM and link it, except in builds for
/// documentation. Checks need neither.
const WITHOUT_LLVM: (&str, &str) = ("DOCS_RS", "1");

/// Every check; the order is that of their cost, and a build comes before what uses it.
const CHECKS: &[(&str, Check)] = &[
    ("fmt", |w| cargo(w, &["fmt", "--all", "--check"], &[])),
    ("tidy", |w| tidy::run(w).map(Outcome::from)),
    ("deny", deny),
    ("xtask", |w| cargo_test(w, &["--package", "xtask"])),
    ("clippy", |w| {
        let arguments = ["clippy", "--workspace", "--all-targets", "--all-features", "--", "-D", "warnings"];
        cargo(w, &arguments, &[WITHOUT_LLVM])
    }),
    ("unit", |w| cargo_test(w, &["--package", "blip-web", "--features", "train"])),
    ("shaders", |w| browser::shaders(w).map(Outcome::from)),
    ("corpus", |w| cargo_test(w, &["--package", "blip-tests"])),
    ("doc", document),
    ("package", package),
    ("clippy-wasm", clippy_wasm),
    ("wasm", |w| wasm::build(w).map(|()| Tally::one(true).into())),
    ("tsc", |w| site::compile_sdk(w).map(|()| Tally::one(true).into())),
    ("size", |w| wasm::size::check(w).map(Outcome::from)),
    ("sdk-unit", |w| node_tests(w, "pkg", "test/")),
    ("npm-docs", |w| packaging::docs(w).map(Outcome::from)),
    ("npm-package", |w| packaging::package(w).map(Outcome::from)),
    ("bench-unit", |w| node_tests(w, "bench", "page/counters.test.mjs")),
    ("wasm-tests", |w| browser::wasm_tests(w).map(Outcome::from)),
    ("sdk-browser", |w| browser::sdk_tests(w).map(Outcome::from)),
    ("cache", |w| browser::cache_tests(w).map(Outcome::from)),
    ("bundlers", |w| packaging::bundlers(w).map(Outcome::from)),
    ("demo", |w| demo::check(w).map(Outcome::from)),
];

/// Prints the names of the checks.
pub fn list() {
    for (name, _) in CHECKS {
        println!("{name}");
    }
}

/// Runs the checks whose names are in the comma-separated `only`, or all; goes on after a failure.
pub fn run(workspace: &Workspace, only: Option<&str>) -> Result<bool> {
    let names: Option<Vec<&str>> = only.map(|names| names.split(',').collect());
    if let Some(unknown) = names.iter().flatten().find(|name| CHECKS.iter().all(|(check, _)| check != *name))
    {
        bail!("there is no check `{unknown}`; --list names them");
    }
    setup::wasm_target()?;
    setup::npm_packages(workspace)?;
    let mut total = Tally::default();
    let mut report = String::new();
    for (name, check) in
        CHECKS.iter().filter(|(name, _)| names.as_ref().is_none_or(|names| names.contains(name)))
    {
        println!("\n== {name}");
        let begun = Instant::now();
        let outcome = check(workspace).unwrap_or_else(|error| {
            println!("error: {error:#}");
            Tally::one(false).into()
        });
        total += outcome.tally;
        let seconds = begun.elapsed().as_secs();
        report += &format!("{name:<12} {seconds:>5} s  {}\n", outcome.tally);
        for reason in outcome.skips {
            report += &format!("             {reason}\n");
        }
    }
    println!("\n{report}\n{total}");
    Ok(total.is_green())
}

/// One cargo command that holds or does not.
fn cargo(workspace: &Workspace, arguments: &[&str], variables: &[(&str, &str)]) -> Result<Outcome> {
    let mut command = Command::new("cargo");
    command.current_dir(&workspace.root).args(arguments).envs(variables.iter().copied());
    let result = transcript(&mut command)?;
    Ok((Tally::one(result.success), result).into())
}

/// Tests of one package; those that cannot run print `skipped: reason`.
fn cargo_test(workspace: &Workspace, selection: &[&str]) -> Result<Outcome> {
    if setup::software_vulkan().is_none() {
        println!("no Vulkan driver: tests on a native GPU will say that they were skipped");
    }
    let result = transcript(
        Command::new("cargo")
            .current_dir(&workspace.root)
            .env("BLIP_ICONS", workspace.path("node_modules/@iconify-json"))
            .arg("test")
            .args(selection)
            // Goes on after a failing binary, so that all of them are counted.
            .arg("--no-fail-fast")
            .args(["--", "--show-output"]),
    )?;
    Ok((Tally::of_cargo_test(&result.text, result.success), result).into())
}

fn document(workspace: &Workspace) -> Result<Outcome> {
    let arguments = ["doc", "--package", "blip-web", "--all-features", "--no-deps"];
    cargo(workspace, &arguments, &[("RUSTDOCFLAGS", "-D warnings"), WITHOUT_LLVM])
}

fn clippy_wasm(workspace: &Workspace) -> Result<Outcome> {
    let result = transcript(
        wasm::cargo(workspace, "clippy")?
            .args(["--package", "blip-web", "--lib", "--test", "web"])
            .args(["--target", WASM_TARGET, "--profile", PROFILE])
            .args(FEATURES)
            .args(["--", "-D", "warnings"]),
    )?;
    Ok((Tally::one(result.success), result).into())
}

/// The crate can be packaged: everything it embeds is inside, and the registry would take it.
fn package(workspace: &Workspace) -> Result<Outcome> {
    let cargo = |arguments: &[&str]| {
        let mut command = Command::new("cargo");
        command
            .current_dir(&workspace.root)
            .args(["package", "--package", "blip-web", "--allow-dirty"])
            .args(arguments);
        command
    };
    let mut tally = Tally::default();
    let listed = output(&mut cargo(&["--list"]))?;
    for file in tidy::embedded_files(workspace)? {
        let included = listed.lines().any(|line| line == file);
        if !included {
            println!("the package lacks {file}, which the source embeds");
        }
        tally += Tally::one(included);
    }
    let packaged = transcript(&mut cargo(&["--no-verify", "--quiet"]))?;
    tally += Tally::one(packaged.success);
    if packaged.success {
        let name = format!("package/blip-web-{}.crate", env!("CARGO_PKG_VERSION"));
        let size = fs::metadata(workspace.target.join(name))?.len();
        println!("package: {size} bytes, limit {CRATE_LIMIT}");
        tally += Tally::one(size <= CRATE_LIMIT);
    }
    Ok((tally, packaged).into())
}

fn deny(workspace: &Workspace) -> Result<Outcome> {
    if !succeeds(Command::new("cargo").args(["deny", "--version"])) {
        let reason = "cargo-deny is not installed (cargo install cargo-deny)";
        return Ok(Outcome { tally: Tally::skip(reason), skips: vec![format!("skipped: {reason}")] });
    }
    // Advisories need a database from the network; they are looked up by hand before a release.
    cargo(workspace, &["deny", "--all-features", "check", "bans", "licenses", "sources"], &[])
}

/// Tests of JavaScript that need no browser.
fn node_tests(workspace: &Workspace, folder: &str, tests: &str) -> Result<Outcome> {
    let result = transcript(Command::new("node").current_dir(workspace.path(folder)).args([
        "--test",
        "--test-reporter=spec",
        tests,
    ]))?;
    Ok((Tally::of_node_test(&result.text, result.success), result).into())
}
