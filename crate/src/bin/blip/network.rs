//! What the environment says about the network and the cache, and how a download shows on the terminal.

use std::env;
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;

use anyhow::{Result, bail};
use blip_web::hub::{Client, Event, Patience};

/// A client of the hub that the environment names: `HF_ENDPOINT`, `HF_TOKEN`.
pub(crate) fn hub_client() -> Client {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.trim().is_empty());
    let endpoint = set("HF_ENDPOINT").unwrap_or_else(|| "https://huggingface.co".to_owned());
    Client::new(endpoint.trim(), set("HF_TOKEN").map(|token| token.trim().to_owned()), Patience::default())
}

/// The folder of downloaded models: in `BLIP_CACHE`, or where this system keeps what can be made again.
pub(crate) fn cache_folder() -> Result<PathBuf> {
    let set = |name: &str| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(folder) = set("BLIP_CACHE") {
        return Ok(folder.join("models"));
    }
    let home = || set("HOME").map(|home| home.join(".cache"));
    match set("XDG_CACHE_HOME").or_else(home).or_else(|| set("LOCALAPPDATA")) {
        Some(folder) => Ok(folder.join("blip-web").join("models")),
        None => bail!("there is no folder for downloads: set BLIP_CACHE"),
    }
}

/// A line on standard error: overwritten where somebody is watching, otherwise one for each tenth.
pub(crate) struct DownloadProgress {
    is_watched: bool,
    file: String,
    tenth: u64,
}

impl DownloadProgress {
    pub(crate) fn new() -> Self {
        Self { is_watched: std::io::stderr().is_terminal(), file: String::new(), tenth: 0 }
    }

    pub(crate) fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Notice(text) => {
                self.end();
                eprintln!("blip: {text}");
            }
            Event::Progress { file, done, total } => {
                let tenth = done * 10 / total.max(1);
                if self.is_watched {
                    eprint!("\r\x1b[K{}", line(file, done, total));
                    // Best effort: a terminal that is gone shows nothing anyway.
                    let _ = std::io::stderr().flush();
                } else if tenth > self.tenth || *file != *self.file {
                    eprintln!("{}", line(file, done, total));
                }
                (self.file, self.tenth) = (file.to_owned(), tenth);
            }
        }
    }

    /// Leaves the line free.
    pub(crate) fn end(&self) {
        if self.is_watched && !self.file.is_empty() {
            eprint!("\r\x1b[K");
        }
    }
}

fn line(file: &str, done: u64, total: u64) -> String {
    format!("{file}: {:.1} of {:.1} MB", done as f64 / 1e6, total as f64 / 1e6)
}
