//! The buffer: what was accepted and is not settled yet, on disk.
//!
//! A message gets its `seq` here, once, and keeps it until it is settled. Not here: who gets it and
//! when ([`crate::outbox`]), why it died ([`crate::dead_letter`]).
//!
//! Invariants:
//! - M8: sequence numbers are dense, from 1, and given in the order of acceptance (D1).
//! - M9: what is not durable is neither read nor handed to the outbox.
//! - M10: a message whose id is live, or among the last settled ones, is not stored twice.
//! - M11: everything accepted is settled exactly once, here, after its dead letter if it has one
//!   (D2); what cannot be read back is a reported gap and counts as settled (D5).
//!
//! # Entries
//!
//! | kind | key | payload |
//! |---|---|---|
//! | 0 checkpoint | 0 | next seq (8), lowest seq that is not settled (8), settled seqs above it: count (4), then first (8) and last (8) of each range |
//! | 1 record | seq | see the `record` module |
//! | 2 settled | 0 | count of ranges (4), then first (8) and last (8) of each |

use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{Epoch, LogId, Message, MessageId, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;
use tokio::sync::Notify;

use crate::log::{
    CommitObserver, DurabilityError, Log, LogOptions, LogStat, OpenError, Position, ReadError,
};
use crate::record::{self, RecordMeta};
use crate::storage::Storage;

mod config;
mod index;
mod inspect;
mod recovery;
mod room;
mod waiting;

pub use config::{
    BufferConfig, PAYLOAD_CACHE_BYTES, PENDING_BYTES_MAX, QUOTA_BYTES, QUOTA_PERCENT,
    RESERVE_BYTES, SETTLED_BYTES_KEEP, SETTLED_IDS_MAX, WhenFull,
};
pub use index::{BufferStat, PriorityStat};
pub(crate) use inspect::{Inspected, inspect};
pub use recovery::{RecordGap, Recovered};

use index::Index;
use recovery::Rebuild;
use waiting::Waiting;

pub(crate) const KIND_RECORD: u8 = 1;
pub(crate) const KIND_SETTLED: u8 = 2;

/// What `append` says about one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its place in the log; of a duplicate, the place of the first one.
    pub seq: Seq,
    /// Whether a message with this id was there already.
    pub is_duplicate: bool,
}

/// Messages that were not accepted, none of them, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{cause}")]
pub struct AppendError {
    /// The messages, in the order given.
    pub messages: Vec<Message>,
    /// Why.
    #[source]
    pub cause: AppendCause,
}

/// Why messages were not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AppendCause {
    /// The quota is used up.
    #[error(
        "the buffer holds {used_bytes} of {quota_bytes} bytes: send again once some is settled"
    )]
    Full {
        /// Bytes of unsettled messages.
        used_bytes: u64,
        /// The quota, as far as messages of this priority may fill it.
        quota_bytes: u64,
    },
    /// The file system has no space.
    #[error("the disk of the buffer is full: free some, and send again")]
    DiskFull,
    /// More waits to be written than may wait.
    #[error("the disk is slower than the senders: send again once earlier messages are durable")]
    Backlog,
    /// One of them is larger than a message may be.
    #[error("message {index} has {bytes} bytes, the most is {}", limits::MESSAGE_BYTES_MAX)]
    TooLarge {
        /// Which one of those given.
        index: usize,
        /// Bytes of its payload (or of its trace context, when that is too long).
        bytes: usize,
    },
    /// The log failed; it takes nothing more.
    #[error("the buffer cannot be written any more: check the disk and restart")]
    Poisoned,
}

impl AppendCause {
    /// Whether the same messages may be accepted later.
    #[must_use]
    pub const fn is_backpressure(&self) -> bool {
        match self {
            Self::Full { .. } | Self::DiskFull | Self::Backlog => true,
            Self::TooLarge { .. } | Self::Poisoned => false,
        }
    }
}

/// The buffer. Cheap to clone; the last clone to go closes it.
#[derive(Debug, Clone)]
pub struct Buffer {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    index: Arc<Index>,
    config: BufferConfig,
    waiting: Waiting,
    /// Something was dropped for others.
    evicted: Notify,
}

impl Buffer {
    /// Opens the buffer in a directory, or creates it.
    ///
    /// # Errors
    ///
    /// When the directory is locked, not writable, of a newer version or of another log, or when
    /// the disk says no. Damaged content is not an error: it is in [`Recovered::gaps`].
    pub fn open(
        dir: &Path,
        config: BufferConfig,
        storage: Arc<dyn Storage>,
    ) -> Result<(Self, Recovered), OpenError> {
        let index = Arc::new(Index::new(&config));
        let options = LogOptions { dir, name: "buffer", config: config.log(), storage };
        let mut rebuild = Rebuild::new(config.settled_ids_max);
        let (log, recovery) =
            Log::open(&options, Arc::<Index>::clone(&index) as Arc<_>, &mut |event| {
                rebuild.handle_event(event);
            })?;
        let (recovered, lost) = rebuild.finish(&index, recovery);
        let (waiting, evicted) = (Waiting::default(), Notify::new());
        let this = Self { shared: Arc::new(Shared { log, index, config, waiting, evicted }) };
        // A gap is settled as far as this log goes: nobody can send what is not there (M11).
        if !lost.is_empty() {
            this.settle(&lost);
        }
        Ok((this, recovered))
    }

    /// Identifies the log of this buffer.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.shared.log.log_id()
    }

    /// How often it was opened.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.shared.log.epoch()
    }

    /// The seq that the next accepted message gets.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.shared.index.next_seq()
    }

    /// Every seq below it is settled.
    #[must_use]
    pub fn settled_below(&self) -> Seq {
        self.shared.index.settled_below()
    }

    /// Accepts messages, all or none: gives them their places, to be durable with the next commit.
    ///
    /// Accepted means durable: callers wait for [`Buffer::durable`] (or [`Buffer::written`], in
    /// that durability class) before they say so.
    ///
    /// # Errors
    ///
    /// Gives all messages back when the quota or the disk is full, one is too large, or the log
    /// failed.
    pub fn append(
        &self,
        now: UnixMillis,
        messages: Vec<Message>,
    ) -> Result<Vec<Accepted>, AppendError> {
        if let Err(cause) = self.admit(&messages) {
            return Err(AppendError { messages, cause });
        }
        let mut state = self.shared.index.lock();
        if let Err(cause) = state.admit(messages.iter().map(needs)) {
            drop(state);
            return Err(AppendError { messages, cause });
        }
        self.tell_evicted(&state);
        let log = &self.shared.log;
        Ok(messages.into_iter().map(|message| state.append(log, now, message)).collect())
    }

    /// Accepts one message, as [`Buffer::append`] does, without an allocation of its own.
    ///
    /// # Errors
    ///
    /// As [`Buffer::append`].
    pub fn append_one(&self, now: UnixMillis, message: Message) -> Result<Accepted, AppendError> {
        if let Err(cause) = self.admit(std::slice::from_ref(&message)) {
            return Err(AppendError { messages: vec![message], cause });
        }
        let mut state = self.shared.index.lock();
        if let Err(cause) = state.admit(std::iter::once(needs(&message))) {
            drop(state);
            return Err(AppendError { messages: vec![message], cause });
        }
        self.tell_evicted(&state);
        Ok(state.append(&self.shared.log, now, message))
    }

    /// Accepts a message again that died under `replayed_from` ([`Seq::VOLATILE`] when that was in
    /// another log). It keeps its id, gets a new place, and remembers the old one on disk, so that
    /// a replay that a crash cut short is recognised: [`Recovered::replayed`].
    ///
    /// A message that is live, or that was accepted after it died there, is a duplicate (M10).
    ///
    /// # Errors
    ///
    /// As [`Buffer::append`].
    pub fn replay(
        &self,
        now: UnixMillis,
        message: Message,
        replayed_from: Seq,
    ) -> Result<Accepted, AppendError> {
        if let Err(cause) = self.admit(std::slice::from_ref(&message)) {
            return Err(AppendError { messages: vec![message], cause });
        }
        let mut state = self.shared.index.lock();
        let bytes = record::encoded_bytes(&message) + record::REPLAYED_BYTES;
        let needs = (message.priority, index::stored_bytes(bytes));
        if let Err(cause) = state.admit(std::iter::once(needs)) {
            drop(state);
            return Err(AppendError { messages: vec![message], cause });
        }
        self.tell_evicted(&state);
        Ok(state.replay(&self.shared.log, now, message, replayed_from))
    }

    fn admit(&self, messages: &[Message]) -> Result<(), AppendCause> {
        let oversize = messages.iter().position(|message| !record::is_encodable(message));
        if let Some((index, message)) = oversize.and_then(|i| messages.get(i).map(|m| (i, m))) {
            let trace = message.traceparent.as_ref().map_or(0, String::len);
            let bytes = message.payload.len().max(trace);
            return Err(AppendCause::TooLarge { index, bytes });
        }
        if self.shared.log.failure().is_some() {
            return Err(AppendCause::Poisoned);
        }
        if self.shared.log.is_disk_full() {
            return Err(AppendCause::DiskFull);
        }
        if self.shared.log.pending_bytes() > self.shared.config.pending_bytes_max {
            return Err(AppendCause::Backlog);
        }
        Ok(())
    }

    /// Waits until a message is on stable storage.
    ///
    /// # Errors
    ///
    /// When the log failed or was closed before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it; the message stays accepted.
    pub async fn durable(&self, seq: Seq) -> Result<(), DurabilityError> {
        let Some(position) = self.shared.index.pending_position(seq) else {
            return Ok(());
        };
        self.shared.log.durable(position).await
    }

    /// Waits until a message is written, synced or not: the durability class `os`.
    ///
    /// # Errors
    ///
    /// When the log failed or was closed before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it; the message stays accepted.
    pub async fn written(&self, seq: Seq) -> Result<(), DurabilityError> {
        let Some(position) = self.shared.index.pending_position(seq) else {
            return Ok(());
        };
        self.shared.log.written(position).await
    }

    /// Waits until an entry, such as a settlement, is on stable storage.
    ///
    /// # Errors
    ///
    /// When the log failed or was closed before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn position_durable(&self, position: Position) -> Result<(), DurabilityError> {
        self.shared.log.durable(position).await
    }

    /// The latest position that is durable, without waiting.
    #[must_use]
    pub fn durable_position(&self) -> Position {
        self.shared.log.durable_position()
    }

    /// The records that became durable since the last call, in order of seq; `None` once the log
    /// is closed (or failed) and all were handed out. For one consumer.
    ///
    /// # Cancel safety
    ///
    /// Records are taken only when it returns.
    pub async fn next_durable(&self) -> Option<Vec<RecordMeta>> {
        let mut watermark = self.shared.log.watch_durable();
        loop {
            let is_open = watermark.borrow_and_update().end == crate::log::End::Open;
            let fresh = self.shared.index.take_durable();
            if !fresh.is_empty() {
                return Some(fresh);
            }
            if !is_open || watermark.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Reads a message that is durable and not settled: from the cache, else from the log.
    /// `Ok(None)` when it is settled, unknown or not durable yet (M9).
    ///
    /// # Errors
    ///
    /// When its bytes are damaged or the disk says no.
    pub fn read(&self, seq: Seq) -> Result<Option<Message>, ReadError> {
        let location = match self.shared.index.find(seq) {
            index::Lookup::Absent => return Ok(None),
            index::Lookup::Cached(message) => return Ok(Some(message)),
            index::Lookup::Stored(location) => location,
        };
        let damaged =
            ReadError::Damaged { segment: location.segment, offset: u64::from(location.offset) };
        match self.shared.log.read(location) {
            Ok(bytes) => record::decode(&bytes).map(Some).ok_or(damaged),
            // Settled meanwhile, and its segment gone or reused.
            Err(_) if !self.shared.index.is_live(seq) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Settles messages: they are done. Durable with the next commit; settling again is harmless.
    /// What relies on it waits for [`Buffer::position_durable`].
    pub fn settle(&self, seqs: &SeqSet) -> Position {
        let mut state = self.shared.index.lock();
        let position = state.settle(&self.shared.log, seqs);
        let retired = state.poll_retirable(self.shared.config.settled_bytes_keep);
        drop(state);
        self.shared.log.retire(&retired);
        self.shared.log.tell_room();
        position
    }

    /// The seq of a message that is live or was settled not long ago.
    #[must_use]
    pub fn lookup(&self, id: &MessageId) -> Option<Seq> {
        self.shared.index.lock().lookup(id)
    }

    /// Whether a seq was given and is settled.
    #[must_use]
    pub fn is_settled(&self, seq: Seq) -> bool {
        self.shared.index.is_settled(seq)
    }

    /// When an unsettled message was accepted.
    #[must_use]
    pub fn accepted_at(&self, seq: Seq) -> Option<UnixMillis> {
        self.shared.index.accepted_at(seq)
    }

    /// Every seq that is durable or about to be, and not settled.
    #[must_use]
    pub fn unsettled(&self) -> SeqSet {
        self.shared.index.unsettled()
    }

    /// Counts and sizes.
    #[must_use]
    pub fn stat(&self) -> BufferStat {
        self.shared.index.stat(self.shared.log.stat())
    }

    /// Counters of the log below.
    #[must_use]
    pub fn log_stat(&self) -> LogStat {
        self.shared.log.stat()
    }

    /// Names who is told about commits, for metrics. The first call counts.
    pub fn observe(&self, observer: Arc<dyn CommitObserver>) {
        self.shared.log.observe(observer);
    }

    /// Writes what is pending, ends the threads and releases the directory. Everything appended
    /// before is durable, or its waiters are told that it is not.
    pub async fn close(&self) {
        self.shared.log.close().await;
    }
}

/// What a message needs to be accepted.
fn needs(message: &Message) -> (Priority, u64) {
    (message.priority, index::stored_bytes(record::encoded_bytes(message)))
}
