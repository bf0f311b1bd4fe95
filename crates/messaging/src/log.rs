//! A segmented write-ahead log of opaque entries: what buffer, inbox, dead letters and outcomes
//! are built on.
//!
//! One directory, one writer thread, group commit without a timer: while one `fdatasync` runs, new
//! entries collect in memory; the next takes them all. Callers wait for a durable [`Position`],
//! never for a channel of their own. The bytes are described in the `format` module.
//!
//! Not here: what entries mean, which of them still matter, and when a segment may go. The layer
//! above says that when it opens the log and when it retires segments.
//!
//! Invariants:
//! - M3: a position is published as durable only after its bytes were written and synced (D1).
//! - M4: a file whose sync failed is never written or synced again; what was not durable is
//!   written once more, into a new segment (D11). A process that is killed before that leaves it in
//!   the cache, where it counts as clean: so what the mark does not cover is written once more by
//!   the next one, before anyone is told of it. The next one may use such a file again for another
//!   segment: nothing that was in it counts there. After a start that did not end, all that it may
//!   have mended is written once more as well.
//! - M5: a segment goes only when a later one, whose checkpoint is durable, is being written.
//! - M6: one writer per directory; every open raises the epoch durably before it returns (D12).
//! - M20: while the disk is full, what frees segments needs no space that is not held back (D11).
//! - M19: an id that a log had before it was adopted is known in its directory for as long as
//!   segments bear it; any other id there is refused (D12).
//! - M7: a damaged entry costs no other entry, and is reported (D5, D10).
//! - M41: of a last write that was never durable, an ordered log has what stands before the first
//!   hole, and nothing behind it: what is missing there comes again, and before what follows (D4).
//! - M35: what was durable when the mark was written and is not there is a reported gap, and its
//!   positions are never given again (D5).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_protocol::message::{Epoch, LogId};
use bytes::Bytes;
use serde::Deserialize;

use crate::storage::{Storage, Worker, release_after};

mod adopt;
pub(crate) mod aside;
mod awaiting;
mod bell;
mod client;
mod copy;
mod directory;
mod error;
mod files;
pub mod format;
mod handoff;
mod housekeeper;
mod lineage;
mod look;
mod mark;
mod reaching;
mod reader;
mod recover;
mod reserve;
mod scan;
mod shared;
mod sync;
mod usage;
mod writer;

pub(crate) use adopt::adopt;
pub use client::CommitObserver;
pub(crate) use client::{Chored, LogClient, NextChore};
pub(crate) use copy::SegmentCopier;
pub use error::{DurabilityError, OpenError, ReadError};
pub(crate) use files::{is_temporary, remove_if_present, replace_with, segment_path};
pub(crate) use look::{EntryReader, Looked, hold, list_segments, look, probe};
pub use recover::{Gap, GapCause, Recovery, TornTail};
pub(crate) use scan::{Begun, Event, Visit};
pub(crate) use shared::End;
pub(crate) use usage::SegmentUsage;

use format::Mark;
use shared::Shared;

/// The place of an entry in one log: dense, from 1, over the life of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The number of a segment: ascending, part of its file name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SegmentId(pub u64);

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Where an entry lies on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Location {
    /// Its segment.
    pub segment: SegmentId,
    /// Where in the file it begins.
    pub offset: u32,
    /// Bytes of its payload.
    pub payload_bytes: u32,
}

/// What to do at start-up about a damaged entry that is not a torn tail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnCorruption {
    /// Copy its bytes aside, report a gap, deliver the rest.
    #[default]
    Quarantine,
    /// Refuse to open.
    Halt,
}

/// Bounds of one log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogConfig {
    /// Bytes of one segment file.
    pub segment_bytes: u64,
    /// Most bytes in one write.
    pub batch_bytes_max: usize,
    /// Bytes that are held back for a full disk; 0 for none.
    pub reserve_bytes: u64,
    /// What to do about damage.
    pub on_corruption: OnCorruption,
    /// Whether an entry counts only together with those that were written before it (M41).
    pub is_ordered: bool,
}

/// Bytes of one segment unless configured (`numbers`: 64 MiB).
pub const SEGMENT_BYTES: u64 = 64 * 1024 * 1024;

/// Bytes that inbox, dead letters and outcomes hold back for a full disk: enough for what gives
/// space back, since they refuse nobody.
pub(crate) const RESERVE_BYTES: u64 = 1024 * 1024;

/// Most bytes in one write.
pub const BATCH_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Fewest bytes of a segment: header block and as much again.
pub const SEGMENT_BYTES_MIN: u64 = 8 * 1024;

/// Most bytes of a segment: offsets are kept in 32 bits, and a segment may grow to twice its size.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

impl LogConfig {
    /// Bounds of a log with segments of this size, or the nearest that is allowed.
    #[must_use]
    pub fn new(segment_bytes: u64, on_corruption: OnCorruption) -> Self {
        Self {
            segment_bytes: segment_bytes.clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX),
            batch_bytes_max: BATCH_BYTES_MAX,
            reserve_bytes: 0,
            on_corruption,
            is_ordered: false,
        }
    }

    /// The same, for entries whose order means something (M41).
    #[must_use]
    pub const fn ordered(self) -> Self {
        Self { is_ordered: true, ..self }
    }

    /// The same with so many bytes held back for a full disk, at most four segments: more would not
    /// be in proportion.
    #[must_use]
    pub const fn with_reserve(self, reserve_bytes: u64) -> Self {
        let most = self.segment_bytes * 4;
        let reserve_bytes = if reserve_bytes < most { reserve_bytes } else { most };
        Self { reserve_bytes, ..self }
    }
}

/// One entry that became durable, and where.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) kind: u8,
    pub(crate) position: Position,
    pub(crate) key: u64,
    pub(crate) location: Location,
}

/// An entry that is read back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretched<'a> {
    pub(crate) kind: u8,
    pub(crate) key: u64,
    pub(crate) location: Location,
    pub(crate) payload: &'a [u8],
}

/// Counters of one log, since it was opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStat {
    /// Syncs that succeeded.
    pub syncs: u64,
    /// Syncs that failed.
    pub syncs_failed: u64,
    /// Entries made durable.
    pub entries: u64,
    /// Bytes written.
    pub bytes: u64,
    /// Segment files, the one prepared ahead not counted.
    pub segments: u64,
    /// Bytes of those files.
    pub segment_bytes: u64,
    /// Bytes that wait for the next commit.
    pub pending_bytes: u64,
    /// Whether the disk is full at present.
    pub is_disk_full: bool,
    /// Bytes held back for a full disk at present: 0 before the first whole segment was needed,
    /// and while the disk is full.
    pub reserve_bytes: u64,
}

/// Where and how to open a log.
#[derive(Debug)]
pub(crate) struct LogOptions<'a> {
    pub(crate) dir: &'a Path,
    /// A word for thread names.
    pub(crate) name: &'static str,
    pub(crate) config: LogConfig,
    pub(crate) storage: Arc<dyn Storage>,
}

/// An open log. Dropping it writes what is pending, ends its threads and releases the lock.
pub(crate) struct Log {
    shared: Arc<Shared>,
    workers: Mutex<Vec<Worker>>,
    identity: (LogId, Epoch),
    /// What the start read or stored again, all of it durable; without the next key.
    found: Option<Mark>,
    dir: PathBuf,
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log").field("dir", &self.dir).finish_non_exhaustive()
    }
}

impl Log {
    /// Opens or creates the log in a directory; `visit` sees every entry, damage in its place.
    pub(crate) fn open(
        options: &LogOptions<'_>,
        client: Arc<dyn LogClient>,
        visit: &mut dyn FnMut(Event<'_>),
    ) -> Result<(Self, Recovery), OpenError> {
        Self::open_ahead(options, client, &mut scan::Plain(visit))
    }

    /// As [`Log::open`], for a visitor that is first shown the summary and other entries of the
    /// newest segment.
    pub(crate) fn open_ahead(
        options: &LogOptions<'_>,
        client: Arc<dyn LogClient>,
        visit: &mut dyn Visit,
    ) -> Result<(Self, Recovery), OpenError> {
        let opened = recover::open(options, visit)?;
        let identity = (opened.log_id, opened.recovery.epoch);
        let shared = Arc::new(Shared::new(options, &opened));
        if !opened.superseded.is_empty() {
            shared.retire(&opened.superseded);
        }
        let is_used = opened.tail.is_begun && opened.next_position > Position(1);
        let found = is_used.then(|| Mark {
            log_id: opened.log_id,
            segment: opened.tail.segment,
            next_position: opened.next_position,
            next_key: 0,
            offset: u32::try_from(opened.tail.offset).unwrap_or(u32::MAX),
        });
        let mut workers = Vec::with_capacity(2);
        workers.push(housekeeper::spawn(options.name, &shared, Arc::clone(&client))?);
        let writer = writer::spawn(options.name, &shared, client, opened.tail, opened.mark);
        match writer {
            Ok(writer) => workers.push(writer),
            Err(error) => {
                shared.close_housekeeper();
                return Err(error);
            }
        }
        *shared.lock.lock().unwrap_or_else(PoisonError::into_inner) = Some(opened.lock);
        let (workers, dir) = (Mutex::new(workers), options.dir.to_path_buf());
        Ok((Self { shared, workers, identity, found, dir }, opened.recovery))
    }

    /// Has it written down how far the log is durable that was opened, whose next key is this: from
    /// then on damage to any of it is told from a write that was never finished (M35).
    pub(crate) fn mark_found(&self, next_key: u64) {
        if let Some(found) = self.found {
            let mut housekeeping = self.shared.housekeeping();
            housekeeping.mark.get_or_insert(Mark { next_key, ..found });
            drop(housekeeping);
            self.shared.wake_housekeeper.ring();
        }
    }

    /// Does something with files; once more without the reserve when there is no space for it.
    pub(crate) fn with_space<T>(&self, action: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        reserve::once_more(&self.dir, || self.shared.release_reserve(), action)
    }

    pub(crate) const fn log_id(&self) -> LogId {
        self.identity.0
    }

    pub(crate) const fn epoch(&self) -> Epoch {
        self.identity.1
    }

    /// Appends an entry; it becomes durable with the next commit. Allocates nothing of its own.
    ///
    /// The order of calls is the order of positions; a caller that needs its own numbers in that
    /// order holds its own lock around the call.
    pub(crate) fn append(&self, kind: u8, key: u64, fill: impl FnOnce(&mut Vec<u8>)) -> Position {
        self.shared.append(kind, key, fill)
    }

    /// The position of the latest entry appended.
    pub(crate) fn last_position(&self) -> Position {
        Position(self.shared.handoff.last_position())
    }

    /// The latest position that is durable.
    pub(crate) fn durable_position(&self) -> Position {
        Position(self.shared.durable.borrow().position)
    }

    /// Waits until `position` is durable.
    ///
    /// Cancel safe: nothing is lost by dropping it.
    pub(crate) async fn durable(&self, position: Position) -> Result<(), DurabilityError> {
        self.shared.durable_at_least(position).await
    }

    /// Waits until nothing can be stored any more; says why.
    pub(crate) async fn ended(&self) -> DurabilityError {
        self.shared.closed().await;
        self.shared.failure().unwrap_or(DurabilityError::Closed)
    }

    /// Waits until `position` is written, synced or not.
    pub(crate) async fn written(&self, position: Position) -> Result<(), DurabilityError> {
        self.shared.written_at_least(position).await
    }

    /// A receiver that changes whenever more is durable.
    pub(crate) fn watch_durable(&self) -> tokio::sync::watch::Receiver<shared::Watermark> {
        self.shared.durable.subscribe()
    }

    /// Reads and verifies the payload of an entry.
    pub(crate) fn read(&self, location: Location) -> Result<Bytes, ReadError> {
        self.shared.read(location)
    }

    /// Reads the entries of a stretch of a segment, as far as they verify.
    pub(crate) fn read_stretch(
        &self,
        segment: SegmentId,
        stretch: (u32, u32),
        visit: &mut dyn FnMut(Stretched<'_>),
    ) -> Result<(), ReadError> {
        self.shared.read_stretch(segment, stretch, visit)
    }

    /// Has the thread that does slow file work call [`LogClient::chore`] until nothing is left.
    pub(crate) fn wake_chores(&self) {
        self.shared.housekeeping().is_chore_wanted = true;
        self.shared.wake_housekeeper.ring();
    }

    /// Says that nothing in a segment matters any more. It goes once everything appended so far is
    /// durable and it is not being written (M5).
    pub(crate) fn retire(&self, segments: &[SegmentId]) {
        if !segments.is_empty() {
            self.shared.retire(segments);
        }
    }

    pub(crate) fn stat(&self) -> LogStat {
        self.shared.stat()
    }

    /// Bytes that wait for the next commit.
    pub(crate) fn pending_bytes(&self) -> u64 {
        u64::try_from(self.shared.handoff.lock().buffer.len()).unwrap_or(u64::MAX)
    }

    /// Why nothing can be appended any more, if so.
    pub(crate) fn failure(&self) -> Option<DurabilityError> {
        self.shared.failure()
    }

    /// Whether the file system is out of space at present.
    pub(crate) fn is_disk_full(&self) -> bool {
        self.shared.is_disk_full.load(Ordering::Acquire)
    }

    /// Wakes when there may be room again for what was refused.
    pub(crate) fn room(&self) -> tokio::sync::futures::Notified<'_> {
        self.shared.room.notified()
    }

    /// Whoever waits for room looks again.
    pub(crate) fn tell_room(&self) {
        self.shared.room.notify_waiters();
    }

    /// Names who is told about commits. The first call counts.
    pub(crate) fn observe(&self, observer: Arc<dyn CommitObserver>) {
        self.shared.observe(observer);
    }

    /// Writes what is pending and ends the threads, without blocking the caller's thread for long.
    pub(crate) async fn close(&self) {
        self.shared.close();
        self.shared.closed().await;
        let workers = std::mem::take(&mut *self.workers());
        // The writer ends first and then lets the housekeeper end.
        for worker in workers.into_iter().rev() {
            if worker.ended().await.is_err() {
                tracing::error!(dir = %self.dir.display(), "a worker of the log panicked");
            }
        }
        self.join();
    }

    fn workers(&self) -> MutexGuard<'_, Vec<Worker>> {
        self.workers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self) {
        self.shared.close();
        let workers = std::mem::take(&mut *self.workers());
        let lock = self.shared.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Only then may another process have the directory (M6).
        if release_after(workers, lock).is_err() {
            tracing::error!(dir = %self.dir.display(), "a worker of the log panicked");
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.join();
    }
}
