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
use alys_stream_protocol::message::{Epoch, EpochNonce, Forgotten, LogId, Opening, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{self, Frame, Refuse, RefuseCode, SeqRange, frame};
use alys_stream_protocol::time::UnixMillis;

use super::counting::FRAME_ITEMS_MAX;
use super::credit::Credits;
use super::violation::SessionViolation;
use crate::exchange::{LocalLog, PeerLog, RETRY_AFTER_MAX, ReceiveCursor, Refusal};

mod terms;

pub use terms::{
    Acceptance, HEARTBEAT_INTERVAL_MAX, HEARTBEAT_INTERVAL_MIN, Limits, Offer, PeerHello, Terms,
};

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
    let mut room = FRAME_ITEMS_MAX.saturating_sub(offer.features.len());
    let cursors = offer.cursors.iter().map_while(|cursor| {
        room = room.checked_sub(1)?;
        let received = bounded(&cursor.received, room);
        room -= received.len();
        Some(session::ReceiveCursor {
            log_id: cursor.log_id.as_bytes().to_vec().into(),
            received,
            highest_seq_seen: cursor.highest_seen.0,
            seen_epoch: cursor.seen.epoch.0,
            seen_epoch_nonce: cursor.seen.nonce.0,
            forgotten_epoch: cursor.forgotten.opening.epoch.0,
            forgotten_epoch_nonce: cursor.forgotten.opening.nonce.0,
            forgotten_settled_count: cursor.forgotten.settled_count,
        })
    });
    frame::Kind::Hello(session::Hello {
        node_id: offer.node_id.clone(),
        log_id: offer.local.log_id.as_bytes().to_vec().into(),
        epoch: offer.local.opening.epoch.0,
        next_seq: offer.local.next_seq.0,
        settled_below: offer.local.settled.below.0,
        features: offer.features.clone(),
        software: offer.software.clone(),
        auth: offer.auth.clone(),
        receive_cursors: cursors.collect(),
        credit_messages: offer.limits.credits.messages,
        credit_bytes: offer.limits.credits.bytes,
        message_bytes_max: offer.limits.message_bytes_max,
        epoch_nonce: offer.local.opening.nonce.0,
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
        peer_epoch: acceptance.local.opening.epoch.0,
        next_seq: acceptance.local.next_seq.0,
        settled_below: acceptance.local.settled.below.0,
        received: bounded(&acceptance.cursor.received, limits::RANGES_MAX),
        highest_seq_seen: acceptance.cursor.highest_seen.0,
        credit_messages: acceptance.limits.credits.messages,
        credit_bytes: acceptance.limits.credits.bytes,
        heartbeat_interval_ms: millis(acceptance.heartbeat_interval),
        message_bytes_max: acceptance.limits.message_bytes_max,
        features: acceptance.features.clone(),
        server_time_ms: UnixMillis::to_wire(Some(acceptance.server_time)),
        software: acceptance.software.clone(),
        peer_epoch_nonce: acceptance.local.opening.nonce.0,
        seen_epoch: acceptance.cursor.seen.epoch.0,
        seen_epoch_nonce: acceptance.cursor.seen.nonce.0,
        forgotten_epoch: acceptance.cursor.forgotten.opening.epoch.0,
        forgotten_epoch_nonce: acceptance.cursor.forgotten.opening.nonce.0,
        forgotten_settled_count: acceptance.cursor.forgotten.settled_count,
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
            seen: opening(cursor.seen_epoch, cursor.seen_epoch_nonce),
            forgotten: Forgotten {
                opening: opening(cursor.forgotten_epoch, cursor.forgotten_epoch_nonce),
                settled_count: cursor.forgotten_settled_count,
            },
        });
    }
    Ok(PeerHello {
        log_id: log_id("hello.log_id", &hello.log_id)?,
        opening: opening(hello.epoch, hello.epoch_nonce),
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
    let grant = Credits { messages: welcome.credit_messages, bytes: welcome.credit_bytes };
    let send = agreed(grant, welcome.message_bytes_max)?;
    let peer = PeerLog {
        peer_id: welcome.peer_id.clone(),
        log_id: log_id("welcome.peer_log_id", &welcome.peer_log_id)?,
        opening: opening(welcome.peer_epoch, welcome.peer_epoch_nonce),
        next_seq: log_position("welcome.next_seq", welcome.next_seq)?,
        settled_below: log_position("welcome.settled_below", welcome.settled_below.max(1))?,
        received: ranges("welcome.received", &welcome.received)?,
        highest_seen: Seq(welcome.highest_seq_seen),
        seen: opening(welcome.seen_epoch, welcome.seen_epoch_nonce),
        forgotten: Forgotten {
            opening: opening(welcome.forgotten_epoch, welcome.forgotten_epoch_nonce),
            settled_count: welcome.forgotten_settled_count,
        },
        payload_bytes_max: send.message_bytes_max,
    };
    check_rollback(offer.local, &peer).map_err(HandshakeError::Refusing)?;
    let interval = u64::from(welcome.heartbeat_interval_ms);
    let terms = Terms {
        session_id: welcome.session_id,
        peer_id: welcome.peer_id,
        send,
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

const fn opening(epoch: u64, nonce: u64) -> Opening {
    Opening { epoch: Epoch(epoch), nonce: EpochNonce(nonce) }
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}

/// The lowest ranges, as many as there is room for and a set may have: what is left out is sent
/// again and recognised.
fn bounded(set: &SeqSet, room: usize) -> Vec<SeqRange> {
    let mut wire = set.to_wire();
    wire.truncate(room.min(limits::RANGES_MAX));
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
