//! Reads a log without becoming its owner: no lock, no epoch, not a byte written.
//!
//! The owner may be writing meanwhile. Segments that it removes are passed over, since nothing in
//! them mattered; what it appends after the scan has passed is not seen.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::message::{Epoch, LogId};
use bytes::Bytes;

use super::directory::{Access, Directory, HeaderFrom, Place};
use super::reader::Reader;
use super::recover::{self, Recovery};
use super::scan::Visit;
use super::{Location, OnCorruption, OpenError, Position, SegmentId, files, format, scan};
use crate::storage::{LockError, Storage, StorageFile, StorageLock};

/// A segment file as it is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LookedSegment {
    pub(crate) segment: SegmentId,
    pub(crate) epoch: Epoch,
    pub(crate) is_header_whole: bool,
    pub(crate) file_bytes: u64,
    /// Up to the end of its last entry.
    pub(crate) used_bytes: u64,
}

/// What a log is found to be.
#[derive(Debug)]
pub(crate) struct Looked {
    pub(crate) log_id: LogId,
    /// The ids that it has and had, the present one first.
    pub(crate) log_ids: Vec<LogId>,
    /// The epoch of the last open.
    pub(crate) epoch: Epoch,
    pub(crate) is_identity_readable: bool,
    pub(crate) recovery: Recovery,
    /// The position behind its last entry.
    pub(crate) next_position: Position,
    pub(crate) segments: Vec<LookedSegment>,
    pub(super) files: BTreeMap<SegmentId, (Arc<dyn StorageFile>, u32)>,
    /// Damaged stretches that were copied aside, and their bytes.
    pub(crate) quarantined: (u64, u64),
}

/// Reads the log in a directory; `Ok(None)` when there is none.
pub(crate) fn look(
    dir: &Path,
    storage: &dyn Storage,
    visit: &mut dyn Visit,
) -> Result<Option<Looked>, OpenError> {
    let place = Place { storage, dir, access: Access::Look };
    match storage.list(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Ok(_) | Err(_) => {}
    }
    let directory = Directory::read(place)?;
    let newest = directory.newest_header();
    let Some(known) = directory.identity.or(newest) else {
        return Ok(None);
    };
    let epoch = newest.map_or(known.epoch, |newest| newest.epoch.max(known.epoch));
    let mut recovery = Recovery::new(&directory, epoch, false);
    recover::begin(place, &directory, known.log_id, visit)?;
    let mut reader = Reader::new(place, OnCorruption::Quarantine, false, visit, &mut recovery);
    reader.read_all(&directory)?;
    let next_position = reader.next_position;
    let ends = std::mem::take(&mut reader.ends);
    let mut segments = Vec::with_capacity(directory.segments.len());
    for found in &directory.segments {
        let segment = found.header.segment;
        let path = files::segment_path(dir, segment);
        let file_bytes =
            found.file.size().map_err(|source| OpenError::from_io("reading", &path, source))?;
        let used_bytes = ends.get(&segment).copied().unwrap_or(0);
        segments.push(LookedSegment {
            segment,
            epoch: found.header.epoch,
            is_header_whole: found.header_from == HeaderFrom::Block,
            file_bytes,
            used_bytes,
        });
    }
    Ok(Some(Looked {
        log_id: known.log_id,
        log_ids: directory.log_ids(known.log_id),
        epoch,
        is_identity_readable: directory.identity.is_some(),
        recovery,
        next_position,
        segments,
        files: directory
            .segments
            .iter()
            .map(|found| (found.header.segment, (Arc::clone(&found.file), found.header.salt())))
            .collect(),
        quarantined: quarantined(place)?,
    }))
}

fn quarantined(place: Place<'_>) -> Result<(u64, u64), OpenError> {
    let Place { storage, dir, .. } = place;
    let names = storage.list(dir).map_err(|source| OpenError::from_io("listing", dir, source))?;
    let (mut count, mut bytes) = (0, 0);
    for name in names.iter().filter(|name| files::is_quarantine(name)) {
        let path = dir.join(name);
        let size = place.open(&path).and_then(|file| file.size());
        bytes += size.map_err(|source| OpenError::from_io("reading", &path, source))?;
        count += 1;
    }
    Ok((count, bytes))
}

/// Whether a process has the directory at present: its id, when it left one.
pub(crate) fn probe(dir: &Path, storage: &dyn Storage) -> Result<Option<Option<u32>>, OpenError> {
    let path = dir.join(files::LOCK);
    match storage.probe_lock(&path) {
        Ok(()) => Ok(None),
        Err(LockError::Held { pid }) => Ok(Some(pid)),
        Err(LockError::Io(source)) => Err(OpenError::from_io("locking", &path, source)),
    }
}

/// Keeps every owner out of a directory while the value lives (M6). A medium that nobody can write
/// needs no lock: then there is none.
pub(crate) fn hold(
    dir: &Path,
    storage: &dyn Storage,
) -> Result<Option<Box<dyn StorageLock>>, OpenError> {
    match recover::lock(storage, dir) {
        Ok(lock) => Ok(Some(lock)),
        Err(OpenError::NotWritable { source, .. })
            if source.kind() == io::ErrorKind::ReadOnlyFilesystem =>
        {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The numbers of the segment files in a directory.
pub(crate) fn list_segments(
    dir: &Path,
    storage: &dyn Storage,
) -> Result<BTreeSet<SegmentId>, OpenError> {
    let names = storage.list(dir).map_err(|source| OpenError::from_io("listing", dir, source))?;
    Ok(names.iter().filter_map(|name| files::segment_of(name)).collect())
}

/// Reads entries of a log that was looked at.
#[derive(Debug)]
pub(crate) struct EntryReader<'a> {
    dir: &'a Path,
    looked: &'a Looked,
}

impl<'a> EntryReader<'a> {
    pub(crate) const fn new(dir: &'a Path, looked: &'a Looked) -> Self {
        Self { dir, looked }
    }

    /// Shows the entries of a stretch of a segment with their keys, as far as they verify.
    pub(crate) fn read_stretch(
        &self,
        segment: SegmentId,
        (offset, end): (u32, u32),
        visit: &mut dyn FnMut(u64, &[u8]),
    ) -> Result<(), OpenError> {
        let Some((file, salt)) = self.looked.files.get(&segment) else {
            return Ok(());
        };
        let stretch = (u64::from(offset), u64::from(end));
        let path = files::segment_path(self.dir, segment);
        scan::stretch(file, *salt, stretch, |header, _, payload| visit(header.key, payload))
            .map_err(|source| OpenError::from_io("reading", &path, source))
    }

    /// The payload of an entry; `None` when it does not verify any more.
    pub(crate) fn read(&self, location: Location) -> Result<Option<Bytes>, OpenError> {
        let Some((file, salt)) = self.looked.files.get(&location.segment) else {
            return Ok(None);
        };
        let payload_bytes = usize::try_from(location.payload_bytes).unwrap_or(usize::MAX);
        let mut entry = vec![0; format::ENTRY_HEADER_BYTES.saturating_add(payload_bytes)];
        let path = || files::segment_path(self.dir, location.segment);
        let read = file
            .read_at(&mut entry, u64::from(location.offset))
            .map_err(|source| OpenError::from_io("reading", &path(), source))?;
        let is_whole = read == entry.len() && format::verify_entry(&entry, *salt).is_some();
        Ok(is_whole.then(|| Bytes::from(entry).slice(format::ENTRY_HEADER_BYTES..)))
    }
}
