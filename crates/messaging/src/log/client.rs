//! Who is above a log: what it asks of the layer that keeps something in it, and whom it tells of
//! commits.

use std::io;
use std::path::Path;
use std::time::Duration;

#[cfg(doc)]
use super::Log;
use super::{Placed, Position, SegmentId};
use crate::storage::Storage;

/// What the writer thread asks of, and tells, the layer above.
///
/// Calls come from the threads of the log, which hold no lock of the log meanwhile.
pub(crate) trait LogClient: Send + Sync + 'static {
    /// Writes a summary of everything that entries below `first_position` said, and of nothing
    /// that later ones say unless knowing it early does no harm. It starts a segment, so that
    /// earlier segments are not needed to know it.
    fn checkpoint(&self, first_position: Position, out: &mut Vec<u8>);

    /// Writes a part of such a summary, from `cursor` on (0 at first), and returns the cursor of the
    /// next part, if there is one. What settled meanwhile may or may not be in a later part.
    fn checkpoint_part(
        &self,
        first_position: Position,
        cursor: u64,
        out: &mut Vec<u8>,
    ) -> Option<u64> {
        debug_assert_eq!(cursor, 0, "invariant: there is one part");
        self.checkpoint(first_position, out);
        None
    }

    /// The key behind those of all entries that are durable; 0 when keys are not numbers that may
    /// be given only once. Called after [`LogClient::placed`].
    fn next_key(&self) -> u64 {
        0
    }

    /// Does some slow work with files that [`Log::wake_chores`] asked for. Called by the thread
    /// that does such work.
    fn chore(&self, _dir: &Path, _storage: &dyn Storage) -> Chored {
        Chored { retired: Vec::new(), next: NextChore::Nothing }
    }

    /// Some entries are durable, in the order of their positions. Called before their position is
    /// published.
    fn placed(&self, placed: &[Placed]);
}

/// What came of [`LogClient::chore`].
#[derive(Debug)]
pub(crate) struct Chored {
    /// Segments that nothing needs any more, as in [`Log::retire`].
    pub(crate) retired: Vec<SegmentId>,
    pub(crate) next: NextChore,
}

/// What is to be done after a chore.
#[derive(Debug)]
pub(crate) enum NextChore {
    Nothing,
    /// Another one.
    More,
    /// The same again, later: it did not work.
    Retry(io::Error),
}

/// Is told about every group commit, for metrics.
pub trait CommitObserver: Send + Sync + 'static {
    /// One `fdatasync` made `entries` entries durable.
    fn committed(&self, entries: u64, bytes: u64, sync: Duration);
}
