//! The browser module: rustc, wasm-bindgen as a library, wasm-opt; then its size.
//!
//! Two files come out of the one that rustc makes. `blip_bg.wasm` holds relaxed SIMD instructions, in
//! functions of their own that are called only where the browser runs them; a browser that does not know
//! the instructions would refuse the whole file, so `blip_baseline_bg.wasm` traps in their place.

mod factory;
mod relaxed;
pub mod size;
mod unused;

use crate::process::run;
use crate::setup::{WASM_TARGET, digest, npm_packages, wasm_target};
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use wasm_bindgen_cli_support::Bindgen;

/// The profile of the module, shared with its tests so that dependencies are compiled once.
pub const PROFILE: &str = "wasm-release";

/// The features of the module, shared likewise.
pub const FEATURES: &[&str] = &["--no-default-features", "--features", "wgpu,flex"];

/// What the module may use: everything that rustc, wasm-bindgen and the SIMD flag of `.cargo/config.toml` emit.
const PROPOSALS: &[&str] = &[
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

/// How the module is made smaller. The inner loops are straight-line SIMD, which no level changes.
///
/// A second round finds what the first one laid bare.
const OPTIMISE: &[&str] = &["-Oz", "-Oz", "--strip-debug", "--strip-producers", "--enable-relaxed-simd"];

/// What makes the baseline of the finished module: each relaxed instruction becomes a trap, and what
/// led only there is dropped. The features section would still ask for the proposal.
const BASELINE: &[&str] =
    &["--enable-relaxed-simd", "--remove-relaxed-simd", "--dce", "--vacuum", "--strip-target-features"];

/// The code that changes what wasm-bindgen makes: with another one the module is made again.
const CHANGES: &[&str] =
    &[include_str!("wasm/factory.rs"), include_str!("wasm/relaxed.rs"), include_str!("wasm/unused.rs")];

/// The generated files, in `pkg/src/wasm`.
pub const GENERATED: &[&str] =
    &["blip.js", "blip.d.ts", "exports.d.ts", "blip_bg.wasm", "blip_baseline_bg.wasm", "blip_bg.wasm.d.ts"];

/// A cargo command for the browser's target, with the flags that every one of them must have: others would
/// compile everything again.
///
/// Panic messages name the file that they come from. Those of dependencies lie in cargo's home, whose place
/// on this machine is nobody's business and would make every machine's module another one.
pub fn cargo(workspace: &Workspace, subcommand: &str) -> Result<Command> {
    let registry = cargo_home()?.join("registry/src");
    let remap = format!("--remap-path-prefix={}=crates", registry.display());
    let mut command = Command::new("cargo");
    command
        .current_dir(&workspace.root)
        // It would replace the flags of `.cargo/config.toml`, without which nothing links.
        .env_remove("RUSTFLAGS")
        // Joined with those flags.
        .args(["--config", &format!("target.{WASM_TARGET}.rustflags = [{remap:?}]"), subcommand]);
    Ok(command)
}

fn cargo_home() -> Result<PathBuf> {
    if let Some(home) = env::var_os("CARGO_HOME") {
        return Ok(PathBuf::from(home));
    }
    Ok(env::home_dir().context("neither CARGO_HOME nor a home folder is known")?.join(".cargo"))
}

/// Builds the module into `pkg/src/wasm`; what did not change is not done again.
pub fn build(workspace: &Workspace) -> Result<()> {
    wasm_target()?;
    npm_packages(workspace)?;
    run(cargo(workspace, "rustc")?
        .args(["--package", "blip-web", "--lib", "--crate-type", "cdylib"])
        .args(["--target", WASM_TARGET, "--profile", PROFILE])
        .args(FEATURES))?;
    let compiled = workspace.target.join(WASM_TARGET).join(PROFILE).join("blip_web.wasm");
    let bytes = fs::read(&compiled).with_context(|| format!("cannot read {}", compiled.display()))?;
    let output = workspace.path("pkg/src/wasm");
    let stamp = output.join(".stamp");
    let made_from = [
        &[digest(&bytes).as_str(), digest(CHANGES.concat().as_bytes()).as_str()],
        PROPOSALS,
        OPTIMISE,
        BASELINE,
    ]
    .concat()
    .join(" ");
    let complete = GENERATED.iter().all(|name| output.join(name).is_file());
    if !complete || fs::read_to_string(&stamp).ok().as_deref() != Some(made_from.as_str()) {
        generate(workspace, &compiled, &output)?;
        names_no_machine(&fs::read(output.join("blip_bg.wasm"))?)?;
        fs::write(stamp, made_from)?;
    }
    size::report(workspace)
}

/// Refuses a module that holds a path of the machine that made it.
fn names_no_machine(module: &[u8]) -> Result<()> {
    let home = cargo_home()?;
    let home = home.as_os_str().as_encoded_bytes();
    let found = module.windows(home.len()).position(|window| window == home);
    if let Some(at) = found {
        let context = &module[at..module.len().min(at + 160)];
        bail!("the module names a path of this machine: {}", String::from_utf8_lossy(context));
    }
    Ok(())
}

/// Bindings and both modules, made beside the target and moved to `destination` when complete.
fn generate(workspace: &Workspace, compiled: &Path, destination: &Path) -> Result<()> {
    let work = workspace.target.join("wasm-bindings");
    fs::create_dir_all(&work)?;
    println!("$ wasm-bindgen {}", compiled.display());
    let mut bindings = Bindgen::new()
        .input_path(compiled)
        .out_name("blip")
        .web(true)?
        .typescript(true)
        // The SDK fetches the module itself, to say what went wrong; see pkg/src/engine.ts.
        .omit_default_module_path(true)
        .generate_output()?;
    relaxed::confine(bindings.wasm_mut())?;
    unused::empty(bindings.wasm_mut())?;
    bindings.emit(&work)?;
    let script = work.join("blip.js");
    fs::write(&script, factory::wrap(&fs::read_to_string(&script)?)?)?;
    fs::rename(work.join("blip.d.ts"), work.join("exports.d.ts"))?;
    fs::write(work.join("blip.d.ts"), factory::TYPES)?;
    let module = work.join("blip_bg.wasm");
    let optimised = work.join("blip_bg.optimised.wasm");
    optimise(workspace, OPTIMISE, &module, &optimised)?;
    fs::rename(&optimised, &module)?;
    let baseline = work.join("blip_baseline_bg.wasm");
    optimise(workspace, BASELINE, &module, &baseline)?;
    // Reading it without the proposal proves that it is gone.
    run(Command::new(workspace.npm_tool("wasm-opt")).args(PROPOSALS).arg(&baseline))?;
    fs::create_dir_all(destination)?;
    for name in GENERATED {
        fs::copy(work.join(name), destination.join(name))
            .with_context(|| format!("wasm-bindgen wrote no {name}"))?;
    }
    Ok(())
}

fn optimise(workspace: &Workspace, passes: &[&str], from: &Path, to: &Path) -> Result<()> {
    run(Command::new(workspace.npm_tool("wasm-opt"))
        .args(PROPOSALS)
        .args(passes)
        .arg(from)
        .arg("--output")
        .arg(to))
}
