//! The bodies of the fuzz targets: a fuzzer feeds them on a nightly toolchain, a test replays the
//! committed corpus and a fixed number of mutations of it everywhere.
//!
//! Each says whether it took anything of its input for what it may be, so that the test can tell
//! that its mutations are neither all refused at the first byte nor all taken.
//!
//! Not here: the fuzzer, which is in `fuzz/` outside of the workspace.

use std::path::Path;
use std::time::Duration;

use alys_stream_messaging::{Buffer, BufferConfig, Recovered};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority, Seq};
use alys_stream_protocol::time::UnixMillis;

use crate::disk::{Crash, Disk};

mod input;
mod mutation;
mod seeds;
#[cfg(feature = "wire")]
mod wire;

pub use mutation::mutated;
pub use seeds::seeds;
#[cfg(feature = "wire")]
pub use wire::{
    Target, configuration, credentials, decompression, filters, governance, handshake, session,
};

/// Where the log is.
const DIR: &str = "/log";

const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// What takes longer is a hang. Opening and one commit take a millisecond.
const PATIENCE: Duration = Duration::from_secs(30);

/// Segments of the logs that the seeds are made of.
const SEGMENT_BYTES: u64 = 8 * 1024;

fn config() -> BufferConfig {
    BufferConfig { segment_bytes: SEGMENT_BYTES, ..BufferConfig::default() }
}

/// Opens a buffer on whatever files `data` describes, reads it, uses it and opens it again; whether
/// they are a buffer.
///
/// # Panics
///
/// When the buffer does, when it hangs, or when a message that it accepted is not there after all
/// (unless the input made its own checksums hold, which no fault does).
#[must_use]
pub fn recover(data: &[u8]) -> bool {
    let input = input::Input::read(data);
    let disk = Disk::new(0);
    for (name, bytes) in &input.files {
        disk.store_file(&Path::new(DIR).join(name), bytes.clone());
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("invariant: the machine has what a runtime needs");
    runtime.block_on(async {
        let used = tokio::time::timeout(PATIENCE, use_buffer(&disk, input.is_sealed)).await;
        used.expect("the buffer does not hang")
    })
}

async fn use_buffer(disk: &Disk, is_sealed: bool) -> bool {
    let Some((buffer, _)) = open(disk) else {
        return false;
    };
    let message = message(read_all(&buffer));
    let Ok(accepted) = buffer.append_one(NOW, message.clone()) else {
        assert!(is_sealed, "a buffer that was opened takes a message");
        return true;
    };
    let durable = buffer.durable(accepted.seq).await;
    assert!(durable.is_ok(), "nothing is wrong with the disk: {durable:?}");
    buffer.close().await;
    drop(buffer);
    disk.crash(Crash::Lose);
    let reopened = open(disk);
    if is_sealed {
        return true;
    }
    let (buffer, _) = reopened.expect("invariant D10: what was opened once can be opened again");
    let found = buffer.read(accepted.seq);
    assert!(
        accepted.is_duplicate || found.is_ok_and(|found| found == Some(message)),
        "invariant D1: what was durable is there"
    );
    true
}

fn open(disk: &Disk) -> Option<(Buffer, Recovered)> {
    Buffer::open(Path::new(DIR), config(), disk.mount()).ok()
}

/// Reads everything unsettled; returns how much that is.
fn read_all(buffer: &Buffer) -> usize {
    let seqs: Vec<Seq> = buffer.unsettled().iter().collect();
    // Damage that came between is an error, and no panic.
    drop(buffer.metas(&seqs));
    for seq in &seqs {
        drop(buffer.read(*seq));
    }
    seqs.len()
}

/// A message that no seed has.
fn message(n: usize) -> Message {
    Message {
        id: MessageId::new([0xF2; 16]),
        kind: MessageKind(1000),
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: n.to_le_bytes().to_vec().into(),
    }
}
