//! The inbox: what was received, durably and once.
//!
//! Dedup is by the set of sequence numbers per sending log, kept as intervals. A record and the
//! knowledge that it was received are one entry of one log: one durable step.
//!
//! Not here: what a message means, and when its sender is told: the driver waits for
//! [`Inbox::durable`] (stored) or calls [`Inbox::handled`] first (acted on).
//!
//! Invariants:
//! - M16: a record is handed out as fresh once per sender and seq, whatever is sent again (D3).
//! - M17: a seq is forgotten only below the sender's `settled_below` or when an acknowledgement of
//!   it is durable at the sender: no time, no count.
//! - M18: what was received and not handled is handed out again at the next open (D8).
//! - M41: what was received together survives a power cut from its first message on, without a hole
//!   (D4).
//! - M37: a cursor has durable records alone: its reader settles what it names, and a crash must not
//!   make that untrue (D2).
//!
//! # Entries
//!
//! | kind | key | payload |
//! |---|---|---|
//! | 0 checkpoint | 0 | next id (8); senders (4), each: log id (16), epoch (8), settled below (8), highest seq seen (8), set of received seqs; set of ids that are not handled; for each sender again, unless it is older than that: nonce of the epoch (8), epoch (8) and nonce (8) of the latest record; and once more: epoch (8), nonce (8) and messages settled (8) of when something was forgotten last. A set is a count (4), then first (8) and last (8) of each range |
//! | 1 received | id | log id of the sender (16), seq (8), then see the `record` module |
//! | 2 handled | 0 | set of ids |
//! | 3 admitted | epoch | log id of the sender (16), nonce of the epoch (8) unless it is not known |

use std::path::Path;
use std::sync::Arc;

use alys_stream_protocol::message::{Epoch, Forgotten, LogId, Message, Opening, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use serde::Deserialize;

use crate::log::{
    CommitObserver, DurabilityError, Log, LogClient, LogConfig, LogOptions, LogStat, OnCorruption,
    OpenError, Position, Recovery,
};
use crate::storage::Storage;

mod state;

use state::{InboxClient, Rebuild};

pub(crate) const KIND_RECEIVED: u8 = 1;
pub(crate) const KIND_HANDLED: u8 = 2;
pub(crate) const KIND_ADMITTED: u8 = 3;

/// Bytes of one segment unless configured: what is handled goes soon, so segments are small.
pub const SEGMENT_BYTES: u64 = 16 * 1024 * 1024;

/// Bounds of the inbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InboxConfig {
    /// Bytes of one segment file, 8 KiB to 1 GiB; default 16 MiB.
    pub segment_bytes: u64,
    /// What to do about damage found at start-up; default `quarantine`.
    pub on_corruption: OnCorruption,
}

impl Default for InboxConfig {
    fn default() -> Self {
        Self { segment_bytes: SEGMENT_BYTES, on_corruption: OnCorruption::Quarantine }
    }
}

/// The place of a message in one inbox: dense, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboxId(pub u64);

/// A record as it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboxRecord {
    /// Its place in the log of the sender.
    pub seq: Seq,
    /// The message.
    pub message: Message,
}

/// A record that was received for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Received {
    /// Its place here.
    pub id: InboxId,
    /// The log it came from.
    pub sender: LogId,
    /// Its place in that log.
    pub seq: Seq,
    /// The message.
    pub message: Message,
}

/// What [`Inbox::receive`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// What was not there yet, in the order given.
    pub fresh: Vec<Received>,
    /// How many were there already.
    pub duplicates: u64,
    /// Once it is durable, all of them may be acknowledged, duplicates included.
    pub position: Position,
}

/// What is stored of one sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// Received, durable and not forgotten (M37).
    pub received: SeqSet,
    /// The highest seq ever received; 0 for none.
    pub highest_seen: Seq,
    /// The opening with the highest epoch that was ever admitted.
    pub admitted: Opening,
    /// The opening in which the latest record was received, or in which it was told what is settled.
    pub seen: Opening,
    /// Everything below it was received or will never be sent.
    pub settled_below: Seq,
    /// What its sender said of itself when something was forgotten last.
    pub forgotten: Forgotten,
}

/// Why a sender is not admitted (D12).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Fenced {
    /// A later process with the same log was here.
    #[error("epoch {} of this log was seen: an older process must not go on", seen.0)]
    StaleEpoch {
        /// The epoch that was seen.
        seen: Epoch,
    },
    /// Another process opened this log under the same epoch: one of them goes on with a copy.
    #[error("epoch {} of this log was seen, and another process began it: the log was copied", epoch.0)]
    Copied {
        /// The epoch that both began.
        epoch: Epoch,
    },
    /// Its log ends before what was received from it.
    #[error("seq {highest_seen} of this log was received: the log was rolled back")]
    RolledBack {
        /// The highest seq received.
        highest_seen: Seq,
    },
}

/// The inbox. Cheap to clone; the last clone to go closes it.
#[derive(Debug, Clone)]
pub struct Inbox {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    log: Log,
    client: Arc<InboxClient>,
    recovery: Recovery,
}

impl Inbox {
    /// Opens the inbox in a directory, or creates it. Returns what was received and not handled.
    ///
    /// # Errors
    ///
    /// When the directory is locked, not writable, of a newer version or of another log, or when
    /// the disk says no.
    pub fn open(
        dir: &Path,
        config: InboxConfig,
        storage: Arc<dyn Storage>,
    ) -> Result<(Self, Vec<Received>), OpenError> {
        let client = Arc::new(InboxClient::default());
        let log_config = LogConfig::new(config.segment_bytes, config.on_corruption)
            .ordered()
            .with_reserve(crate::log::RESERVE_BYTES);
        let options = LogOptions { dir, name: "inbox", config: log_config, storage };
        let mut rebuild = Rebuild::default();
        let (log, recovery) =
            Log::open(&options, Arc::<InboxClient>::clone(&client) as Arc<_>, &mut |event| {
                rebuild.handle_event(event);
            })?;
        let unhandled = rebuild.finish(&client, recovery.next_key);
        log.mark_found(LogClient::next_key(&*client));
        Ok((Self { shared: Arc::new(Shared { log, client, recovery }) }, unhandled))
    }

    /// What opening it found.
    #[must_use]
    pub fn recovery(&self) -> &Recovery {
        &self.shared.recovery
    }

    /// Identifies the log of this inbox.
    #[must_use]
    pub fn log_id(&self) -> LogId {
        self.shared.log.log_id()
    }

    /// Decides whether a sender may go on with its log.
    ///
    /// # Errors
    ///
    /// When its epoch is older than one seen, or was begun by another process, or its log was
    /// rolled back.
    pub fn admit(&self, sender: LogId, opening: Opening, next_seq: Seq) -> Result<(), Fenced> {
        self.shared.client.lock().admit(&self.shared.log, sender, opening, next_seq)
    }

    /// Whether a record was received, durable or not.
    #[must_use]
    pub fn has(&self, sender: LogId, seq: Seq) -> bool {
        self.shared.client.lock().has(sender, seq)
    }

    /// What is stored of one sender.
    #[must_use]
    pub fn cursor(&self, sender: LogId) -> Cursor {
        self.shared.client.lock().cursor(sender)
    }

    /// What is stored of every sender, in order of their ids.
    #[must_use]
    pub fn cursors(&self) -> Vec<(LogId, Cursor)> {
        self.shared.client.lock().cursors()
    }

    /// Stores records that are not there yet.
    pub fn receive(&self, sender: LogId, records: Vec<InboxRecord>) -> Receipt {
        self.shared.client.lock().receive(&self.shared.log, sender, records)
    }

    /// Waits until a position is on stable storage.
    ///
    /// # Errors
    ///
    /// When the log failed or was closed before.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn durable(&self, position: Position) -> Result<(), DurabilityError> {
        self.shared.log.durable(position).await
    }

    /// Waits until nothing can be stored any more: it was closed, or its disk failed.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost by dropping it.
    pub async fn ended(&self) -> DurabilityError {
        self.shared.log.ended().await
    }

    /// Messages were handled: they will not be handed out again. Durable with the next commit.
    pub fn handled(&self, ids: &[InboxId]) -> Position {
        let mut state = self.shared.client.lock();
        let position = state.handled(&self.shared.log, ids);
        let retired = state.poll_retirable();
        drop(state);
        self.shared.log.retire(&retired);
        position
    }

    /// The sender will never send again what is below `settled.below` or in `covered` (what
    /// acknowledgements covered that are durable there). Nothing else makes the inbox forget.
    pub fn forget(&self, sender: LogId, settled: Settled, covered: &SeqSet) {
        self.shared.client.lock().forget(sender, settled, covered);
    }

    /// How many messages are not handled.
    #[must_use]
    pub fn unhandled(&self) -> usize {
        self.shared.client.lock().unhandled()
    }

    /// Counters of the log below.
    #[must_use]
    pub fn stat(&self) -> LogStat {
        self.shared.log.stat()
    }

    /// Names who is told about commits, for metrics. The first call counts.
    pub fn observe(&self, observer: Arc<dyn CommitObserver>) {
        self.shared.log.observe(observer);
    }

    /// Writes what is pending, ends the threads and releases the directory.
    pub async fn close(&self) {
        self.shared.log.close().await;
    }
}
