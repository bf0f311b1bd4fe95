//! A backlog that is longer than memory: appended by one process, found, read and settled by
//! another.

use std::path::Path;

use serde::Serialize;

use super::part::{self, Part, Took};
use crate::failure::Failure;
use crate::output;

/// What each half took.
#[derive(Debug, Serialize)]
pub(super) struct Backlog {
    messages: u64,
    /// Appended, each durable, and left unsettled.
    append: Took,
    /// Opened, then every message read back and settled, oldest first.
    drain: Took,
}

/// Measures so many messages.
///
/// # Errors
///
/// When the disk says no, or a process cannot be started.
pub(super) async fn run(dir: &Path, messages: u64, payload: u32) -> Result<Backlog, Failure> {
    let dir = dir.join("backlog");
    let append = part::in_a_process_of_its_own(Part::Append, &dir, messages, payload).await?;
    let drain = part::in_a_process_of_its_own(Part::Drain, &dir, messages, payload).await?;
    Ok(Backlog { messages, append, drain })
}

impl Backlog {
    /// Says it in words.
    pub(super) fn print(&self) -> Result<(), Failure> {
        let Self { messages, append, drain } = self;
        output::line(format_args!(
            "a backlog of {messages}: appended in {} ms, at most {} resident; opened in {} ms, \
             first message after {} ms, all read and settled in {} ms, at most {} resident",
            append.ms,
            append.rss(),
            drain.open_ms,
            drain.first_ms,
            drain.ms,
            drain.rss()
        ))
    }
}
