//! A file of the ids of one group, in the order of ids. It is whole and synced before it has its
//! name; what is in it outlives the segments that it was made from (M36).
//!
//! `ids-{first seq of the group:016x}-{how many seqs:08x}`, blocks of 4096 bytes, little endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 20 × 203 | id (16), place within the group (4), in the order of ids |
//! | 4060 | 4 | how many of them there are in this block |
//! | 4064 | 4 | how many there are in the file |
//! | 4068 | 8 | first seq of the group |
//! | 4076 | 8 | how many seqs the group has |
//! | 4084 | 4 | number of the block |
//! | 4088 | 4 | zero |
//! | 4092 | 4 | CRC-32C of bytes 0..4092, begun from the CRC-32C of the `log_id` |
//!
//! Behind the blocks, once everything in the group is settled, and not synced:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | how many messages of the log were settled by then |
//! | 8 | 4 | zero |
//! | 12 | 4 | CRC-32C of bytes 0..12, begun from the CRC-32C of the `log_id` |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_stream_protocol::message::{LogId, MessageId};

use super::{Entry, words};
use crate::log;
use crate::record::ByteReader;
use crate::storage::{Storage, StorageFile};

/// How the names of all these files begin.
pub(super) const PREFIX: &str = "ids-";

const BLOCK_BYTES: usize = 4096;
const ENTRY_BYTES: usize = 20;
const ENTRIES: usize = 203;
const ENTRIES_BYTES: usize = ENTRIES * ENTRY_BYTES;
const STAMP_BYTES: usize = 16;

/// Blocks that are written or read at once.
const BLOCKS_TOGETHER: usize = 64;

/// The seqs of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::buffer) struct Span {
    pub(super) first: u64,
    pub(super) seqs: u64,
}

impl Span {
    /// The name of its file.
    pub(super) fn name(self) -> String {
        format!("{PREFIX}{:016x}-{:08x}", self.first, self.seqs)
    }

    /// The group whose file has this name.
    pub(super) fn of_name(name: &str) -> Option<Self> {
        let (first, seqs) = name.strip_prefix(PREFIX)?.split_once('-')?;
        let first = u64::from_str_radix(first, 16).ok()?;
        let seqs = u64::from(u32::from_str_radix(seqs, 16).ok()?);
        let this = Self { first, seqs };
        (first <= log::format::NUMBER_MAX && seqs > 0 && this.name() == name).then_some(this)
    }

    pub(super) fn path(self, dir: &Path) -> PathBuf {
        dir.join(self.name())
    }

    /// The seq behind the last one.
    pub(super) const fn end(self) -> u64 {
        self.first + self.seqs
    }
}

/// A group on disk.
#[derive(Debug)]
pub(in crate::buffer) struct Spill {
    file: Arc<dyn StorageFile>,
    span: Span,
    salt: u32,
    /// The beginning of the first id of each block: which block to read.
    fences: Vec<u64>,
}

impl Spill {
    /// Writes the file of a group, in place of an earlier one. `entries` are in the order of ids.
    pub(super) fn write(
        storage: &dyn Storage,
        dir: &Path,
        log_id: LogId,
        span: Span,
        entries: &[Entry],
    ) -> io::Result<Self> {
        let salt = salt(log_id);
        let file = log::replace_with(storage, &span.path(dir), |file| {
            write_blocks(file, salt, span, entries)
        })?;
        let first = |block: &[Entry]| block.first().map_or(0, |(id, _)| words(id)[0]);
        let fences = entries.chunks(ENTRIES).map(first).collect();
        Ok(Self { file, span, salt, fences })
    }

    /// Bytes of memory.
    pub(super) const fn bytes(&self) -> usize {
        self.fences.capacity() * size_of::<u64>()
    }

    /// Notes behind the blocks how much was settled when the last of the group was. Not synced: a
    /// group whose note is lost is remembered longer.
    pub(super) fn stamp(&self, settled: u64) -> io::Result<()> {
        let mut bytes = settled.to_le_bytes().to_vec();
        bytes.extend_from_slice(&[0; 4]);
        let crc = crc32c::crc32c_append(self.salt, &bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        self.file.write_at(&bytes, to_u64(self.fences.len() * BLOCK_BYTES))
    }

    /// The place of an id within the group.
    ///
    /// # Errors
    ///
    /// When the block that would have it cannot be read.
    pub(super) fn find(&self, id: &MessageId) -> io::Result<Option<u32>> {
        let [start, _] = words(id);
        // Most often one block; several when ids begin alike.
        let first = self.fences.partition_point(|fence| *fence < start).saturating_sub(1);
        let end = self.fences.partition_point(|fence| *fence <= start);
        for block in first..end {
            if let Some(place) = self.find_in(block, id)? {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// The id at a place within the group. Reads blocks in turn until it is there.
    ///
    /// # Errors
    ///
    /// When one of them cannot be read.
    pub(in crate::buffer) fn id_at(&self, place: u32) -> io::Result<Option<MessageId>> {
        for block in 0..self.fences.len() {
            let (bytes, count) = self.block(block)?;
            let mut entries = (0..count).filter_map(|index| entry(&bytes, index));
            if let Some((id, _)) = entries.find(|(_, found)| *found == place) {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// A block that verifies, and how many ids are in it.
    fn block(&self, number: usize) -> io::Result<([u8; BLOCK_BYTES], usize)> {
        let mut bytes = [0; BLOCK_BYTES];
        let read = self.file.read_at(&mut bytes, to_u64(number * BLOCK_BYTES))?;
        let head = verified(&bytes, self.salt, self.span, number).filter(|_| read == BLOCK_BYTES);
        Ok((bytes, head.ok_or_else(damaged)?.count))
    }

    fn find_in(&self, block: usize, id: &MessageId) -> io::Result<Option<u32>> {
        let (bytes, count) = self.block(block)?;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            let (found, place) = entry(&bytes, middle).ok_or_else(damaged)?;
            match found.cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(place)),
            }
        }
        Ok(None)
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "a block of ids is damaged")
}

/// A file of ids as it is found.
#[derive(Debug)]
pub(super) struct Found {
    /// What of it verifies, in the order of ids.
    pub(super) entries: Vec<Entry>,
    /// How many ids of it do not; estimated when nothing does.
    pub(super) lost: u64,
    /// How much was settled when the last of the group was, if all of it was and that was noted.
    pub(super) finished_at: Option<u64>,
    /// The file, when it is whole and bears the present id of the log.
    pub(super) spill: Option<Spill>,
}

/// Reads the file of ids of a group, of a log with these ids, the present one first.
pub(super) fn read(file: Arc<dyn StorageFile>, span: Span, log_ids: &[LogId]) -> io::Result<Found> {
    let blocks = usize::try_from(file.size()?).unwrap_or(usize::MAX) / BLOCK_BYTES;
    let salts: Vec<u32> = log_ids.iter().map(|log_id| salt(*log_id)).collect();
    let mut salt = None;
    let (mut entries, mut fences, mut total) = (Vec::new(), Vec::new(), None);
    let mut bytes = vec![0; BLOCKS_TOGETHER.min(blocks) * BLOCK_BYTES];
    for first in (0..blocks).step_by(BLOCKS_TOGETHER) {
        let read = file.read_at(&mut bytes, to_u64(first * BLOCK_BYTES))?;
        let (together, _) = bytes.get(..read).unwrap_or_default().as_chunks::<BLOCK_BYTES>();
        for (number, block) in (first..).zip(together) {
            // All of one file are of one log.
            let candidates = salt.as_slice().iter().chain(salts.iter().filter(|_| salt.is_none()));
            let head = candidates
                .copied()
                .find_map(|salt| Some((salt, verified(block, salt, span, number)?)));
            let Some((of, head)) = head else { continue };
            (salt, total) = (Some(of), Some(head.total));
            fences.extend(entry(block, 0).map(|(id, _)| words(&id)[0]));
            entries.extend((0..head.count).filter_map(|index| entry(block, index)));
        }
    }
    let stamped_at = to_u64(total.unwrap_or(0).div_ceil(ENTRIES) * BLOCK_BYTES);
    let finished_at = match salt {
        Some(salt) => read_stamp(&*file, stamped_at, salt)?,
        None => None,
    };
    let most = to_u64(total.unwrap_or(blocks * ENTRIES)).min(span.seqs);
    let lost = most.saturating_sub(to_u64(entries.len()));
    let is_own = salt.is_some() && salt == salts.first().copied();
    let spill = salt.filter(|_| is_own && lost == 0).map(|salt| Spill { file, span, salt, fences });
    Ok(Found { entries, lost, finished_at, spill })
}

fn read_stamp(file: &dyn StorageFile, offset: u64, salt: u32) -> io::Result<Option<u64>> {
    let mut bytes = [0; STAMP_BYTES];
    let read = file.read_at(&mut bytes, offset)?;
    let [body @ .., a, b, c, d] = bytes;
    let is_whole = read == STAMP_BYTES
        && crc32c::crc32c_append(salt, &body) == u32::from_le_bytes([a, b, c, d]);
    Ok(ByteReader::new(&body).u64().filter(|_| is_whole))
}

fn salt(log_id: LogId) -> u32 {
    crc32c::crc32c(log_id.as_bytes())
}

fn to_u64(n: usize) -> u64 {
    u64::try_from(n).unwrap_or(u64::MAX)
}

fn write_blocks(
    file: &dyn StorageFile,
    salt: u32,
    span: Span,
    entries: &[Entry],
) -> io::Result<()> {
    let mut offset = 0;
    let mut bytes = Vec::with_capacity(BLOCKS_TOGETHER * BLOCK_BYTES);
    let mut number: u32 = 0;
    for blocks in entries.chunks(BLOCKS_TOGETHER * ENTRIES) {
        bytes.clear();
        for block in blocks.chunks(ENTRIES) {
            let start = bytes.len();
            for (id, place) in block {
                bytes.extend_from_slice(id.as_bytes());
                bytes.extend_from_slice(&place.to_le_bytes());
            }
            bytes.resize(start + ENTRIES_BYTES, 0);
            for count in [block.len(), entries.len()] {
                bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
            }
            bytes.extend_from_slice(&span.first.to_le_bytes());
            bytes.extend_from_slice(&span.seqs.to_le_bytes());
            bytes.extend_from_slice(&number.to_le_bytes());
            bytes.extend_from_slice(&[0; 4]);
            let crc = crc32c::crc32c_append(salt, bytes.get(start..).unwrap_or_default());
            bytes.extend_from_slice(&crc.to_le_bytes());
            number += 1;
        }
        file.write_at(&bytes, offset)?;
        offset += to_u64(bytes.len());
    }
    Ok(())
}

/// What a block says besides its entries.
#[derive(Debug, Clone, Copy)]
struct Head {
    count: usize,
    total: usize,
}

/// Reads what a block says of itself, when it is whole and the one that it should be.
fn verified(bytes: &[u8; BLOCK_BYTES], salt: u32, span: Span, number: usize) -> Option<Head> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    if crc32c::crc32c_append(salt, body) != u32::from_le_bytes(*crc) {
        return None;
    }
    let mut reader = ByteReader::new(body.get(ENTRIES_BYTES..)?);
    let count = usize::try_from(reader.u32()?).ok()?;
    let total = usize::try_from(reader.u32()?).ok()?;
    let found = Span { first: reader.u64()?, seqs: reader.u64()? };
    let is_this = found == span && usize::try_from(reader.u32()?).ok()? == number;
    (is_this && (1..=ENTRIES).contains(&count) && count <= total).then_some(Head { count, total })
}

fn entry(block: &[u8; BLOCK_BYTES], index: usize) -> Option<Entry> {
    let mut reader = ByteReader::new(block.get(index * ENTRY_BYTES..)?);
    Some((MessageId::new(reader.array()?), reader.u32()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back_and_others_are_not() {
        let span = Span { first: 0x0001_0000, seqs: 0x80 };
        assert_eq!(span.name(), "ids-0000000000010000-00000080");
        assert_eq!(Span::of_name(&span.name()), Some(span));
        for name in [
            "ids-0000000000010000",
            "ids-0000000000010000-00000080.tmp",
            "ids-0000000000010000-00000000",
            "ids-10000-80",
            "ids-ffffffffffffffff-00000080",
            "identity",
        ] {
            assert_eq!(Span::of_name(name), None, "{name}");
        }
    }
}
