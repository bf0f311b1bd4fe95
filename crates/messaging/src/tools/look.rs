//! Tools that only read.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::path::{Path, PathBuf};

use alys_stream_protocol::message::{Epoch, LogId, Message, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;

use super::ToolError;
use crate::buffer::{self, Inspected, PriorityStat};
use crate::log::{self, GapCause, Location, SegmentId, TornTail, aside, format};
use crate::record;
use crate::storage::Storage;

/// Who has the directory open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Holder {
    /// Nobody: what is read does not change.
    Nobody,
    /// A process that may be writing. What it appended after the scan passed is not counted, and
    /// damage reported in the newest segment may be an entry that is just being written: look
    /// again.
    Process {
        /// Its id, when it left one.
        pid: Option<u32>,
    },
}

/// One segment file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub segment: SegmentId,
    /// The file.
    pub path: PathBuf,
    /// The epoch in which it was begun.
    pub epoch: Epoch,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes up to the end of its last entry.
    pub used_bytes: u64,
    /// Readable records in it, settled ones included.
    pub records: u64,
    /// Their bytes on disk.
    pub record_bytes: u64,
    /// Lowest and highest seq of them.
    pub seqs: Option<RangeInclusive<Seq>>,
}

/// Something that was in the buffer and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Corruption {
    /// Why.
    pub cause: GapCause,
    /// The segment it is in; none when files are missing and nothing says which.
    pub segment: Option<SegmentId>,
    /// The file it is in, or was.
    pub path: Option<PathBuf>,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes; 0 when that is not known.
    pub bytes: u64,
    /// The records that lay there, settled or not; none when a header, a summary or a settlement was
    /// hit.
    pub seqs: Option<RangeInclusive<Seq>>,
    /// Of these, first and last that were not settled: messages that are lost. Settled ones may
    /// lie between them; [`Inspection::lost`] is exact.
    pub unsettled: Option<RangeInclusive<Seq>>,
    /// Whether the node reported it at an earlier start, and nothing of it is unsettled any more.
    pub is_known: bool,
    /// Whether it is the header of a segment: that costs nothing.
    pub is_header: bool,
}

/// What a buffer is found to hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The directory.
    pub dir: PathBuf,
    /// Who had it open before or after the scan.
    pub holder: Holder,
    /// Identifies the log.
    pub log_id: LogId,
    /// The epoch of the last open.
    pub epoch: Epoch,
    /// Whether the identity file is readable; else the segments told which log it is.
    pub is_identity_readable: bool,
    /// The seq that the next accepted message gets.
    pub next_seq: Seq,
    /// Every seq below it is settled.
    pub settled_below: Seq,
    /// Unsettled messages, by the index of their priority (0 low to 3 critical).
    pub unsettled: [PriorityStat; 4],
    /// The oldest unsettled message, and when it was accepted.
    pub oldest: Option<(Seq, UnixMillis)>,
    /// Readable records, settled ones included.
    pub records: u64,
    /// Readable entries of any kind.
    pub entries: u64,
    /// The segment files, oldest first.
    pub segments: Vec<SegmentInfo>,
    /// Damaged stretches that were set aside.
    pub quarantined_files: u64,
    /// Their bytes.
    pub quarantined_bytes: u64,
    /// An entry at the end that was not finished, and so never acknowledged. It is no corruption.
    pub torn_tail: Option<TornTail>,
    /// What cannot be read.
    pub corruption: Vec<Corruption>,
    /// Unsettled messages that cannot be read.
    pub lost: SeqSet,
}

impl Inspection {
    /// Whether everything that was ever written and not removed is readable.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.corruption.is_empty() && self.is_identity_readable
    }

    /// Damage that costs something and that no start has reported.
    pub fn unreported(&self) -> impl Iterator<Item = &Corruption> {
        self.corruption.iter().filter(|found| !found.is_known && !found.is_header)
    }

    /// Unsettled messages of all priorities.
    #[must_use]
    pub fn unsettled_records(&self) -> u64 {
        self.unsettled.iter().map(|stat| stat.records).sum()
    }

    /// Their bytes on disk.
    #[must_use]
    pub fn unsettled_bytes(&self) -> u64 {
        self.unsettled.iter().map(|stat| stat.bytes).sum()
    }

    /// Bytes of all segment files.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.file_bytes).sum()
    }
}

/// One record, as [`dump`] shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DumpedRecord {
    /// Its place in the log.
    pub seq: Seq,
    /// The segment it lies in.
    pub segment: SegmentId,
    /// Where in the file its entry begins.
    pub offset: u64,
    /// Bytes of the entry.
    pub stored_bytes: u64,
    /// When it was accepted.
    pub accepted_at: UnixMillis,
    /// Whether it is settled: its bytes remain until its segment goes.
    pub is_settled: bool,
    /// The message.
    pub message: Message,
}

#[derive(Debug, Default)]
struct Tally {
    records: u64,
    bytes: u64,
    first: Option<Seq>,
    last: Option<Seq>,
}

/// Who has a directory open at present.
///
/// # Errors
///
/// When the lock file cannot be read.
pub fn holder(dir: &Path, storage: &dyn Storage) -> Result<Holder, ToolError> {
    Ok(log::probe(dir, storage)?.map_or(Holder::Nobody, |pid| Holder::Process { pid }))
}

/// Reads and verifies every record of the buffer in a directory, and writes nothing.
///
/// Takes about two bytes of memory per unsettled message.
///
/// # Errors
///
/// When there is no buffer, or a file cannot be read. Damaged content is no error: it is in
/// [`Inspection::corruption`].
pub fn inspect(dir: &Path, storage: &dyn Storage) -> Result<Inspection, ToolError> {
    let before = holder(dir, storage)?;
    let found = inspect_held(dir, storage, before);
    if matches!(found, Err(ToolError::NotABuffer { .. })) {
        // Or it is not there because a repair of it was cut short.
        aside::check(dir, storage)?;
    }
    let found = found?;
    // Somebody who came meanwhile counts too; what was read as if nobody was there is read again.
    match holder(dir, storage)? {
        Holder::Nobody => Ok(found),
        after @ Holder::Process { .. } if before == Holder::Nobody => {
            inspect_held(dir, storage, after)
        }
        Holder::Process { .. } => Ok(found),
    }
}

/// As [`inspect`], for one who knows who holds the directory.
pub(super) fn inspect_held(
    dir: &Path,
    storage: &dyn Storage,
    holder: Holder,
) -> Result<Inspection, ToolError> {
    let mut tallies: BTreeMap<SegmentId, Tally> = BTreeMap::new();
    let inspected = buffer::inspect(dir, storage, &mut |seq, location, _| {
        let tally = tallies.entry(location.segment).or_default();
        tally.records += 1;
        tally.bytes += stored_bytes(location);
        tally.first = Some(tally.first.map_or(seq, |first| first.min(seq)));
        tally.last = Some(tally.last.map_or(seq, |last| last.max(seq)));
    })?
    .ok_or_else(|| ToolError::NotABuffer { dir: dir.to_path_buf() })?;
    let is_present = |first: Seq, last: Seq| {
        let overlaps = |tally: &Tally| {
            tally.first.is_some_and(|seq| seq <= last) && tally.last.is_some_and(|seq| seq >= first)
        };
        tallies.values().any(overlaps)
    };
    let mut corruption = damaged_headers(dir, &inspected.looked);
    corruption.extend(damaged_entries(dir, storage, holder, &inspected, &is_present)?);
    let Inspected { looked, recovered, lost, unsettled, next_seq, settled_below, oldest, .. } =
        inspected;
    let segments = looked.segments.iter().map(|found| {
        let tally = tallies.remove(&found.segment).unwrap_or_default();
        SegmentInfo {
            segment: found.segment,
            path: log::segment_path(dir, found.segment),
            epoch: found.epoch,
            file_bytes: found.file_bytes,
            used_bytes: found.used_bytes,
            records: tally.records,
            record_bytes: tally.bytes,
            seqs: tally.first.zip(tally.last).map(|(first, last)| first..=last),
        }
    });
    let segments: Vec<SegmentInfo> = segments.collect();
    Ok(Inspection {
        dir: dir.to_path_buf(),
        holder,
        log_id: looked.log_id,
        epoch: looked.epoch,
        is_identity_readable: looked.is_identity_readable,
        next_seq,
        settled_below,
        unsettled,
        oldest,
        records: segments.iter().map(|segment| segment.records).sum(),
        entries: recovered.entries,
        segments,
        quarantined_files: looked.quarantined.0,
        quarantined_bytes: looked.quarantined.1,
        torn_tail: recovered.torn_tail,
        corruption,
        lost,
    })
}

/// Shows every readable record of the buffer in a directory, in order of seq, until `visit` breaks.
/// Writes nothing. Takes 24 bytes of memory per record.
///
/// # Errors
///
/// When there is no buffer, or a file cannot be read. Damaged records are left out.
pub fn dump(
    dir: &Path,
    storage: &dyn Storage,
    visit: &mut dyn FnMut(DumpedRecord) -> ControlFlow<()>,
) -> Result<(), ToolError> {
    // What is settled is known only at the end, so everything is read twice.
    let mut places: Vec<(Seq, Location)> = Vec::new();
    let inspected =
        buffer::inspect(dir, storage, &mut |seq, location, _| places.push((seq, location)))?
            .ok_or_else(|| ToolError::NotABuffer { dir: dir.to_path_buf() })?;
    let reader = log::EntryReader::new(dir, &inspected.looked);
    for (seq, location) in places {
        let is_settled = !inspected.is_live(seq);
        let Some(payload) = reader.read(location)? else {
            if is_settled {
                // Its owner removed or reused the segment meanwhile.
                continue;
            }
            return Err(ToolError::Changed { segment: location.segment });
        };
        let Some(record) = dumped(seq, location, is_settled, payload) else {
            continue;
        };
        if visit(record).is_break() {
            break;
        }
    }
    Ok(())
}

fn dumped(seq: Seq, location: Location, is_settled: bool, payload: Bytes) -> Option<DumpedRecord> {
    let accepted_at = record::decode_meta(seq, &payload)?.accepted_at;
    Some(DumpedRecord {
        seq,
        segment: location.segment,
        offset: u64::from(location.offset),
        stored_bytes: stored_bytes(location),
        accepted_at,
        is_settled,
        message: record::decode(&payload)?,
    })
}

fn stored_bytes(location: Location) -> u64 {
    let payload_bytes = usize::try_from(location.payload_bytes).unwrap_or(usize::MAX);
    u64::try_from(format::stored_bytes(payload_bytes)).unwrap_or(u64::MAX)
}

/// Segments whose header is gone or damaged in one copy: everything in them can be read without it.
fn damaged_headers(dir: &Path, looked: &log::Looked) -> Vec<Corruption> {
    let damaged = looked.segments.iter().filter(|segment| !segment.is_header_whole);
    damaged
        .map(|found| Corruption {
            cause: GapCause::Damaged,
            segment: Some(found.segment),
            path: Some(log::segment_path(dir, found.segment)),
            offset: 0,
            bytes: format::SEGMENT_HEADER_BYTES,
            seqs: None,
            unsettled: None,
            is_known: false,
            is_header: true,
        })
        .collect()
}

/// Puts together what the log says of damage and what the buffer says of what lay there.
fn damaged_entries(
    dir: &Path,
    storage: &dyn Storage,
    holder: Holder,
    inspected: &Inspected,
    is_present: &dyn Fn(Seq, Seq) -> bool,
) -> Result<Vec<Corruption>, ToolError> {
    let present = match holder {
        Holder::Nobody => None,
        // A segment that its owner removed or reused during the scan says nothing.
        Holder::Process { .. } => Some(log::list_segments(dir, storage)?),
    };
    let mut stretches = inspected.stretches.iter();
    let mut found: Vec<Corruption> = Vec::new();
    for gap in &inspected.recovered.gaps {
        // Stretches come first, in the same order; what follows is missing as a whole.
        let stretch = stretches.next();
        let segment = stretch.map(|_| gap.segment);
        let is_gone = present.as_ref().zip(segment).is_some_and(|(p, s)| !p.contains(&s));
        if is_gone {
            continue;
        }
        // What is missing between settled messages is missing together.
        if stretch.is_none()
            && let Some(before) = found.last_mut().filter(|found| found.segment.is_none())
            && let (Some(a), Some(b)) = (&before.seqs, &gap.seqs)
            && !is_present(a.end().next(), *b.start())
        {
            before.seqs = Some(*a.start()..=*b.end());
            before.unsettled.clone_from(&before.seqs);
            continue;
        }
        found.push(Corruption {
            cause: gap.cause,
            segment,
            path: segment.map(|segment| log::segment_path(dir, segment)),
            offset: gap.offset,
            bytes: gap.bytes,
            seqs: match stretch {
                Some((damage, between)) => lying_in(damage, between.as_ref(), gap.seqs.as_ref()),
                None => gap.seqs.clone(),
            },
            unsettled: gap.seqs.clone(),
            is_known: gap.is_known,
            is_header: false,
        });
    }
    Ok(found)
}

/// What lay in a damaged stretch, of the seqs `between` its neighbours: no more than there are
/// positions, the last of them, and whatever is lost.
fn lying_in(
    damage: &log::Gap,
    between: Option<&RangeInclusive<Seq>>,
    lost: Option<&RangeInclusive<Seq>>,
) -> Option<RangeInclusive<Seq>> {
    let between = between?;
    let entries = damage.positions.map_or(0, |(first, last)| last.0 - first.0 + 1);
    let first = Seq(between.end().0.saturating_sub(entries).saturating_add(1));
    let first = lost.map_or(first, |lost| first.min(*lost.start())).max(*between.start());
    (first <= *between.end()).then(|| first..=*between.end())
}
