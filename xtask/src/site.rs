//! The TypeScript SDK and the static site around it.

use crate::process::run;
use crate::setup::npm_packages;
use crate::tarball;
use crate::wasm::{self, GENERATED};
use crate::workspace::{Workspace, copy_into, mirror};
use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// Compiles the SDK into `pkg/dist`, with the bindings that `wasm::build` left in `pkg/src/wasm`.
pub fn compile_sdk(workspace: &Workspace) -> Result<()> {
    npm_packages(workspace)?;
    let dist = workspace.path("pkg/dist");
    if dist.exists() {
        fs::remove_dir_all(&dist)?;
    }
    run(Command::new(workspace.npm_tool("tsc")).arg("--project").arg(workspace.path("pkg")))?;
    let bindings = dist.join("wasm");
    fs::create_dir_all(&bindings)?;
    for name in GENERATED {
        let from = workspace.path("pkg/src/wasm").join(name);
        fs::copy(&from, bindings.join(name))
            .with_context(|| format!("{} is missing: run `cargo xtask wasm`", from.display()))?;
    }
    mirror(&workspace.path("models"), &workspace.path("pkg/models"))
}

/// Puts page, SDK and models side by side as they are served; returns the folder.
///
/// Scripts and packaged models come out of the tarball that npm would publish: what a browser is shown here
/// is what an application installs.
pub fn assemble(workspace: &Workspace) -> Result<PathBuf> {
    let index = workspace.path("models/manifest.json");
    ensure!(index.is_file(), "{} is missing: there is no model to serve", index.display());
    let site = workspace.target.join("site");
    mirror(&workspace.path("www"), &site)?;
    let package = tarball::pack(workspace)?.unpack()?;
    copy_into(&package.join("dist"), &site.join("pkg"))?;
    // Models that were converted here beside the packaged ones.
    copy_into(&workspace.path("models"), &site.join("models"))?;
    copy_into(&package.join("models"), &site.join("models"))?;
    Ok(site)
}

/// Module, SDK and site.
pub fn build(workspace: &Workspace) -> Result<PathBuf> {
    wasm::build(workspace)?;
    compile_sdk(workspace)?;
    assemble(workspace)
}
