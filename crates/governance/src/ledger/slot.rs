//! The bytes of one application in the ledger; described in [`super`].

use alys_stream_protocol::message::{LogId, MessageId, MessageKind, Seq};
use alys_stream_protocol::time::UnixMillis;

use super::Application;

/// Bytes of one slot.
pub(super) const SLOT_BYTES: usize = 80;

const FORMAT: u8 = 1;
const CHECKSUM_AT: usize = SLOT_BYTES - 4;

pub(super) fn encode(file: u32, application: &Application) -> [u8; SLOT_BYTES] {
    let mut slot = [0; SLOT_BYTES];
    slot[0] = FORMAT;
    slot[4..8].copy_from_slice(&application.kind.0.to_le_bytes());
    slot[8..24].copy_from_slice(application.id.as_bytes());
    slot[24..40].copy_from_slice(application.sender.as_bytes());
    slot[40..48].copy_from_slice(&application.seq.0.to_le_bytes());
    slot[48..56].copy_from_slice(&application.received.0.to_le_bytes());
    slot[56..72].copy_from_slice(&application.digest);
    let checksum = checksum(file, &slot);
    slot[CHECKSUM_AT..].copy_from_slice(&checksum.to_le_bytes());
    slot
}

pub(super) fn decode(file: u32, slot: &[u8; SLOT_BYTES]) -> Option<Application> {
    if slot[0] != FORMAT || array::<4>(slot, CHECKSUM_AT) != checksum(file, slot).to_le_bytes() {
        return None;
    }
    Some(Application {
        kind: MessageKind(u32::from_le_bytes(array(slot, 4))),
        id: MessageId::new(array(slot, 8)),
        sender: LogId::new(array(slot, 24)),
        seq: Seq(u64::from_le_bytes(array(slot, 40))),
        received: UnixMillis(u64::from_le_bytes(array(slot, 48))),
        digest: array(slot, 56),
    })
}

fn checksum(file: u32, slot: &[u8; SLOT_BYTES]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&file.to_le_bytes()), &slot[..CHECKSUM_AT])
}

fn array<const N: usize>(slot: &[u8; SLOT_BYTES], at: usize) -> [u8; N] {
    let mut bytes = [0; N];
    bytes.copy_from_slice(&slot[at..at + N]);
    bytes
}
