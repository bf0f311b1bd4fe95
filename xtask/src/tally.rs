//! Counting tests from what the test runners print.

use std::fmt;
use std::ops::AddAssign;

/// How many tests passed and failed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// Reads the summary line of nextest: `Summary [ 1.2s] 3 tests run: 2 passed, 1 timed out, …`.
///
/// Whatever was run and did not pass has failed.
pub(crate) fn nextest(line: &str) -> Option<Tally> {
    let (before, after) = line.split_once(" run: ")?;
    let (_, before) = before.trim_start().strip_prefix("Summary")?.split_once(']')?;
    let run = before.split_whitespace().next()?.split('/').next()?;
    let passed = number_before(after, "passed").unwrap_or(0);
    Some(Tally { passed, failed: run.parse::<u64>().ok()?.saturating_sub(passed) })
}

/// Reads the result line of the built-in harness: `test result: ok. 2 passed; 0 failed; …`.
pub(crate) fn harness(line: &str) -> Option<Tally> {
    let counts = line.trim_start().strip_prefix("test result: ")?;
    Some(Tally {
        passed: number_before(counts, "passed")?,
        failed: number_before(counts, "failed")?,
    })
}

/// The number in front of `word`.
fn number_before(text: &str, word: &str) -> Option<u64> {
    let words: Vec<&str> = text.split([' ', ',', ';', '(', ')', '\n']).collect();
    words.windows(2).find(|pair| pair[1] == word)?[0].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nextest_summaries_are_read() {
        let check = |line: &str, passed, failed| {
            assert_eq!(nextest(line), Some(Tally { passed, failed }), "{line}");
        };
        check("     Summary [   0.012s] 5 tests run: 5 passed, 0 skipped\n", 5, 0);
        check("     Summary [   9.1s] 1 test run: 1 passed (1 slow), 3 skipped", 1, 0);
        check(
            "     Summary [   0.5s] 7 tests run: 4 passed, 2 failed, 1 timed out, 0 skipped",
            4,
            3,
        );
        check("     Summary [   0.5s] 3/9 tests run: 2 passed, 1 failed, 0 skipped", 2, 1);
        check("     Summary [   0.0s] 0 tests run: 0 passed, 0 skipped", 0, 0);
        assert_eq!(nextest("        PASS [   0.004s] x y"), None);
        assert_eq!(nextest("3 tests run: 3 passed"), None);
    }

    #[test]
    fn harness_results_are_read() {
        let line = "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out";
        assert_eq!(harness(line), Some(Tally { passed: 2, failed: 1 }));
        assert_eq!(harness("test result unknown"), None);
    }

    #[test]
    fn a_tally_adds_up_and_reads_plainly() {
        let mut tally = Tally { passed: 1, failed: 0 };
        tally += Tally { passed: 2, failed: 3 };
        assert_eq!(tally.to_string(), "3 passed, 3 failed");
    }
}
