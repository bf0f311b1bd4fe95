//! Joins a [`Session`], a stream of frames and an [`Exchange`]; used by both sides.
//!
//! Two tasks: the reader takes frames, hands records over to be stored and lets timers act; the
//! writer waits for room in the outgoing channel and only then chooses what to send, control
//! frames first. Neither waits for the other.
//!
//! Invariants:
//! - T16: the reader never waits for the writer, nor for room on the wire; so two sides that both
//!   send cannot lock each other up.
//! - T17: a batch is taken when there is room for it and never waits to fill.
//! - T18: at most [`RECEIVES_MAX`] batches are being stored at once.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::{AuthProof, Frame, GapCause, RefuseCode};
use alys_stream_protocol::time::WallClock;
use futures::Stream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::credential::SessionAuth;
use super::{Dead, Event, LocalView, Session, SessionViolation};
use crate::exchange::{
    Exchange, InboundRecord, Nack, NackOrigin, OutboundRecord, ReceiveError, Refusal,
};
use crate::health::{Quality, Rtt};

mod auth;
mod reader;
mod writer;

use auth::Auth;

/// Batches being stored at once. The credit for as many messages is what bounds them in practice,
/// so a disk that hangs does not keep the reader from answers to heartbeats.
pub const RECEIVES_MAX: usize = 1024;

/// Room in the channel towards the stream, in frames. So what is urgent is behind one frame at most
/// that was chosen earlier; the next one is made while that one is encoded.
pub const FRAMES_OUT_MAX: usize = 1;

/// How long a closing side waits for the other one.
const CLOSE_WAIT: Duration = Duration::from_secs(2);

/// An order to a running session.
#[derive(Debug, Clone)]
pub enum Control {
    /// Ask the peer to send no data.
    Suspend {
        /// Why.
        reason: String,
    },
    /// Let the peer send data again.
    Resume {
        /// Why.
        reason: String,
    },
    /// Close politely.
    Drain {
        /// At the latest after this.
        deadline: Duration,
        /// Why.
        reason: String,
    },
    /// Close at once, with a reason.
    Refuse(Refusal),
    /// Renew our credential.
    AuthRefresh(AuthProof),
    /// Report a hole in our log.
    Gap {
        /// Which numbers.
        range: RangeInclusive<Seq>,
        /// Why.
        cause: GapCause,
        /// In words.
        text: String,
    },
    /// Records that were reported as in progress are stored now: acknowledge them.
    Stored(Vec<Seq>),
}

/// What can be seen of a running session.
#[derive(Debug)]
#[non_exhaustive]
pub enum Observed<'a> {
    /// A batch left.
    Sent {
        /// What was in it.
        records: &'a [OutboundRecord],
        /// Unacknowledged now.
        in_flight: u64,
        /// Those of them that may be late: [`Session::awaited`].
        awaited: u64,
    },
    /// A batch arrived.
    Received(&'a [InboundRecord]),
    /// The peer acknowledged.
    Acked {
        /// What.
        ranges: &'a SeqSet,
        /// Unacknowledged now.
        in_flight: u64,
        /// Those of them that may be late: [`Session::awaited`].
        awaited: u64,
    },
    /// A part of a long record has left, or the peer refused or took up a record: the link is at
    /// work, although nothing is acknowledged.
    Progress {
        /// Unacknowledged now.
        in_flight: u64,
        /// Those of them that may be late: [`Session::awaited`].
        awaited: u64,
    },
    /// A record was refused, by the peer or by this side.
    Nacked(&'a Nack),
    /// A heartbeat was answered.
    Alive(Rtt),
    /// The link got better or worse.
    Quality(Quality),
    /// The peer wants no data.
    Suspended(&'a str),
    /// The peer wants data again.
    Resumed(&'a str),
    /// The peer is about to close.
    Draining {
        /// After this.
        deadline: Duration,
        /// Why.
        reason: &'a str,
    },
    /// The peer renewed its credential: verify it, and refuse the session when it is bad.
    AuthRefreshed(&'a AuthProof),
}

/// Sees what happens on a session. Called from its tasks: must not block.
pub trait SessionObserver: Send + Sync + 'static {
    /// One thing happened.
    fn observe(&self, now: Instant, observed: Observed<'_>);
}

/// Sees nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl SessionObserver for Unobserved {
    fn observe(&self, _now: Instant, _observed: Observed<'_>) {}
}

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

/// Everything a session needs beside its two directions.
pub struct SessionParts<X> {
    /// The machine, after its handshake.
    pub session: Session,
    /// The owner of the messages; [`Exchange::established`] was called.
    pub exchange: Arc<X>,
    /// Who looks on.
    pub observer: Arc<dyn SessionObserver>,
    /// Wall time, for heartbeats and credentials.
    pub clock: Arc<dyn WallClock>,
    /// What both sides have shown to prove who they are.
    pub auth: SessionAuth,
    /// Orders; a closed channel gives none.
    pub controls: mpsc::Receiver<Control>,
    /// Closes politely when cancelled.
    pub shutdown: CancellationToken,
    /// How long a polite close may take.
    pub drain: Duration,
}

impl<X> fmt::Debug for SessionParts<X> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionParts").field("session", &self.session).finish_non_exhaustive()
    }
}

/// What both tasks share.
struct Shared<X: Exchange> {
    session: Mutex<Session>,
    exchange: Arc<X>,
    observer: Arc<dyn SessionObserver>,
    clock: Arc<dyn WallClock>,
    auth: Auth,
    /// Wakes the writer.
    wake: Notify,
}

impl<X: Exchange> Drop for Shared<X> {
    fn drop(&mut self) {
        // T1 of the exchange: also when the tasks are cancelled.
        self.exchange.lost();
    }
}

impl<X: Exchange> Shared<X> {
    fn view(&self) -> LocalView {
        LocalView {
            settled_below: self.exchange.local().settled_below,
            acks_durable: self.exchange.acks_durable(),
            wall: self.clock.now(),
        }
    }

    /// Runs `act` on the machine, performs what it led to, and wakes the writer. Returns the
    /// records to store, and the refusal of the peer if there was one.
    fn feed<T>(&self, now: Instant, act: impl FnOnce(&mut Session) -> T) -> (T, Fed) {
        let result = self.apply(now, act);
        self.wake.notify_one();
        result
    }

    /// As [`Shared::feed`], for the writer itself.
    fn apply<T>(&self, now: Instant, act: impl FnOnce(&mut Session) -> T) -> (T, Fed) {
        let mut events = Vec::new();
        let (result, owed) = {
            let mut session = crate::lock(&self.session);
            let result = act(&mut session);
            while let Some(event) = session.poll_event() {
                events.push(event);
            }
            (result, Owed::by(&session))
        };
        let mut fed = Fed::default();
        for event in events {
            self.perform(now, event, owed, &mut fed);
        }
        (result, fed)
    }

    fn perform(&self, now: Instant, event: Event, owed: Owed, fed: &mut Fed) {
        let Owed { in_flight, awaited } = owed;
        let observe = |observed: Observed<'_>| self.observer.observe(now, observed);
        match event {
            Event::Received(records) => {
                observe(Observed::Received(&records));
                fed.received.push(records);
            }
            Event::Acked { ack_id, ranges } => {
                self.exchange.acked(ack_id, &ranges);
                self.exchange.progress(awaited);
                observe(Observed::Acked { ranges: &ranges, in_flight, awaited });
            }
            Event::Nacked(nack) => {
                let is_progress = nack.origin == NackOrigin::Peer;
                observe(Observed::Nacked(&nack));
                self.exchange.nacked(nack);
                if is_progress {
                    self.progress(now, owed);
                }
            }
            Event::PeerSettled { settled_below, covered } => {
                self.exchange.peer_settled(settled_below, &covered);
            }
            Event::Alive { rtt } => observe(Observed::Alive(rtt)),
            Event::Quality(quality) => observe(Observed::Quality(quality)),
            Event::Suspended { reason } => observe(Observed::Suspended(&reason)),
            Event::Resumed { reason } => observe(Observed::Resumed(&reason)),
            Event::Draining { deadline, reason } => {
                observe(Observed::Draining { deadline, reason: &reason });
            }
            Event::Gap { range, cause, text } => self.exchange.gap(range, cause, &text),
            Event::AuthRefreshed(proof) => {
                observe(Observed::AuthRefreshed(&proof));
                fed.refusing = self.verify(now, &proof).err();
            }
            Event::RenewDue => self.renew(now),
            Event::CredentialExpired => fed.refusing = Some(self.auth.expired()),
            Event::Load(load) => self.exchange.peer_load(load),
            Event::Refused(refusal) => fed.refused = Some(refusal),
        }
    }
}

impl<X: Exchange> Shared<X> {
    /// The link is at work, although nothing is acknowledged.
    fn progress(&self, now: Instant, owed: Owed) {
        let Owed { in_flight, awaited } = owed;
        self.exchange.progress(awaited);
        self.observer.observe(now, Observed::Progress { in_flight, awaited });
    }
}

/// What the peer owes.
#[derive(Clone, Copy)]
struct Owed {
    in_flight: u64,
    awaited: u64,
}

impl Owed {
    fn by(session: &Session) -> Self {
        Self { in_flight: session.in_flight(), awaited: session.awaited() }
    }
}

/// What an event left for the reader to do.
#[derive(Default)]
struct Fed {
    received: Vec<Vec<InboundRecord>>,
    refused: Option<Refusal>,
    /// We close the session, for this.
    refusing: Option<Refusal>,
}

/// How the writer ended.
enum Written {
    /// Nothing is left to send.
    Finished,
    /// Nobody takes frames any more.
    Gone,
    /// A broken invariant of ours.
    Broken(String),
}

/// The present, as the machines take it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

/// Runs one session to its end. [`Exchange::lost`] is called then, also when this future is
/// dropped.
///
/// # Cancel safety
///
/// Dropping it ends the session at once: nothing is lost, since what is not acknowledged is sent
/// again.
pub async fn run<S, E, X>(
    parts: SessionParts<X>,
    frames_in: S,
    frames_out: mpsc::Sender<Frame>,
) -> SessionEnd<E>
where
    S: Stream<Item = Result<Frame, E>> + Send + Unpin + 'static,
    E: Send + 'static,
    X: Exchange,
{
    let mut session = parts.session;
    session.handle_expiries(now(), parts.clock.now(), parts.auth.ours, parts.auth.theirs);
    let auth = Auth::new(parts.auth, session.terms().peer_id.clone());
    let shared = Arc::new(Shared {
        auth,
        session: Mutex::new(session),
        exchange: parts.exchange,
        observer: parts.observer,
        clock: parts.clock,
        wake: Notify::new(),
    });
    let mut readers = JoinSet::new();
    let mut writers = JoinSet::new();
    let order = reader::Order { shutdown: parts.shutdown, drain: parts.drain };
    readers.spawn(reader::read(Arc::clone(&shared), frames_in, parts.controls, order));
    writers.spawn(writer::write(Arc::clone(&shared), frames_out));
    let end = tokio::select! {
        biased;
        Some(read) = readers.join_next() => {
            let end = read.unwrap_or_else(|error| SessionEnd::Broken(error.to_string()));
            close_writer(&shared, &mut writers, &end).await;
            polite(&shared, end)
        }
        Some(written) = writers.join_next() => {
            let written = written.unwrap_or_else(|error| Written::Broken(error.to_string()));
            close_reader(&shared, &mut readers, written).await
        }
    };
    readers.shutdown().await;
    writers.shutdown().await;
    end
}

/// The reader is done: the peer is told why, if there is something to tell, within a bound.
async fn close_writer<E, X: Exchange>(
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
fn polite<E, X: Exchange>(shared: &Shared<X>, end: SessionEnd<E>) -> SessionEnd<E> {
    let session = crate::lock(&shared.session);
    match (session.draining_by_peer(), &end) {
        (Some(by_peer), SessionEnd::Closed | SessionEnd::Lost(_)) if session.in_flight() == 0 => {
            drained(&session, by_peer)
        }
        (Some(_) | None, _) => end,
    }
}

/// The writer is done, and has closed our direction: the peer closes its own, within a bound.
async fn close_reader<E: 'static, X: Exchange>(
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

#[cfg(test)]
pub(crate) mod tests;
