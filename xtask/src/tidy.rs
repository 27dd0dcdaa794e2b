//! The repository's own rules: what no compiler or linter checks.
//!
//! Each rule is a function from the tree to the list of what breaks it.

mod boundaries;
mod contracts;
mod layers;
mod models;
mod sources;

use crate::process::output;
use crate::tally::Tally;
use crate::workspace::{Workspace, read};
use anyhow::Result;
use std::fs;
use std::process::Command;

pub use sources::embedded_files;

/// A text file of the repository.
struct Source {
    /// Path from the root, with forward slashes.
    path: String,
    text: String,
}

/// Everything that the rules look at.
struct Tree<'a> {
    workspace: &'a Workspace,
    /// Every file that git tracks or would track.
    files: Vec<String>,
    /// Those of them that people write: Rust, TypeScript, JavaScript, shaders, styles, Python.
    sources: Vec<Source>,
}

type Rule = fn(&Tree) -> Result<Vec<String>>;

const RULES: &[(&str, Rule)] = &[
    ("modules import only from layers below", layers::edges),
    ("each boundary has one owner", boundaries::owners),
    ("every module says what it is", sources::module_docs),
    ("a file holds one concept", sources::lengths),
    ("files are named after what they hold", sources::names),
    ("a switched-off lint has a reason", sources::reasons),
    ("TypeScript is strict and has no dependencies", sources::typescript),
    ("large binaries are models", sources::large_files),
    ("error codes are the same in Rust and TypeScript", contracts::error_codes),
    ("versions agree", contracts::versions),
    ("packages carry the licences", contracts::licences),
    ("ARCHITECTURE.md names what there is", contracts::architecture),
    ("manifests describe the files beside them", models::manifests),
    ("the embedded model is the published one", models::embedded),
];

const WRITTEN: &[&str] = &["rs", "ts", "mjs", "js", "css", "wgsl", "py"];

/// Checks every rule and prints what breaks it.
pub fn run(workspace: &Workspace) -> Result<Tally> {
    let tree = Tree::read(workspace)?;
    let mut tally = Tally::default();
    for (name, rule) in RULES {
        let violations = rule(&tree)?;
        println!("{} {name}", if violations.is_empty() { "ok    " } else { "BROKEN" });
        for violation in &violations {
            println!("         {violation}");
        }
        tally += Tally::one(violations.is_empty());
    }
    Ok(tally)
}

impl<'a> Tree<'a> {
    fn read(workspace: &'a Workspace) -> Result<Self> {
        let listing = output(Command::new("git").current_dir(&workspace.root).args([
            "ls-files",
            "--cached",
            "--others",
            "--exclude-standard",
        ]))?;
        let mut files: Vec<String> =
            listing.lines().filter(|path| workspace.path(path).is_file()).map(str::to_owned).collect();
        files.sort();
        files.dedup();
        let sources = files
            .iter()
            .filter(|path| path.rsplit_once('.').is_some_and(|(_, extension)| WRITTEN.contains(&extension)))
            .map(|path| Ok(Source { path: path.clone(), text: read(&workspace.path(path))? }))
            .collect::<Result<_>>()?;
        Ok(Self { workspace, files, sources })
    }

    /// Sources with one of these extensions below one of these folders.
    fn sources_in<'s>(&'s self, folders: &'s [&str], extension: &'s str) -> impl Iterator<Item = &'s Source> {
        self.sources.iter().filter(move |source| {
            source.path.rsplit_once('.').is_some_and(|(_, found)| found == extension)
                && folders.iter().any(|folder| source.path.starts_with(folder))
        })
    }

    /// Whether a file is a module of unit tests only: its parent declares it under `#[cfg(test)]`.
    fn is_test(&self, path: &str) -> bool {
        let Some((folder, file)) = path.rsplit_once('/') else { return false };
        // The files of a folder of tests are declared by its `mod.rs`, and that one level up.
        if let Some((above, "tests")) = folder.rsplit_once('/') {
            return file != "mod.rs" || self.is_test(&format!("{above}/tests.rs"));
        }
        let declaration = format!("#[cfg(test)]\nmod {};", file.trim_end_matches(".rs"));
        let parents = [format!("{folder}/mod.rs"), format!("{folder}.rs"), format!("{folder}/lib.rs")];
        self.sources.iter().any(|source| parents.contains(&source.path) && source.text.contains(&declaration))
    }

    /// The text of a file, or nothing when there is none.
    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.workspace.path(path)).ok()
    }
}

/// The lines of Rust code with their numbers: no comments, no unit tests.
fn code_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut in_test_item = false;
    text.lines()
        .map(str::trim)
        .enumerate()
        .map(|(index, code)| (index + 1, code))
        // By convention an inline test module is the last item of its file.
        .take_while({
            let mut after_attribute = false;
            move |(_, code)| {
                let ends = after_attribute && code.starts_with("mod ") && code.ends_with('{');
                after_attribute = *code == "#[cfg(test)]" || (after_attribute && code.starts_with("#["));
                !ends
            }
        })
        .filter(move |(_, code)| {
            let in_test = in_test_item || *code == "#[cfg(test)]";
            in_test_item = *code == "#[cfg(test)]" || (in_test_item && code.starts_with("#["));
            !in_test && !code.starts_with("//")
        })
}
