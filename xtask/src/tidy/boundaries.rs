//! What only named modules of the crate may do, and why.

use super::{Tree, code_lines};
use anyhow::Result;

/// A way to cross a boundary.
struct Boundary {
    /// What crosses it.
    words: &'static [&'static str],
    /// The files that may, as the start of their paths below `crate/src/`.
    owners: &'static [&'static str],
    why: &'static str,
}

const BOUNDARIES: &[Boundary] = &[
    Boundary {
        words: &[".into_data()", ".to_data()", ".into_scalar()", ".into_data_async()", "try_into_data"],
        // `device` reads through `kernels/transfer`; what `composed` and `trained` do, no browser does.
        owners: &[
            "device",
            "kernels/transfer",
            "kernels/cpu/flex",
            "kernels/cpu/trained",
            "kernels/composed",
            "train",
            "weights",
            "convert",
            "bin",
        ],
        why: "a browser cannot wait for the GPU: read back through device::read",
    },
    Boundary {
        words: &["Instant::now", "SystemTime::now"],
        owners: &["clock", "train", "bin"],
        why: "it panics in the browser: use the clock module",
    },
    Boundary {
        words: &["std::fs", "fs::read", "fs::write", "File::open", "File::create"],
        // `weights` opens checkpoints for the command line tool.
        owners: &["train", "bin", "convert", "hub", "weights"],
        why: "the library works on bytes: files belong to the edges",
    },
    Boundary {
        words: &["wasm_bindgen", "js_sys", "web_sys", "JsValue"],
        owners: &["wasm", "clock", "device/browser"],
        why: "the shell knows JavaScript, the clock its timer, the device its adapter",
    },
    Boundary {
        words: &["thread_rng", "rand::rng()", "OsRng", "getrandom"],
        owners: &["train"],
        why: "equal seeds give equal results: take a generator from the caller",
    },
    Boundary { words: &["anyhow"], owners: &["bin", "train"], why: "errors of the library have codes" },
];

/// Each boundary is crossed by its owners only; unit tests may do as they like.
pub fn owners(tree: &Tree) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for source in tree.sources_in(&["crate/src/"], "rs").filter(|source| !tree.is_test(&source.path)) {
        let inside = source.path.trim_start_matches("crate/src/");
        for (line, code) in code_lines(&source.text) {
            for boundary in BOUNDARIES.iter().filter(|boundary| !boundary.is_owner(inside)) {
                if let Some(word) = boundary.words.iter().find(|word| code.contains(*word)) {
                    violations.push(format!("{}:{line}: `{word}`: {}", source.path, boundary.why));
                }
            }
        }
    }
    Ok(violations)
}

impl Boundary {
    /// Owners are files or folders, named without `.rs`.
    fn is_owner(&self, path: &str) -> bool {
        let is_in = |owner: &&str| {
            path.strip_prefix(*owner).is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
        };
        self.owners.iter().any(is_in)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_owns_its_file_and_its_folder() {
        let clock = &BOUNDARIES[1];
        assert!(
            clock.is_owner("train/caption.rs") && clock.is_owner("train.rs") && clock.is_owner("bin/blip.rs")
        );
        assert!(!clock.is_owner("tasks/train.rs") && !clock.is_owner("trainer.rs"));
        let javascript =
            BOUNDARIES.iter().find(|b| b.words.contains(&"JsValue")).expect("it is in the table");
        assert!(javascript.is_owner("device/browser.rs") && !javascript.is_owner("device/mod.rs"));
    }
}
