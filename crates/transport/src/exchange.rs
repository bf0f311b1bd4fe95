//! What a session needs from whoever owns the messages.
//!
//! One value per endpoint on the node, one per client on a governance node. Not a queue and not a
//! log: it only names what crosses the border between the transport and the layers that keep
//! messages.
//!
//! Invariants:
//! - T1: every call of [`Exchange::established`] or [`Exchange::established_plain`] is followed by
//!   exactly one of [`Exchange::lost`], unless it returned a refusal; everything unacknowledged
//!   then belongs to the owner again.
//! - T2: `receive` is called, and its future is first polled, in the order of the wire.

use std::future::Future;
use std::ops::RangeInclusive;

use alys_stream_protocol::governance::StreamResponse;
use alys_stream_protocol::message::{Forgotten, LogId, Message, Opening, Priority, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::GapCause;
use bytes::Bytes;

mod refusal;

pub use refusal::{Nack, NackKind, NackOrigin, RETRY_AFTER_MAX, ReceiveError, Refusal, Verdict};

/// A record on its way out. Its payload is shared, not copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutboundRecord {
    /// Its place in our log; [`Seq::VOLATILE`] when it has none: it is sent once, and nobody
    /// acknowledges it.
    pub seq: Seq,
    /// What is sent.
    pub message: Message,
}

/// A record that arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InboundRecord {
    /// Its place in the peer's log; [`Seq::VOLATILE`] when it has none: it is taken, not stored.
    pub seq: Seq,
    /// What was sent.
    pub message: Message,
}

/// Where our own log stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalLog {
    /// Which log.
    pub log_id: LogId,
    /// How often it was opened, and which opening this is.
    pub opening: Opening,
    /// What the next accepted message will get.
    pub next_seq: Seq,
    /// How far it is settled.
    pub settled: Settled,
}

/// What we have stored of one log of a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiveCursor {
    /// Which log.
    pub log_id: LogId,
    /// Stored and not yet forgotten.
    pub received: SeqSet,
    /// The highest number ever seen; 0 when none was.
    pub highest_seen: Seq,
    /// The opening in which the latest record was received.
    pub seen: Opening,
    /// What the log said of itself when something was forgotten last.
    pub forgotten: Forgotten,
}

impl ReceiveCursor {
    /// The cursor of a log that was never seen.
    #[must_use]
    pub const fn unseen(log_id: LogId) -> Self {
        Self {
            log_id,
            received: SeqSet::new(),
            highest_seen: Seq(0),
            seen: Opening::NONE,
            forgotten: Forgotten::NONE,
        }
    }
}

/// Who the peer is, where its log stands, and what it has stored of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLog {
    /// The name it gives itself.
    pub peer_id: String,
    /// Its log.
    pub log_id: LogId,
    /// How often that was opened, and which opening this is.
    pub opening: Opening,
    /// What its next record will get.
    pub next_seq: Seq,
    /// Everything of its log below is settled: it will never be sent again.
    pub settled_below: Seq,
    /// What it has stored of *our* log, above our `settled_below`.
    pub received: SeqSet,
    /// The highest number of *our* log that it has ever seen; 0 when none.
    pub highest_seen: Seq,
    /// The opening of *our* log in which it received the latest record.
    pub seen: Opening,
    /// What *our* log said of itself when the peer forgot something of it last.
    pub forgotten: Forgotten,
    /// The longest payload that it takes, in bytes, however much credit there is and whether or not
    /// long ones go in parts: a longer record is never sent to it.
    pub payload_bytes_max: u32,
}

/// How much may be handed over now.
///
/// Whoever knows only [`Budget::messages`] and [`Budget::bytes`] stays correct: the other fields
/// keep what is not urgent out of the way of what is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// At most so many records: the credit left, at most one batch.
    pub messages: u32,
    /// At most so many payload bytes in all: the credit left. A batch also ends with the record
    /// that reaches [`alys_stream_protocol::limits::BATCH_BYTES_MAX`].
    pub bytes: u64,
    /// So many records more, when all of these are critical: a window that is full of other
    /// messages still has room for them.
    pub critical_messages: u32,
    /// So many payload bytes more, for critical records alone.
    pub critical_bytes: u64,
    /// A record below critical with a longer payload stays for a later call. It holds back others
    /// of its own priority alone.
    pub large_bytes_max: u64,
}

impl Budget {
    /// A budget without anything set aside.
    #[must_use]
    pub const fn new(messages: u32, bytes: u64) -> Self {
        let (critical_messages, critical_bytes, large_bytes_max) = (0, 0, u64::MAX);
        Self { messages, bytes, critical_messages, critical_bytes, large_bytes_max }
    }

    /// All of it for critical records alone.
    #[must_use]
    pub const fn for_critical(self) -> Self {
        Self {
            messages: 0,
            bytes: 0,
            critical_messages: self.messages.saturating_add(self.critical_messages),
            critical_bytes: self.bytes.saturating_add(self.critical_bytes),
            ..self
        }
    }

    /// How many records and payload bytes this priority may take.
    #[must_use]
    pub const fn of(&self, priority: Priority) -> (u32, u64) {
        match priority {
            Priority::Critical => (
                self.messages.saturating_add(self.critical_messages),
                self.bytes.saturating_add(self.critical_bytes),
            ),
            Priority::High | Priority::Normal | Priority::Low => (self.messages, self.bytes),
        }
    }
}

/// How busy a peer says that it is: the balancer's input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Messages that it received and has not dealt with.
    pub queued_messages: u32,
    /// Share of the time that it had any of those, in thousandths, at most 1000.
    pub busy_permille: u32,
}

/// The owner of the messages, as a session sees it.
///
/// No method may block: they are called from the tasks that read and write the stream.
pub trait Exchange: Send + Sync + 'static {
    /// Where our log stands now.
    fn local(&self) -> LocalLog;

    /// What we have stored of `peer_log`; [`ReceiveCursor::unseen`] when nothing.
    fn receive_cursor(&self, peer_log: LogId) -> ReceiveCursor;

    /// What we have stored of every log of this peer.
    fn receive_cursors(&self) -> Vec<ReceiveCursor>;

    /// The handshake came this far: who the peer is and what it has stored of our log.
    ///
    /// Acknowledgement ids start again at 1 with every session: an implementation resets
    /// [`Exchange::acks_durable`] here, and must not count settlements of an earlier session
    /// towards it.
    ///
    /// # Errors
    ///
    /// A refusal (a stale epoch, a log that was rolled back) closes the session; the peer is told.
    fn established(&self, peer: &PeerLog) -> Result<(), Refusal>;

    /// A handshake showed, to us or to the peer, that our log was rolled back (D12): the session was
    /// refused before [`Exchange::established`]. A restart must not forget it.
    fn rolled_back(&self) {}

    /// A peer that speaks only `governance.v1` accepted our registration. It has no log and tells
    /// nothing of what it has of ours: everything unsettled is sent again.
    fn established_plain(&self, peer_id: &str);

    /// Up to `budget` of what should be sent now; empty when nothing is, or when the budget has no
    /// room for it. Never waits. Messages of
    /// the memory class have [`Seq::VOLATILE`]: they are never acknowledged.
    fn poll_batch(&self, budget: Budget) -> Vec<OutboundRecord>;

    /// Resolves when [`Exchange::poll_batch`] may have something. A wake-up between an empty
    /// `poll_batch` and this call must not be lost (`tokio::sync::Notify::notify_one` keeps one).
    fn ready(&self) -> impl Future<Output = ()> + Send;

    /// The peer has durably stored `ranges`, all of them sent in this session.
    fn acked(&self, ack_id: u64, ranges: &SeqSet);

    /// The highest ack id of this session whose settlement, and that of every lower one, is on our
    /// disk; 0 when none is.
    fn acks_durable(&self) -> u64;

    /// The peer will never send again what is below `settled.below`, nor what is in `covered`:
    /// ranges that we acknowledged and whose settlement is on its disk. Only this may make a
    /// receiver forget.
    fn peer_settled(&self, settled: Settled, covered: &SeqSet);

    /// A record was not stored; [`Nack::origin`] says whose word that is.
    fn nacked(&self, nack: Nack);

    /// Stores records; one verdict for each, in order. Resolves once they are durable. Records with
    /// [`Seq::VOLATILE`] are handed on instead of stored, and count as stored. Several
    /// calls may be under way at once (T2).
    fn receive(
        &self,
        records: Vec<InboundRecord>,
    ) -> impl Future<Output = Result<Vec<Verdict>, ReceiveError>> + Send;

    /// A plain peer (`governance.v1` alone) answered or pushed something, also as it came.
    fn receive_unsequenced(&self, response: StreamResponse, encoded: Bytes);

    /// The peer reports a hole in its log (D5).
    fn gap(&self, range: RangeInclusive<Seq>, cause: GapCause, text: &str);

    /// The peer says how busy it is; with every heartbeat of a session, never on a plain stream.
    /// For whoever balances; by default nobody.
    fn peer_load(&self, load: Load) {
        _ = load;
    }

    /// The peer and the link are at work: a part of a long record has left, or the peer
    /// acknowledged, refused or took up a record. `awaited` records have left in full and are not
    /// reported as in progress: only these may be called late. Of a session, never of a plain
    /// stream; for whoever balances
    /// ([`Balancer::handle_progress`](crate::balance::Balancer::handle_progress)), by default nobody.
    fn progress(&self, awaited: u64) {
        _ = awaited;
    }

    /// The stream is over: what was sent and not acknowledged goes back to its queue, in order.
    fn lost(&self);
}
