//! The icon sets that scenes are composed from.

use std::env;
use std::path::PathBuf;

/// The `@iconify-json` folder named by `BLIP_ICONS`; `None`, with a line `skipped: …`, when unset.
#[expect(clippy::print_stdout, reason = "the test runner counts these lines of a test's output")]
pub fn icons() -> Option<PathBuf> {
    let folder = env::var_os("BLIP_ICONS").map(PathBuf::from);
    if folder.is_none() {
        println!("skipped: BLIP_ICONS is not set (`cargo xtask test` installs the icons)");
    }
    folder
}
