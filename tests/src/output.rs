//! What commands print, read back.

use std::process::Output;

use serde_json::Value;

/// Output as text.
///
/// # Panics
///
/// When it is none.
#[must_use]
pub fn text(output: &[u8]) -> &str {
    std::str::from_utf8(output).expect("output is text")
}

/// What a command printed that must have succeeded.
///
/// # Panics
///
/// When it did not.
pub fn succeeded(output: &Output) -> &str {
    assert!(output.status.success(), "{}", text(&output.stderr));
    text(&output.stdout)
}

/// One JSON object for each line of a command that must have succeeded.
///
/// # Panics
///
/// When it did not, or printed something else.
#[must_use]
pub fn lines(output: &Output) -> Vec<Value> {
    let parse = |line: &str| serde_json::from_str(line).expect("a line is JSON");
    succeeded(output).lines().map(parse).collect()
}
