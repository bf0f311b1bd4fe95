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
use alys_stream_protocol::session::{AuthProof, Frame, GapCause};
use alys_stream_protocol::time::WallClock;
use futures::Stream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Session;
use super::credential::SessionAuth;
use super::credit::Credits;
use crate::exchange::{Exchange, InboundRecord, Nack, OutboundRecord, Refusal};
use crate::health::{Quality, Rtt};

mod auth;
mod ending;
mod reader;
mod shared;
mod writer;

pub use ending::SessionEnd;

use auth::Auth;
use ending::{Written, close_reader, close_writer, polite};
use shared::Shared;

/// Batches being stored at once. The credit for as many messages is what bounds them in practice,
/// so a disk that hangs does not keep the reader from answers to heartbeats.
pub const RECEIVES_MAX: usize = 1024;

/// The target of the trace event of every batch that arrives, for whoever takes times.
pub const ARRIVED: &str = "alys_stream::arrived";

/// Room in the channel towards the stream, in frames. So what is urgent is behind one frame at most
/// that was chosen earlier; the next one is made while that one is encoded.
pub const FRAMES_OUT_MAX: usize = 1;

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
    /// The stream is about to be closed politely: whatever is not sent yet is not sent on it.
    Draining {
        /// Closed after this.
        deadline: Duration,
        /// Why.
        reason: &'a str,
        /// Whether the peer closes it; else this side does, for its age, a GOAWAY or its own end.
        by_peer: bool,
    },
    /// What the peer lets us send; said again with everything that happens.
    Credit(Credits),
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

/// The present, as the machines take it.
pub(crate) fn now() -> Instant {
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

#[cfg(test)]
pub(crate) mod tests;
