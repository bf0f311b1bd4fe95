//! A file of the ids of one group, in order: a cache that is made anew at every start, so nothing
//! of it is synced.
//!
//! Blocks of 4096 bytes, little endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 20 × 204 | id (16), place within the group (4), in the order of ids |
//! | 4080 | 4 | how many of them there are |
//! | 4084 | 8 | number of the group, so that no block of another file is believed |
//! | 4092 | 4 | CRC-32C of bytes 0..4092 |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use alys_stream_protocol::message::MessageId;

use super::{Entry, words};
use crate::record::ByteReader;
use crate::storage::{Storage, StorageFile};

const BLOCK_BYTES: usize = 4096;
const ENTRY_BYTES: usize = 20;
const ENTRIES: usize = 204;
const ENTRIES_BYTES: usize = ENTRIES * ENTRY_BYTES;

/// Blocks that are written at once.
const BLOCKS_TOGETHER: usize = 64;

/// A group on disk.
#[derive(Debug)]
pub(in crate::buffer) struct Spill {
    file: Arc<dyn StorageFile>,
    group: u64,
    /// The beginning of the first id of each block: which block to read.
    fences: Vec<u64>,
}

pub(super) fn path(dir: &Path, group: u64) -> PathBuf {
    dir.join(format!("{}{group:016x}", crate::log::SPILL_PREFIX))
}

impl Spill {
    /// Writes a group. `entries` are in the order of ids.
    pub(super) fn write(
        storage: &dyn Storage,
        dir: &Path,
        group: u64,
        entries: &[Entry],
    ) -> io::Result<Self> {
        let path = path(dir, group);
        remove(storage, &path)?;
        let file = storage.create(&path)?;
        let written = write_blocks(&*file, group, entries);
        if let Err(error) = written {
            // Space is given back at once; what cannot be removed is removed at the next start.
            if let Err(error) = storage.remove(&path) {
                tracing::debug!(%error, "a file of ids remains until the next start");
            }
            return Err(error);
        }
        let first = |block: &[Entry]| block.first().map_or(0, |(id, _)| words(id)[0]);
        let fences = entries.chunks(ENTRIES).map(first).collect();
        Ok(Self { file, group, fences })
    }

    /// Bytes of memory.
    pub(super) const fn bytes(&self) -> usize {
        self.fences.capacity() * size_of::<u64>()
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

    fn find_in(&self, block: usize, id: &MessageId) -> io::Result<Option<u32>> {
        let mut bytes = [0; BLOCK_BYTES];
        let offset = u64::try_from(block * BLOCK_BYTES).unwrap_or(u64::MAX);
        let read = self.file.read_at(&mut bytes, offset)?;
        let damaged = || io::Error::new(io::ErrorKind::InvalidData, "a block of ids is damaged");
        let count = verified(&bytes, self.group).filter(|_| read == BLOCK_BYTES);
        let count = count.ok_or_else(damaged)?;
        let (mut low, mut high) = (0, count);
        while low < high {
            let middle = usize::midpoint(low, high);
            let mut reader = ByteReader::new(bytes.get(middle * ENTRY_BYTES..).unwrap_or_default());
            let entry = reader.array().map(MessageId::new).zip(reader.u32());
            let (found, place) = entry.ok_or_else(damaged)?;
            match found.cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(Some(place)),
            }
        }
        Ok(None)
    }
}

/// Removes a file that may not be there.
pub(super) fn remove(storage: &dyn Storage, path: &Path) -> io::Result<()> {
    match storage.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn write_blocks(file: &dyn StorageFile, group: u64, entries: &[Entry]) -> io::Result<()> {
    let mut offset = 0;
    let mut bytes = Vec::with_capacity(BLOCKS_TOGETHER * BLOCK_BYTES);
    for blocks in entries.chunks(BLOCKS_TOGETHER * ENTRIES) {
        bytes.clear();
        for block in blocks.chunks(ENTRIES) {
            encode(&mut bytes, group, block);
        }
        file.write_at(&bytes, offset)?;
        offset += u64::try_from(bytes.len()).unwrap_or(0);
    }
    Ok(())
}

fn encode(out: &mut Vec<u8>, group: u64, entries: &[Entry]) {
    let start = out.len();
    for (id, place) in entries {
        out.extend_from_slice(id.as_bytes());
        out.extend_from_slice(&place.to_le_bytes());
    }
    out.resize(start + ENTRIES_BYTES, 0);
    out.extend_from_slice(&u32::try_from(entries.len()).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&group.to_le_bytes());
    let crc = crc32c::crc32c(out.get(start..).unwrap_or_default());
    out.extend_from_slice(&crc.to_le_bytes());
}

/// How many entries a block has, when it is whole and of this group.
fn verified(bytes: &[u8; BLOCK_BYTES], group: u64) -> Option<usize> {
    let (body, crc) = bytes.split_last_chunk::<4>()?;
    let mut reader = ByteReader::new(body.get(ENTRIES_BYTES..)?);
    let (count, found) = (usize::try_from(reader.u32()?).ok()?, reader.u64()?);
    let is_whole = crc32c::crc32c(body) == u32::from_le_bytes(*crc);
    (is_whole && found == group && count <= ENTRIES).then_some(count)
}
