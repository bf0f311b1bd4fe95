//! How a session ends, whichever task is done first.

use std::fmt;
use std::time::Duration;

use alys_stream_protocol::session::RefuseCode;
use tokio::task::JoinSet;

use super::shared::Shared;
use crate::exchange::{Exchange, ReceiveError, Refusal};
use crate::session::{Dead, Session, SessionViolation};

/// How long a closing side waits for the other one.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// How a session ended. `E` is the error of the stream.
#[derive(Debug)]
pub enum SessionEnd<E> {
    /// The peer ended the stream.
    Closed,
    /// The stream broke.
    Lost(E),
    /// The peer is silent.
    Dead(Dead),
    /// The peer closed it with a reason.
    Refused(Refusal),
    /// We closed it with a reason.
    Refusing(Refusal),
    /// The peer broke the rules.
    Violation(SessionViolation),
    /// Received records could not be stored.
    NotStored(ReceiveError),
    /// Closed politely by this side, for its age alone: it is to be opened anew.
    Rotated,
    /// Closed politely.
    Drained {
        /// Whether the peer asked for it.
        by_peer: bool,
    },
    /// A broken invariant of ours, named.
    Broken(String),
}

impl<E: fmt::Display> fmt::Display for SessionEnd<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed => f.write_str("the peer ended the stream"),
            Self::Lost(error) => write!(f, "the stream broke: {error}"),
            Self::Dead(dead) => dead.fmt(f),
            Self::Refused(refusal) => write!(f, "refused by the peer: {refusal}"),
            Self::Refusing(refusal) => write!(f, "refused by this side: {refusal}"),
            Self::Violation(violation) => write!(f, "the peer broke the session: {violation}"),
            Self::NotStored(error) => error.fmt(f),
            Self::Rotated => f.write_str("closed politely for its age"),
            Self::Drained { by_peer: true } => f.write_str("closed politely by the peer"),
            Self::Drained { by_peer: false } => f.write_str("closed politely by this side"),
            Self::Broken(invariant) => write!(f, "a broken invariant: {invariant}"),
        }
    }
}

/// How the writer ended.
pub(super) enum Written {
    /// Nothing is left to send.
    Finished,
    /// Nobody takes frames any more.
    Gone,
    /// A broken invariant of ours.
    Broken(String),
}

/// The reader is done: the peer is told why, if there is something to tell, within a bound.
pub(super) async fn close_writer<E, X: Exchange>(
    shared: &Shared<X>,
    writers: &mut JoinSet<Written>,
    end: &SessionEnd<E>,
) {
    let refusal = match end {
        SessionEnd::Violation(violation) => {
            Refusal::new(RefuseCode::ProtocolViolation, violation.to_string())
        }
        SessionEnd::NotStored(error) => Refusal::new(RefuseCode::Busy, error.to_string()),
        SessionEnd::Refusing(refusal) => refusal.clone(),
        SessionEnd::Dead(dead) => Refusal::new(RefuseCode::Unspecified, dead.to_string()),
        SessionEnd::Closed
        | SessionEnd::Lost(_)
        | SessionEnd::Refused(_)
        | SessionEnd::Rotated
        | SessionEnd::Drained { .. }
        | SessionEnd::Broken(_) => return,
    };
    crate::lock(&shared.session).handle_refuse(&refusal);
    shared.wake.notify_one();
    let flushed = tokio::time::timeout(CLOSE_WAIT, writers.join_next()).await;
    if flushed.is_err() {
        tracing::debug!("the reason for closing could not be sent in time");
    }
}

/// The end of a stream that was being closed politely, and with nothing left in flight.
pub(super) fn polite<E, X: Exchange>(shared: &Shared<X>, end: SessionEnd<E>) -> SessionEnd<E> {
    let session = crate::lock(&shared.session);
    match (session.draining_by_peer(), &end) {
        (Some(by_peer), SessionEnd::Closed | SessionEnd::Lost(_)) if session.in_flight() == 0 => {
            drained(&session, by_peer)
        }
        (Some(_) | None, _) => end,
    }
}

/// The writer is done, and has closed our direction: the peer closes its own, within a bound.
pub(super) async fn close_reader<E: 'static, X: Exchange>(
    shared: &Shared<X>,
    readers: &mut JoinSet<SessionEnd<E>>,
    written: Written,
) -> SessionEnd<E> {
    let closing = {
        let session = crate::lock(&shared.session);
        session.draining_by_peer().map(|by_peer| drained(&session, by_peer))
    };
    let read = tokio::time::timeout(CLOSE_WAIT, readers.join_next()).await;
    let read = read.ok().flatten().and_then(Result::ok);
    match (written, closing, read) {
        (Written::Broken(invariant), _, _) => SessionEnd::Broken(invariant),
        // After a polite close the transport may go down in any way it likes.
        (
            Written::Finished,
            Some(drained),
            None | Some(SessionEnd::Closed | SessionEnd::Lost(_)),
        ) => drained,
        (Written::Finished | Written::Gone, _, Some(end)) => end,
        (Written::Finished | Written::Gone, _, None) => SessionEnd::Closed,
    }
}

/// The end of a polite close.
const fn drained<E>(session: &Session, by_peer: bool) -> SessionEnd<E> {
    if session.is_rotating() { SessionEnd::Rotated } else { SessionEnd::Drained { by_peer } }
}
