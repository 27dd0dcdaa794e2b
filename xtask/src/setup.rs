//! What a fresh machine lacks. Every piece looks first, says what it installs, and can be repeated.

use crate::chromium;
use crate::process::{output, run, succeeds};
use crate::workspace::{Workspace, read};
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The target of the browser module.
pub const WASM_TARGET: &str = "wasm32-unknown-unknown";

const OLDEST_NODE: u32 = 20;

/// Installs everything that any command needs.
pub fn everything(workspace: &Workspace) -> Result<()> {
    wasm_target()?;
    npm_packages(workspace)?;
    let browser = chromium::find_or_install(workspace)?;
    println!("Chromium: {}", browser.display());
    match chromium::find_or_install_driver() {
        Some(driver) => println!("chromedriver: {}", driver.display()),
        None => println!("skipped: no chromedriver here and no way found to install it"),
    }
    match software_vulkan() {
        Some(driver) => println!("Vulkan: {driver}"),
        None => println!("skipped: no Vulkan driver here and no way found to install one"),
    }
    Ok(())
}

/// The standard library of the browser target.
pub fn wasm_target() -> Result<()> {
    let folder = output(Command::new("rustc").args(["--print", "target-libdir", "--target", WASM_TARGET]))?;
    if Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    println!("installing: Rust's standard library for {WASM_TARGET}");
    run(Command::new("rustup").args(["target", "add", WASM_TARGET])).with_context(|| {
        format!("this Rust has no {WASM_TARGET}; install it through rustup or the system's packages")
    })
}

/// The development tools of `package-lock.json`: TypeScript, Binaryen, the browser driver, the icons.
pub fn npm_packages(workspace: &Workspace) -> Result<()> {
    let version = output(Command::new("node").arg("--version"))
        .context("Node.js is needed: install version 20 or later")?;
    let major =
        version.trim().trim_start_matches('v').split('.').next().and_then(|part| part.parse::<u32>().ok());
    if major.is_none_or(|major| major < OLDEST_NODE) {
        bail!("Node.js is {}, version {OLDEST_NODE} or later is needed", version.trim());
    }
    let stamp = workspace.path("node_modules/.installed-lock");
    let lock = digest(read(&workspace.path("package-lock.json"))?.as_bytes());
    if fs::read_to_string(&stamp).is_ok_and(|installed| installed == lock) {
        return Ok(());
    }
    println!("installing: the npm packages of package-lock.json into node_modules");
    run(Command::new("npm").current_dir(&workspace.root).args([
        "ci",
        "--ignore-scripts",
        "--no-audit",
        "--no-fund",
        "--loglevel=error",
    ]))?;
    fs::write(stamp, lock)?;
    Ok(())
}

/// A Vulkan driver for native GPU tests: one that is there, or Mesa's software driver.
pub fn software_vulkan() -> Option<String> {
    static FOUND: OnceLock<Option<String>> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            vulkan_driver().or_else(|| {
                apt_install("a software Vulkan driver (lavapipe)", &["mesa-vulkan-drivers", "libvulkan1"]);
                vulkan_driver()
            })
        })
        .clone()
}

fn vulkan_driver() -> Option<String> {
    if !cfg!(target_os = "linux") {
        return Some("the system's own".to_owned());
    }
    for variable in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        if let Ok(files) = env::var(variable) {
            return Some(files);
        }
    }
    let folders = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d"];
    let mut drivers = folders
        .iter()
        .filter_map(|folder| fs::read_dir(folder).ok())
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    // The drivers of graphics cards are installed without their cards, too; Mesa's needs none.
    let has_card =
        ["/dev/dri/renderD128", "/dev/nvidia0", "/dev/kfd"].iter().any(|device| Path::new(device).exists());
    let usable = |driver: &PathBuf| {
        let name = driver.file_name().unwrap_or_default().to_string_lossy();
        name.ends_with(".json") && (has_card || name.starts_with("lvp_"))
    };
    drivers.find(usable).map(|driver| driver.display().to_string())
}

/// Installs Debian packages where that is possible: as root, or through a `sudo` that asks nothing.
/// Whether it worked is for the caller to see.
pub fn apt_install(what: &str, packages: &[&str]) {
    if !succeeds(Command::new("apt-get").arg("--version")) {
        return;
    }
    let is_root = output(Command::new("id").arg("-u")).is_ok_and(|id| id.trim() == "0");
    if !is_root && !succeeds(Command::new("sudo").args(["-n", "true"])) {
        println!("{what} is missing; as root: apt-get install {}", packages.join(" "));
        return;
    }
    let apt = |arguments: &[&str]| {
        let mut command = if is_root {
            Command::new("apt-get")
        } else {
            let mut command = Command::new("sudo");
            command.args(["-n", "apt-get"]);
            command
        };
        command.args(["-qq", "-y"]).args(arguments).env("DEBIAN_FRONTEND", "noninteractive");
        if let Err(error) = run(&mut command) {
            println!("{error:#}");
        }
    };
    println!("installing: {what} ({})", packages.join(", "));
    static UPDATED: OnceLock<()> = OnceLock::new();
    UPDATED.get_or_init(|| apt(&["update"]));
    apt(&[&["install", "--no-install-recommends"], packages].concat());
}

/// SHA-256 in hexadecimal.
pub fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
