//! The files of ids in a directory.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;

use alys_stream_protocol::message::LogId;

use super::spill::{self, PREFIX, Span, Spill};
use crate::log;
use crate::storage::Storage;

/// The groups that have a file in a directory, and the names of other files of ids.
pub(super) fn list(storage: &dyn Storage, dir: &Path) -> io::Result<(BTreeSet<Span>, Vec<String>)> {
    let (mut files, mut junk) = (BTreeSet::new(), Vec::new());
    for name in storage.list(dir)? {
        match Span::of_name(&name) {
            Some(span) => drop(files.insert(span)),
            None if name.starts_with(PREFIX) && !log::is_temporary(&name) => junk.push(name),
            None => {}
        }
    }
    Ok((files, junk))
}

/// Copies what can be read of the files of ids of a log with these ids, the present one first,
/// into another directory of it.
///
/// # Errors
///
/// What the file system says.
pub(crate) fn copy(
    from: &Path,
    to: &Path,
    storage: &dyn Storage,
    log_ids: &[LogId],
) -> io::Result<()> {
    let Some(log_id) = log_ids.first() else {
        return Ok(());
    };
    for span in list(storage, from)?.0 {
        let found = spill::read(storage.open_read(&span.path(from))?, span, log_ids)?;
        if found.entries.is_empty() {
            continue;
        }
        let spill = Spill::write(storage, to, *log_id, span, &found.entries)?;
        if let Some(settled) = found.finished_at {
            spill.stamp(settled)?;
        }
    }
    Ok(())
}
