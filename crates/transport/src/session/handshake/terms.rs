//! What each side says of itself, and what both agreed on.

use std::time::Duration;

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{LogId, Opening, Seq};
use alys_stream_protocol::session::AuthProof;
use alys_stream_protocol::time::UnixMillis;

use crate::exchange::{LocalLog, PeerLog, ReceiveCursor};
use crate::session::credit::Credits;

/// Shortest interval between heartbeats that a peer may ask for, unless this side is configured for
/// a shorter one: lower would let a peer make us send nothing but heartbeats.
pub const HEARTBEAT_INTERVAL_MIN: Duration = Duration::from_millis(100);

/// Longest interval between heartbeats that a peer may ask for, four times the default, unless this
/// side is configured for a longer one: higher would let a peer hide that it is gone.
pub const HEARTBEAT_INTERVAL_MAX: Duration = Duration::from_secs(60);

/// What one side grants and accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Credit before the first `Credit` frame.
    pub credits: Credits,
    /// The largest payload, in bytes.
    pub message_bytes_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            credits: Credits { messages: limits::CREDIT_MESSAGES, bytes: limits::CREDIT_BYTES },
            message_bytes_max: u32::try_from(limits::MESSAGE_BYTES_MAX).unwrap_or(u32::MAX),
        }
    }
}

/// What the node says first.
#[derive(Debug, Clone)]
pub struct Offer {
    /// The name of the node.
    pub node_id: String,
    /// Its log.
    pub local: LocalLog,
    /// What it has stored of every log of the peer.
    pub cursors: Vec<ReceiveCursor>,
    /// What it can do beyond the basics.
    pub features: Vec<String>,
    /// Program and version.
    pub software: String,
    /// Proof of identity beside the client certificate.
    pub auth: Option<AuthProof>,
    /// What it grants and accepts.
    pub limits: Limits,
}

/// What the peer answers.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// A name for the session, for logs.
    pub session_id: String,
    /// The name of the peer.
    pub peer_id: String,
    /// The peer's log.
    pub local: LocalLog,
    /// What the peer has stored of the node's log.
    pub cursor: ReceiveCursor,
    /// What the peer grants and accepts.
    pub limits: Limits,
    /// How often both sides send a heartbeat.
    pub heartbeat_interval: Duration,
    /// Chosen from the node's.
    pub features: Vec<String>,
    /// Wall time of the peer.
    pub server_time: UnixMillis,
    /// Program and version.
    pub software: String,
}

/// A `Hello`, checked.
#[derive(Debug, Clone)]
pub struct PeerHello {
    /// The name of the node.
    pub node_id: String,
    /// Its log. `received` and `highest_seen` are still to be filled from [`PeerHello::cursors`]:
    /// see [`PeerHello::peer_log`].
    pub log_id: LogId,
    /// How often that log was opened, and which opening this is.
    pub opening: Opening,
    /// What its next record will get.
    pub next_seq: Seq,
    /// Everything below is settled.
    pub settled_below: Seq,
    /// What the node can do.
    pub features: Vec<String>,
    /// Program and version.
    pub software: String,
    /// Proof of identity beside the client certificate.
    pub auth: Option<AuthProof>,
    /// What the node has stored of our logs.
    pub cursors: Vec<ReceiveCursor>,
    /// What the node grants and accepts.
    pub limits: Limits,
}

impl PeerHello {
    /// The node's log, with what the node has stored of `our_log`.
    #[must_use]
    pub fn peer_log(&self, our_log: LogId) -> PeerLog {
        let cursor = self.cursors.iter().find(|cursor| cursor.log_id == our_log);
        let cursor = cursor.cloned().unwrap_or_else(|| ReceiveCursor::unseen(our_log));
        PeerLog {
            peer_id: self.node_id.clone(),
            log_id: self.log_id,
            opening: self.opening,
            next_seq: self.next_seq,
            settled_below: self.settled_below,
            received: cursor.received,
            highest_seen: cursor.highest_seen,
            seen: cursor.seen,
            forgotten: cursor.forgotten,
            payload_bytes_max: self.limits.message_bytes_max,
        }
    }
}

/// What both sides agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// A name for the session, for logs.
    pub session_id: String,
    /// The name of the other side.
    pub peer_id: String,
    /// What we may send before the first `Credit`.
    pub send: Limits,
    /// What the other side may send.
    pub receive: Limits,
    /// How often both sides send a heartbeat; `None` leaves it to the configuration.
    pub heartbeat_interval: Option<Duration>,
    /// Features agreed.
    pub features: Vec<String>,
    /// The other side's program and version.
    pub software: String,
    /// The highest number of ours that the other side may acknowledge without our sending it in
    /// this session.
    pub highest_sent: Seq,
    /// Everything of the other side's log below it is settled.
    pub peer_settled_below: Seq,
}

impl Terms {
    /// The same with the heartbeats that the peer asked for brought into what this side bears, which
    /// is configured for `configured`.
    #[must_use]
    pub fn with_heartbeat_near(self, configured: Duration) -> Self {
        let least = HEARTBEAT_INTERVAL_MIN.min(configured);
        let most = HEARTBEAT_INTERVAL_MAX.max(configured);
        let heartbeat_interval = self.heartbeat_interval.map(|asked| asked.clamp(least, most));
        Self { heartbeat_interval, ..self }
    }
}
