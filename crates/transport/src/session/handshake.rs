//! The handshake: `Hello` from the node, `Welcome` or `Refuse` from the peer.
//!
//! Pure. Both sides end with [`Terms`], from which [`super::Session::new`] starts, and with a
//! [`PeerLog`], which the owner of the messages judges.
//!
//! Invariants:
//! - T11: a peer that has seen a number which our log has not given out yet stops the session
//!   before anything is sent: our log was rolled back (D12).

use std::time::Duration;

use alys_stream_protocol::limits;
use alys_stream_protocol::message::{Epoch, LogId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{self, AuthProof, Frame, Refuse, RefuseCode, SeqRange, frame};
use alys_stream_protocol::time::UnixMillis;

use super::credit::Credits;
use super::violation::SessionViolation;
use crate::exchange::{LocalLog, PeerLog, RETRY_AFTER_MAX, ReceiveCursor, Refusal};

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
    /// How often that log was opened.
    pub epoch: Epoch,
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
        PeerLog {
            peer_id: self.node_id.clone(),
            log_id: self.log_id,
            epoch: self.epoch,
            next_seq: self.next_seq,
            settled_below: self.settled_below,
            received: cursor.map(|c| c.received.clone()).unwrap_or_default(),
            highest_seen: cursor.map_or(Seq(0), |c| c.highest_seen),
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

/// The handshake did not lead to a session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandshakeError {
    /// The peer said no.
    #[error("refused by the peer: {0}")]
    Refused(Refusal),
    /// We say no; the peer is told.
    #[error("refused by this side: {0}")]
    Refusing(Refusal),
    /// The peer broke the rules.
    #[error("the peer broke the handshake: {0}")]
    Violation(#[from] SessionViolation),
}

/// Builds the first frame of the node.
#[must_use]
pub fn hello(offer: &Offer) -> Frame {
    let cursors = offer.cursors.iter().map(|cursor| session::ReceiveCursor {
        log_id: cursor.log_id.as_bytes().to_vec().into(),
        received: bounded(&cursor.received),
        highest_seq_seen: cursor.highest_seen.0,
    });
    frame::Kind::Hello(session::Hello {
        node_id: offer.node_id.clone(),
        log_id: offer.local.log_id.as_bytes().to_vec().into(),
        epoch: offer.local.epoch.0,
        next_seq: offer.local.next_seq.0,
        settled_below: offer.local.settled_below.0,
        features: offer.features.clone(),
        software: offer.software.clone(),
        auth: offer.auth.clone(),
        receive_cursors: cursors.collect(),
        credit_messages: offer.limits.credits.messages,
        credit_bytes: offer.limits.credits.bytes,
        message_bytes_max: offer.limits.message_bytes_max,
    })
    .into()
}

/// Builds the first frame of the peer.
#[must_use]
pub fn welcome(acceptance: &Acceptance) -> Frame {
    frame::Kind::Welcome(session::Welcome {
        session_id: acceptance.session_id.clone(),
        peer_id: acceptance.peer_id.clone(),
        peer_log_id: acceptance.local.log_id.as_bytes().to_vec().into(),
        peer_epoch: acceptance.local.epoch.0,
        next_seq: acceptance.local.next_seq.0,
        settled_below: acceptance.local.settled_below.0,
        received: bounded(&acceptance.cursor.received),
        highest_seq_seen: acceptance.cursor.highest_seen.0,
        credit_messages: acceptance.limits.credits.messages,
        credit_bytes: acceptance.limits.credits.bytes,
        heartbeat_interval_ms: millis(acceptance.heartbeat_interval),
        message_bytes_max: acceptance.limits.message_bytes_max,
        features: acceptance.features.clone(),
        server_time_ms: UnixMillis::to_wire(Some(acceptance.server_time)),
        software: acceptance.software.clone(),
    })
    .into()
}

/// Builds the frame that ends a session, or stands instead of `Welcome`.
#[must_use]
pub fn refuse(refusal: &Refusal) -> Frame {
    frame::Kind::Refuse(Refuse {
        code: refusal.code.into(),
        reason: refusal.reason.clone(),
        retry_after_ms: refusal.retry_after.map_or(0, millis),
    })
    .into()
}

/// Checks the first frame of a node.
///
/// # Errors
///
/// When it is no `Hello`, or one that breaks a limit.
pub fn read_hello(frame: Frame) -> Result<PeerHello, SessionViolation> {
    let hello = match frame.kind {
        Some(frame::Kind::Hello(hello)) => hello,
        other => return Err(unexpected("hello", other.as_ref())),
    };
    text("hello.node_id", &hello.node_id, limits::NODE_ID_BYTES_MAX)?;
    let grant = Credits { messages: hello.credit_messages, bytes: hello.credit_bytes };
    let mut cursors = Vec::with_capacity(hello.receive_cursors.len().min(64));
    for cursor in &hello.receive_cursors {
        cursors.push(ReceiveCursor {
            log_id: log_id("hello.receive_cursors.log_id", &cursor.log_id)?,
            received: ranges("hello.receive_cursors.received", &cursor.received)?,
            highest_seen: Seq(cursor.highest_seq_seen),
        });
    }
    Ok(PeerHello {
        log_id: log_id("hello.log_id", &hello.log_id)?,
        epoch: Epoch(hello.epoch),
        next_seq: log_position("hello.next_seq", hello.next_seq)?,
        settled_below: log_position("hello.settled_below", hello.settled_below.max(1))?,
        limits: agreed(grant, hello.message_bytes_max)?,
        node_id: hello.node_id,
        features: hello.features,
        software: hello.software,
        auth: hello.auth,
        cursors,
    })
}

/// Checks the answer to our `Hello`.
///
/// # Errors
///
/// When the peer refuses, when it answers with something else, or when it has seen more of our
/// log than there is (T11).
pub fn read_welcome(frame: Frame, offer: &Offer) -> Result<(PeerLog, Terms), HandshakeError> {
    let welcome = match frame.kind {
        Some(frame::Kind::Welcome(welcome)) => welcome,
        Some(frame::Kind::Refuse(refused)) => {
            return Err(HandshakeError::Refused(read_refusal(refused)));
        }
        other => return Err(unexpected("welcome or refuse", other.as_ref()).into()),
    };
    text("welcome.peer_id", &welcome.peer_id, limits::NODE_ID_BYTES_MAX)?;
    text("welcome.session_id", &welcome.session_id, limits::NODE_ID_BYTES_MAX)?;
    let peer = PeerLog {
        peer_id: welcome.peer_id.clone(),
        log_id: log_id("welcome.peer_log_id", &welcome.peer_log_id)?,
        epoch: Epoch(welcome.peer_epoch),
        next_seq: log_position("welcome.next_seq", welcome.next_seq)?,
        settled_below: log_position("welcome.settled_below", welcome.settled_below.max(1))?,
        received: ranges("welcome.received", &welcome.received)?,
        highest_seen: Seq(welcome.highest_seq_seen),
    };
    check_rollback(offer.local, &peer).map_err(HandshakeError::Refusing)?;
    let grant = Credits { messages: welcome.credit_messages, bytes: welcome.credit_bytes };
    let interval = u64::from(welcome.heartbeat_interval_ms);
    let terms = Terms {
        session_id: welcome.session_id,
        peer_id: welcome.peer_id,
        send: agreed(grant, welcome.message_bytes_max)?,
        receive: offer.limits,
        heartbeat_interval: (interval > 0).then(|| Duration::from_millis(interval.max(10))),
        // What was not offered cannot be chosen.
        features: welcome.features.into_iter().filter(|f| offer.features.contains(f)).collect(),
        software: welcome.software,
        highest_sent: peer.highest_seen,
        peer_settled_below: peer.settled_below,
    };
    Ok((peer, terms))
}

/// The terms of the side that answered `hello` with `acceptance`.
#[must_use]
pub fn accepted_terms(hello: &PeerHello, acceptance: &Acceptance) -> Terms {
    Terms {
        session_id: acceptance.session_id.clone(),
        peer_id: hello.node_id.clone(),
        send: hello.limits,
        receive: acceptance.limits,
        heartbeat_interval: Some(acceptance.heartbeat_interval),
        features: acceptance.features.clone(),
        software: hello.software.clone(),
        highest_sent: hello.peer_log(acceptance.local.log_id).highest_seen,
        peer_settled_below: hello.settled_below,
    }
}

/// Checks that the peer has not seen more of our log than there is (T11, D12).
///
/// # Errors
///
/// `LogRolledBack`, with both numbers.
pub fn check_rollback(local: LocalLog, peer: &PeerLog) -> Result<(), Refusal> {
    let highest = peer.received.last().unwrap_or(Seq(0)).max(peer.highest_seen);
    if highest < local.next_seq {
        return Ok(());
    }
    Err(Refusal::new(
        RefuseCode::LogRolledBack,
        format!(
            "{} has seen record {highest} of log {}, whose next one is {}: the log was rolled back; \
             adopt a new log id before anything is sent",
            peer.peer_id, local.log_id, local.next_seq
        ),
    ))
}

/// Reads a refusal; a code of no meaning is `Unspecified`.
#[must_use]
pub fn read_refusal(refused: Refuse) -> Refusal {
    let after = u64::from(refused.retry_after_ms);
    let mut reason = refused.reason;
    if reason.len() > limits::TEXT_BYTES_MAX {
        reason = "(a reason of more bytes than allowed)".to_owned();
    }
    Refusal {
        code: RefuseCode::try_from(refused.code).unwrap_or_default(),
        reason,
        retry_after: (after > 0).then(|| Duration::from_millis(after).min(RETRY_AFTER_MAX)),
    }
}

pub(super) fn ranges(field: &'static str, wire: &[SeqRange]) -> Result<SeqSet, SessionViolation> {
    if wire.len() > limits::RANGES_MAX {
        let (count, count_max) = (wire.len(), limits::RANGES_MAX);
        return Err(SessionViolation::TooManyRanges { field, count, count_max });
    }
    SeqSet::try_from_wire(wire).map_err(|problem| SessionViolation::Range { field, problem })
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The lowest ranges, as many as a frame may carry: what is left out is sent again and recognised.
fn bounded(set: &SeqSet) -> Vec<SeqRange> {
    let mut wire = set.to_wire();
    wire.truncate(limits::RANGES_MAX);
    wire
}

fn unexpected(expected: &'static str, found: Option<&frame::Kind>) -> SessionViolation {
    let found = found.map_or("a frame of no known kind", frame::Kind::as_str);
    SessionViolation::UnexpectedHandshake { expected, found }
}

fn text(field: &'static str, value: &str, bytes_max: usize) -> Result<(), SessionViolation> {
    if value.is_empty() || value.len() > bytes_max {
        return Err(SessionViolation::Text { field, bytes: value.len(), bytes_max });
    }
    Ok(())
}

fn log_id(field: &'static str, bytes: &[u8]) -> Result<LogId, SessionViolation> {
    LogId::try_from_slice(bytes).map_err(|problem| SessionViolation::Identifier { field, problem })
}

fn log_position(field: &'static str, value: u64) -> Result<Seq, SessionViolation> {
    if value == 0 || value == u64::MAX {
        return Err(SessionViolation::Meaningless {
            field,
            found: i64::try_from(value).unwrap_or(i64::MAX),
        });
    }
    Ok(Seq(value))
}

/// The other side's limits, brought down to ours.
fn agreed(credits: Credits, message_bytes_max: u32) -> Result<Limits, SessionViolation> {
    let most = u32::try_from(limits::MESSAGE_BYTES_MAX).unwrap_or(u32::MAX);
    let message_bytes_max = match message_bytes_max {
        0 => most,
        bytes => bytes.min(most),
    };
    if credits.messages == 0 || credits.bytes < u64::from(message_bytes_max) {
        return Err(SessionViolation::WindowTooSmall {
            window_bytes: credits.bytes,
            message_bytes_max: u64::from(message_bytes_max),
        });
    }
    Ok(Limits { credits, message_bytes_max })
}
