//! What files a log directory holds, before any entry is read.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::message::{Epoch, LogId};

use super::format::{self, Block, Identity, Mark, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::shared::SegmentFile;
use super::writer::KIND_CHECKPOINT;
use super::{OpenError, Position, SegmentId, files, lineage, scan};
use crate::storage::{Storage, StorageFile};

/// Most epochs that are tried to read a segment whose header is lost.
const LOST_EPOCHS_MAX: u64 = 4096;

/// What may be done to a directory that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Access {
    /// It is locked and ours: leftovers go, damage is copied aside.
    Own,
    /// Nothing is written; another process may be writing it.
    Look,
}

/// A directory, and how it is reached.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) storage: &'a dyn Storage,
    pub(super) dir: &'a Path,
    pub(super) access: Access,
}

impl Place<'_> {
    pub(super) fn open(&self, path: &Path) -> io::Result<Arc<dyn StorageFile>> {
        match self.access {
            Access::Own => self.storage.open(path),
            Access::Look => self.storage.open_read(path),
        }
    }
}

/// What tells the header of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HeaderFrom {
    /// Its header block, which is whole.
    Block,
    /// One copy in it; the rest of the block is damaged.
    Copy,
    /// Its summary; the header block is damaged.
    Summary,
    /// An entry behind the summary; all before it is damaged, and the first position no lower than
    /// that of the entry.
    Entry,
}

/// A segment file whose header is known.
pub(super) struct Candidate {
    pub(super) header: SegmentHeader,
    pub(super) header_from: HeaderFrom,
    pub(super) file: Arc<dyn StorageFile>,
}

impl Candidate {
    /// Whether the file has not all of its header, and what that said is known.
    pub(super) fn is_header_torn(&self) -> bool {
        matches!(self.header_from, HeaderFrom::Copy | HeaderFrom::Summary)
    }
}

/// Files without a header of their own.
#[derive(Default)]
struct Headless {
    /// With a damaged one.
    damaged: Vec<(SegmentId, Arc<dyn StorageFile>)>,
    /// Prepared ahead, by zeros or by recycling, and not begun, as it seems.
    unbegun: Vec<(SegmentId, Arc<dyn StorageFile>)>,
}

/// What the directory holds, before entries are read.
pub(super) struct Directory {
    pub(super) identity: Option<Identity>,
    /// Segments with a header, or whose header could be derived.
    pub(super) segments: Vec<Candidate>,
    /// Ids that segments of this directory may have besides the present one.
    pub(super) lineage: BTreeSet<LogId>,
    /// Of whichever log.
    mark: Option<Mark>,
    /// The highest number of any segment file.
    highest: SegmentId,
    /// Whether an earlier start began and did not end: a sync of it may have failed.
    pub(super) is_unfinished: bool,
}

impl Directory {
    pub(super) fn read(place: Place<'_>) -> Result<Self, OpenError> {
        let Place { storage, dir, access } = place;
        // First, since its owner may be writing: what it says was there before the rest is read.
        let mark = read_block(place, files::MARK, Mark::decode)?;
        let names =
            storage.list(dir).map_err(|source| OpenError::from_io("listing", dir, source))?;
        let identity = read_block(place, files::IDENTITY, Identity::decode)?;
        let lineage = lineage::read(place)?;
        let (segments, highest) = (Vec::new(), SegmentId(0));
        let is_unfinished = names.iter().any(|name| name == files::STARTING);
        let mut this = Self { identity, segments, lineage, mark, highest, is_unfinished };
        let mut headless = Headless::default();
        for name in &names {
            if files::is_temporary(name) {
                if access == Access::Own {
                    remove(storage, &dir.join(name))?;
                }
            } else if let Some(segment) = files::segment_of(name) {
                this.highest = this.highest.max(segment);
                this.read_header(place, segment, &mut headless)?;
            }
        }
        this.read_headless(place, headless)?;
        this.segments.sort_by_key(|found| found.header.segment);
        Ok(this)
    }

    fn read_header(
        &mut self,
        place: Place<'_>,
        segment: SegmentId,
        headless: &mut Headless,
    ) -> Result<(), OpenError> {
        let Place { dir, access, .. } = place;
        let path = files::segment_path(dir, segment);
        let read = || -> io::Result<_> {
            let file = place.open(&path)?;
            let mut block = vec![0; usize::try_from(SEGMENT_HEADER_BYTES).unwrap_or(usize::MAX)];
            let bytes = file.read_at(&mut block, 0)?;
            block.truncate(bytes);
            Ok((file, block))
        };
        let (file, block) = match read() {
            Ok(read) => read,
            // Its owner removed it meanwhile: nothing in it mattered any more.
            Err(error) if access == Access::Look && error.kind() == io::ErrorKind::NotFound => {
                return Ok(());
            }
            Err(source) => return Err(OpenError::from_io("reading", &path, source)),
        };
        match SegmentHeader::decode(&block, segment) {
            Block::Valid(header) => {
                if !self.is_ours(header.log_id) {
                    return Err(OpenError::Foreign { path });
                }
                let is_whole = block == header.encode();
                let header_from = if is_whole { HeaderFrom::Block } else { HeaderFrom::Copy };
                self.segments.push(Candidate { header, header_from, file });
            }
            Block::Newer(found) => return Err(OpenError::NewerVersion { path, found }),
            Block::Invalid if SegmentHeader::is_unbegun(&block) && !self.is_marked(segment) => {
                headless.unbegun.push((segment, file));
            }
            Block::Invalid => headless.damaged.push((segment, file)),
        }
        Ok(())
    }

    /// Whether the mark says that this segment was begun.
    fn is_marked(&self, segment: SegmentId) -> bool {
        self.mark.is_some_and(|mark| mark.segment == segment)
    }

    /// Up to where the mark says that a segment was durable; 0 when it says nothing of it.
    pub(super) fn durable_in(&self, segment: SegmentId) -> u64 {
        let marked = self.mark().filter(|mark| mark.segment == segment);
        marked.map_or(0, |mark| u64::from(mark.offset))
    }

    /// How far this log was durable at least.
    pub(super) fn mark(&self) -> Option<Mark> {
        let is_known = self.identity.is_some() || !self.segments.is_empty();
        self.mark.filter(|mark| is_known && self.is_ours(mark.log_id))
    }

    /// The ids that this log has and had, the present one first.
    pub(super) fn log_ids(&self, log_id: LogId) -> Vec<LogId> {
        let former = self.lineage.iter().copied().filter(|former| *former != log_id);
        std::iter::once(log_id).chain(former).collect()
    }

    /// Whether a segment with this id belongs here. Without a readable identity all must agree.
    fn is_ours(&self, log_id: LogId) -> bool {
        if self.lineage.contains(&log_id) {
            return true;
        }
        match self.identity {
            Some(identity) => identity.log_id == log_id,
            None => self.segments.iter().all(|found| found.header.log_id == log_id),
        }
    }

    fn read_headless(&mut self, place: Place<'_>, headless: Headless) -> Result<(), OpenError> {
        for (segment, file) in headless.damaged {
            if !self.derive(place, segment, &file)? {
                let path = files::segment_path(place.dir, segment);
                tracing::warn!(path = %path.display(), "a segment file has nothing readable");
            }
        }
        let begun = self.segments.iter().map(|found| found.header.segment);
        let newest = begun.chain(self.mark().map(|mark| mark.segment)).max();
        for (segment, file) in headless.unbegun {
            // What is older than one that was begun may have been begun too, and lost its header.
            let is_older = newest.is_some_and(|newest| segment < newest);
            let is_begun = is_older && self.derive(place, segment, &file)?;
            if !is_begun && place.access == Access::Own {
                remove(place.storage, &files::segment_path(place.dir, segment))?;
            }
        }
        Ok(())
    }

    /// Takes a file without a header for a segment when one of its entries verifies under an epoch
    /// that it may be from; whether one does.
    fn derive(
        &mut self,
        place: Place<'_>,
        segment: SegmentId,
        file: &Arc<dyn StorageFile>,
    ) -> Result<bool, OpenError> {
        let newest = self.newest_header();
        let Some(known) = self.identity.or(newest) else {
            return Ok(false);
        };
        let last = known.epoch.max(newest.map_or(Epoch(0), |identity| identity.epoch)).0;
        let first = last.saturating_sub(LOST_EPOCHS_MAX - 1).max(1);
        let ids: BTreeSet<LogId> = self.lineage.iter().copied().chain([known.log_id]).collect();
        let begun_in: BTreeMap<u32, (LogId, Epoch)> = (first..=last)
            .flat_map(|epoch| ids.iter().map(move |id| (*id, Epoch(epoch))))
            .map(|(log_id, epoch)| (format::salt(log_id, segment, epoch), (log_id, epoch)))
            .collect();
        let path = files::segment_path(place.dir, segment);
        let found = scan::first_entry(file, |salt| begun_in.contains_key(&salt))
            .map_err(|source| OpenError::from_io("reading", &path, source))?;
        let Some((entry, (log_id, epoch))) =
            found.and_then(|(salt, entry)| begun_in.get(&salt).map(|begun| (entry, *begun)))
        else {
            return Ok(false);
        };
        let is_summary = entry.kind == KIND_CHECKPOINT;
        let header_from = if is_summary { HeaderFrom::Summary } else { HeaderFrom::Entry };
        let header = SegmentHeader { log_id, segment, epoch, first_position: entry.position };
        self.segments.push(Candidate { header, header_from, file: Arc::clone(file) });
        Ok(true)
    }

    /// From where on entries of a segment do not count, and those of a later one do.
    pub(super) fn limit_of(&self, index: usize) -> Option<Position> {
        let later = self.segments.get(index + 1..).unwrap_or_default();
        later.iter().map(|later| later.header.first_position).min()
    }

    /// Segments of which nothing counts: what a failed sync left of them was written again to a later
    /// one. Were they there when that is gone, they would be taken for it.
    pub(super) fn superseded(&self) -> Vec<SegmentId> {
        let headers = self.segments.iter().map(|found| &found.header).enumerate();
        let superseded = headers.filter(|(index, header)| {
            self.limit_of(*index).is_some_and(|limit| header.first_position >= limit)
        });
        superseded.map(|(_, header)| header.segment).collect()
    }

    pub(super) fn newest_header(&self) -> Option<Identity> {
        self.segments
            .iter()
            .map(|found| Identity { log_id: found.header.log_id, epoch: found.header.epoch })
            .max_by_key(|identity| identity.epoch)
    }

    pub(super) fn next_segment(&self) -> SegmentId {
        let marked = self.mark().map_or(SegmentId(0), |mark| mark.segment);
        SegmentId(self.highest.max(marked).0 + 1)
    }

    pub(super) fn files(&self) -> BTreeMap<SegmentId, SegmentFile> {
        let file = |found: &Candidate| SegmentFile {
            file: Arc::clone(&found.file),
            salt: found.header.salt(),
            bytes: found.file.size().unwrap_or(0),
            is_poisoned: false,
        };
        self.segments.iter().map(|found| (found.header.segment, file(found))).collect()
    }
}

/// Reads a file of one block; what does not verify is as good as none, and that is said.
fn read_block<T>(
    place: Place<'_>,
    name: &str,
    decode: impl FnOnce(&[u8]) -> Block<T>,
) -> Result<Option<T>, OpenError> {
    let path = place.dir.join(name);
    let file = match place.open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::from_io("opening", &path, source)),
    };
    let mut bytes = [0; 64];
    file.read_at(&mut bytes, 0).map_err(|source| OpenError::from_io("reading", &path, source))?;
    match decode(&bytes) {
        Block::Valid(block) => Ok(Some(block)),
        Block::Newer(found) => Err(OpenError::NewerVersion { path, found }),
        Block::Invalid => {
            tracing::warn!(path = %path.display(), "damaged; the segments tell what it said");
            Ok(None)
        }
    }
}

fn remove(storage: &dyn Storage, path: &Path) -> Result<(), OpenError> {
    storage.remove(path).map_err(|source| OpenError::from_io("removing", path, source))?;
    files::sync_parent(storage, path)
        .map_err(|source| OpenError::from_io("syncing the directory of", path, source))
}
