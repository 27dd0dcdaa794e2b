//! The browser module: rustc, wasm-bindgen as a library, wasm-opt; then its size.

use crate::process::{output, run};
use crate::setup::{WASM_TARGET, digest, npm_packages, wasm_target};
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use wasm_bindgen_cli_support::Bindgen;

/// The profile of the module, shared with its tests so that dependencies are compiled once.
pub const PROFILE: &str = "wasm-release";

/// The features of the module, shared likewise.
pub const FEATURES: &[&str] = &["--no-default-features", "--features", "wgpu,flex"];

/// What the module may use: everything that rustc, wasm-bindgen and the SIMD flag of `.cargo/config.toml` emit.
const OPTIMISE: &[&str] = &[
    "-O2",
    "--strip-debug",
    "--enable-bulk-memory",
    "--enable-bulk-memory-opt",
    "--enable-call-indirect-overlong",
    "--enable-multivalue",
    "--enable-mutable-globals",
    "--enable-nontrapping-float-to-int",
    "--enable-reference-types",
    "--enable-sign-ext",
    "--enable-simd",
];

/// The generated files, in `pkg/src/wasm`.
pub const GENERATED: &[&str] = &["blip.js", "blip.d.ts", "blip_bg.wasm", "blip_bg.wasm.d.ts"];

/// Builds the module into `pkg/src/wasm`; what did not change is not done again.
pub fn build(workspace: &Workspace) -> Result<()> {
    wasm_target()?;
    npm_packages(workspace)?;
    run(Command::new("cargo")
        .current_dir(&workspace.root)
        // It would replace the flags of `.cargo/config.toml`, without which nothing links.
        .env_remove("RUSTFLAGS")
        .args(["rustc", "--package", "blip-web", "--lib", "--crate-type", "cdylib"])
        .args(["--target", WASM_TARGET, "--profile", PROFILE])
        .args(FEATURES))?;
    let compiled = workspace.target.join(WASM_TARGET).join(PROFILE).join("blip_web.wasm");
    let bytes = fs::read(&compiled).with_context(|| format!("cannot read {}", compiled.display()))?;
    let output = workspace.path("pkg/src/wasm");
    let stamp = output.join(".stamp");
    let made_from = format!("{} {} {}", digest(&bytes), OPTIMISE.join(" "), env!("CARGO_PKG_VERSION"));
    let complete = GENERATED.iter().all(|name| output.join(name).is_file());
    if !complete || fs::read_to_string(&stamp).ok().as_deref() != Some(made_from.as_str()) {
        generate(workspace, &compiled, &output)?;
        fs::write(stamp, made_from)?;
    }
    report_size(&output.join("blip_bg.wasm"))
}

/// Bindings and optimised module, made beside the target and moved to `destination` when complete.
fn generate(workspace: &Workspace, compiled: &Path, destination: &Path) -> Result<()> {
    let work = workspace.target.join("wasm-bindings");
    fs::create_dir_all(&work)?;
    println!("$ wasm-bindgen {}", compiled.display());
    Bindgen::new()
        .input_path(compiled)
        .out_name("blip")
        .web(true)?
        .typescript(true)
        // The SDK fetches the module itself, to say what went wrong; see pkg/src/engine.ts.
        .omit_default_module_path(true)
        .generate(&work)?;
    let module = work.join("blip_bg.wasm");
    let optimised = work.join("blip_bg.optimised.wasm");
    run(Command::new(workspace.npm_tool("wasm-opt"))
        .args(OPTIMISE)
        .arg(&module)
        .arg("--output")
        .arg(&optimised))?;
    fs::rename(&optimised, &module)?;
    fs::create_dir_all(destination)?;
    for name in GENERATED {
        fs::copy(work.join(name), destination.join(name))
            .with_context(|| format!("wasm-bindgen wrote no {name}"))?;
    }
    Ok(())
}

/// Prints the module's size as it is, and as a server sends it.
fn report_size(module: &PathBuf) -> Result<()> {
    let script = "const z = require('zlib'), b = require('fs').readFileSync(process.argv[1]); \
                  console.log(JSON.stringify([b.length, z.gzipSync(b, { level: 9 }).length]))";
    let sizes: Value = serde_json::from_str(&output(Command::new("node").args(["-e", script]).arg(module))?)?;
    println!("blip_bg.wasm: {} bytes, {} with gzip", sizes[0], sizes[1]);
    Ok(())
}
