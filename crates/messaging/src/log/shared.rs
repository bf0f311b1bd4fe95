//! What callers, the writer thread and the housekeeper share.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;

use alys_stream_protocol::message::{Epoch, LogId};
use bytes::Bytes;
use tokio::sync::{Notify, watch};

use super::awaiting::Awaiting;
use super::bell::Bell;
use super::format::{self, EntryHeader, Mark};
use super::handoff::Handoff;
use super::housekeeper::Housekeeping;
use super::mark::Marker;
use super::reaching::Reaching;
use super::recover::Opened;
use super::reserve::{self, Reserve};
use super::{
    CommitObserver, DurabilityError, Location, LogConfig, LogOptions, LogStat, Position, ReadError,
    SegmentId, Stretched, scan,
};
use crate::storage::{Storage, StorageFile, StorageLock, Workers};

/// How far the log is durable, and whether it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermark {
    pub(crate) position: u64,
    pub(crate) end: End,
}

/// Whether a log still writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Open,
    Closed,
    Failed,
}

/// One file with entries.
#[derive(Debug, Clone)]
pub(super) struct SegmentFile {
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) salt: u32,
    pub(super) bytes: u64,
    /// A sync of it failed (M4).
    pub(super) is_poisoned: bool,
}

#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) syncs: AtomicU64,
    pub(super) syncs_failed: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) bytes: AtomicU64,
}

pub(super) struct Shared {
    pub(super) dir: PathBuf,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) workers: Workers,
    pub(super) config: LogConfig,
    pub(super) log_id: LogId,
    pub(super) epoch: Epoch,
    pub(super) handoff: Handoff,
    /// Wakes a writer that is a task; one that is a thread waits in the hand-off.
    pub(super) wake_writer_task: Notify,
    pub(super) durable: watch::Sender<Watermark>,
    /// Callers that wait until something is durable; told after `durable`.
    await_durable: Awaiting<Waker>,
    /// Callers that wait until something is written, synced or not.
    await_written: Awaiting<Waker>,
    pub(super) failure: OnceLock<Arc<io::Error>>,
    pub(super) segments: Mutex<BTreeMap<SegmentId, SegmentFile>>,
    pub(super) next_segment: AtomicU64,
    pub(super) marker: Marker,
    pub(super) housekeeping: Mutex<Housekeeping>,
    pub(super) wake_housekeeper: Bell,
    pub(super) is_disk_full: AtomicBool,
    /// Told when something pending was written, space was found, or the log ended.
    pub(super) room: Notify,
    pub(super) counters: Counters,
    pub(super) observer: OnceLock<Arc<dyn CommitObserver>>,
    pub(super) lock: Mutex<Option<Box<dyn StorageLock>>>,
}

impl Shared {
    pub(super) fn new(options: &LogOptions<'_>, opened: &Opened) -> Self {
        let next = opened.next_position.0;
        Self {
            dir: options.dir.to_path_buf(),
            storage: Arc::clone(&options.storage),
            workers: options.storage.workers(),
            config: options.config,
            log_id: opened.log_id,
            epoch: opened.recovery.epoch,
            handoff: Handoff::new(next),
            wake_writer_task: Notify::new(),
            durable: watch::Sender::new(Watermark { position: next - 1, end: End::Open }),
            await_durable: Awaiting::new(next - 1),
            await_written: Awaiting::new(next - 1),
            failure: OnceLock::new(),
            segments: Mutex::new(opened.segments.clone()),
            next_segment: AtomicU64::new(opened.next_segment.0),
            marker: Marker::new(opened.mark),
            housekeeping: Mutex::new(Housekeeping {
                reserve: opened.reserve,
                emergency: opened.emergency.clone(),
                ..Housekeeping::default()
            }),
            wake_housekeeper: Bell::default(),
            is_disk_full: AtomicBool::new(opened.reserve == Reserve::Missing),
            room: Notify::new(),
            counters: Counters::default(),
            observer: OnceLock::new(),
            lock: Mutex::new(None),
        }
    }

    pub(super) fn append(&self, kind: u8, key: u64, fill: impl FnOnce(&mut Vec<u8>)) -> Position {
        let is_failed = || self.failure.get().is_some();
        let position = self.handoff.push(is_failed, |position, buffer| {
            EntryHeader::begin(buffer, kind, Position(position), key, fill);
        });
        self.wake_writer();
        Position(position)
    }

    pub(super) fn retire(&self, segments: &[SegmentId]) {
        self.handoff.retire(segments);
        self.wake_writer();
    }

    /// Nothing more is appended; the writer writes what is pending and ends.
    pub(super) fn close(&self) {
        self.handoff.close();
        self.wake_writer();
    }

    fn wake_writer(&self) {
        match self.workers {
            Workers::Threads => {}
            Workers::Tasks(_) => self.wake_writer_task.notify_one(),
        }
    }

    /// Writes down how far the log is durable.
    pub(super) fn write_mark(&self, mark: Mark) {
        self.marker.write(&*self.storage, &self.dir, mark);
    }

    /// Says whether the disk is full; whoever waits looks again. Whether it was.
    pub(super) fn set_disk_full(&self, is_full: bool) -> bool {
        let was_full = self.is_disk_full.swap(is_full, Ordering::AcqRel);
        self.room.notify_waiters();
        was_full
    }

    /// Gives up the reserve; whether there was one.
    pub(super) fn release_reserve(&self) -> bool {
        {
            let mut housekeeping = self.housekeeping();
            if housekeeping.reserve != Reserve::InPlace {
                return false;
            }
            housekeeping.reserve = Reserve::Missing;
        }
        let is_released = reserve::release(&*self.storage, &self.dir).unwrap_or_else(|error| {
            tracing::warn!(dir = %self.dir.display(), %error, "the reserve cannot be removed");
            false
        });
        // It makes the reserve again once it can.
        self.wake_housekeeper.ring();
        is_released
    }

    pub(super) fn close_housekeeper(&self) {
        self.housekeeping().is_closing = true;
        self.wake_housekeeper.ring();
    }

    pub(super) async fn durable_at_least(&self, position: Position) -> Result<(), DurabilityError> {
        self.reached(&self.await_durable, position).await
    }

    pub(super) async fn written_at_least(&self, position: Position) -> Result<(), DurabilityError> {
        self.reached(&self.await_written, position).await
    }

    async fn reached(
        &self,
        awaiting: &Awaiting<Waker>,
        position: Position,
    ) -> Result<(), DurabilityError> {
        if Reaching::new(awaiting, position.0).await {
            return Ok(());
        }
        Err(self.failure().unwrap_or(DurabilityError::Closed))
    }

    /// Everything up to a position is written. `told` is room for those who wait for it.
    pub(super) fn publish_written(&self, position: u64, told: &mut Vec<Waker>) {
        self.await_written.reach(position, told);
        told.drain(..).for_each(Waker::wake);
    }

    /// Everything up to a position is durable.
    pub(super) fn publish_durable(&self, position: u64, told: &mut Vec<Waker>) {
        self.durable.send_replace(Watermark { position, end: End::Open });
        self.await_durable.reach(position, told);
        told.drain(..).for_each(Waker::wake);
    }

    /// Nothing more will be durable.
    pub(super) fn publish_end(&self, end: End) {
        self.durable.send_modify(|mark| mark.end = end);
        let mut told = Vec::new();
        self.await_written.end(&mut told);
        self.await_durable.end(&mut told);
        told.into_iter().for_each(Waker::wake);
    }

    pub(super) async fn closed(&self) {
        let mut watermark = self.durable.subscribe();
        let mark = watermark.wait_for(|mark| mark.end != End::Open).await;
        debug_assert!(mark.is_ok(), "invariant: the sender lives as long as the log");
    }

    pub(super) fn failure(&self) -> Option<DurabilityError> {
        self.failure.get().map(|source| DurabilityError::Failed {
            dir: self.dir.clone(),
            source: Arc::clone(source),
        })
    }

    pub(super) fn read(&self, location: Location) -> Result<Bytes, ReadError> {
        let Location { segment, offset, payload_bytes } = location;
        let offset = u64::from(offset);
        let damaged = || ReadError::Damaged { segment, offset };
        let (file, salt) = {
            let segments = self.segments();
            let found = segments.get(&segment).ok_or_else(damaged)?;
            (Arc::clone(&found.file), found.salt)
        };
        let payload_bytes = usize::try_from(payload_bytes).map_err(|_| damaged())?;
        let mut entry = vec![0; format::ENTRY_HEADER_BYTES + payload_bytes];
        let read = file.read_at(&mut entry, offset).map_err(|source| ReadError::Io {
            segment,
            offset,
            source,
        })?;
        let verified = read == entry.len()
            && format::verify_entry(&entry, salt)
                .is_some_and(|(header, _)| header.payload_bytes == payload_bytes);
        if !verified {
            return Err(damaged());
        }
        Ok(Bytes::from(entry).slice(format::ENTRY_HEADER_BYTES..))
    }

    pub(super) fn read_stretch(
        &self,
        segment: SegmentId,
        (offset, end): (u32, u32),
        visit: &mut dyn FnMut(Stretched<'_>),
    ) -> Result<(), ReadError> {
        let stretch = (u64::from(offset), u64::from(end));
        let found =
            self.segments().get(&segment).map(|found| (Arc::clone(&found.file), found.salt));
        let (file, salt) = found.ok_or(ReadError::Damaged { segment, offset: stretch.0 })?;
        scan::stretch(&file, salt, stretch, |header, offset, payload| {
            let location = scan::location(segment, offset, header);
            visit(Stretched { kind: header.kind, key: header.key, location, payload });
        })
        .map_err(|source| ReadError::Io { segment, offset: stretch.0, source })
    }

    pub(super) fn stat(&self) -> LogStat {
        let (segments, segment_bytes) = {
            let segments = self.segments();
            (segments.len(), segments.values().map(|segment| segment.bytes).sum())
        };
        let pending_bytes = self.handoff.lock().buffer.len();
        LogStat {
            syncs: self.counters.syncs.load(Ordering::Relaxed),
            syncs_failed: self.counters.syncs_failed.load(Ordering::Relaxed),
            entries: self.counters.entries.load(Ordering::Relaxed),
            bytes: self.counters.bytes.load(Ordering::Relaxed),
            segments: u64::try_from(segments).unwrap_or(u64::MAX),
            segment_bytes,
            pending_bytes: u64::try_from(pending_bytes).unwrap_or(u64::MAX),
            is_disk_full: self.is_disk_full.load(Ordering::Acquire),
            reserve_bytes: match self.housekeeping().reserve {
                Reserve::InPlace => self.config.reserve_bytes,
                Reserve::Unmade | Reserve::Missing => 0,
            },
        }
    }

    pub(super) fn observe(&self, observer: Arc<dyn CommitObserver>) {
        if self.observer.set(observer).is_err() {
            tracing::debug!(dir = %self.dir.display(), "the log is observed already");
        }
    }

    // A panic while one of these locks is held would be a bug of this crate; the data behind them
    // is changed in steps that leave it whole, so going on is right.

    pub(super) fn segments(&self) -> MutexGuard<'_, BTreeMap<SegmentId, SegmentFile>> {
        self.segments.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn housekeeping(&self) -> MutexGuard<'_, Housekeeping> {
        self.housekeeping.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
