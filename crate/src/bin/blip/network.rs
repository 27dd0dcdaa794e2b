//! How a download shows on the terminal.

use std::io::{IsTerminal as _, Write as _};

use blip_web::hub::Event;

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
