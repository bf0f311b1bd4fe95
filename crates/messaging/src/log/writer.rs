//! The writer thread: takes what is pending, writes it, syncs it, publishes it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Waker;
use std::time::{Duration, Instant};

use super::format::{
    self, ENTRY_HEADER_BYTES, EntryHeader, Mark, SEGMENT_HEADER_BYTES, SegmentHeader,
};
use super::handoff::Taken;
use super::housekeeper::Spare;
use super::reserve::Reserve;
use super::shared::{End, SegmentFile, Shared};
use super::{Location, LogClient, OpenError, Placed, Position, SegmentId, files};
use crate::storage::{StorageFile, Worker, Workers, guarded, is_storage_full};

/// Capacity of the pending buffer that is kept for reuse.
const BUFFER_KEPT_BYTES: usize = 8 * 1024 * 1024;

/// Bytes of zeros in a segment that is needed at once, without having been prepared.
pub(super) const HASTY_SEGMENT_BYTES: u64 = 256 * 1024;

/// Entry kind of the summary that starts a segment.
pub(super) const KIND_CHECKPOINT: u8 = 0;

/// The segment that is being written, and where.
#[derive(Debug)]
pub(super) struct Tail {
    pub(super) segment: SegmentId,
    pub(super) file: Arc<dyn StorageFile>,
    pub(super) salt: u32,
    pub(super) offset: u64,
    /// Bytes that were written before: within them a sync has no metadata to write.
    pub(super) capacity: u64,
    /// Whether its checkpoint is durable (M5).
    pub(super) is_begun: bool,
    /// Whether it has a checkpoint. One that a crash cut off before its first sync may have none;
    /// what is older stays until a later one has (M5).
    pub(super) is_summarised: bool,
    /// Whether it has an entry of the layer above.
    pub(super) is_fresh: bool,
}

mod marking;
mod space;

struct Writer {
    shared: Arc<Shared>,
    client: Arc<dyn LogClient>,
    tail: Tail,
    /// A later segment that was begun in part and may be there still: nothing that the present one,
    /// or any before that one, gets from now on would count.
    superseded_by: Option<SegmentId>,
    /// The newest segment for which a mark was written, or is about to be.
    marked: SegmentId,
    /// Bytes that were made durable since.
    unmarked: u64,
    batch: Vec<u8>,
    placed: Vec<Placed>,
    retire: Vec<SegmentId>,
    /// Room for those who are told of a commit.
    told: Vec<Waker>,
}

pub(super) fn spawn(
    name: &str,
    shared: &Arc<Shared>,
    client: Arc<dyn LogClient>,
    tail: Tail,
    mark: Option<Mark>,
) -> Result<Worker, OpenError> {
    let mut writer = Writer {
        shared: Arc::clone(shared),
        client,
        tail,
        superseded_by: None,
        marked: mark.map_or(SegmentId(0), |mark| mark.segment),
        unmarked: 0,
        batch: Vec::new(),
        placed: Vec::new(),
        retire: Vec::new(),
        told: Vec::new(),
    };
    let workers = shared.workers.clone();
    let body = async move {
        if guarded(writer.run()).await.is_err() {
            // A bug of this crate: whoever waits must not wait for ever.
            writer.end(Some(io::Error::other("the writer of the log panicked")));
        }
    };
    Worker::spawn(&workers, format!("{name}-writer"), body).map_err(OpenError::Thread)
}

impl Writer {
    async fn run(&mut self) {
        let end = self.commit_until_closed().await;
        self.end(end.err());
    }

    fn end(&self, error: Option<io::Error>) {
        if let Some(error) = error {
            tracing::error!(dir = %self.shared.dir.display(), %error, "the log cannot be written any more");
            // Only this thread sets it.
            self.shared.failure.get_or_init(|| Arc::new(error));
            self.shared.handoff.lock().buffer = Vec::new();
        }
        let end = if self.shared.failure.get().is_some() { End::Failed } else { End::Closed };
        if end == End::Closed && self.tail.is_begun {
            self.shared.write_mark(self.mark(self.shared.durable.borrow().position));
        }
        self.shared.close_housekeeper();
        self.shared.publish_end(end);
        self.shared.room.notify_waiters();
    }

    async fn commit_until_closed(&mut self) -> io::Result<()> {
        while self.take().await {
            self.commit().await?;
            self.hand_over_retired();
            if self.batch.capacity() > BUFFER_KEPT_BYTES {
                self.batch = Vec::new();
            }
        }
        Ok(())
    }

    /// Waits for something to do; `false` when the log closes and nothing is left.
    async fn take(&mut self) -> bool {
        let shared = &self.shared;
        match shared.workers {
            Workers::Threads => shared.handoff.take(&mut self.batch, &mut self.retire),
            Workers::Tasks(_) => loop {
                match shared.handoff.take_now(&mut self.batch, &mut self.retire) {
                    Taken::Work => return true,
                    Taken::Closed => return false,
                    Taken::Nothing => shared.wake_writer_task.notified().await,
                }
            },
        }
    }

    async fn commit(&mut self) -> io::Result<()> {
        let mut cursor = 0;
        let mut is_rewriting = false;
        while cursor < self.batch.len() {
            let limit = self.limit();
            if self.is_full_for(cursor, limit) {
                match self.roll().await {
                    Err(error) if !is_rewriting => {
                        // Nothing is in that file yet: one more is tried, as after a failed sync.
                        tracing::warn!(%error, "a segment could not be begun; trying another");
                        is_rewriting = true;
                    }
                    rolled => rolled?,
                }
                continue;
            }
            let end = self.seal(cursor, limit);
            match self.write_and_sync(cursor, end).await {
                Ok(()) => {
                    is_rewriting = false;
                    cursor = end;
                }
                Err(error) if is_storage_full(&error) => self.wait_for_space(error).await?,
                Err(error) if is_rewriting => return Err(error),
                Err(error) => {
                    // M4: everything that is not durable is in `batch` from `cursor` on.
                    is_rewriting = true;
                    self.poison(&error);
                    self.roll().await?;
                }
            }
        }
        Ok(())
    }

    /// Up to where the segment may be written. While no segment is prepared the present one grows:
    /// slower syncs, but nobody waits.
    fn limit(&self) -> u64 {
        let mut housekeeping = self.shared.housekeeping();
        let is_spare_ready = housekeeping.spare.is_some();
        let is_half_used = self.tail.offset.saturating_mul(2) >= self.tail.capacity;
        if !is_spare_ready && is_half_used && !housekeeping.is_spare_wanted {
            housekeeping.is_spare_wanted = true;
            self.shared.wake_housekeeper.ring();
        }
        drop(housekeeping);
        if is_spare_ready {
            self.tail.capacity
        } else {
            self.tail.capacity.max(self.shared.config.segment_bytes.saturating_mul(2))
        }
    }

    fn is_full_for(&self, cursor: usize, limit: u64) -> bool {
        let Some(header) = self.entry_at(cursor) else {
            return false;
        };
        let is_full = self.tail.offset + to_u64(header.stored_bytes()) > limit;
        self.superseded_by.is_some() || (!self.tail.is_fresh && is_full)
    }

    fn entry_at(&self, cursor: usize) -> Option<EntryHeader> {
        let header = EntryHeader::peek(self.batch.get(cursor..)?, None);
        debug_assert!(header.is_some(), "invariant: the batch is a sequence of entries");
        header
    }

    /// Seals entries from `cursor` on, as many as one write takes, and notes where they will lie.
    fn seal(&mut self, cursor: usize, limit: u64) -> usize {
        self.placed.clear();
        let mut end = cursor;
        while end < self.batch.len()
            && let Some(header) = self.entry_at(end)
        {
            let next = end + header.stored_bytes();
            let offset = self.tail.offset + to_u64(end - cursor);
            let fits = next - cursor <= self.shared.config.batch_bytes_max
                && offset + to_u64(header.stored_bytes()) <= limit;
            if end > cursor && !fits {
                break;
            }
            if let Some(entry) = self.batch.get_mut(end..next) {
                // The summary of a segment that is not begun yet is of the same write.
                let is_continued = end > cursor || !self.tail.is_begun;
                format::seal_entry(entry, header.payload_bytes, self.tail.salt, is_continued);
            }
            self.placed.push(Placed {
                kind: header.kind,
                position: header.position,
                key: header.key,
                location: Location {
                    segment: self.tail.segment,
                    offset: u32::try_from(offset).unwrap_or(u32::MAX),
                    payload_bytes: u32::try_from(header.payload_bytes).unwrap_or(u32::MAX),
                },
            });
            end = next;
        }
        end
    }

    #[expect(clippy::disallowed_methods, reason = "driver: measures a sync")]
    async fn write_and_sync(&mut self, cursor: usize, end: usize) -> io::Result<()> {
        self.write(cursor, end)?;
        let last = self.placed.last().map_or(0, |placed| placed.position.0);
        self.shared.publish_written(last, &mut self.told);
        let begun_at = Instant::now();
        self.shared.workers.pass().await;
        // Without space or without luck: what it dropped is not written by the next one (M4).
        self.tail.file.sync_data().map_err(io::Error::other)?;
        let took = begun_at.elapsed();
        self.tail.offset += to_u64(end - cursor);
        self.tail.is_begun = true;
        self.tail.is_fresh = false;
        self.look_whether_full();
        self.publish(last, to_u64(end - cursor), took);
        self.mark_when_due(last, to_u64(end - cursor));
        Ok(())
    }

    /// Writes a part of the batch. Zeros follow the last one, so that what a recycled file has there
    /// is not taken for an entry that was never finished.
    fn write(&mut self, cursor: usize, end: usize) -> io::Result<()> {
        let prepared = self.tail.capacity.saturating_sub(self.tail.offset + to_u64(end - cursor));
        let is_last = end == self.batch.len();
        let mut until = end;
        if is_last {
            until += usize::try_from(prepared).unwrap_or(usize::MAX).min(ENTRY_HEADER_BYTES);
            self.batch.resize(until, 0);
        }
        let bytes = self.batch.get(cursor..until).unwrap_or_default();
        let written = self.tail.file.write_at(bytes, self.tail.offset);
        if is_last {
            self.batch.truncate(end);
        }
        written
    }

    /// Whether the housekeeper found no space, or the reserve is given up: the present segment goes
    /// on, `append` is refused. Said under the lock, or it could be said after the housekeeper found
    /// some, and stay.
    fn look_whether_full(&self) {
        if !self.shared.is_disk_full.load(Ordering::Acquire) {
            // There is room for what was written at least.
            self.shared.room.notify_waiters();
            return;
        }
        let housekeeping = self.shared.housekeeping();
        let is_full = housekeeping.is_spare_wanted || housekeeping.reserve == Reserve::Missing;
        self.shared.set_disk_full(is_full);
    }

    fn publish(&mut self, last: u64, bytes: u64, took: Duration) {
        let entries = to_u64(self.placed.len());
        if self.tail.offset > self.tail.capacity
            && let Some(file) = self.shared.segments().get_mut(&self.tail.segment)
        {
            file.bytes = self.tail.offset;
        }
        let counters = &self.shared.counters;
        counters.syncs.fetch_add(1, Ordering::Relaxed);
        counters.entries.fetch_add(entries, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.client.placed(&self.placed);
        // M3: only now, after the sync.
        self.shared.publish_durable(last, &mut self.told);
        if let Some(observer) = self.shared.observer.get() {
            observer.committed(entries, bytes, took);
        }
    }

    fn poison(&mut self, error: &io::Error) {
        tracing::error!(
            dir = %self.shared.dir.display(), segment = %self.tail.segment, %error,
            "a segment could not be synced; what is not durable is written to a new one"
        );
        self.shared.counters.syncs_failed.fetch_add(1, Ordering::Relaxed);
        if let Some(file) = self.shared.segments().get_mut(&self.tail.segment) {
            file.is_poisoned = true;
        }
        if self.tail.is_fresh {
            // Nothing in it counts: it goes once its successor is durable.
            self.retire.push(self.tail.segment);
        }
    }

    /// Goes on in a new segment. Its checkpoint becomes durable with the first entries.
    async fn roll(&mut self) -> io::Result<()> {
        loop {
            match self.begin_segment() {
                Ok(()) => return Ok(()),
                Err(error) if is_storage_full(&error) => self.wait_for_space(error).await?,
                Err(error) => return Err(error),
            }
        }
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let spare = self.take_spare()?;
        self.begin_segment_in(spare)
    }

    fn begin_segment_in(&mut self, spare: Spare) -> io::Result<()> {
        let durable = self.shared.durable.borrow().position;
        let header = SegmentHeader {
            log_id: self.shared.log_id,
            segment: spare.segment,
            epoch: self.shared.epoch,
            first_position: Position(durable + 1),
        };
        let written = write_start(&*spare.file, &header, |cursor, out| {
            self.client.checkpoint_part(header.first_position, cursor, out)
        });
        let offset = written.inspect_err(|_| self.discard(spare.segment))?;
        let bytes = spare.bytes.max(offset);
        let (file, salt) = (spare.file, header.salt());
        self.shared.segments().insert(
            spare.segment,
            SegmentFile { file: Arc::clone(&file), salt, bytes, is_poisoned: false },
        );
        self.tail = Tail {
            segment: spare.segment,
            file,
            salt,
            offset,
            capacity: bytes,
            is_begun: false,
            is_summarised: true,
            is_fresh: true,
        };
        self.superseded_by = None;
        Ok(())
    }

    /// Removes a segment that was begun in part. Its header may be on the disk, and a later segment
    /// supersedes what the present one still gets.
    fn discard(&mut self, segment: SegmentId) {
        let (storage, dir) = (&*self.shared.storage, &self.shared.dir);
        let removed = files::remove_if_present(storage, &files::segment_path(dir, segment));
        if let Err(error) = removed.and_then(|()| storage.sync_dir(dir)) {
            tracing::warn!(%segment, %error, "a segment that could not be begun remains");
            self.superseded_by = Some(segment);
        }
    }

    fn take_spare(&self) -> io::Result<Spare> {
        let spare = self.shared.housekeeping().spare.take();
        let overtaken = match spare {
            Some(spare)
                if Some(spare.segment) > self.superseded_by.max(Some(self.tail.segment)) =>
            {
                return Ok(spare);
            }
            overtaken => overtaken,
        };
        let (storage, dir) = (&*self.shared.storage, &self.shared.dir);
        let segment = SegmentId(self.shared.next_segment.fetch_add(1, Ordering::AcqRel));
        let path = files::segment_path(dir, segment);
        if let Some(overtaken) = overtaken {
            // By a segment that was needed at once.
            storage.rename(&files::segment_path(dir, overtaken.segment), &path)?;
            storage.sync_dir(dir)?;
            return Ok(Spare { segment, ..overtaken });
        }
        let bytes = self.shared.config.segment_bytes.min(HASTY_SEGMENT_BYTES);
        let file = files::create_zeroed(storage, &path, bytes, &|| false)?;
        Ok(Spare { segment, file, bytes })
    }

    /// What was pending when segments were retired is durable now, so they may go (M5).
    pub(super) fn hand_over_retired(&mut self) {
        if self.tail.is_begun && self.tail.is_summarised && !self.retire.is_empty() {
            let (older, newer): (Vec<_>, Vec<_>) =
                self.retire.drain(..).partition(|segment| *segment < self.tail.segment);
            self.retire = newer;
            self.shared.housekeeping().retired.extend(older);
            self.shared.wake_housekeeper.ring();
        }
    }
}

/// Writes header and checkpoint of a segment; returns where entries go on. `checkpoint` writes the
/// part of the summary at a cursor and returns the cursor of the next one.
pub(super) fn write_start(
    file: &dyn StorageFile,
    header: &SegmentHeader,
    mut checkpoint: impl FnMut(u64, &mut Vec<u8>) -> Option<u64>,
) -> io::Result<u64> {
    let mut start = header.encode();
    debug_assert_eq!(to_u64(start.len()), SEGMENT_HEADER_BYTES);
    let mut next = push_summary(&mut start, header, 0, |out| checkpoint(0, out));
    let mut offset = to_u64(start.len());
    // A long summary is written in parts, the first one last: where it is, all others are.
    let is_long = next.is_some();
    let (mut part, mut number) = (Vec::new(), 0);
    while let Some(cursor) = next {
        part.clear();
        number += 1;
        next = push_summary(&mut part, header, number, |out| checkpoint(cursor, out));
        file.write_at(&part, offset)?;
        offset += to_u64(part.len());
    }
    if is_long {
        file.sync_data()?;
    }
    file.write_at(&start, 0)?;
    Ok(offset)
}

/// The parts of a summary that was made before, for [`write_start`].
pub(super) fn made_before(parts: &[Vec<u8>]) -> impl FnMut(u64, &mut Vec<u8>) -> Option<u64> + '_ {
    move |cursor, out| {
        let at = usize::try_from(cursor).unwrap_or(usize::MAX);
        out.extend_from_slice(parts.get(at).map_or(&[][..], Vec::as_slice));
        (at + 1 < parts.len()).then_some(cursor + 1)
    }
}

/// Adds a part of the summary, which has its number as a key; twice, so that one bad sector does not
/// cost what is gone already.
fn push_summary(
    out: &mut Vec<u8>,
    header: &SegmentHeader,
    number: u64,
    checkpoint: impl FnOnce(&mut Vec<u8>) -> Option<u64>,
) -> Option<u64> {
    let mut next = None;
    let start = out.len();
    EntryHeader::begin(out, KIND_CHECKPOINT, header.first_position, number, |out| {
        next = checkpoint(out);
    });
    if let Some(entry) = out.get_mut(start..)
        && let Some(begun) = EntryHeader::peek(entry, None)
    {
        format::seal_entry(entry, begun.payload_bytes, header.salt(), false);
    }
    out.extend_from_within(start..);
    next
}

pub(super) fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}
