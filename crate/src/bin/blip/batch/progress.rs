//! How far a long run is, on one line of a terminal.

use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

/// A line on standard error that is overwritten, where somebody is watching.
#[derive(Debug)]
pub(crate) struct Progress {
    watched: bool,
    start: Instant,
    total: usize,
    done: usize,
    failed: usize,
}

impl Progress {
    /// Of so many pictures; not shown for a single one, nor when `quiet`.
    pub fn new(total: usize, quiet: bool) -> Self {
        let watched = !quiet && total > 1 && std::io::stderr().is_terminal();
        Self { watched, start: Instant::now(), total, done: 0, failed: 0 }
    }

    /// A picture is done.
    pub fn step(&mut self, failed: bool) {
        self.done += 1;
        self.failed += usize::from(failed);
        if self.watched {
            eprint!("\r\x1b[K{}", self.line(self.start.elapsed()));
            // Best effort: a terminal that is gone shows nothing anyway.
            let _ = std::io::stderr().flush();
        }
    }

    /// Makes room for another message.
    pub fn clear(&self) {
        if self.watched {
            eprint!("\r\x1b[K");
        }
    }

    /// Pictures that failed.
    pub fn failed(&self) -> usize {
        self.failed
    }

    fn line(&self, elapsed: Duration) -> String {
        let rate = self.done as f64 / elapsed.as_secs_f64().max(1e-3);
        let left = Duration::from_secs_f64((self.total - self.done) as f64 / rate);
        let failed = if self.failed > 0 { format!("  {} failed", self.failed) } else { String::new() };
        format!("{}/{}  {rate:.2} a second  {} left{failed}", self.done, self.total, clock(left))
    }
}

/// `1:02:03`, or `2:03` below an hour.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_how_fast_and_how_long() {
        let mut progress = Progress { watched: false, start: Instant::now(), total: 400, done: 0, failed: 0 };
        (0..100).for_each(|nth| progress.step(nth == 7));
        assert_eq!(progress.line(Duration::from_secs(50)), "100/400  2.00 a second  2:30 left  1 failed");
        assert_eq!(clock(Duration::from_secs(3723)), "1:02:03");
    }
}
