//! The one place that prints.
//!
//! Progress and errors go to standard error, results to standard output, so that a caller can
//! read the last line of `ci` or pipe a list.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "the output of a command line tool")]

use std::fmt::Display;

/// A line of the result.
pub(crate) fn result(line: impl Display) {
    println!("{line}");
}

/// A line about what is going on.
pub(crate) fn progress(line: impl Display) {
    eprintln!("{line}");
}
