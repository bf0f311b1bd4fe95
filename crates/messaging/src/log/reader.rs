//! Reads the entries of a directory in order: shows each one, and what of them is damaged or gone.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::Arc;

use super::directory::{Access, Candidate, Directory, HeaderFrom, Place};
use super::format::{self, ALIGNMENT, Mark, SegmentHeader};
use super::recover::{Gap, GapCause, Recovery, TornTail};
use super::scan::{self, Event, Found, Visit};
use super::writer::{KIND_CHECKPOINT, Tail, to_u64};
use super::{OnCorruption, OpenError, Position, SegmentId, files, reserve};

/// Most bytes of one damaged stretch that are copied aside.
const QUARANTINE_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Bytes that are written once more at a time.
const STORED_AGAIN_BYTES: usize = 1024 * 1024;

/// Reads entries of all segments in order.
pub(super) struct Reader<'r> {
    place: Place<'r>,
    on_corruption: OnCorruption,
    is_ordered: bool,
    visit: &'r mut dyn Visit,
    recovery: &'r mut Recovery,
    pub(super) next_position: Position,
    /// The segment that was read last, where its entries end, and whether something is there that
    /// is none.
    previous: Option<(SegmentId, u64, bool)>,
    /// Where the entries of each segment end.
    pub(super) ends: BTreeMap<SegmentId, u64>,
}

impl<'r> Reader<'r> {
    pub(super) fn new(
        place: Place<'r>,
        on_corruption: OnCorruption,
        is_ordered: bool,
        visit: &'r mut dyn Visit,
        recovery: &'r mut Recovery,
    ) -> Self {
        let next_position = Position(1);
        let ends = BTreeMap::new();
        let previous = None;
        Self { place, on_corruption, is_ordered, visit, recovery, next_position, previous, ends }
    }

    pub(super) fn read_all(&mut self, directory: &Directory) -> Result<Option<Tail>, OpenError> {
        let mut tail = None;
        for (index, found) in directory.segments.iter().enumerate() {
            // What was written again after a failed sync counts there, not here.
            let limit = directory.limit_of(index);
            if limit.is_none() && self.is_ordered {
                self.cut_torn_write(directory, found)?;
            }
            tail = Some(self.read_segment(found, limit)?);
        }
        if let (Some(newest), Some(tail), Access::Own) =
            (directory.segments.last(), &tail, self.place.access)
        {
            let from = directory.durable_in(tail.segment);
            // What a start that did not end has blanked as well.
            let until = if directory.is_unfinished { tail.capacity } else { tail.offset };
            let is_header_due = newest.is_header_torn() || directory.is_unfinished;
            store_again(self.place, newest, is_header_due, from..until)?;
        }
        match directory.mark() {
            Some(mark) => self.read_mark(directory, &mark, tail),
            None => Ok(tail),
        }
    }

    /// Blanks what stands behind the first hole of a write that was never durable (M41), so that it
    /// is not found behind what is written there next.
    fn cut_torn_write(
        &mut self,
        directory: &Directory,
        newest: &Candidate,
    ) -> Result<(), OpenError> {
        let (segment, salt) = (newest.header.segment, newest.header.salt());
        let durable = directory.durable_in(segment);
        let path = files::segment_path(self.place.dir, segment);
        let hole = scan::torn_write(&newest.file, salt, durable)
            .map_err(|source| OpenError::from_io("reading", &path, source))?;
        let Some(offset) = hole else {
            return Ok(());
        };
        tracing::warn!(path = %path.display(), offset, "the last write was not finished; it is cut off at its first hole");
        self.recovery.torn_tail = Some(TornTail { segment, offset });
        // Where there is no space for it, all of it is done once more: what a failed sync has dropped
        // looks stored.
        let cut = || -> io::Result<()> {
            files::fill_zeros(&*newest.file, offset..newest.file.size()?, &|| false)?;
            newest.file.sync_data()
        };
        reserve::retrying(self.place.storage, self.place.dir, cut)
            .map_err(|source| OpenError::from_io("syncing", &path, source))
    }

    /// What the mark says was durable and is not there is lost, and was not just never finished
    /// (M35). Returns where to go on: behind it, or in a new segment.
    fn read_mark(
        &mut self,
        directory: &Directory,
        mark: &Mark,
        tail: Option<Tail>,
    ) -> Result<Option<Tail>, OpenError> {
        let is_behind = self.next_position < mark.next_position;
        let newest = directory.segments.last().filter(|it| it.header.segment >= mark.segment);
        let (Some(newest), Some(mut tail)) = (newest, tail) else {
            self.report_missing(mark)?;
            return Ok(None);
        };
        if !is_behind {
            return Ok(Some(tail));
        }
        let path = files::segment_path(self.place.dir, tail.segment);
        if self.on_corruption == OnCorruption::Halt {
            return Err(OpenError::Corrupt { path, offset: tail.offset });
        }
        let marked = if tail.segment == mark.segment { u64::from(mark.offset) } else { 0 };
        // A file that was cut off ends where it ends now.
        let end = marked.min(tail.capacity).next_multiple_of(to_u64(ALIGNMENT)).max(tail.offset);
        self.report(newest, (tail.offset, end), mark.last_position());
        self.next_position = mark.next_position;
        tail.offset = end;
        tail.capacity = tail.capacity.max(end);
        self.previous = Some((tail.segment, end, false));
        self.ends.insert(tail.segment, end);
        let is_torn = scan::is_torn(&tail.file, tail.salt, end)
            .map_err(|source| OpenError::from_io("reading", &path, source))?;
        let torn = TornTail { segment: tail.segment, offset: end };
        self.recovery.torn_tail = is_torn.then_some(torn);
        Ok(Some(tail))
    }

    /// The segment of the mark is gone, or nothing in it tells what it is.
    fn report_missing(&mut self, mark: &Mark) -> Result<(), OpenError> {
        let path = files::segment_path(self.place.dir, mark.segment);
        if self.on_corruption == OnCorruption::Halt {
            return Err(OpenError::Missing { path });
        }
        let file = self.place.open(&path).and_then(|file| file.size());
        let (first, last) = (self.next_position, mark.last_position());
        self.tell(Gap {
            cause: if file.is_ok() { GapCause::Damaged } else { GapCause::Missing },
            segment: mark.segment,
            offset: 0,
            bytes: file.unwrap_or(0),
            positions: (first <= last).then_some((first, last)),
            is_known: false,
        });
        self.next_position = self.next_position.max(mark.next_position);
        Ok(())
    }

    fn read_segment(
        &mut self,
        found: &Candidate,
        limit: Option<Position>,
    ) -> Result<Tail, OpenError> {
        let segment = found.header.segment;
        let salt = found.header.salt();
        let path = files::segment_path(self.place.dir, segment);
        self.begin_segment(found, limit)?;
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
                if let Some(limit) = limit.filter(|limit| header.position >= *limit)
                    && header.kind != KIND_CHECKPOINT
                {
                    if let Some((from, to)) = damaged.take()
                        && self.next_position < limit
                    {
                        self.report(found, (from, to), Position(limit.0 - 1));
                        self.next_position = limit;
                    }
                    return false;
                }
                if let Some((from, to)) = damaged.take() {
                    let before = Position(header.position.0.saturating_sub(1));
                    self.report(found, (from, to), before);
                }
                is_summarised |= header.kind == KIND_CHECKPOINT && !header.is_later_part();
                self.show(&header, scan::location(segment, offset, &header), payload);
                true
            }
        })
        .map_err(|source| OpenError::from_io("reading", &path, source))?;
        if let Some(offset) = halted {
            return Err(OpenError::Corrupt { path, offset });
        }
        self.previous = Some((segment, end.offset, end.is_torn));
        let is_last = limit.is_none();
        if is_last && end.is_torn {
            self.recovery.torn_tail = Some(TornTail { segment, offset: end.offset });
        }
        self.ends.insert(segment, end.offset);
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
    fn begin_segment(
        &mut self,
        found: &Candidate,
        limit: Option<Position>,
    ) -> Result<(), OpenError> {
        let SegmentHeader { segment, first_position: first, .. } = found.header;
        let Some((previous, offset, is_torn)) = self.previous else {
            // Of a failed sync there may be left what is counted behind the beginning of the segment
            // that it was written to again.
            self.next_position = limit.map_or(first, |limit| first.min(limit));
            return Ok(());
        };
        if found.header_from == HeaderFrom::Entry {
            // What is missing before the entry is missing in this segment.
            return Ok(());
        }
        // What lay in a segment between the two that is gone was not needed any more.
        let is_adjacent = previous.0 + 1 == segment.0;
        if first > self.next_position && (is_adjacent || is_torn) {
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
        if offset == end {
            return Ok(false);
        }
        let path = files::quarantine_path(self.place.dir, found.header.segment, offset);
        let bytes = (end - offset).min(QUARANTINE_BYTES_MAX);
        let mut copy = vec![0; usize::try_from(bytes).unwrap_or(0)];
        let read = found.file.read_at(&mut copy, offset)?;
        copy.truncate(read);
        match self.place.open(&path).and_then(|file| file.size()) {
            Ok(kept) => {
                let kept = usize::try_from(kept).unwrap_or(usize::MAX).min(copy.len());
                // Not blank: the entry behind it was damaged since.
                if copy.iter().skip(kept).all(|byte| *byte == 0) {
                    return Ok(true);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        if self.place.access == Access::Look {
            return Ok(false);
        }
        files::replace(self.place.storage, &path, &copy)?;
        Ok(false)
    }
}

/// Writes what nobody says is durable once more, and syncs it: its process may have been killed,
/// even after a sync failed, and then the cache alone has it, and counts as clean (M3, M4). With it
/// goes a header that the power tore, or that a start which did not end may have mended. No other
/// segment is written: its last sync may have failed.
pub(super) fn store_again(
    place: Place<'_>,
    newest: &Candidate,
    is_header_due: bool,
    range: Range<u64>,
) -> Result<(), OpenError> {
    let Place { storage, dir, .. } = place;
    let file = &*newest.file;
    let store = || {
        let mut bytes = Vec::new();
        for offset in range.clone().step_by(STORED_AGAIN_BYTES) {
            let length = usize::try_from(range.end - offset).unwrap_or(usize::MAX);
            bytes.resize(length.min(STORED_AGAIN_BYTES), 0);
            let read = file.read_at(&mut bytes, offset)?;
            file.write_at(bytes.get(..read).unwrap_or_default(), offset)?;
        }
        if is_header_due && newest.header_from != HeaderFrom::Entry {
            file.write_at(&newest.header.encode(), 0)?;
        }
        file.sync_data()
    };
    let path = files::segment_path(dir, newest.header.segment);
    reserve::retrying(storage, dir, store)
        .map_err(|source| OpenError::from_io("syncing", &path, source))
}
