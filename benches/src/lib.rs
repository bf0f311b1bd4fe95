//! What the benches share: messages of the size that the targets are stated for.

pub mod hot_path;
pub mod link;
pub mod pair;

use std::sync::Arc;

use alys_stream_messaging::{Buffer, BufferConfig, FileStorage};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority};
use alys_stream_protocol::time::UnixMillis;
use bytes::Bytes;

/// Bytes of every payload.
pub const PAYLOAD_BYTES: usize = 256;

/// The moment at which everything happens.
pub const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// A message of an application whose id is made of `number`.
#[must_use]
pub fn message(number: u64) -> Message {
    let mut id = [0; 16];
    let (_, low) = id.split_at_mut(8);
    low.copy_from_slice(&number.to_be_bytes());
    Message {
        id: MessageId::new(id),
        kind: MessageKind(1000),
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: Bytes::from_static(&[0x5a; PAYLOAD_BYTES]),
    }
}

/// Opens a buffer with the bounds that a node has unless told otherwise.
///
/// # Panics
///
/// When the directory cannot be used.
#[must_use]
pub fn open(dir: &std::path::Path) -> Buffer {
    let storage = Arc::new(FileStorage);
    Buffer::open(dir, BufferConfig::default(), storage).expect("a directory of our own").0
}
