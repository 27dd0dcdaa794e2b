//! `THIRD-PARTY-NOTICES` of the npm package: the crates inside its WebAssembly modules, and their licences.

use crate::process::output;
use crate::setup::WASM_TARGET;
use crate::wasm::FEATURES;
use crate::workspace::Workspace;
use anyhow::{Context, Result, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

/// Where it is, beside the package's own licences.
pub const FILE: &str = "pkg/THIRD-PARTY-NOTICES";

const HEAD: &str = "\
The WebAssembly modules of this package are made of its own code, of the standard library of Rust
(MIT OR Apache-2.0, https://github.com/rust-lang/rust), and of the crates below. Where one offers a choice of
licences and MIT is among them, MIT is the one that is taken. Licences follow in full, as the crates hold them.
";

/// How the names of files with licences begin, in small letters.
const NAMES: [&str; 6] = ["licence", "license", "copying", "copyright", "notice", "unlicense"];

/// A crate with what its package says of it.
#[derive(Clone)]
struct Crate {
    name: String,
    licence: String,
    source: String,
    authors: String,
    /// Texts of the licences that are taken.
    texts: Vec<String>,
}

/// Writes the file for the modules as they are built.
pub fn write(workspace: &Workspace) -> Result<()> {
    let crates = linked(workspace)?;
    ensure!(crates.len() > 10, "cargo names only {} crates of the module", crates.len());
    let path = workspace.path(FILE);
    fs::write(&path, notices(&crates)).with_context(|| format!("cannot write {}", path.display()))
}

/// The crates that are linked into the module, in the order of their names.
fn linked(workspace: &Workspace) -> Result<Vec<Crate>> {
    let tree = output(
        Command::new("cargo")
            .current_dir(workspace.path("crate"))
            .args(["tree", "--package", "blip-web", "--target", WASM_TARGET])
            .args(FEATURES)
            // Macros run on the machine that builds.
            .args(["--edges", "normal,no-proc-macro", "--prefix", "none", "--format", "{p}"]),
    )?;
    let names = tree.lines().filter_map(name_of).filter(|name| !name.starts_with("blip-web "));
    let names: BTreeSet<String> = names.collect();
    let metadata = output(Command::new("cargo").current_dir(&workspace.root).args([
        "metadata",
        "--format-version",
        "1",
        "--filter-platform",
        WASM_TARGET,
    ]))?;
    let metadata: Value = serde_json::from_str(&metadata).context("cargo metadata printed no JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata names no packages")?;
    let text = |package: &Value, field: &str| package[field].as_str().unwrap_or_default().to_owned();
    let key = |package: &Value| format!("{} {}", text(package, "name"), text(package, "version"));
    let known: BTreeMap<String, &Value> = packages.iter().map(|package| (key(package), package)).collect();
    let read = |name: String| {
        let package = known.get(&name).with_context(|| format!("cargo metadata does not know {name}"))?;
        let manifest = text(package, "manifest_path");
        let folder = Path::new(&manifest).parent().context("a manifest lies in a folder")?;
        let licence = text(package, "license");
        let authors = package["authors"].as_array().into_iter().flatten().filter_map(Value::as_str);
        Ok(Crate {
            texts: texts(folder, &licence)?,
            source: text(package, "repository"),
            authors: authors.collect::<Vec<_>>().join(", "),
            licence,
            name,
        })
    };
    names.into_iter().map(read).collect()
}

/// `name version` of a line such as `name v1.2.3 (*)`.
fn name_of(line: &str) -> Option<String> {
    let (name, rest) = line.split_once(" v")?;
    Some(format!("{name} {}", rest.split(' ').next()?))
}

/// The texts of the licences of a package that are taken.
fn texts(folder: &Path, licence: &str) -> Result<Vec<String>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
        if path.is_file() && NAMES.iter().any(|begin| name.starts_with(begin)) {
            files.push((name, path));
        }
    }
    files.sort();
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    let taken = taken(licence, &names);
    let chosen = files.iter().filter(|(name, _)| taken.contains(&name.as_str()));
    chosen.map(|(_, path)| Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())).collect()
}

/// Which of a package's files hold the licences that are taken: of a plain choice with MIT in it, MIT's.
fn taken<'a>(licence: &str, files: &[&'a str]) -> Vec<&'a str> {
    let offers = licence.split(['/', ' ', '(', ')']).any(|word| word == "MIT") && !licence.contains("AND");
    let mit: Vec<&str> = files.iter().copied().filter(|file| file.contains("mit")).collect();
    if offers && !mit.is_empty() { mit } else { files.to_vec() }
}

/// The file: a list of the crates, then each text once, with the names of those that it came with.
fn notices(crates: &[Crate]) -> String {
    let mut out = format!("{HEAD}\n");
    for Crate { name, licence, source, .. } in crates {
        // Strings have no errors to report.
        let _ = writeln!(out, "{name}: {licence}{}{source}", if source.is_empty() { "" } else { ", " });
    }
    let mut groups: BTreeMap<String, (Vec<&str>, &str)> = BTreeMap::new();
    for Crate { name, texts, .. } in crates {
        for text in texts {
            let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
            groups.entry(words).or_insert_with(|| (Vec::new(), text)).0.push(name);
        }
    }
    let mut groups: Vec<(Vec<&str>, &str)> = groups.into_values().collect();
    groups.sort();
    for (mut names, text) in groups {
        names.dedup();
        let _ = write!(out, "\n{}\n{}\n\n{}\n", "=".repeat(80), names.join(", "), text.trim());
    }
    let without: Vec<&Crate> = crates.iter().filter(|one| one.texts.is_empty()).collect();
    if !without.is_empty() {
        let _ = write!(out, "\n{}\nThe packages of these hold no text of their licence:\n\n", "=".repeat(80));
        for Crate { name, licence, authors, .. } in without {
            let _ =
                writeln!(out, "{name}: {licence}{}{authors}", if authors.is_empty() { "" } else { ", by " });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, texts: &[&str]) -> Crate {
        let texts = texts.iter().map(|&text| text.to_owned()).collect();
        let (licence, source, authors) = ("MIT".to_owned(), String::new(), "A. Nonymous".to_owned());
        Crate { name: name.to_owned(), licence, source, authors, texts }
    }

    #[test]
    fn a_line_of_the_tree_is_a_name_and_a_version() {
        assert_eq!(name_of("wgpu v27.0.1 (*)").unwrap(), "wgpu 27.0.1");
        assert_eq!(name_of("blip-web v0.1.0 (/somewhere)").unwrap(), "blip-web 0.1.0");
        assert_eq!(name_of(""), None);
    }

    #[test]
    fn of_a_choice_mit_is_taken_and_of_anything_else_everything() {
        let both = ["license-apache", "license-mit"];
        for choice in ["MIT OR Apache-2.0", "Apache-2.0/MIT", "Zlib OR Apache-2.0 OR MIT"] {
            assert_eq!(taken(choice, &both), ["license-mit"], "{choice}");
        }
        assert_eq!(taken("(MIT OR Apache-2.0) AND Unicode-3.0", &both), both);
        assert_eq!(taken("Apache-2.0", &both), both);
        assert_eq!(taken("MIT OR Apache-2.0", &["license", "notice"]), ["license", "notice"]);
    }

    #[test]
    fn each_text_is_there_once_with_the_names_of_its_crates() {
        let crates = [one("a 1", &["Be\n  kind."]), one("b 2", &["Be kind.", "Be quick."]), one("c 3", &[])];
        let file = notices(&crates);
        assert!(file.contains("\na 1, b 2\n\nBe\n  kind.\n"), "{file}");
        assert_eq!(file.matches("kind.").count(), 1);
        assert!(file.contains("\nb 2\n\nBe quick.\n"), "{file}");
        assert!(file.contains("no text of their licence:\n\nc 3: MIT, by A. Nonymous\n"), "{file}");
    }

    #[test]
    fn the_module_has_notices_which_name_no_machine() {
        let workspace = Workspace::find().unwrap();
        let file = notices(&linked(&workspace).unwrap());
        for name in ["burn", "wgpu", "wasm-bindgen", "serde_json"] {
            assert!(file.contains(&format!("\n{name} ")), "{name} is missing");
        }
        assert!(!file.contains("\nblip-web ") && !file.contains("\nsyn "), "what is not linked is listed");
        assert!(file.contains("Mozilla Public License"), "the text of MPL-2.0 is missing");
        let root = workspace.root.display().to_string();
        let home = std::env::home_dir().unwrap().join(".").display().to_string();
        for path in [root.as_str(), "registry/src", home.trim_end_matches('.')] {
            assert!(!file.contains(path), "the notices hold {path}");
        }
    }
}
