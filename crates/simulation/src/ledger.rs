//! The ledger of a governance node, read off its files and not by its own code.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use alys_stream_protocol::message::{MessageId, Seq};

use crate::net::Machine;

/// Folder of the ledger in the data directory.
pub(crate) const FOLDER: &str = "ledger";

/// Bytes of a slot of the ledger; see its description in `governance::ledger`.
const SLOT_BYTES: usize = 80;

/// The file of a line, and its slot there.
pub(crate) type Place = (u32, usize);

/// An application of a message, as the ledger on the disk says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Applied {
    pub(crate) place: Place,
    pub(crate) id: MessageId,
    /// The node whose log it is of. `None` when it came on a stream of the published protocol: then its
    /// log and its number are of the governance node's own making.
    pub(crate) by: Option<Machine>,
    pub(crate) log: [u8; 16],
    pub(crate) seq: Seq,
    /// When it was received, in milliseconds.
    pub(crate) received: u64,
}

/// What the files of a ledger say, in the order of application.
pub(crate) fn applied(files: &BTreeMap<PathBuf, Vec<u8>>) -> Vec<Applied> {
    let numbered = files.iter().filter_map(|(path, bytes)| Some((file_number(path)?, bytes)));
    numbered.flat_map(|(number, bytes)| lines(number, bytes, 0)).collect()
}

/// The number of a file of the ledger.
pub(crate) fn file_number(path: &Path) -> Option<u32> {
    path.file_stem()?.to_str()?.strip_prefix("applied-")?.parse().ok()
}

/// The lines in a stretch of a file that begins there.
pub(crate) fn lines(file: u32, bytes: &[u8], offset: usize) -> impl Iterator<Item = Applied> {
    let slots = (offset / SLOT_BYTES..).zip(bytes.as_chunks::<SLOT_BYTES>().0);
    slots.filter_map(move |(slot, bytes)| read_slot((file, slot), bytes))
}

/// A line of a file; `None` of one that was never written whole.
fn read_slot(place: Place, slot: &[u8; SLOT_BYTES]) -> Option<Applied> {
    let (content, checksum) = slot.split_last_chunk::<4>()?;
    if slot[0] != 1 {
        return None;
    }
    let whole = crc32c::crc32c_append(crc32c::crc32c(&place.0.to_le_bytes()), content);
    if whole.to_le_bytes() != *checksum {
        return None;
    }
    let id = MessageId::try_from_slice(slot.get(8..24)?).ok()?;
    let log = slot.get(24..40)?.try_into().ok()?;
    let seq = Seq(u64::from_le_bytes(slot.get(40..48)?.try_into().ok()?));
    let received = u64::from_le_bytes(slot.get(48..56)?.try_into().ok()?);
    Some(Applied { place, id, by: None, log, seq, received })
}
