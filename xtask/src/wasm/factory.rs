//! Makes a function of the generated bindings, so that a thread can have several modules.
//!
//! The bindings keep one module for each script, with its memory and its GPU, for as long as the script
//! lives. A lost GPU or a trap would need the page to be loaded again, and no memory would ever be given
//! back. As a function they have nothing that outlives a call: whoever calls it again has another module.

use anyhow::{Result, bail, ensure};

/// The generated script ends with this line.
const LAST: &str = "export { initSync, __wbg_init as default };";

/// Types of the script that [`wrap`] makes, beside those of the generated one in `exports.d.ts`.
pub const TYPES: &str = r#"import type * as Exports from "./exports.js";

/** What a module exports; nothing works before `init` has resolved. */
export type Bindings = Omit<typeof Exports, "default" | "initSync"> & { readonly init: typeof Exports.default };

/** Bindings of a module with memory of its own: every call makes another. */
export function bindings(): Bindings;
"#;

/// The script with everything inside a function `bindings`, which returns what was exported, and the
/// former default export as `init`.
pub fn wrap(script: &str) -> Result<String> {
    let mut exports = Vec::new();
    let mut wrapped = String::from("export function bindings() {\n");
    let mut lines = script.trim_end().lines().peekable();
    while let Some(line) = lines.next() {
        if lines.peek().is_none() {
            ensure!(line == LAST, "the bindings end with `{line}`, expected `{LAST}`");
        } else if line.starts_with("/* @ts-self-types") {
            // They are no longer those of this script.
        } else if let Some(declaration) = line.strip_prefix("export ") {
            let name: String = declaration
                .strip_prefix("class ")
                .or_else(|| declaration.strip_prefix("function "))
                .map(|rest| rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
                .unwrap_or_default();
            if name.is_empty() {
                bail!("the bindings export what is neither class nor function: `{line}`");
            }
            exports.push(name);
            wrapped += declaration;
            wrapped.push('\n');
        } else if line.starts_with("import ") || line.contains("import.meta") {
            bail!("the bindings use another script: `{line}`");
        } else {
            wrapped += line;
            wrapped.push('\n');
        }
    }
    ensure!(!exports.is_empty(), "the bindings export nothing");
    wrapped += &format!("return {{ {}, init: __wbg_init }};\n}}\n", exports.join(", "));
    Ok(wrapped)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCRIPT: &str = "/* @ts-self-types=\"./blip.d.ts\" */\n\nexport class Engine {\n    free() {}\n}\n\
                          export function version() {\n    return wasm.version();\n}\nlet wasm;\n\
                          async function __wbg_init() {}\n\nexport { initSync, __wbg_init as default };\n";

    #[test]
    fn what_was_exported_is_returned_by_a_function() {
        let wrapped = wrap(SCRIPT).unwrap();
        assert!(wrapped.starts_with("export function bindings() {\n\nclass Engine {\n"));
        assert!(wrapped.ends_with("\nreturn { Engine, version, init: __wbg_init };\n}\n"));
        assert_eq!(wrapped.matches("export ").count(), 1);
    }

    #[test]
    fn bindings_of_another_shape_are_refused() {
        let constant = SCRIPT.replace("let wasm;", "export const x = 1;");
        let snippet = SCRIPT.replace("let wasm;", "import { f } from './snippet.js';");
        let unfinished = SCRIPT.replace(LAST, "export default __wbg_init;");
        for script in [constant, snippet, unfinished] {
            assert!(wrap(&script).is_err(), "{script}");
        }
    }
}
