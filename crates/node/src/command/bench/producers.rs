//! Callers of a buffer, each waiting until its message is durable.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_messaging::{Accepted, Buffer, BufferConfig, CommitObserver, FileStorage};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority};
use alys_stream_protocol::time::{SystemClock, WallClock as _};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::failure::{Exit, Failure};

/// Messages handed over at once while a backlog is made.
const FILL_TOGETHER: u64 = 1024;

/// The sizes of recent commits: messages and bytes.
#[derive(Debug, Default)]
pub(super) struct Commits(Mutex<Vec<(u64, u64)>>);

impl Commits {
    /// Takes what came since the last call.
    pub(super) fn take(&self) -> Vec<(u64, u64)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl CommitObserver for Commits {
    fn committed(&self, entries: u64, bytes: u64, _sync: Duration) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push((entries, bytes));
    }
}

/// Opens a buffer with the bounds that a node has unless told otherwise.
///
/// # Errors
///
/// When the disk says no.
pub(super) fn open(dir: &Path) -> Result<Buffer, Failure> {
    let opened = Buffer::open(dir, BufferConfig::default(), Arc::new(FileStorage));
    opened.map(|(buffer, _)| buffer).map_err(|error| Failure::new(Exit::Io, error))
}

/// A message with a payload of this size; cheap, since all share it.
pub(super) fn message(payload: &Bytes) -> Message {
    Message {
        id: MessageId::mint(),
        kind: MessageKind(1000),
        priority: Priority::Normal,
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: payload.clone(),
    }
}

/// Appends one message and waits until it is durable.
///
/// # Errors
///
/// When the buffer is full or the disk says no.
pub(super) async fn accept(buffer: &Buffer, message: Message) -> Result<(), Failure> {
    let appended = buffer.append_one(SystemClock.now(), message);
    let Accepted { seq, .. } = appended.map_err(|error| Failure::new(Exit::Io, error))?;
    buffer.durable(seq).await.map_err(|error| Failure::new(Exit::Io, error))
}

/// Has so many callers append for so long; how many messages became durable, and in what time.
///
/// # Errors
///
/// When the buffer is full or the disk says no.
pub(super) async fn run(
    buffer: &Buffer,
    producers: u32,
    payload: &Bytes,
    span: Duration,
) -> Result<(u64, Duration), Failure> {
    let started = Instant::now();
    let mut tasks = JoinSet::new();
    for _ in 0..producers {
        let (buffer, payload) = (buffer.clone(), payload.clone());
        tasks.spawn(async move {
            let mut done = 0_u64;
            while started.elapsed() < span {
                accept(&buffer, message(&payload)).await?;
                done += 1;
            }
            Ok::<_, Failure>(done)
        });
    }
    let mut messages = 0;
    while let Some(task) = tasks.join_next().await {
        messages += task.map_err(|error| Failure::other(format_args!("a producer: {error}")))??;
    }
    Ok((messages, started.elapsed()))
}

/// Fills a new buffer with unsettled messages, and closes it. Takes what became durable, as a node
/// does.
///
/// # Errors
///
/// When the buffer is full or the disk says no.
pub(super) async fn fill(dir: &Path, records: u64, payload_bytes: usize) -> Result<(), Failure> {
    let payload = Bytes::from(vec![0x5a; payload_bytes]);
    let buffer = open(dir)?;
    let mut left = records;
    while left > 0 {
        let together = left.min(FILL_TOGETHER);
        // Each has a payload of its own, as messages have: shared ones would take no memory.
        let own = || Bytes::copy_from_slice(&payload);
        let messages = (0..together).map(|_| message(&own())).collect();
        let appended = buffer.append(SystemClock.now(), messages);
        let appended = appended.map_err(|error| Failure::new(Exit::Io, error))?;
        if let Some(last) = appended.last() {
            let durable = buffer.durable(last.seq).await;
            durable.map_err(|error| Failure::new(Exit::Io, error))?;
            buffer.next_durable().await;
        }
        left -= together;
    }
    buffer.close().await;
    Ok(())
}
