//! The files of a log, read and sealed from the description in `messaging::log::format` alone.
//!
//! It shares no code with what it tests, so that both would have to be wrong in the same way.

/// Where entries begin in a segment.
pub const HEADER_BYTES: usize = 4096;

/// Bytes of an entry before its payload.
pub const ENTRY_HEADER_BYTES: usize = 32;

/// Entry kinds of a buffer.
pub const KIND_CHECKPOINT: u8 = 0;
/// A message.
pub const KIND_RECORD: u8 = 1;
/// A settlement.
pub const KIND_SETTLED: u8 = 2;

/// Bytes of one copy of the header, at the start of a segment and at [`BLOCK_COPY_OFFSET`].
pub const BLOCK_BYTES: usize = 64;

/// Where the second copy of the header is.
pub const BLOCK_COPY_OFFSET: usize = 2048;

const BLOCK_OFFSETS: [usize; 2] = [0, BLOCK_COPY_OFFSET];
const ENTRY_MAGIC: [u8; 2] = [0x5E, 0xA1];

/// An entry that verifies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Where it begins.
    pub offset: usize,
    /// Bytes that it takes, padding included.
    pub bytes: usize,
    /// What it is.
    pub kind: u8,
    /// Its place in the log.
    pub position: u64,
    /// For a record, its sequence number.
    pub key: u64,
}

impl Entry {
    /// Whether a byte of the file is part of it.
    #[must_use]
    pub const fn contains(&self, offset: usize) -> bool {
        self.offset <= offset && offset < self.offset + self.bytes
    }
}

/// What salts the checksums of a segment: its number is the one in its header.
#[must_use]
pub fn salt(segment: &[u8]) -> Option<u32> {
    salt_of(BLOCK_OFFSETS.into_iter().find_map(|at| verified_block(segment, at))?)
}

fn salt_of(block: &[u8]) -> Option<u32> {
    let crc = crc32c::crc32c(block.get(16..32)?);
    let crc = crc32c::crc32c_append(crc, block.get(32..40)?);
    Some(crc32c::crc32c_append(crc, block.get(40..48)?))
}

fn verified_block(bytes: &[u8], at: usize) -> Option<&[u8]> {
    let block = bytes.get(at..at + BLOCK_BYTES)?;
    let crc = crc32c::crc32c(block.get(..60)?).to_le_bytes();
    (block.get(60..64)? == crc).then_some(block)
}

/// The entries of a segment that verify.
#[must_use]
pub fn entries(segment: &[u8]) -> Vec<Entry> {
    salt(segment).map_or_else(Vec::new, |salt| entries_under(segment, salt))
}

/// The entries of the segment with this number, also when its header is gone or is that of a former
/// life of the file: then its first summary tells the salt.
#[must_use]
pub fn entries_of(segment: &[u8], number: u64) -> Vec<Entry> {
    let blocks = BLOCK_OFFSETS.into_iter().filter_map(|at| verified_block(segment, at));
    let (own, former): (Vec<_>, Vec<_>) =
        blocks.partition(|block| self::number(block, 32) == Some(number));
    let salts = |blocks: Vec<&[u8]>| blocks.into_iter().filter_map(salt_of).collect::<Vec<_>>();
    let own = salts(own).into_iter().next().or_else(|| summary_salt(segment, &salts(former)));
    own.map_or_else(Vec::new, |salt| entries_under(segment, salt))
}

/// The salt of the first summary that has none of these.
fn summary_salt(segment: &[u8], former: &[u32]) -> Option<u32> {
    let borne = |at: usize| {
        let salt = segment.get(at + 24..at + 28)?.try_into().ok()?;
        let salt = u32::from_le_bytes(salt);
        let entry = entry_at(segment, at, salt)?;
        (entry.kind == KIND_CHECKPOINT && !former.contains(&salt)).then_some(salt)
    };
    (HEADER_BYTES..segment.len()).step_by(8).find_map(borne)
}

fn entries_under(segment: &[u8], salt: u32) -> Vec<Entry> {
    let mut entries = Vec::new();
    let mut offset = HEADER_BYTES;
    while offset + ENTRY_HEADER_BYTES <= segment.len() {
        match entry_at(segment, offset, salt) {
            Some(entry) => {
                offset += entry.bytes;
                entries.push(entry);
            }
            None => offset += 8,
        }
    }
    entries
}

/// The entry at an offset, of whichever segment: by the salt that it bears itself.
#[must_use]
pub fn entry_of_any(bytes: &[u8], offset: usize) -> Option<Entry> {
    let salt = bytes.get(offset.checked_add(24)?..)?.first_chunk()?;
    entry_at(bytes, offset, u32::from_le_bytes(*salt))
}

fn entry_at(segment: &[u8], offset: usize, salt: u32) -> Option<Entry> {
    let head = segment.get(offset..offset.checked_add(ENTRY_HEADER_BYTES)?)?;
    if head.get(..2)? != ENTRY_MAGIC || head.get(24..28)? != salt.to_le_bytes() {
        return None;
    }
    let payload_bytes = payload_bytes(head)?;
    let crc = checksum(segment, offset, payload_bytes, salt)?;
    (head.get(28..32)? == crc.to_le_bytes()).then_some(Entry {
        offset,
        bytes: (ENTRY_HEADER_BYTES + payload_bytes).next_multiple_of(8),
        kind: *head.get(2)?,
        position: number(head, 8)?,
        key: number(head, 16)?,
    })
}

fn payload_bytes(head: &[u8]) -> Option<usize> {
    let length = u32::from_le_bytes(head.get(4..8)?.try_into().ok()?);
    usize::try_from(length).ok()
}

fn number(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn checksum(segment: &[u8], offset: usize, payload_bytes: usize, salt: u32) -> Option<u32> {
    let crc = crc32c::crc32c_append(salt, segment.get(offset..offset + 28)?);
    let payload = offset + ENTRY_HEADER_BYTES;
    let payload = segment.get(payload..payload.checked_add(payload_bytes)?)?;
    Some(crc32c::crc32c_append(crc, payload))
}

/// Makes the checksum of an identity file hold, whatever the rest says.
pub fn seal_identity(bytes: &mut [u8]) {
    seal_block(bytes, 0);
}

/// Makes the checksums of a segment hold, whatever the rest says: of both headers, and of the
/// entries as far as one leads to the next.
pub fn seal(segment: &mut [u8]) {
    for at in BLOCK_OFFSETS {
        seal_block(segment, at);
    }
    let Some(salt) = salt(segment) else {
        return;
    };
    let mut offset = HEADER_BYTES;
    while let Some(stored) = seal_entry(segment, offset, salt) {
        offset += stored;
    }
}

fn seal_block(bytes: &mut [u8], at: usize) {
    let Some(block) = bytes.get_mut(at..at + BLOCK_BYTES) else {
        return;
    };
    if let Some((body, crc)) = block.split_last_chunk_mut::<4>() {
        *crc = crc32c::crc32c(body).to_le_bytes();
    }
}

fn seal_entry(segment: &mut [u8], offset: usize, salt: u32) -> Option<usize> {
    let head = segment.get_mut(offset..offset.checked_add(ENTRY_HEADER_BYTES)?)?;
    if head.iter().all(|byte| *byte == 0) {
        return None;
    }
    head.get_mut(..2)?.copy_from_slice(&ENTRY_MAGIC);
    head.get_mut(24..28)?.copy_from_slice(&salt.to_le_bytes());
    let payload_bytes = payload_bytes(head)?;
    let crc = checksum(segment, offset, payload_bytes, salt)?;
    let target = segment.get_mut(offset + 28..offset + 32)?;
    target.copy_from_slice(&crc.to_le_bytes());
    Some((ENTRY_HEADER_BYTES + payload_bytes).next_multiple_of(8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_without_its_header_is_read_by_the_salt_of_its_summary() {
        let mut bytes = vec![0; HEADER_BYTES + 2 * ENTRY_HEADER_BYTES];
        // An empty summary, and a record without a payload.
        for (at, kind) in [(HEADER_BYTES, KIND_CHECKPOINT), (HEADER_BYTES + 32, KIND_RECORD)] {
            bytes[at] = 1;
            bytes[at + 2] = kind;
        }
        seal(&mut bytes);
        let whole = entries(&bytes);
        assert_eq!(whole.iter().map(|it| it.kind).collect::<Vec<_>>(), [0, 1]);
        assert_eq!(entries_of(&bytes, 0), whole);
        let mut begun_again = bytes.clone();
        for at in BLOCK_OFFSETS {
            bytes[at] ^= 1;
            // Of a former life of the file, under another number.
            begun_again[at + 32] = 9;
            seal_block(&mut begun_again, at);
        }
        assert!(entries(&bytes).is_empty() && entries(&begun_again).is_empty());
        assert_eq!(entries_of(&bytes, 0), whole);
        assert_eq!(entries_of(&begun_again, 0), whole);
    }
}
