//! Arrows between the modules of the crate point one way.

use super::{Tree, code_lines};
use anyhow::Result;

/// Modules from the bottom up; a module may import from lower layers, and from its own part.
const LAYERS: &[(&str, u8)] = &[
    ("error", 0),
    ("clock", 0),
    ("config", 1),
    ("image", 2),
    ("tokenizer", 2),
    ("generate", 2),
    ("kernels", 2),
    ("gallery", 3),
    ("device", 3),
    ("nn", 4),
    ("model", 5),
    // Fills a model; the model does not know where its weights come from.
    ("weights", 6),
    ("tasks", 7),
    ("embedded", 8),
    ("hub", 8),
    ("wasm", 9),
    ("bin", 9),
    ("convert", 9),
    ("train", 9),
];

/// Tensor code is pure: of the layers below, these see only the named ones.
const RESTRICTED: &[(&str, &[&str])] = &[
    ("kernels", &["error", "config"]),
    ("gallery", &["error", "kernels"]),
    ("nn", &["error", "config", "kernels"]),
    ("model", &["error", "config", "kernels", "nn"]),
    ("weights", &["error", "config", "kernels", "nn", "model"]),
];

/// The command line tool is the one edge that uses the other two.
const BETWEEN_EDGES: &[(&str, &str)] = &[("bin", "convert"), ("bin", "train")];

/// Names that `lib.rs` re-exports from `error`.
const REEXPORTED: &[&str] = &["Error", "ErrorKind", "Result"];

/// Every `crate::…` path of the crate obeys the table.
pub fn edges(tree: &Tree) -> Result<Vec<String>> {
    let mut violations = Vec::new();
    for source in tree.sources_in(&["crate/src/"], "rs") {
        let Some(from) = module_of(&source.path) else { continue };
        if layer(from).is_none() {
            violations.push(format!("{}: `{from}` has no layer in xtask/src/tidy/layers.rs", source.path));
            continue;
        }
        if tree.is_test(&source.path) {
            continue;
        }
        for (line, to) in crate_paths(&source.text) {
            if !may_import(from, &to) {
                violations.push(format!("{}:{line}: `{from}` imports `{to}`", source.path));
            }
        }
    }
    Ok(violations)
}

/// The top-level module of a file; nothing for `lib.rs`, which only declares.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("crate/src/")?;
    let first = inside.split('/').next()?;
    let name = first.strip_suffix(".rs").unwrap_or(first);
    (name != "lib").then_some(name)
}

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

fn may_import(from: &str, to: &str) -> bool {
    if from == to || BETWEEN_EDGES.contains(&(from, to)) {
        return true;
    }
    let (Some(upper), Some(lower)) = (layer(from), layer(to)) else { return false };
    let allowed =
        RESTRICTED.iter().find(|(name, _)| *name == from).is_none_or(|(_, below)| below.contains(&to));
    lower < upper && allowed
}

/// The modules named after `crate::`, with their lines, outside comments and unit tests.
fn crate_paths(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut in_group = false;
    for (line, code) in code_lines(text) {
        if in_group {
            found.extend(group_heads(code).map(|name| (line, name)));
            in_group = !code.contains('}');
        }
        for (position, _) in code.match_indices("crate::") {
            // `$crate::` in a macro, or the end of another name.
            if code[..position].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
                continue;
            }
            let rest = &code[position + "crate::".len()..];
            if let Some(group) = rest.strip_prefix('{') {
                found.extend(group_heads(group).map(|name| (line, name)));
                in_group = !group.contains('}');
            } else {
                found.extend(module_name(rest).map(|name| (line, name)));
            }
        }
    }
    found
}

/// The first names of the members of `{a::b, c, d::{e, f}}`, after the opening brace.
fn group_heads(group: &str) -> impl Iterator<Item = String> {
    let mut depth = 0_i32;
    let mut heads = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(String::new()),
            _ if depth == 0 => heads.last_mut().expect("it starts with one").push(c),
            _ => {}
        }
        if depth < 0 {
            break;
        }
    }
    heads.into_iter().filter_map(|head| module_name(head.trim()))
}

fn module_name(path: &str) -> Option<String> {
    let name: String = path.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    let name = if REEXPORTED.contains(&name.as_str()) { "error".to_owned() } else { name };
    // Macros and attributes of the crate root are no modules.
    name.starts_with(|c: char| c.is_ascii_lowercase()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(text: &str) -> Vec<String> {
        crate_paths(text).into_iter().map(|(_, name)| name).collect()
    }

    #[test]
    fn every_form_of_import_is_seen() {
        assert_eq!(names("use crate::nn::Linear;"), ["nn"]);
        assert_eq!(names("use crate::{Error, Result};"), ["error", "error"]);
        assert_eq!(names("use crate::{nn::{Linear, Mlp}, model};"), ["nn", "model"]);
        assert_eq!(names("use crate::{\n    nn::Linear,\n    tasks,\n};\nuse std::fs;"), ["nn", "tasks"]);
        assert_eq!(names("let x = crate::weights::load(crate::config::tiny());"), ["weights", "config"]);
    }

    #[test]
    fn comments_and_tests_do_not_count() {
        assert_eq!(names("//! [`crate::tasks`]\n// crate::model"), Vec::<String>::new());
        assert_eq!(names("#[cfg(test)]\nmod goldens;\nuse crate::nn;"), ["nn"]);
        assert_eq!(names("use crate::nn;\n#[cfg(test)]\nmod tests {\n    use crate::tasks;\n}"), ["nn"]);
    }

    #[test]
    fn arrows_point_down_only() {
        assert!(may_import("tasks", "model") && may_import("model", "nn") && may_import("config", "error"));
        assert!(
            !may_import("model", "tasks")
                && !may_import("image", "device")
                && !may_import("weights", "image")
                && !may_import("error", "config")
        );
        assert!(!may_import("nn", "device") && !may_import("model", "weights"));
        assert!(may_import("bin", "train") && !may_import("train", "bin") && !may_import("wasm", "train"));
    }
}
