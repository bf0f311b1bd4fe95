//! Opening a directory: what is there, what of it is whole, where to go on.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::message::{Epoch, LogId};

use super::directory::{Access, Candidate, Directory, Place};
use super::format::{self, Identity, SegmentHeader};
use super::reserve::{self, Reserve};
use super::scan::{self, Event, Found, Visit};
use super::shared::SegmentFile;
use super::writer::{HASTY_SEGMENT_BYTES, KIND_CHECKPOINT, Tail, to_u64, write_start};
use super::{LogOptions, OnCorruption, OpenError, Position, SegmentId, files};
use crate::storage::{LockError, Storage, StorageFile, StorageLock};

/// Most bytes of one damaged stretch that are copied aside.
const QUARANTINE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Why something is missing from a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GapCause {
    /// The bytes are there and do not verify.
    Damaged,
    /// The bytes are not there: a file is gone.
    Missing,
}

/// Something that was in the log and cannot be read (D5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// Why.
    pub cause: GapCause,
    /// The segment in which it begins.
    pub segment: SegmentId,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes; 0 when that is not known.
    pub bytes: u64,
    /// The entries that are missing, first and last; `None` when only a summary was hit.
    pub positions: Option<(Position, Position)>,
    /// Whether an earlier start found it too.
    pub is_known: bool,
}

/// An entry at the end of the log that was not finished, and therefore never acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    /// The segment.
    pub segment: SegmentId,
    /// Where in the file the whole entries end.
    pub offset: u64,
}

/// What opening a log found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovery {
    /// The epoch that this open began.
    pub epoch: Epoch,
    /// Whether the log was created by this open.
    pub is_created: bool,
    /// How many entries were read.
    pub entries: u64,
    /// How many segments were read.
    pub segments: u64,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// What was cut off at the end.
    pub torn_tail: Option<TornTail>,
}

pub(super) struct Opened {
    pub(super) log_id: LogId,
    pub(super) recovery: Recovery,
    pub(super) tail: Tail,
    pub(super) segments: BTreeMap<SegmentId, SegmentFile>,
    pub(super) next_position: Position,
    pub(super) next_segment: SegmentId,
    pub(super) reserve: Reserve,
    pub(super) emergency: Option<Arc<dyn StorageFile>>,
    pub(super) lock: Box<dyn StorageLock>,
}

pub(super) fn open(options: &LogOptions<'_>, visit: &mut dyn Visit) -> Result<Opened, OpenError> {
    let (dir, storage) = (options.dir, &*options.storage);
    storage.create_dir_all(dir).map_err(|source| OpenError::from_io("creating", dir, source))?;
    let lock = lock(storage, dir)?;
    let place = Place { storage, dir, access: Access::Own };
    let directory = Directory::read(place)?;
    let (log_id, epoch, is_created) = begin_epoch(storage, dir, &directory)?;
    let mut recovery = Recovery {
        epoch,
        is_created,
        entries: 0,
        segments: to_u64(directory.segments.len()),
        gaps: Vec::new(),
        torn_tail: None,
    };
    look_ahead(place, &directory, visit)?;
    let mut reader = Reader::new(place, options.config.on_corruption, visit, &mut recovery);
    let end = reader.read_all(&directory)?;
    let next_position = reader.next_position;
    let next_segment = directory.next_segment();
    let mut segments = directory.files();
    let (tail, next_segment) = match end {
        Some(tail) => (tail, next_segment),
        None => {
            let first_position = next_position;
            let header = SegmentHeader { log_id, segment: next_segment, epoch, first_position };
            let tail = create_first(options, &header)?;
            let SegmentId(number) = next_segment;
            (tail, SegmentId(number + 1))
        }
    };
    segments.entry(tail.segment).or_insert_with(|| SegmentFile {
        file: Arc::clone(&tail.file),
        salt: tail.salt,
        bytes: tail.capacity,
        is_poisoned: false,
    });
    let reserve_bytes = options.config.reserve_bytes;
    let unreadable = |source| OpenError::from_io("reading", &reserve::path(dir), source);
    let reserve = reserve::find(storage, dir, reserve_bytes).map_err(unreadable)?;
    let emergency = reserve::find_emergency(storage, dir, reserve_bytes).map_err(unreadable)?;
    Ok(Opened {
        log_id,
        recovery,
        tail,
        segments,
        next_position,
        next_segment,
        reserve,
        emergency,
        lock,
    })
}

/// Shows the newest segment to a visitor that wants to see it before all else.
pub(super) fn look_ahead(
    place: Place<'_>,
    directory: &Directory,
    visit: &mut dyn Visit,
) -> Result<(), OpenError> {
    let Some(newest) = directory.segments.last().filter(|_| visit.is_ahead_wanted()) else {
        return Ok(());
    };
    let path = files::segment_path(place.dir, newest.header.segment);
    scan::ahead(&newest.file, newest.header.salt(), visit)
        .map_err(|source| OpenError::from_io("reading", &path, source))
}

/// Decides which log this is and begins its next epoch.
fn begin_epoch(
    storage: &dyn Storage,
    dir: &Path,
    directory: &Directory,
) -> Result<(LogId, Epoch, bool), OpenError> {
    let newest = directory.newest_header();
    let known = directory.identity.or(newest);
    let log_id = known
        .map_or_else(|| LogId::new(uuid::Uuid::new_v4().into_bytes()), |identity| identity.log_id);
    let epochs = [known, newest].into_iter().flatten().map(|identity| identity.epoch.0);
    let epoch = Epoch(epochs.max().unwrap_or(0) + 1);
    let path = dir.join(files::IDENTITY);
    // M6: durable before anything else happens under the new epoch.
    let identity = Identity { log_id, epoch }.encode();
    reserve::retrying(storage, dir, || files::replace(storage, &path, &identity))
        .map_err(|source| OpenError::from_io("writing", &path, source))?;
    Ok((log_id, epoch, known.is_none()))
}

pub(super) fn lock(storage: &dyn Storage, dir: &Path) -> Result<Box<dyn StorageLock>, OpenError> {
    let path = dir.join(files::LOCK);
    storage.lock(&path).map_err(|error| match error {
        LockError::Held { pid } => OpenError::Locked { dir: dir.to_path_buf(), pid },
        LockError::Io(source) => OpenError::from_io("locking", &path, source),
    })
}

/// The first segment of a log is small: the housekeeper prepares whole ones as soon as it fills.
fn create_first(options: &LogOptions<'_>, header: &SegmentHeader) -> Result<Tail, OpenError> {
    let path = files::segment_path(options.dir, header.segment);
    let capacity = options.config.segment_bytes.min(HASTY_SEGMENT_BYTES);
    let create = || -> io::Result<(Arc<dyn StorageFile>, u64)> {
        let file = files::create_zeroed(&*options.storage, &path, capacity, &|| false)?;
        let offset = write_start(&*file, header, |_, _| None)?;
        file.sync_data()?;
        Ok((file, offset))
    };
    let (file, offset) = reserve::retrying(&*options.storage, options.dir, create)
        .map_err(|source| OpenError::from_io("creating", &path, source))?;
    Ok(Tail {
        segment: header.segment,
        file,
        salt: header.salt(),
        offset,
        capacity: capacity.max(offset),
        is_begun: true,
        is_summarised: true,
        is_fresh: true,
    })
}

/// Reads entries of all segments in order.
pub(super) struct Reader<'r> {
    place: Place<'r>,
    on_corruption: OnCorruption,
    visit: &'r mut dyn Visit,
    recovery: &'r mut Recovery,
    pub(super) next_position: Position,
    previous: Option<(SegmentId, u64)>,
    /// Where the entries of each segment end.
    pub(super) ends: BTreeMap<SegmentId, u64>,
}

impl<'r> Reader<'r> {
    pub(super) fn new(
        place: Place<'r>,
        on_corruption: OnCorruption,
        visit: &'r mut dyn Visit,
        recovery: &'r mut Recovery,
    ) -> Self {
        let next_position = Position(1);
        let ends = BTreeMap::new();
        Self { place, on_corruption, visit, recovery, next_position, previous: None, ends }
    }

    pub(super) fn read_all(&mut self, directory: &Directory) -> Result<Option<Tail>, OpenError> {
        let mut tail = None;
        for (index, found) in directory.segments.iter().enumerate() {
            let later = directory.segments.get(index + 1..).unwrap_or_default();
            // What was written again after a failed sync counts there, not here.
            let limit = later.iter().map(|later| later.header.first_position).min();
            tail = Some(self.read_segment(found, limit)?);
        }
        Ok(tail)
    }

    fn read_segment(
        &mut self,
        found: &Candidate,
        limit: Option<Position>,
    ) -> Result<Tail, OpenError> {
        let SegmentHeader { segment, first_position, .. } = found.header;
        let salt = found.header.salt();
        let path = files::segment_path(self.place.dir, segment);
        self.begin_segment(segment, first_position)?;
        let mut damaged = None;
        let mut halted = None;
        let mut is_summarised = false;
        let end = scan::segment(&found.file, salt, |event| match event {
            Found::Damaged { offset, end } => {
                damaged = Some((offset, end));
                if self.on_corruption == OnCorruption::Halt {
                    halted = Some(offset);
                }
                halted.is_none()
            }
            Found::Valid { header, offset, payload } => {
                if limit.is_some_and(|limit| header.position >= limit)
                    && header.kind != KIND_CHECKPOINT
                {
                    return false;
                }
                if let Some((from, to)) = damaged.take() {
                    let before = Position(header.position.0.saturating_sub(1));
                    self.report(found, (from, to), before);
                }
                is_summarised |= header.kind == KIND_CHECKPOINT;
                self.show(&header, scan::location(segment, offset, &header), payload);
                true
            }
        })
        .map_err(|source| OpenError::from_io("reading", &path, source))?;
        if let Some(offset) = halted {
            return Err(OpenError::Corrupt { path, offset });
        }
        self.previous = Some((segment, end.offset));
        let is_last = limit.is_none();
        if is_last && end.is_torn {
            self.recovery.torn_tail = Some(TornTail { segment, offset: end.offset });
        }
        self.ends.insert(segment, end.offset);
        if is_last && self.place.access == Access::Own {
            // Entries of a process that was killed may be in the cache only (M3).
            found
                .file
                .sync_data()
                .map_err(|source| OpenError::from_io("syncing", &path, source))?;
        }
        let capacity = found.file.size().map_err(|e| OpenError::from_io("reading", &path, e))?;
        Ok(Tail {
            segment,
            file: Arc::clone(&found.file),
            salt,
            offset: end.offset,
            capacity: capacity.max(end.offset),
            is_begun: true,
            is_summarised,
            is_fresh: false,
        })
    }

    /// Notices entries that are missing between two segments.
    fn begin_segment(&mut self, segment: SegmentId, first: Position) -> Result<(), OpenError> {
        let Some((previous, offset)) = self.previous else {
            self.next_position = first;
            return Ok(());
        };
        let is_adjacent = previous.0 + 1 == segment.0;
        if first > self.next_position && is_adjacent {
            if self.on_corruption == OnCorruption::Halt {
                let path = files::segment_path(self.place.dir, previous);
                return Err(OpenError::Corrupt { path, offset });
            }
            self.tell(Gap {
                cause: GapCause::Damaged,
                segment: previous,
                offset,
                bytes: 0,
                positions: Some((self.next_position, Position(first.0.saturating_sub(1)))),
                is_known: false,
            });
        }
        self.next_position = self.next_position.max(first);
        Ok(())
    }

    fn show(&mut self, header: &format::EntryHeader, location: super::Location, payload: &[u8]) {
        let position = header.position;
        if header.kind == KIND_CHECKPOINT {
            self.visit.event(Event::Checkpoint { payload });
            return;
        }
        if position < self.next_position {
            return;
        }
        self.next_position = Position(position.0.saturating_add(1));
        self.recovery.entries += 1;
        let (kind, key) = (header.kind, header.key);
        self.visit.event(Event::Entry { kind, key, position, location, payload });
    }

    fn report(&mut self, found: &Candidate, (offset, end): (u64, u64), last: Position) {
        let first = self.next_position;
        let is_known = self.quarantine(found, offset, end).unwrap_or_else(|error| {
            tracing::warn!(%error, "damaged bytes could not be copied aside");
            false
        });
        self.tell(Gap {
            cause: GapCause::Damaged,
            segment: found.header.segment,
            offset,
            bytes: end - offset,
            positions: (first <= last).then_some((first, last)),
            is_known,
        });
    }

    fn tell(&mut self, gap: Gap) {
        // Whoever only looks reports it by other means.
        if self.place.access == Access::Own {
            tracing::error!(
                dir = %self.place.dir.display(), segment = %gap.segment, offset = gap.offset,
                bytes = gap.bytes, is_known = gap.is_known, "the log is damaged; the rest is readable"
            );
        }
        self.visit.event(Event::Damage(&gap));
        self.recovery.gaps.push(gap);
    }

    /// Copies damaged bytes aside; `true` when an earlier start did.
    fn quarantine(&self, found: &Candidate, offset: u64, end: u64) -> io::Result<bool> {
        let path = files::quarantine_path(self.place.dir, found.header.segment, offset);
        match self.place.open(&path) {
            Ok(_) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if self.place.access == Access::Look {
            return Ok(false);
        }
        let bytes = (end - offset).min(QUARANTINE_BYTES_MAX);
        let mut copy = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let read = found.file.read_at(&mut copy, offset)?;
        copy.truncate(read);
        files::replace(self.place.storage, &path, &copy)?;
        Ok(false)
    }
}
