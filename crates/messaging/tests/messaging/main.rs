//! The messaging layer over real files, against models.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    reason = "a test may stop at the first surprise"
)]

mod buffer;
mod damage;
mod faults;
mod golden;
mod ids;
mod in_place;
mod inbox;
mod mark;
mod model;
mod outbox;
mod paging;
mod room;
mod stores;
mod superseded;
mod tools;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::{
    BacklogPage, Buffer, BufferConfig, FileStorage, RecordMeta, Recovered,
};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

pub(crate) const NOW: UnixMillis = UnixMillis(1_700_000_000_000);

/// Small segments, so that a few messages fill several.
pub(crate) fn small() -> BufferConfig {
    BufferConfig { segment_bytes: 16 * 1024, ..BufferConfig::default() }
}

pub(crate) fn open(dir: &Path, config: BufferConfig) -> (Buffer, Recovered) {
    Buffer::open(dir, config, Arc::new(FileStorage)).unwrap()
}

/// What is known of everything unsettled, in order.
pub(crate) fn metas(buffer: &Buffer) -> Vec<RecordMeta> {
    let seqs: Vec<Seq> = buffer.backlog().flat_map(|page| seqs_of(&page)).collect();
    buffer.metas(&seqs).into_iter().map(Result::unwrap).collect()
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

/// A message whose content follows from its number.
pub(crate) fn message(n: u64, payload_bytes: usize) -> Message {
    let mut id = [0xC5; 16];
    id[..8].copy_from_slice(&n.to_be_bytes());
    let payload: Vec<u8> = (0..payload_bytes).map(|i| (n as usize * 31 + i) as u8).collect();
    Message {
        id: MessageId::new(id),
        kind: MessageKind(1000),
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: payload.into(),
    }
}

pub(crate) fn seqs(seqs: impl IntoIterator<Item = u64>) -> SeqSet {
    seqs.into_iter().map(Seq).collect()
}

/// Waits for what another thread does by itself.
pub(crate) async fn until(mut is_true: impl FnMut() -> bool) {
    let waiting = async {
        while !is_true() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it happens by itself");
}

/// Whether a file is still there when whoever may have removed it has had the time for it.
pub(crate) async fn stays(path: &Path) -> bool {
    let is_gone = async {
        while path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_millis(300), is_gone).await.is_err()
}

/// Files of a directory whose names end so.
pub(crate) fn files(dir: &Path, suffix: &str) -> Vec<std::path::PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.to_str().unwrap().ends_with(suffix))
        .collect();
    files.sort();
    files
}
