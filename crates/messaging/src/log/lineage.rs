//! The ids that a log had before: a restored copy that was adopted has segments of its former life.
//!
//! `lineage`, little endian; there is none until a log is adopted:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `ALYSLINE` |
//! | 8 | 4 | format version |
//! | 12 | 4 | count of ids |
//! | 16 | 16 × count | ids, in ascending order |
//! | 16 + 16 × count | 4 | CRC-32C of everything before |
//!
//! A file that does not verify is as good as none: segments of a former life are then refused as
//! foreign ones are, and nothing is mixed in by mistake (M19).

use std::collections::BTreeSet;
use std::io;

use alys_stream_protocol::message::LogId;

use super::directory::Place;
use super::format::FORMAT_VERSION;
use super::{OpenError, files};
use crate::sealed;

const MAGIC: [u8; 8] = *b"ALYSLINE";

/// Most ids: every adoption drops those that no segment bears any more.
const IDS_MAX: usize = 1024;

const FILE_BYTES_MAX: usize = 16 + 16 * IDS_MAX + 4;

pub(super) fn read(place: Place<'_>) -> Result<BTreeSet<LogId>, OpenError> {
    let path = place.dir.join(files::LINEAGE);
    match place.open(&path).and_then(|file| sealed::read(&*file, FILE_BYTES_MAX)) {
        Ok(bytes) => Ok(decode(&bytes).unwrap_or_else(|| {
            tracing::warn!(path = %path.display(), "damaged; segments of a former life are foreign");
            BTreeSet::new()
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        Err(source) => Err(OpenError::from_io("reading", &path, source)),
    }
}

pub(super) fn write(place: Place<'_>, ids: &BTreeSet<LogId>) -> Result<(), OpenError> {
    let path = place.dir.join(files::LINEAGE);
    files::replace(place.storage, &path, &encode(ids))
        .map_err(|source| OpenError::from_io("writing", &path, source))
}

fn encode(ids: &BTreeSet<LogId>) -> Vec<u8> {
    sealed::encode(MAGIC, FORMAT_VERSION, |bytes| {
        bytes.extend_from_slice(&u32::try_from(ids.len()).unwrap_or(u32::MAX).to_le_bytes());
        for id in ids {
            bytes.extend_from_slice(id.as_bytes());
        }
    })
}

fn decode(bytes: &[u8]) -> Option<BTreeSet<LogId>> {
    let mut reader = sealed::decode(bytes, MAGIC, FORMAT_VERSION)?;
    (0..reader.u32()?).map(|_| reader.array().map(LogId::new)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_and_every_flipped_byte_is_noticed() {
        let ids: BTreeSet<LogId> = [LogId::new([1; 16]), LogId::new([7; 16])].into();
        let bytes = encode(&ids);
        assert_eq!(decode(&bytes), Some(ids));
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x40;
            assert_eq!(decode(&flipped), None, "{at}");
            assert_eq!(decode(&bytes[..at]), None, "{at}");
        }
    }
}
