//! The TypeScript SDK and the static site around it.

use crate::notices;
use crate::process::run;
use crate::setup::npm_packages;
use crate::tarball;
use crate::wasm::{self, GENERATED};
use crate::workspace::{Workspace, copy_into, mirror, read};
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
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
    notices::write(workspace)?;
    copy_models(&workspace.path("models"), &workspace.path("pkg/models"))
}

/// Copies the models that `manifest.json` lists, and that; not what a person has converted beside them.
fn copy_models(from: &Path, to: &Path) -> Result<()> {
    let index: Value = serde_json::from_str(&read(&from.join("manifest.json"))?)?;
    let models = index["models"].as_array().context("models/manifest.json has no `models`")?;
    if to.exists() {
        fs::remove_dir_all(to).with_context(|| format!("cannot empty {}", to.display()))?;
    }
    fs::create_dir_all(to)?;
    fs::copy(from.join("manifest.json"), to.join("manifest.json"))?;
    for model in models {
        let path = model["path"].as_str().context("a model of models/manifest.json has no `path`")?;
        let folder = Path::new(path).parent().unwrap_or(Path::new(""));
        copy_into(&from.join(folder), &to.join(folder))?;
    }
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_models_are_packaged() {
        let folder = std::env::temp_dir().join(format!("blip-models-{}", std::process::id()));
        let (from, to) = (folder.join("from"), folder.join("to"));
        for model in ["tiny", "mine"] {
            fs::create_dir_all(from.join(model)).unwrap();
            fs::write(from.join(model).join("blip.json"), "{}").unwrap();
        }
        fs::write(from.join("manifest.json"), r#"{"models":[{"path":"tiny/blip.json"}]}"#).unwrap();
        copy_models(&from, &to).unwrap();
        // What was there before goes.
        fs::write(to.join("old"), "").unwrap();
        copy_models(&from, &to).unwrap();
        let found = |path: &str| to.join(path).exists();
        assert!(found("tiny/blip.json") && found("manifest.json") && !found("mine") && !found("old"));
        fs::remove_dir_all(folder).unwrap();
    }
}
