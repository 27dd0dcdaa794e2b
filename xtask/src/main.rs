//! The repository's own tool: `cargo xtask <command>`.
//!
//! Each command prepares what it needs, says what it installs, and can be repeated.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line tool reports on the terminal")]

mod bench;
mod browser;
mod chromium;
mod demo;
mod golden;
mod notices;
mod packaging;
mod process;
mod serve;
mod setup;
mod site;
mod suite;
mod tally;
mod tarball;
mod tidy;
mod wasm;
mod workspace;

use anyhow::{Result, bail};
use std::process::ExitCode;
use workspace::Workspace;

const HELP: &str = "\
usage: cargo xtask <command>

  demo [--port N]      build everything and serve the page (default port 8080)
  demo --check         the same on a free port, then let headless Chromium caption every sample on WebGPU
  test [--only a,b]    every check, cheapest first; --list names them
  bench [--quick]      measure beside onnxruntime-web; report.json and report.md in <target>/bench (--quick: 3 minutes)
  bench --prepare      only make what it compares: weights, graphs, packages
  golden               what the reference's tests expect of the public checkpoints; downloads gigabytes
  setup                install what the other commands need
  wasm                 build the browser module into pkg/src/wasm
  site                 build the SDK and assemble the static site
  docs                 the reference of the TypeScript API, in <target>/docs/npm
  tidy                 the repository's own rules
";

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs one command; `false` when it ran and found something wrong.
fn run() -> Result<bool> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((command, rest)) = arguments.split_first() else {
        bail!("no command given\n\n{HELP}");
    };
    if command == browser::RUNNER_COMMAND {
        return browser::run_wasm_tests(rest);
    }
    let workspace = Workspace::find()?;
    let flags: Vec<&str> = rest.iter().map(String::as_str).collect();
    match (command.as_str(), flags.as_slice()) {
        ("demo", []) => demo::serve(&workspace, demo::DEFAULT_PORT).map(|()| true),
        ("demo", ["--port", port]) => demo::serve(&workspace, port.parse()?).map(|()| true),
        ("demo", ["--check"]) => demo::check(&workspace).map(|tally| tally.is_green()),
        ("test", []) => suite::run(&workspace, None),
        ("test", ["--only", names]) => suite::run(&workspace, Some(names)),
        ("test", ["--list"]) => {
            suite::list();
            Ok(true)
        }
        ("bench", []) => bench::run(&workspace, false),
        ("bench", ["--quick"]) => bench::run(&workspace, true),
        ("bench", ["--prepare"]) => bench::prepare(&workspace),
        ("golden", []) => golden::check(&workspace).map(|tally| tally.is_green()),
        ("setup", []) => setup::everything(&workspace).map(|()| true),
        ("wasm", []) => wasm::build(&workspace).map(|()| true),
        ("site", []) => site::build(&workspace).map(|folder| {
            println!("site: {}", folder.display());
            true
        }),
        ("docs", []) => packaging::docs(&workspace).map(|(tally, _)| tally.is_green()),
        ("tidy", []) => tidy::run(&workspace).map(|tally| tally.is_green()),
        ("help" | "--help" | "-h", _) => {
            println!("{HELP}");
            Ok(true)
        }
        _ => bail!("unknown command `{}`\n\n{HELP}", arguments.join(" ")),
    }
}
