//! The buffer on disks that crash, tear, flip bits, fill up and fail, checked against what a caller
//! was told.
//!
//! Most of it runs on the simulated disk of `testkit`, where each storage call is a place to crash
//! at; `kill` and `full` use real files. Tests print how many cases they ran.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise"
)]

mod crash;
mod fill;
mod flip;
mod full;
mod handoff;
mod kill;
mod model;
mod oracle;
mod order;
mod recover;
mod rig;
mod sync;

use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use alys_stream_messaging::{BacklogPage, BufferConfig};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

pub(crate) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// Where a buffer is on a simulated disk.
pub(crate) const DIR: &str = "/log";

/// Segments of two pages: a header and a few messages.
pub(crate) fn tiny() -> BufferConfig {
    BufferConfig {
        segment_bytes: 8 * 1024,
        // A page of payloads at a time, one page of the index, and ids in many small groups.
        payload_cache_bytes: 24 * 1024,
        index_cache_bytes: 0,
        id_group_messages: 128,
        ..BufferConfig::default()
    }
}

/// A message whose content follows from its number.
pub(crate) fn message(n: u64, payload_bytes: usize) -> Message {
    let mut id = [0xC5; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let payload: Vec<u8> = (0..payload_bytes).map(|i| (n as usize * 31 + i) as u8).collect();
    Message {
        id: MessageId::new(id),
        kind: MessageKind(1000),
        priority: Priority::from_index((n % 4) as u8).unwrap(),
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: payload.into(),
    }
}

/// The unsettled seqs of a page.
pub(crate) fn seqs_of(page: &BacklogPage) -> Vec<Seq> {
    let bits = page.by_priority.iter().fold(0, |all, bits| all | bits);
    let first = page.first_seq().0;
    (first..first + BacklogPage::SEQS)
        .filter(|seq| bits >> (seq - first) & 1 == 1)
        .map(Seq)
        .collect()
}

pub(crate) fn seqs(seqs: impl IntoIterator<Item = u64>) -> SeqSet {
    seqs.into_iter().map(Seq).collect()
}

/// Calls `case` for each number below `count`, on every processor, and returns how many there were.
pub(crate) fn for_each(count: u64, case: impl Fn(u64) + Sync) -> u64 {
    let next = AtomicU64::new(0);
    let threads = thread::available_parallelism().map_or(2, usize::from);
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(n) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).filter(|n| *n < count)
                {
                    case(n);
                }
            });
        }
    });
    count
}
