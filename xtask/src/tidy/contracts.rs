//! Rules about what two places say about the same thing.

use super::Tree;
use crate::workspace::read;
use anyhow::{Context, Result};
use serde_json::Value;

/// `ErrorKind` and `ERROR_CODES` list the same codes in the same order.
pub fn error_codes(tree: &Tree) -> Result<Vec<String>> {
    let rust = read(&tree.workspace.path("crate/src/error.rs"))?;
    let typescript = read(&tree.workspace.path("pkg/src/protocol.ts"))?;
    let (rust, typescript) = (rust_codes(&rust), typescript_codes(&typescript));
    let mut violations = Vec::new();
    if rust.is_empty() || rust != typescript {
        violations.push(format!("Rust has {rust:?}"));
        violations.push(format!("TypeScript has {typescript:?}"));
    }
    Ok(violations)
}

fn rust_codes(text: &str) -> Vec<&str> {
    text.lines().filter_map(|line| line.split_once(" => \"")?.1.strip_suffix("\",")).collect()
}

fn typescript_codes(text: &str) -> Vec<&str> {
    let list = text
        .split_once("ERROR_CODES = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map_or("", |(list, _)| list);
    list.split(',').map(|code| code.trim().trim_matches('"')).filter(|code| !code.is_empty()).collect()
}

/// One version of the project, and one of wasm-bindgen and its generator.
pub fn versions(tree: &Tree) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    let package: Value = serde_json::from_str(&read(&tree.workspace.path("pkg/package.json"))?)?;
    let ours = env!("CARGO_PKG_VERSION");
    if package["version"] != ours {
        violations.push(format!("pkg/package.json is version {}, the workspace {ours}", package["version"]));
    }
    let lock = read(&tree.workspace.path("Cargo.lock"))?;
    let bindgen = locked(&lock, "wasm-bindgen").context("Cargo.lock has no wasm-bindgen")?;
    for generator in ["wasm-bindgen-cli-support", "wasm-bindgen-cli"] {
        let version = locked(&lock, generator);
        if version != Some(bindgen) {
            violations.push(format!("{generator} is {version:?}, wasm-bindgen {bindgen}"));
        }
    }
    Ok(violations)
}

fn locked<'l>(lock: &'l str, name: &str) -> Option<&'l str> {
    let entry = lock.split_once(&format!("name = \"{name}\"\nversion = \""))?.1;
    entry.split('"').next()
}

/// Each published package carries the licence texts of the root.
pub fn licences(tree: &Tree) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for name in ["LICENSE-MIT", "LICENSE-APACHE"] {
        let text = read(&tree.workspace.path(name))?;
        for folder in ["crate", "pkg"] {
            let copy = format!("{folder}/{name}");
            if tree.text(&copy).as_ref() != Some(&text) {
                violations.push(format!("{copy} is not {name}"));
            }
        }
    }
    Ok(violations)
}

/// The code map has every top-level module of the crate, and every path it names exists.
pub fn architecture(tree: &Tree) -> Result<Vec<String>> {
    let Some(document) = tree.text("ARCHITECTURE.md") else {
        return Ok(vec!["ARCHITECTURE.md is missing".to_owned()]);
    };
    let library = read(&tree.workspace.path("crate/src/lib.rs"))?;
    let quoted: Vec<&str> = document.split('`').skip(1).step_by(2).collect();
    let declared = library.lines().filter_map(|line| {
        let name = line.trim().trim_start_matches("pub ").strip_prefix("mod ")?;
        name.strip_suffix(';')
    });
    let mut violations: Vec<String> = declared
        .filter(|module| !quoted.iter().any(|word| names_module(word, module)))
        .map(|module| format!("the module `{module}` is not named"))
        .collect();
    let folders = ["crate/", "pkg/", "www/", "tests/", "xtask/", "models/"];
    for path in quoted.iter().filter(|word| folders.iter().any(|folder| word.starts_with(folder))) {
        // Generated folders are described, too.
        let generated =
            ["pkg/dist", "pkg/src/wasm", "pkg/models"].iter().any(|folder| path.starts_with(folder));
        let plain = !path.contains(['*', '{', '<', ' ', '…']);
        if plain && !generated && !tree.workspace.path(path).exists() {
            violations.push(format!("`{path}` does not exist"));
        }
    }
    Ok(violations)
}

/// `model`, `src/model`, `crate/src/model.rs`, `model/mod.rs` all name the module `model`.
fn names_module(word: &str, module: &str) -> bool {
    let inside = word.trim_start_matches("crate/").trim_start_matches("src/");
    let first = inside.split(['/', ':']).next().unwrap_or_default();
    first.strip_suffix(".rs").unwrap_or(first) == module
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_read_from_both_languages() {
        assert_eq!(
            rust_codes("    /// An image.\n    BadImage => \"bad-image\",\n    Io => \"io\",\n"),
            ["bad-image", "io"]
        );
        assert_eq!(
            typescript_codes("export const ERROR_CODES = [\n  \"bad-image\",\n  \"io\",\n] as const;"),
            ["bad-image", "io"]
        );
    }

    #[test]
    fn a_locked_version_is_that_of_the_exact_name() {
        let lock = "name = \"a-b\"\nversion = \"1.0.0\"\n\nname = \"a\"\nversion = \"2.0.0\"\n";
        assert_eq!(locked(lock, "a"), Some("2.0.0"));
        assert_eq!(locked(lock, "c"), None);
    }

    #[test]
    fn a_module_is_recognised_in_every_spelling() {
        for word in ["model", "src/model", "crate/src/model/", "crate/src/model.rs", "model::Blip"] {
            assert!(names_module(word, "model"), "{word}");
        }
        assert!(!names_module("models/tiny", "model"));
    }
}
