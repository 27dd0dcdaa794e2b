//! Counting what passed, failed and was skipped, and reading those counts from other tools' output.

use std::fmt;
use std::ops::AddAssign;

/// Results of a check.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Checks that held.
    pub passed: usize,
    /// Checks that did not.
    pub failed: usize,
    /// Checks that did not run, each with its reason on the terminal.
    pub skipped: usize,
}

impl Tally {
    /// One check that held or did not.
    pub fn one(held: bool) -> Self {
        Self { passed: held.into(), failed: (!held).into(), skipped: 0 }
    }

    /// One check that did not run; prints why.
    pub fn skip(reason: &str) -> Self {
        println!("skipped: {reason}");
        Self { skipped: 1, ..Self::default() }
    }

    /// Nothing failed.
    pub fn is_green(self) -> bool {
        self.failed == 0
    }

    /// Counts the output of `cargo test` run with `--show-output`, of the libtest and the wasm harness.
    ///
    /// A test that cannot run prints a line `skipped: reason` and returns; it counts as skipped.
    /// A run that failed without a failed test (it did not compile, or crashed) counts as one failure.
    pub fn of_cargo_test(text: &str, success: bool) -> Self {
        let mut tally = Self::default();
        for line in text.lines() {
            if let Some(counts) = line.trim_start().strip_prefix("test result: ") {
                tally.passed += count_before(counts, "passed");
                tally.failed += count_before(counts, "failed");
                tally.skipped += count_before(counts, "ignored");
            }
        }
        let skips = skip_lines(text).len().min(tally.passed);
        tally.passed -= skips;
        tally.skipped += skips;
        tally.or_failed(success)
    }

    /// Counts the summary of node's test runner (`spec` reporter).
    pub fn of_node_test(text: &str, success: bool) -> Self {
        let count = |name: &str| {
            text.lines()
                .filter_map(|line| line.strip_prefix("ℹ ")?.strip_prefix(name)?.trim().parse::<usize>().ok())
                .sum()
        };
        Self { passed: count("pass"), failed: count("fail") + count("cancelled"), skipped: count("skipped") }
            .or_failed(success)
    }

    /// Reads our own last line, `N passed, N failed, N skipped`.
    pub fn of_summary(text: &str, success: bool) -> Self {
        let last = text.lines().rev().find(|line| line.contains(" passed, ")).unwrap_or_default();
        Self {
            passed: count_before(last, "passed"),
            failed: count_before(last, "failed"),
            skipped: count_before(last, "skipped"),
        }
        .or_failed(success)
    }

    fn or_failed(mut self, success: bool) -> Self {
        if self.failed == 0 && (!success || self == Self::default()) {
            self.failed = 1;
        }
        self
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// The `skipped: …` lines of an output.
pub fn skip_lines(text: &str) -> Vec<&str> {
    text.lines().map(str::trim).filter(|line| line.starts_with("skipped: ")).collect()
}

/// The number that stands before `word`.
fn count_before(text: &str, word: &str) -> usize {
    let words: Vec<&str> = text.split([' ', ';', ',']).filter(|part| !part.is_empty()).collect();
    words.windows(2).find(|pair| pair[1] == word).and_then(|pair| pair[0].parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(passed: usize, failed: usize, skipped: usize) -> Tally {
        Tally { passed, failed, skipped }
    }

    #[test]
    fn several_harnesses_of_one_run_add_up() {
        let text = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                    test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured\n";
        assert_eq!(Tally::of_cargo_test(text, false), tally(5, 1, 1));
    }

    #[test]
    fn a_test_that_says_it_was_skipped_does_not_count_as_passed() {
        let text = "skipped: no GPU\nskipped: no GPU\nskipped: BLIP_SLOW is not set\n\
                    test result: ok. 4 passed; 0 failed; 0 ignored\n";
        assert_eq!(Tally::of_cargo_test(text, true), tally(1, 0, 3));
    }

    #[test]
    fn a_run_that_did_not_compile_is_a_failure() {
        assert_eq!(Tally::of_cargo_test("error: could not compile", false), tally(0, 1, 0));
    }

    #[test]
    fn a_run_without_any_test_is_a_failure() {
        assert_eq!(
            Tally::of_cargo_test("test result: ok. 0 passed; 0 failed; 0 ignored", true),
            tally(0, 1, 0)
        );
    }

    #[test]
    fn the_summary_of_node_is_read() {
        let text = "ℹ tests 6\nℹ pass 3\nℹ fail 1\nℹ cancelled 1\nℹ skipped 1\nℹ todo 0\n";
        assert_eq!(Tally::of_node_test(text, false), tally(3, 2, 1));
    }

    #[test]
    fn our_own_last_line_is_read() {
        assert_eq!(Tally::of_summary("x\n12 passed, 1 failed, 2 skipped\n", false), tally(12, 1, 2));
        assert_eq!(Tally::of_summary("TypeError", false), tally(0, 1, 0));
    }
}
