//! What goes into a session beside frames, and what comes out of it.

use std::ops::RangeInclusive;
use std::time::Duration;

use alys_stream_protocol::message::{Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{AuthProof, GapCause};
use alys_stream_protocol::time::UnixMillis;

use super::acks::AckConfig;
use super::gauge::Compression;
use super::rotation::StreamAge;
use crate::exchange::{InboundRecord, Load, Nack, Refusal};
use crate::health::{HeartbeatConfig, Quality, Rtt};

/// The knobs of a session.
#[derive(Debug, Clone, Copy, Default)]
pub struct SessionConfig {
    /// Heartbeats, unless the handshake agrees on another interval.
    pub heartbeat: HeartbeatConfig,
    /// When acknowledgements leave.
    pub acks: AckConfig,
    /// When our batches are compressed, if the handshake agrees on it.
    pub compression: Compression,
    /// When this side closes the stream for its age; `None` is never.
    pub age: Option<StreamAge>,
}

/// What the owner of our log says at the moment a frame leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalView {
    /// How far our log is settled.
    pub settled: Settled,
    /// The highest ack id whose settlement is on our disk.
    pub acks_durable: u64,
    /// Wall time.
    pub wall: UnixMillis,
}

/// What a frame or a timer led to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Records to store, in order.
    Received(Vec<InboundRecord>),
    /// The peer has stored records of ours.
    Acked {
        /// The number to echo once that is settled on our disk.
        ack_id: u64,
        /// Which, of those in flight.
        ranges: SeqSet,
    },
    /// The peer did not store a record of ours.
    Nacked(Nack),
    /// The peer will never send these again.
    PeerSettled {
        /// Nothing below this.
        settled: Settled,
        /// Nor these.
        covered: SeqSet,
    },
    /// A heartbeat of ours was answered.
    Alive {
        /// Round trip of this one, and smoothed.
        rtt: Rtt,
    },
    /// The link got better or worse.
    Quality(Quality),
    /// The peer wants no data.
    Suspended {
        /// Why.
        reason: String,
    },
    /// The peer wants data again.
    Resumed {
        /// Why.
        reason: String,
    },
    /// The stream is about to be closed politely: nothing new is sent on it.
    Draining {
        /// It is closed after this.
        deadline: Duration,
        /// Why.
        reason: String,
        /// Whether the peer closes it; else this side does.
        by_peer: bool,
    },
    /// The peer has a hole in its log.
    Gap {
        /// Which numbers.
        range: RangeInclusive<Seq>,
        /// Why.
        cause: GapCause,
        /// In words.
        text: String,
    },
    /// The peer renews its credential; whoever verifies it may refuse the session.
    AuthRefreshed(AuthProof),
    /// Our credential expires soon: another one is to be shown.
    RenewDue,
    /// The peer's credential expired, and it showed no other one in time (T37).
    CredentialExpired,
    /// The peer says how busy it is.
    Load(Load),
    /// The peer closes the session.
    Refused(Refusal),
}

/// The peer does not do its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Dead {
    /// It answers no heartbeat.
    #[error("the peer is silent: {missed} heartbeats in a row are unanswered")]
    Silent {
        /// How many.
        missed: u32,
    },
    /// It answers heartbeats, but does not acknowledge.
    #[error("the peer has not acknowledged message {seq} for {} s", waited.as_secs())]
    Unacknowledged {
        /// Which one.
        seq: Seq,
        /// Since it was sent.
        waited: Duration,
    },
}

/// The owner of the messages handed over more than the budget: a broken invariant of ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("T6: a batch was larger than the budget it was asked for")]
pub struct OverBudget;
