//! Reads one segment from its start: every valid entry, and what lies between them.

use std::io;
use std::sync::Arc;

use alys_stream_protocol::message::{Epoch, LogId};

use super::format::{self, ALIGNMENT, ENTRY_HEADER_BYTES, EntryHeader, SEGMENT_HEADER_BYTES};
use super::recover::Gap;
use super::writer::{KIND_CHECKPOINT, to_u64};
use super::{Location, Position, SegmentId};
use crate::storage::StorageFile;

/// Bytes read at once: what is verified and decoded is then still near the processor.
const WINDOW_BYTES: usize = 256 * 1024;

/// What recovery shows to the layer above, in the order of positions.
#[derive(Debug)]
pub(crate) enum Event<'a> {
    /// The summary of everything before it.
    Checkpoint { payload: &'a [u8] },
    /// An entry that verified.
    Entry { kind: u8, key: u64, position: Position, location: Location, payload: &'a [u8] },
    /// Bytes that did not.
    Damage(&'a Gap),
}

/// What is known of a log before its entries are read.
#[derive(Debug, Clone)]
pub(crate) struct Begun {
    /// The ids that it has and had, the present one first.
    pub(crate) log_ids: Vec<LogId>,
    /// How far its mark says that it was durable, and its next key then: 1 and 0 without a mark.
    pub(crate) marked: (Position, u64),
}

/// Who is shown what a log holds.
pub(crate) trait Visit {
    /// The latest epoch of this log that the layer above knows of, for when the log itself has lost
    /// it (M6).
    fn known_epoch(&self, _log_id: LogId) -> Epoch {
        Epoch(0)
    }

    /// Reading begins.
    fn begin(&mut self, _begun: &Begun) {}

    /// Whether to show the newest segment ahead.
    fn is_ahead_wanted(&self) -> bool {
        false
    }

    /// A summary (kind 0) or an entry that the newest segment holds, shown before all else.
    fn ahead(&mut self, _kind: u8, _payload: &[u8]) {}

    /// The newest segment was shown; `is_whole` when its whole summary was.
    fn ahead_ended(&mut self, _is_whole: bool) {}

    /// Whether the payloads of entries of this kind need not be shown ahead.
    fn is_passed_over(&self, _kind: u8) -> bool {
        false
    }

    /// Everything, in the order of positions.
    fn event(&mut self, event: Event<'_>);
}

/// A visitor that needs nothing ahead.
pub(super) struct Plain<'v>(pub(super) &'v mut dyn FnMut(Event<'_>));

impl Visit for Plain<'_> {
    fn event(&mut self, event: Event<'_>) {
        (self.0)(event);
    }
}

/// What a scan met.
pub(super) enum Found<'a> {
    Valid {
        header: EntryHeader,
        offset: u64,
        payload: &'a [u8],
    },
    /// Nothing valid from `offset` until the next valid entry at `end`.
    Damaged {
        offset: u64,
        end: u64,
    },
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentEnd {
    /// Where the next entry goes.
    pub(super) offset: u64,
    /// Whether bytes of an entry that was not finished (or was damaged) begin there.
    pub(super) is_torn: bool,
}

/// Shows every entry of a segment to `visit`, which may end the scan by returning `false`.
pub(super) fn segment(
    file: &Arc<dyn StorageFile>,
    salt: u32,
    mut visit: impl FnMut(Found<'_>) -> bool,
) -> io::Result<SegmentEnd> {
    let mut window = Window::new(Arc::clone(file))?;
    let mut offset = SEGMENT_HEADER_BYTES;
    loop {
        let Some(header) = window.verified(offset, salt)? else {
            let Some(end) = window.next_valid(offset, salt)? else {
                break;
            };
            if !visit(Found::Damaged { offset, end }) {
                return Ok(SegmentEnd { offset, is_torn: false });
            }
            offset = end;
            continue;
        };
        let payload = window.payload(offset, &header)?;
        if !visit(Found::Valid { header, offset, payload }) {
            return Ok(SegmentEnd { offset, is_torn: false });
        }
        offset += to_u64(header.stored_bytes());
    }
    let is_torn = window.is_torn(offset, salt)?;
    Ok(SegmentEnd { offset, is_torn })
}

/// Where the last write of a segment has its first hole, when something of it stands behind that:
/// the power failed before it was durable. A hole below `durable`, or before a later write, is damage.
pub(super) fn torn_write(
    file: &Arc<dyn StorageFile>,
    salt: u32,
    durable: u64,
) -> io::Result<Option<u64>> {
    let (mut hole, mut torn) = (None, None);
    segment(file, salt, |found| {
        match found {
            Found::Damaged { offset, .. } if offset >= durable => _ = hole.get_or_insert(offset),
            // The later parts of a long summary were synced before its first one was written.
            Found::Valid { header, .. } if header.is_later_part() => {}
            Found::Valid { header, .. } if !header.is_continued => (hole, torn) = (None, None),
            Found::Valid { .. } => torn = hole,
            Found::Damaged { .. } => {}
        }
        true
    })?;
    Ok(torn)
}

/// Shows the entries between two offsets, the first of which is where one begins. What does not
/// verify is passed over.
pub(super) fn stretch(
    file: &Arc<dyn StorageFile>,
    salt: u32,
    (mut offset, end): (u64, u64),
    mut visit: impl FnMut(&EntryHeader, u64, &[u8]),
) -> io::Result<()> {
    let mut window = Window::up_to(Arc::clone(file), end);
    while offset < end {
        if let Some(header) = window.verified(offset, salt)? {
            visit(&header, offset, window.payload(offset, &header)?);
            offset += to_u64(header.stored_bytes());
        } else if let Some(next) = window.next_valid(offset, salt)? {
            offset = next;
        } else {
            break;
        }
    }
    Ok(())
}

/// Shows the newest segment ahead: its summary and whatever the visitor does not pass over, up to
/// the first bytes that are no entry. What is passed over is not verified: damage in there is for
/// the scan that follows.
pub(super) fn ahead(
    file: &Arc<dyn StorageFile>,
    salt: u32,
    visit: &mut dyn Visit,
) -> io::Result<()> {
    let mut window = Window::new(Arc::clone(file))?;
    let mut offset = SEGMENT_HEADER_BYTES;
    let (mut is_summarised, mut is_past_summary) = (false, false);
    loop {
        let head = EntryHeader::peek(window.at(offset, ENTRY_HEADER_BYTES)?, Some(salt));
        let Some(header) = head else { break };
        if visit.is_passed_over(header.kind) {
            is_past_summary = true;
        } else {
            let Some(header) = window.verified(offset, salt)? else { break };
            let is_summary = header.kind == KIND_CHECKPOINT;
            is_past_summary |= !is_summary;
            is_summarised |= is_summary && !is_past_summary;
            visit.ahead(header.kind, window.payload(offset, &header)?);
        }
        offset += to_u64(header.stored_bytes());
    }
    let is_whole = is_summarised && (is_past_summary || !window.is_torn(offset, salt)?);
    visit.ahead_ended(is_whole);
    Ok(())
}

/// Whether what begins at an offset was begun under this salt, or damaged, and is no entry.
pub(super) fn is_torn(file: &Arc<dyn StorageFile>, salt: u32, offset: u64) -> io::Result<bool> {
    Window::new(Arc::clone(file))?.is_torn(offset, salt)
}

/// The first entry of a segment whose header is lost, and its salt, which is one of those that
/// `is_salt` knows.
pub(super) fn first_entry(
    file: &Arc<dyn StorageFile>,
    is_salt: impl Fn(u32) -> bool,
) -> io::Result<Option<(u32, EntryHeader)>> {
    let mut window = Window::new(Arc::clone(file))?;
    let salt_of = |head: &[u8]| format::salt_of(head).filter(|salt| is_salt(*salt));
    let mut at = SEGMENT_HEADER_BYTES;
    while let Some((offset, salt)) = window.candidate(at, salt_of)? {
        let header = window.verified(offset, salt)?;
        if let Some(header) = header.filter(|header| header.position != Position(0)) {
            return Ok(Some((salt, header)));
        }
        at = offset + to_u64(ALIGNMENT);
    }
    Ok(None)
}

/// Where an entry found at `offset` lies.
pub(super) fn location(segment: SegmentId, offset: u64, header: &EntryHeader) -> Location {
    Location {
        segment,
        offset: u32::try_from(offset).unwrap_or(u32::MAX),
        payload_bytes: u32::try_from(header.payload_bytes).unwrap_or(u32::MAX),
    }
}

/// A part of a file in memory, moved forward as needed.
struct Window {
    file: Arc<dyn StorageFile>,
    bytes: Vec<u8>,
    start: u64,
    size: u64,
}

impl Window {
    fn new(file: Arc<dyn StorageFile>) -> io::Result<Self> {
        let size = file.size()?;
        Ok(Self::up_to(file, size))
    }

    /// The beginning of a file, up to `size`.
    const fn up_to(file: Arc<dyn StorageFile>, size: u64) -> Self {
        Self { file, bytes: Vec::new(), start: 0, size }
    }

    /// The bytes at `offset`; fewer than `length` only at the end of the file.
    fn at(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let rest = usize::try_from(self.size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let length = length.min(rest);
        let is_inside = offset >= self.start
            && offset + to_u64(length) <= self.start + to_u64(self.bytes.len());
        if !is_inside {
            self.bytes.resize(length.max(WINDOW_BYTES).min(rest), 0);
            let read = self.file.read_at(&mut self.bytes, offset)?;
            self.bytes.truncate(read);
            self.start = offset;
        }
        let from = usize::try_from(offset - self.start).unwrap_or(usize::MAX);
        let to = from.saturating_add(length).min(self.bytes.len());
        Ok(self.bytes.get(from..to).unwrap_or_default())
    }

    /// The header of the entry at `offset`, when the entry verifies.
    fn verified(&mut self, offset: u64, salt: u32) -> io::Result<Option<EntryHeader>> {
        let head = self.at(offset, ENTRY_HEADER_BYTES)?;
        let Some(header) = EntryHeader::peek(head, Some(salt)) else {
            return Ok(None);
        };
        // Padding may be cut off at the very end of a file.
        let needed = ENTRY_HEADER_BYTES + header.payload_bytes;
        if to_u64(needed) > self.size.saturating_sub(offset) {
            return Ok(None);
        }
        let entry = self.at(offset, needed)?;
        Ok(format::verify_entry(entry, salt).map(|(header, _)| header))
    }

    /// The payload of an entry that was just verified.
    fn payload(&mut self, offset: u64, header: &EntryHeader) -> io::Result<&[u8]> {
        let entry = self.at(offset, ENTRY_HEADER_BYTES + header.payload_bytes)?;
        Ok(entry.get(ENTRY_HEADER_BYTES..).unwrap_or_default())
    }

    /// The first offset behind `offset` with an entry that verifies.
    fn next_valid(&mut self, offset: u64, salt: u32) -> io::Result<Option<u64>> {
        let mut at = offset + to_u64(ALIGNMENT);
        while let Some((offset, _)) =
            self.candidate(at, |head| EntryHeader::peek(head, Some(salt)).map(|_| salt))?
        {
            if self.verified(offset, salt)?.is_some() {
                return Ok(Some(offset));
            }
            at = offset + to_u64(ALIGNMENT);
        }
        Ok(None)
    }

    /// The first offset from `at` on with what looks like the header of an entry, and the salt that
    /// `salt_of` finds in it.
    fn candidate(
        &mut self,
        mut at: u64,
        salt_of: impl Fn(&[u8]) -> Option<u32>,
    ) -> io::Result<Option<(u64, u32)>> {
        while at + to_u64(ENTRY_HEADER_BYTES) <= self.size {
            let piece = self.at(at, WINDOW_BYTES)?;
            let found = piece
                .windows(ENTRY_HEADER_BYTES)
                .step_by(ALIGNMENT)
                .enumerate()
                .find_map(|(index, head)| salt_of(head).map(|salt| (index, salt)));
            if let Some((index, salt)) = found {
                return Ok(Some((at + to_u64(index * ALIGNMENT), salt)));
            }
            let passed = piece.len().saturating_sub(ENTRY_HEADER_BYTES) / ALIGNMENT + 1;
            at += to_u64(passed * ALIGNMENT);
        }
        Ok(None)
    }

    /// Whether what begins at `offset` is neither zeros nor an entry of the file's former life.
    fn is_torn(&mut self, offset: u64, salt: u32) -> io::Result<bool> {
        let head = self.at(offset, ENTRY_HEADER_BYTES)?;
        if head.iter().all(|byte| *byte == 0) {
            return Ok(false);
        }
        let Some(header) = EntryHeader::peek(head, None) else {
            return Ok(true);
        };
        if EntryHeader::peek(head, Some(salt)).is_some() {
            return Ok(true);
        }
        // Of a former life only when it is whole under its own salt: a bit may have flipped in ours.
        let entry = self.at(offset, ENTRY_HEADER_BYTES + header.payload_bytes)?;
        Ok(!format::is_whole(entry))
    }
}
