//! Opening a directory: which log it is, what of it is whole (`reader`), where to go on.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::message::{Epoch, LogId};

use super::aside;
use super::directory::{Access, Directory, Place};
use super::format::{Identity, Mark, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::reader::Reader;
use super::reserve::{self, Reserve};
use super::scan::{self, Begun, Visit};
use super::shared::SegmentFile;
use super::writer::{HASTY_SEGMENT_BYTES, Tail, to_u64, write_start};
use super::{LogConfig, LogOptions, OpenError, Position, SegmentId, files};
use crate::storage::{LockError, Storage, StorageFile, StorageLock};

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
    /// Keys below it were given, as far as the mark knows: 0 when it does not.
    pub next_key: u64,
}

impl Recovery {
    pub(super) fn new(directory: &Directory, epoch: Epoch, is_created: bool) -> Self {
        Self {
            epoch,
            is_created,
            entries: 0,
            segments: to_u64(directory.segments.len()),
            gaps: Vec::new(),
            torn_tail: None,
            next_key: directory.mark().map_or(0, |mark| mark.next_key),
        }
    }
}

pub(super) struct Opened {
    pub(super) log_id: LogId,
    pub(super) recovery: Recovery,
    pub(super) tail: Tail,
    pub(super) segments: BTreeMap<SegmentId, SegmentFile>,
    pub(super) next_position: Position,
    pub(super) next_segment: SegmentId,
    /// Segments that may go once the tail has a summary (M5).
    pub(super) superseded: Vec<SegmentId>,
    /// The mark on disk, if it is of the present id.
    pub(super) mark: Option<Mark>,
    pub(super) reserve: Reserve,
    pub(super) emergency: Option<Arc<dyn StorageFile>>,
    pub(super) lock: Box<dyn StorageLock>,
}

pub(super) fn open(options: &LogOptions<'_>, visit: &mut dyn Visit) -> Result<Opened, OpenError> {
    let (dir, storage) = (options.dir, &*options.storage);
    check_aside(options)?;
    storage.create_dir_all(dir).map_err(|source| OpenError::from_io("creating", dir, source))?;
    let lock = lock(storage, dir)?;
    // Once more: it may have been moved since, and the lock is that of an empty place.
    check_aside(options)?;
    let place = Place { storage, dir, access: Access::Own };
    let directory = Directory::read(place)?;
    begin_start(storage, dir, &directory)?;
    let (log_id, epoch, is_created) = begin_epoch(storage, dir, &directory, visit)?;
    let mut recovery = Recovery::new(&directory, epoch, is_created);
    begin(place, &directory, log_id, visit)?;
    let LogConfig { on_corruption, is_ordered, .. } = options.config;
    let mut reader = Reader::new(place, on_corruption, is_ordered, visit, &mut recovery);
    let end = reader.read_all(&directory)?;
    let next_position = reader.next_position;
    let next_segment = directory.next_segment();
    let mut segments = directory.files();
    let (tail, next_segment) = match end {
        Some(tail) => (tail, next_segment),
        None => {
            let first_position = next_position;
            let header = SegmentHeader { log_id, segment: next_segment, epoch, first_position };
            // Of what older segments say it has no summary, and must not be taken to have one.
            let tail = create_first(options, &header, directory.segments.is_empty())?;
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
    if let Err(error) = files::remove_if_present(storage, &dir.join(files::STARTING)) {
        tracing::debug!(%error, "the next start takes this one for unfinished, and stores more again");
    }
    Ok(Opened {
        log_id,
        recovery,
        tail,
        segments,
        next_position,
        next_segment,
        superseded: directory.superseded(),
        mark: directory.mark().filter(|mark| mark.log_id == log_id),
        reserve,
        emergency,
        lock,
    })
}

fn check_aside(options: &LogOptions<'_>) -> Result<(), OpenError> {
    if options.name == aside::NAME { aside::check(options.dir, &*options.storage) } else { Ok(()) }
}

/// Tells a visitor that reading begins, and shows it the newest segment if it wants to see that
/// before all else.
pub(super) fn begin(
    place: Place<'_>,
    directory: &Directory,
    log_id: LogId,
    visit: &mut dyn Visit,
) -> Result<(), OpenError> {
    let marked = directory.mark().map(|mark| (mark.next_position, mark.next_key));
    let log_ids = directory.log_ids(log_id);
    visit.begin(&Begun { log_ids, marked: marked.unwrap_or((Position(1), 0)) });
    let Some(newest) = directory.segments.last().filter(|_| visit.is_ahead_wanted()) else {
        return Ok(());
    };
    let path = files::segment_path(place.dir, newest.header.segment);
    scan::ahead(&newest.file, newest.header.salt(), visit)
        .map_err(|source| OpenError::from_io("reading", &path, source))
}

/// Notes that a start begins, until one ends. What a failed sync of it drops is in the cache still
/// when only the process ends, and looks stored to the next one. When the power fails the note may
/// stay or go: then nothing looks stored that is not.
pub(super) fn begin_start(
    storage: &dyn Storage,
    dir: &Path,
    directory: &Directory,
) -> Result<(), OpenError> {
    if directory.is_unfinished {
        return Ok(());
    }
    let path = dir.join(files::STARTING);
    reserve::retrying(storage, dir, || storage.create(&path).map(drop))
        .map_err(|source| OpenError::from_io("creating", &path, source))
}

/// Decides which log this is and begins its next epoch.
fn begin_epoch(
    storage: &dyn Storage,
    dir: &Path,
    directory: &Directory,
    visit: &dyn Visit,
) -> Result<(LogId, Epoch, bool), OpenError> {
    let newest = directory.newest_header();
    let known = directory.identity.or(newest);
    let log_id = known.map_or_else(|| storage.mint_log_id(), |identity| identity.log_id);
    let epochs = [known, newest].into_iter().flatten().map(|identity| identity.epoch);
    let latest = epochs.fold(visit.known_epoch(log_id), Epoch::max);
    let epoch = Epoch(latest.0 + 1);
    if directory.identity.is_none() && known.is_some() {
        tracing::warn!(
            dir = %dir.display(), %log_id, epoch = epoch.0,
            "the identity of the log is missing or damaged; it is what its segments say"
        );
    }
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
fn create_first(
    options: &LogOptions<'_>,
    header: &SegmentHeader,
    is_summarised: bool,
) -> Result<Tail, OpenError> {
    let path = files::segment_path(options.dir, header.segment);
    let capacity = options.config.segment_bytes.min(HASTY_SEGMENT_BYTES);
    let create = || -> io::Result<(Arc<dyn StorageFile>, u64)> {
        let file = files::create_zeroed(&*options.storage, &path, capacity, &|| false)?;
        let offset = if is_summarised {
            write_start(&*file, header, |_, _| None)?
        } else {
            file.write_at(&header.encode(), 0)?;
            SEGMENT_HEADER_BYTES
        };
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
        is_summarised,
        is_fresh: true,
    })
}
