//! The bytes of a segment, of the identity file and of the mark, and nothing about files.
//!
//! All numbers are little endian. Format version 1.
//!
//! # Identity file (`identity`, 64 bytes)
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ALYSIDNT` |
//! | 8 | 4 | format version |
//! | 12 | 4 | zero |
//! | 16 | 16 | `log_id` |
//! | 32 | 8 | epoch: raised by one at every open |
//! | 40 | 20 | zero |
//! | 60 | 4 | CRC-32C of bytes 0..60 |
//!
//! # Mark (`mark`, 64 bytes)
//!
//! A lower bound of what is durable: when it was written, everything below the position was, and
//! the segment was begun. What of it is not there is damaged, and was not just never finished.
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ALYSMARK` |
//! | 8 | 4 | format version |
//! | 12 | 4 | zero |
//! | 16 | 16 | `log_id` |
//! | 32 | 8 | newest segment |
//! | 40 | 8 | position of the next entry |
//! | 48 | 8 | next key of the layer above, for a buffer its next sequence number; 0 when unknown |
//! | 56 | 4 | where in that segment the entries below the position end |
//! | 60 | 4 | CRC-32C of bytes 0..60 |
//!
//! # Segment file (`{segment:016x}.segment`)
//!
//! A header block of 4096 bytes, then entries, each aligned to 8 bytes, then zeros or stale bytes.
//! The header is written twice, at 0 and at 2048, so that one bad sector does not cost a segment:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ALYSSEGM` |
//! | 8 | 4 | format version |
//! | 12 | 4 | zero |
//! | 16 | 16 | `log_id` |
//! | 32 | 8 | segment number, equal to the one in the file name |
//! | 40 | 8 | epoch in which the segment was begun |
//! | 48 | 8 | position of its first entry |
//! | 56 | 4 | zero |
//! | 60 | 4 | CRC-32C of bytes 0..60 |
//!
//! # Entry (32 bytes, payload, zeros up to a multiple of 8)
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 2 | magic `0xA15E` |
//! | 2 | 1 | kind: 0 is a checkpoint, the others belong to the layer above |
//! | 3 | 1 | 1 when it was written together with the entry before it; 0 when it begins a write: everything before it was durable then |
//! | 4 | 4 | payload length |
//! | 8 | 8 | position: dense over the life of the log, from 1 |
//! | 16 | 8 | key: a number of the layer above, for a record its sequence number, for a summary which part of it (0 is the first, and is written last) |
//! | 24 | 4 | salt: CRC-32C of `log_id`, segment number and epoch of the segment |
//! | 28 | 4 | CRC-32C of bytes 0..28 and the payload, begun from the salt |
//!
//! The salt makes stale bytes of a reused file fail, and lets a scan for the next valid entry
//! reject almost every offset by one comparison.
//!
//! A segment is begun in one write: its header, its summary and the first entries, which therefore
//! say that they were written together with what is before them.
//!
//! A later segment supersedes: entries of an earlier segment whose position is not below the first
//! position of a later one were written again there (after a failed sync) and do not count. A segment
//! that has no others goes after the next start.

use alys_stream_protocol::message::{Epoch, LogId};

use super::writer::KIND_CHECKPOINT;
use super::{Position, SegmentId};

/// The newest format that is written and read.
pub const FORMAT_VERSION: u32 = 1;

/// Bytes of the header block at the start of a segment.
pub const SEGMENT_HEADER_BYTES: u64 = 4096;

/// Bytes of an entry before its payload.
pub const ENTRY_HEADER_BYTES: usize = 32;

/// Largest payload of one entry: a message of the largest size, with what goes with it.
pub const ENTRY_PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// Entries begin at multiples of this.
pub const ALIGNMENT: usize = 8;

/// Largest segment number, epoch, position and key: nobody counts that far, so what is larger was
/// not written by this software.
pub(crate) const NUMBER_MAX: u64 = u64::MAX / 2;

const BLOCK_BYTES: usize = 64;
const BLOCK_COPY_OFFSET: usize = 2048;
const SEGMENT_MAGIC: [u8; 8] = *b"ALYSSEGM";
const IDENTITY_MAGIC: [u8; 8] = *b"ALYSIDNT";
const MARK_MAGIC: [u8; 8] = *b"ALYSMARK";
const ENTRY_MAGIC: u16 = 0xA15E;

/// What a header block is found to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Block<T> {
    Valid(T),
    /// Written by a newer version of this software.
    Newer(u32),
    /// Zeros, stale bytes, or damaged.
    Invalid,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) log_id: LogId,
    pub(super) epoch: Epoch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log_id: LogId,
    pub(super) segment: SegmentId,
    pub(super) epoch: Epoch,
    pub(super) first_position: Position,
}

impl SegmentHeader {
    pub(super) fn salt(&self) -> u32 {
        salt(self.log_id, self.segment, self.epoch)
    }

    fn is_plausible(&self) -> bool {
        self.epoch.0 <= NUMBER_MAX && (1..=NUMBER_MAX).contains(&self.first_position.0)
    }

    /// The whole header block, both copies.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut copy = [0; BLOCK_BYTES];
        put(&mut copy, 0, &SEGMENT_MAGIC);
        put(&mut copy, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut copy, 16, self.log_id.as_bytes());
        put(&mut copy, 32, &self.segment.0.to_le_bytes());
        put(&mut copy, 40, &self.epoch.0.to_le_bytes());
        put(&mut copy, 48, &self.first_position.0.to_le_bytes());
        seal_block(&mut copy);
        let mut block = vec![0; usize::try_from(SEGMENT_HEADER_BYTES).unwrap_or(usize::MAX)];
        put(&mut block, 0, &copy);
        put(&mut block, BLOCK_COPY_OFFSET, &copy);
        block
    }

    /// Reads the header block of the file that is named after `segment`.
    pub(super) fn decode(block: &[u8], segment: SegmentId) -> Block<Self> {
        let mut found = Block::Invalid;
        for at in [0, BLOCK_COPY_OFFSET] {
            match open_block(block.get(at..at + BLOCK_BYTES), SEGMENT_MAGIC) {
                Block::Valid(copy) => {
                    let header = Self {
                        log_id: LogId::new(array(copy, 16)),
                        segment: SegmentId(u64::from_le_bytes(array(copy, 32))),
                        epoch: Epoch(u64::from_le_bytes(array(copy, 40))),
                        first_position: Position(u64::from_le_bytes(array(copy, 48))),
                    };
                    // A recycled file keeps the header of its former life until it is begun.
                    if header.segment == segment && header.is_plausible() {
                        return Block::Valid(header);
                    }
                }
                Block::Newer(version) => found = Block::Newer(version),
                Block::Invalid => {}
            }
        }
        found
    }
}

impl SegmentHeader {
    /// Whether the block is that of a file that was prepared and not begun: zeros, or the whole
    /// header of a former life.
    pub(super) fn is_unbegun(block: &[u8]) -> bool {
        block.iter().all(|byte| *byte == 0)
            || [0, BLOCK_COPY_OFFSET].into_iter().any(|at| {
                matches!(
                    open_block(block.get(at..at + BLOCK_BYTES), SEGMENT_MAGIC),
                    Block::Valid(_)
                )
            })
    }
}

impl Identity {
    pub(super) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        put(&mut block, 0, &IDENTITY_MAGIC);
        put(&mut block, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut block, 16, self.log_id.as_bytes());
        put(&mut block, 32, &self.epoch.0.to_le_bytes());
        seal_block(&mut block);
        block
    }

    pub(super) fn decode(bytes: &[u8]) -> Block<Self> {
        match open_block(bytes.get(..BLOCK_BYTES), IDENTITY_MAGIC) {
            Block::Valid(block) => {
                let epoch = u64::from_le_bytes(array(block, 32));
                if epoch > NUMBER_MAX {
                    return Block::Invalid;
                }
                Block::Valid(Self { log_id: LogId::new(array(block, 16)), epoch: Epoch(epoch) })
            }
            Block::Newer(version) => Block::Newer(version),
            Block::Invalid => Block::Invalid,
        }
    }
}

/// What was durable when it was written; see the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Mark {
    pub(super) log_id: LogId,
    pub(super) segment: SegmentId,
    pub(super) next_position: Position,
    pub(super) next_key: u64,
    pub(super) offset: u32,
}

impl Mark {
    pub(super) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        put(&mut block, 0, &MARK_MAGIC);
        put(&mut block, 8, &FORMAT_VERSION.to_le_bytes());
        put(&mut block, 16, self.log_id.as_bytes());
        put(&mut block, 32, &self.segment.0.to_le_bytes());
        put(&mut block, 40, &self.next_position.0.to_le_bytes());
        put(&mut block, 48, &self.next_key.to_le_bytes());
        put(&mut block, 56, &self.offset.to_le_bytes());
        seal_block(&mut block);
        block
    }

    pub(super) fn decode(bytes: &[u8]) -> Block<Self> {
        let block = match open_block(bytes.get(..BLOCK_BYTES), MARK_MAGIC) {
            Block::Valid(block) => block,
            Block::Newer(version) => return Block::Newer(version),
            Block::Invalid => return Block::Invalid,
        };
        let number = |at| u64::from_le_bytes(array(block, at));
        let this = Self {
            log_id: LogId::new(array(block, 16)),
            segment: SegmentId(number(32)),
            next_position: Position(number(40)),
            next_key: number(48),
            offset: u32::from_le_bytes(array(block, 56)),
        };
        let largest = this.segment.0.max(this.next_position.0).max(this.next_key);
        if largest > NUMBER_MAX || this.next_position.0 == 0 {
            return Block::Invalid;
        }
        Block::Valid(this)
    }

    /// The last position that was durable.
    pub(super) const fn last_position(&self) -> Position {
        Position(self.next_position.0 - 1)
    }

    /// Whether it says everything that `other` says.
    pub(super) fn covers(&self, other: &Self) -> bool {
        self.log_id == other.log_id
            && self.segment >= other.segment
            && self.next_position >= other.next_position
            && self.next_key >= other.next_key
    }
}

/// The header of an entry, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct EntryHeader {
    pub(super) kind: u8,
    pub(super) payload_bytes: usize,
    pub(super) position: Position,
    pub(super) key: u64,
    /// Whether it was written together with what is before it, and does not say that this was
    /// durable.
    pub(super) is_continued: bool,
}

impl EntryHeader {
    /// Whether it is a part of a summary that says nothing of whether all of it is there.
    pub(super) const fn is_later_part(&self) -> bool {
        self.kind == KIND_CHECKPOINT && self.key > 0
    }

    /// Bytes that the entry takes on disk.
    pub(super) const fn stored_bytes(&self) -> usize {
        stored_bytes(self.payload_bytes)
    }

    /// Appends an entry whose payload `fill` writes; what [`seal_entry`] writes is not there yet.
    pub(super) fn begin(
        out: &mut Vec<u8>,
        kind: u8,
        position: Position,
        key: u64,
        fill: impl FnOnce(&mut Vec<u8>),
    ) -> usize {
        let start = out.len();
        out.extend_from_slice(&ENTRY_MAGIC.to_le_bytes());
        out.extend_from_slice(&[kind, 0]);
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&position.0.to_le_bytes());
        out.extend_from_slice(&key.to_le_bytes());
        out.extend_from_slice(&[0; 8]);
        fill(out);
        let payload_bytes = out.len() - start - ENTRY_HEADER_BYTES;
        let length = u32::try_from(payload_bytes).unwrap_or(u32::MAX);
        put(out, start + 4, &length.to_le_bytes());
        out.resize(start + stored_bytes(payload_bytes), 0);
        out.len() - start
    }

    /// Reads the header at the start of `bytes` when it bears `salt` (or any, when `None`).
    /// Nothing is verified yet.
    pub(super) fn peek(bytes: &[u8], salt: Option<u32>) -> Option<Self> {
        let header = bytes.get(..ENTRY_HEADER_BYTES)?;
        if header.get(..2)? != ENTRY_MAGIC.to_le_bytes() {
            return None;
        }
        if let Some(salt) = salt
            && header.get(24..28)? != salt.to_le_bytes()
        {
            return None;
        }
        let payload_bytes = usize::try_from(u32::from_le_bytes(array(header, 4))).ok()?;
        if payload_bytes > ENTRY_PAYLOAD_BYTES_MAX {
            return None;
        }
        let position = Position(u64::from_le_bytes(array(header, 8)));
        let key = u64::from_le_bytes(array(header, 16));
        let is_continued = *header.get(3)? != 0;
        Some(Self { kind: *header.get(2)?, payload_bytes, position, key, is_continued })
    }
}

/// The salt in what looks like the header of an entry.
pub(super) fn salt_of(bytes: &[u8]) -> Option<u32> {
    EntryHeader::peek(bytes, None)?;
    bytes.get(24..28)?.try_into().ok().map(u32::from_le_bytes)
}

/// Bytes that an entry with such a payload takes on disk.
pub(crate) const fn stored_bytes(payload_bytes: usize) -> usize {
    (ENTRY_HEADER_BYTES + payload_bytes).next_multiple_of(ALIGNMENT)
}

/// Writes into an entry that [`EntryHeader::begin`] made whether it goes on with a write, its salt
/// and its checksum.
pub(super) fn seal_entry(entry: &mut [u8], payload_bytes: usize, salt: u32, is_continued: bool) {
    put(entry, 3, &[u8::from(is_continued)]);
    put(entry, 24, &salt.to_le_bytes());
    let crc = entry_crc(entry, payload_bytes, salt);
    put(entry, 28, &crc.to_le_bytes());
}

/// Whether the checksum of the entry at the start of `bytes` holds; returns its payload.
pub(super) fn verify_entry(bytes: &[u8], salt: u32) -> Option<(EntryHeader, &[u8])> {
    let header = EntryHeader::peek(bytes, Some(salt))?;
    if header.position.0 > NUMBER_MAX || header.key > NUMBER_MAX {
        return None;
    }
    let payload = bytes.get(ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + header.payload_bytes)?;
    let stored = u32::from_le_bytes(array(bytes, 28));
    (stored == entry_crc(bytes, header.payload_bytes, salt)).then_some((header, payload))
}

/// Whether the checksum of the entry at the start of `bytes` holds under the salt that it bears.
pub(super) fn is_whole(bytes: &[u8]) -> bool {
    bytes.len() >= ENTRY_HEADER_BYTES
        && verify_entry(bytes, u32::from_le_bytes(array(bytes, 24))).is_some()
}

/// What salts the checksums of one segment.
pub(super) fn salt(log_id: LogId, segment: SegmentId, epoch: Epoch) -> u32 {
    let crc = crc32c::crc32c(log_id.as_bytes());
    let crc = crc32c::crc32c_append(crc, &segment.0.to_le_bytes());
    crc32c::crc32c_append(crc, &epoch.0.to_le_bytes())
}

fn entry_crc(entry: &[u8], payload_bytes: usize, salt: u32) -> u32 {
    let crc = crc32c::crc32c_append(salt, entry.get(..28).unwrap_or_default());
    let payload = entry.get(ENTRY_HEADER_BYTES..ENTRY_HEADER_BYTES + payload_bytes);
    crc32c::crc32c_append(crc, payload.unwrap_or_default())
}

fn open_block(bytes: Option<&[u8]>, magic: [u8; 8]) -> Block<&[u8]> {
    let Some(block) = bytes else {
        return Block::Invalid;
    };
    if block.get(..8) != Some(&magic) {
        return Block::Invalid;
    }
    let crc = crc32c::crc32c(block.get(..60).unwrap_or_default());
    if crc != u32::from_le_bytes(array(block, 60)) {
        return Block::Invalid;
    }
    // Only a block that verifies may refuse the log: a flipped bit is not a newer version.
    match u32::from_le_bytes(array(block, 8)) {
        version if version > FORMAT_VERSION => Block::Newer(version),
        0 => Block::Invalid,
        _ => Block::Valid(block),
    }
}

fn seal_block(block: &mut [u8; BLOCK_BYTES]) {
    let crc = crc32c::crc32c(block.get(..60).unwrap_or_default());
    put(block, 60, &crc.to_le_bytes());
}

/// Copies into place; a place outside is left alone, which the callers rule out.
fn put(target: &mut [u8], at: usize, bytes: &[u8]) {
    debug_assert!(at + bytes.len() <= target.len(), "invariant: a field lies inside its block");
    if let Some(field) = target.get_mut(at..at + bytes.len()) {
        field.copy_from_slice(bytes);
    }
}

/// `N` bytes at `at`; zeros when they are not there, which the callers rule out.
fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..at + N).and_then(|field| field.try_into().ok()).unwrap_or([0; N])
}
