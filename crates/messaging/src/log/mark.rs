//! The mark of a log on disk: how far it was durable, so that damage at its end is told from an
//! entry that was never finished (M35). The bytes are described in the `format` module.
//!
//! It is only ever a lower bound: it may be out of date, it is never removed, and a log goes on
//! without it when it cannot be written.

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use super::files;
use super::format::Mark;
use crate::storage::Storage;

/// The mark as it was written last.
#[derive(Debug)]
pub(super) struct Marker {
    written: Mutex<Option<Mark>>,
}

impl Marker {
    pub(super) const fn new(written: Option<Mark>) -> Self {
        Self { written: Mutex::new(written) }
    }

    /// Writes a mark, unless one was written that says as much.
    pub(super) fn write(&self, storage: &dyn Storage, dir: &Path, mark: Mark) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if written.is_some_and(|written| written.covers(&mark)) {
            return;
        }
        match files::replace(storage, &dir.join(files::MARK), &mark.encode()) {
            Ok(()) => *written = Some(mark),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the mark of the log stays as it was");
            }
        }
    }
}
