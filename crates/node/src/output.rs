//! What the commands print: the only module that writes to standard output and standard error.
//!
//! Logs are not its business (they belong to `telemetry::logs`). A reader that went away, as with
//! `| head`, is an ordinary failure and never a panic.

use std::fmt;
use std::io::{self, IsTerminal as _, Write as _};

use crate::failure::{Exit, Failure};

/// Writes one line to standard output.
///
/// # Errors
///
/// When standard output cannot be written to.
pub(crate) fn line(text: impl fmt::Display) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| {
        Failure::new(Exit::Io, format_args!("cannot write to standard output: {error}"))
    })
}

/// Writes one line to standard error. Nothing can be done about a standard error that is closed.
pub(crate) fn note(text: impl fmt::Display) {
    drop(writeln!(io::stderr().lock(), "{text}"));
}

/// Writes the line that every failing command ends with.
pub(crate) fn error(text: impl fmt::Display) {
    note(format_args!("error: {text}"));
}

/// Whether a person is watching standard output.
pub(crate) fn is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Whether a person is there to answer on standard input.
pub(crate) fn is_answered() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a person, on standard error; anything but yes is no.
///
/// # Errors
///
/// When standard input cannot be read.
pub(crate) fn confirm(question: impl fmt::Display) -> Result<bool, Failure> {
    let mut err = io::stderr().lock();
    // A question that cannot be shown is not answered with yes.
    drop(write!(err, "{question} [y/N] ").and_then(|()| err.flush()));
    drop(err);
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).map_err(|error| {
        Failure::new(Exit::Io, format_args!("cannot read from standard input: {error}"))
    })?;
    Ok(matches!(answer.trim().to_lowercase().as_str(), "y" | "yes"))
}
