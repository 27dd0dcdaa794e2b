//! The npm package as `npm publish` would send it.

use crate::process::output;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// The packed package.
pub struct Tarball {
    /// Where it is.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// The files in it, as paths inside the package.
    pub files: Vec<String>,
}

/// Packs what `site::compile_sdk` left in `pkg`.
pub fn pack(workspace: &Workspace) -> Result<Tarball> {
    let folder = workspace.target.join("packaging");
    fs::create_dir_all(&folder)?;
    let listing = output(
        Command::new("npm")
            .current_dir(workspace.path("pkg"))
            .args(["pack", "--json", "--ignore-scripts", "--loglevel=error", "--pack-destination"])
            .arg(&folder),
    )?;
    let listing: Value = serde_json::from_str(&listing).context("npm pack --json printed something else")?;
    // A list of packages in most versions of npm, an object by name in the newest.
    let packed = listing.get(0).or_else(|| listing.as_object()?.values().next());
    let packed = packed.context("npm pack --json names no package")?;
    let name = packed["filename"].as_str().context("npm pack --json has no `filename`")?;
    let path = folder.join(name);
    let files = packed["files"].as_array().context("npm pack --json has no `files`")?;
    Ok(Tarball {
        bytes: fs::metadata(&path)?.len(),
        path,
        files: files.iter().filter_map(|file| file["path"].as_str()).map(str::to_owned).collect(),
    })
}

impl Tarball {
    /// Unpacks it beside itself; returns the folder of the package.
    pub fn unpack(&self) -> Result<PathBuf> {
        let parent = self.path.with_extension("unpacked");
        if parent.exists() {
            fs::remove_dir_all(&parent).with_context(|| format!("cannot empty {}", parent.display()))?;
        }
        fs::create_dir_all(&parent)?;
        output(Command::new("tar").arg("-xzf").arg(&self.path).arg("-C").arg(&parent))?;
        // The folder in every tarball of npm.
        Ok(parent.join("package"))
    }
}
