//! The browser of the checks: found, or installed.

use crate::process::{output, run};
use crate::setup::apt_install;
use crate::workspace::Workspace;
use anyhow::{Result, bail};
use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

const BROWSERS: &[&str] =
    &["chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "microsoft-edge"];
const BROWSER_PATHS: &[&str] = &[
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
    "/snap/bin/chromium",
];
const DRIVERS: &[&str] = &["chromedriver", "chromium.chromedriver"];
const DRIVER_PATHS: &[&str] = &["/usr/lib/chromium/chromedriver", "/usr/lib/chromium-browser/chromedriver"];

/// The browser in `CHROMIUM`, one on the system, or one that is installed now.
pub fn find_or_install(workspace: &Workspace) -> Result<PathBuf> {
    if let Some(path) = env::var_os("CHROMIUM").map(PathBuf::from) {
        if path.is_file() {
            return Ok(path);
        }
        bail!("CHROMIUM is {}, which is not a file", path.display());
    }
    if let Some(path) = find(BROWSERS, BROWSER_PATHS).or_else(|| downloaded(workspace)) {
        return Ok(path);
    }
    apt_install("Chromium, for the checks in a browser", &["chromium", "chromium-driver"]);
    if let Some(path) = find(BROWSERS, BROWSER_PATHS) {
        return Ok(path);
    }
    println!("installing: Chromium through playwright-core");
    let mut install = Command::new("npx");
    install.current_dir(&workspace.root).args(["playwright-core", "install", "chromium"]);
    if let Err(error) = run(&mut install) {
        println!("{error:#}");
    }
    match downloaded(workspace) {
        Some(path) => Ok(path),
        None => bail!("no Chromium found and none could be installed; install one, or name it in CHROMIUM"),
    }
}

/// The driver in `CHROMEDRIVER`, one on the system, or one that is installed now.
pub fn find_or_install_driver() -> Option<PathBuf> {
    let named = env::var_os("CHROMEDRIVER").map(PathBuf::from).filter(|path| path.is_file());
    named.or_else(|| find(DRIVERS, DRIVER_PATHS)).or_else(|| {
        apt_install("chromedriver, for the wasm tests", &["chromium-driver"]);
        find(DRIVERS, DRIVER_PATHS)
    })
}

/// The browser that playwright-core downloaded earlier.
fn downloaded(workspace: &Workspace) -> Option<PathBuf> {
    let script = "console.log(require('playwright-core').chromium.executablePath())";
    let path = output(Command::new("node").current_dir(&workspace.root).args(["-e", script])).ok()?;
    Some(PathBuf::from(path.trim())).filter(|path| path.is_file())
}

fn find(names: &[&str], paths: &[&str]) -> Option<PathBuf> {
    let folders = env::var_os("PATH").unwrap_or_default();
    let on_path =
        names.iter().flat_map(|name| env::split_paths(&folders).map(move |folder| folder.join(name)));
    on_path.chain(paths.iter().map(|path| Path::new(path).to_path_buf())).find(|path| path.is_file())
}
