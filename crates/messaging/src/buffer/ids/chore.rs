//! The slow file work of the ids: taken under the lock, done without it, told under it again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::message::LogId;

use super::spill::{Span, Spill};
use super::{Entry, Ids, Writing, sort};
use crate::log;
use crate::storage::{Storage, is_storage_full};

/// Work for the thread that does slow file work.
#[derive(Debug)]
pub(in crate::buffer) enum Chore {
    /// A full group is to be written.
    Write(LogId, Span, Arc<Vec<Entry>>),
    /// The newest group is to be written as far as it goes.
    WriteNewest(LogId, Span, Vec<Entry>),
    /// The file of a group is to say how much was settled when it was finished.
    Stamp(Arc<Spill>, u64),
    /// Files are to be removed.
    Remove(Vec<String>),
}

impl Chore {
    /// Does it; what came of it is for [`Done::tell`].
    pub(in crate::buffer) fn run(self, dir: &Path, storage: &dyn Storage) -> Done {
        match self {
            Self::Write(log_id, span, entries) => {
                Done::Written(span, Spill::write(storage, dir, log_id, span, &entries))
            }
            Self::WriteNewest(log_id, span, mut entries) => {
                let last = entries.last().map_or(0, |(_, place)| *place);
                sort(&mut entries);
                let written = Spill::write(storage, dir, log_id, span, &entries);
                Done::NewestWritten(span, written.map(|_| last))
            }
            Self::Stamp(spill, settled) => {
                if let Err(error) = spill.stamp(settled) {
                    tracing::debug!(%error, "a group of ids will be remembered longer");
                }
                Done::Nothing
            }
            Self::Remove(names) => {
                for name in names {
                    if let Err(error) = log::remove_if_present(storage, &dir.join(name)) {
                        tracing::debug!(%error, "a file of ids remains until the next start");
                    }
                }
                Done::Nothing
            }
        }
    }
}

/// What came of a [`Chore`].
#[derive(Debug)]
pub(in crate::buffer) enum Done {
    Written(Span, io::Result<Spill>),
    /// Up to this place.
    NewestWritten(Span, io::Result<u32>),
    Nothing,
}

impl Done {
    /// Tells the groups.
    ///
    /// # Errors
    ///
    /// What the file system said when a file could not be written.
    pub(in crate::buffer) fn tell(self, ids: &mut Ids) -> io::Result<()> {
        let told = match self {
            Self::Written(span, written) => written.map(|spill| ids.install(span, spill)),
            Self::NewestWritten(span, written) => {
                ids.is_newest_wanted |= written.is_err();
                written.map(|place| ids.handle_newest_written(span, place))
            }
            Self::Nothing => return Ok(()),
        };
        ids.writing = match &told {
            Ok(()) => Writing::Works,
            Err(error) if is_storage_full(error) => Writing::IsFull,
            Err(_) => Writing::Fails,
        };
        told
    }
}
