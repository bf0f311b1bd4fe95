//! What is written into the logs and ledgers of a disk, read off the bytes by the description of the
//! formats and not by the product's own code.

use std::collections::BTreeSet;
use std::path::Path;

use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_testkit::segment;

use crate::journal::Fact;
use crate::ledger::{self, Applied, Place};
use crate::logs::Logs;
use crate::net::Machine;

const SEGMENT_MAGIC: [u8; 8] = *b"ALYSSEGM";
/// Bytes of a dead letter before its texts: log, number, times, cause, whether it was seen, code.
const LETTER_FIXED: usize = 16 + 8 + 8 + 8 + 1 + 1 + 4;

/// What a file is looked at for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The buffer of a node; which segment, as of the next two.
    Buffer(u64),
    /// The dead letters of a node.
    Letters(u64),
    /// What a governance node has in custody.
    Inbox(u64),
    /// What a governance node applied; which file.
    Ledger(u32),
}

impl Kind {
    pub(super) fn of(who: Machine, path: &Path) -> Option<Self> {
        let folder = path.parent()?.file_name()?.to_str()?;
        if folder == ledger::FOLDER {
            return ledger::file_number(path).map(Self::Ledger);
        }
        if path.extension()? != "segment" {
            return None;
        }
        let number = u64::from_str_radix(path.file_stem()?.to_str()?, 16).ok()?;
        match (folder, who.identity()) {
            ("buffer", Some(_)) => Some(Self::Buffer(number)),
            ("dead_letters", Some(_)) => Some(Self::Letters(number)),
            ("inbox", None) => Some(Self::Inbox(number)),
            _ => None,
        }
    }
}

/// Something that a file has once it is stored.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Item {
    Kept { seq: Seq, id: MessageId },
    Settled(Vec<(u64, u64)>),
    Buried { seq: Seq, id: MessageId, cause: u8 },
    Taken { log: [u8; 16], seq: Seq, id: MessageId },
    Applied(Applied),
}

/// What a write puts into a file; `None` when only the whole file tells.
pub(super) fn written(kind: Kind, bytes: &[u8], offset: u64) -> Option<Vec<Item>> {
    if let Kind::Ledger(file) = kind {
        let first = usize::try_from(offset).ok()?;
        return Some(ledger::lines(file, bytes, first).map(Item::Applied).collect());
    }
    let mut at = match offset {
        0 if bytes.starts_with(&SEGMENT_MAGIC) => segment::HEADER_BYTES,
        _ => 0,
    };
    let mut items = Vec::new();
    // Behind entries there are zeros, if anything.
    while let Some(header) = bytes.get(at..).and_then(|rest| rest.first_chunk::<32>())
        && header[..2] != [0, 0]
    {
        // What a start stores again may be damaged, and says nothing.
        let entry = segment::entry_of_any(bytes, at)?;
        let (start, end) = payload(header, at)?;
        items.extend(item(kind, entry.kind, entry.key, bytes.get(start..end)?));
        at += entry.bytes;
    }
    Some(items)
}

/// What a whole file has.
pub(super) fn held(kind: Kind, bytes: &[u8]) -> Vec<Item> {
    let segment = match kind {
        Kind::Ledger(file) => return ledger::lines(file, bytes, 0).map(Item::Applied).collect(),
        Kind::Buffer(segment) | Kind::Letters(segment) | Kind::Inbox(segment) => segment,
    };
    let entries = segment::entries_of(bytes, segment).into_iter();
    let items = entries.filter_map(|entry| {
        let header = bytes.get(entry.offset..)?.first_chunk::<32>()?;
        let (start, end) = payload(header, entry.offset)?;
        item(kind, entry.kind, entry.key, bytes.get(start..end)?)
    });
    items.collect()
}

/// The messages whose dead letters a segment of a node has.
pub(crate) fn letters(node: Machine, path: &Path, segment: &[u8]) -> BTreeSet<MessageId> {
    let buried = |item| match item {
        Item::Buried { id, .. } => Some(id),
        Item::Kept { .. } | Item::Settled(_) | Item::Taken { .. } | Item::Applied(_) => None,
    };
    let held = Kind::of(node, path).map(|kind| held(kind, segment)).unwrap_or_default();
    held.into_iter().filter_map(buried).collect()
}

/// Where the payload of an entry lies.
fn payload(header: &[u8; 32], at: usize) -> Option<(usize, usize)> {
    let bytes = u32::from_le_bytes(header.get(4..8)?.try_into().ok()?);
    let start = at + segment::ENTRY_HEADER_BYTES;
    Some((start, start.checked_add(usize::try_from(bytes).ok()?)?))
}

fn item(kind: Kind, entry: u8, key: u64, payload: &[u8]) -> Option<Item> {
    match (kind, entry) {
        (Kind::Buffer(_), segment::KIND_RECORD) => {
            Some(Item::Kept { seq: Seq(key), id: id(payload, 0)? })
        }
        (Kind::Buffer(_), segment::KIND_SETTLED) => {
            let ranges = payload.get(4..)?.as_chunks::<16>().0;
            let ranges = ranges.iter().filter_map(|it| Some((number(it, 0)?, number(it, 8)?)));
            Some(Item::Settled(ranges.collect()))
        }
        (Kind::Letters(_), 1) => {
            let (seq, cause) = (Seq(number(payload, 16)?), *payload.get(40)?);
            Some(Item::Buried { seq, id: id(payload, letter_end(payload)?)?, cause })
        }
        (Kind::Inbox(_), 1) => {
            let log = payload.get(..16)?.try_into().ok()?;
            Some(Item::Taken { log, seq: Seq(number(payload, 16)?), id: id(payload, 24)? })
        }
        _ => None,
    }
}

/// Where the record of a dead letter begins.
fn letter_end(payload: &[u8]) -> Option<usize> {
    let short = |at: usize| {
        let bytes = payload.get(at..at + 2)?.try_into().ok()?;
        Some(usize::from(u16::from_le_bytes(bytes)))
    };
    let text = |at: usize| Some(at + 2 + short(at)?);
    let mut at = text(LETTER_FIXED)?;
    let attempts = short(at)?;
    at += 2;
    for _ in 0..attempts {
        // The endpoint, when and with which code, and the text.
        at = text(text(at)? + 8 + 4)?;
    }
    let errors = short(at)?;
    at += 2;
    for _ in 0..errors {
        at = text(at)?;
    }
    Some(at)
}

fn id(bytes: &[u8], at: usize) -> Option<MessageId> {
    MessageId::try_from_slice(bytes.get(at..at + 16)?).ok()
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// The lines of a ledger among items.
pub(super) fn places(items: &[Item]) -> impl Iterator<Item = Place> {
    items.iter().filter_map(|item| match item {
        Item::Applied(line) => Some(line.place),
        Item::Kept { .. } | Item::Settled(_) | Item::Buried { .. } | Item::Taken { .. } => None,
    })
}

/// What there is to note of items that are stored now.
pub(super) fn facts(items: Vec<Item>, logs: &Logs) -> Vec<Fact> {
    let (mut kept, mut settled, mut taken, mut lines) =
        (Vec::new(), SeqSet::new(), Vec::new(), Vec::new());
    let mut facts = Vec::new();
    for item in items {
        match item {
            Item::Kept { seq, id } => kept.push((seq, id)),
            Item::Settled(ranges) => ranges.into_iter().for_each(|(first, last)| {
                if first <= last {
                    settled.insert_range(Seq(first)..=Seq(last));
                }
            }),
            Item::Buried { seq, id, cause } => {
                facts.push(Fact::Buried { seq, id, cause: cause_of(cause) });
            }
            Item::Taken { log, seq, id } => taken.push((logs.find(&log), seq, id)),
            Item::Applied(line) => lines.push((logs.find(&line.log), line.seq, line.id)),
        }
    }
    if !kept.is_empty() {
        facts.push(Fact::Kept { records: kept });
    }
    if !settled.is_empty() {
        facts.push(Fact::Settled { seqs: settled });
    }
    if !taken.is_empty() {
        facts.push(Fact::Stored { records: taken });
    }
    if !lines.is_empty() {
        facts.push(Fact::Applied { lines });
    }
    facts
}

/// The cause of a dead letter, by its number on the disk.
const fn cause_of(number: u8) -> &'static str {
    match number {
        1 => "expired",
        2 => "timed out",
        3 => "refused",
        4 => "evicted",
        _ => "unknown",
    }
}
