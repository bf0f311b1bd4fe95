//! What neighbours ask of the StreamActor, as messages for actors that prefer a mailbox to a
//! [`crate::StreamHandle`].
//!
//! Mailboxes have no bound, so whoever asks takes a place first ([`Asks`] does) and the place rides
//! in the message: at most [`ASKS_MAX`] are on their way, and the next one waits.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_protocol::submission::Submission;
use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::LinkHealth;
use crate::delivery::{Accepted, SendError};

/// Most asks that carry a payload, at most 1 MiB each, and are not answered. The next one waits.
pub const ASKS_MAX: usize = 64;

/// How long StreamActor may take to accept a message durably; then it may or may not be accepted,
/// and asking again with the same id stores nothing twice.
pub const ACCEPT_TIMEOUT: Duration = Duration::from_secs(10);

/// A place among the asks on their way; given back when it is dropped.
#[derive(Debug)]
pub struct AskPermit {
    _permit: OwnedSemaphorePermit,
}

/// What neighbours ask of the StreamActor.
#[derive(Debug)]
pub enum StreamAsk {
    /// Bridge: have this transaction signed, or tell governance of this peg-in; Chain, Network,
    /// Sync: report this status. The reply comes once it is durable, with its number; what becomes
    /// of a signature request follows as [`super::BridgeMessage::Signatures`]. [`ACCEPT_TIMEOUT`].
    Submit {
        /// What is to be sent. With an id it is stored once, however often it is asked.
        submission: Box<Submission>,
        /// Where to say that it is accepted, or why not.
        reply: RpcReplyPort<Result<Accepted, SendError>>,
        /// Its place.
        permit: AskPermit,
    },
    /// Chain: it is at this height now. Sent for every block; of several only the highest matters.
    /// Nothing comes back: what takes effect is told with [`super::ChainMessage::InForce`].
    Height(u64),
    /// Sync: how is the link? [`super::QUERY_TIMEOUT`].
    Health(RpcReplyPort<LinkHealth>),
}

impl StreamAsk {
    /// In one word.
    pub(crate) const fn as_str(&self) -> &'static str {
        match self {
            Self::Submit { .. } => "submit",
            Self::Height(_) => "height",
            Self::Health(_) => "health",
        }
    }
}

/// Hands an ask over; false when nobody takes it.
type Line = Arc<dyn Fn(StreamAsk) -> bool + Send + Sync>;

/// The way for neighbours to ask. Cheap to clone; all clones lead to the StreamActor of the day.
#[derive(Clone)]
pub struct Asks {
    line: Arc<Mutex<Option<Line>>>,
    places: Arc<Semaphore>,
}

impl fmt::Debug for Asks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let free = self.places.available_permits();
        f.debug_struct("Asks").field("free", &free).finish_non_exhaustive()
    }
}

impl Default for Asks {
    /// Nobody is there to be asked yet.
    fn default() -> Self {
        Self { line: Arc::default(), places: Arc::new(Semaphore::new(ASKS_MAX)) }
    }
}

impl Asks {
    /// Asks go to this actor: for tests of a neighbour without a node.
    #[must_use]
    pub fn new(actor: ActorRef<StreamAsk>) -> Self {
        let asks = Self::default();
        asks.attach(move |ask| actor.cast(ask).is_ok());
        asks
    }

    /// From now on asks go here.
    pub(crate) fn attach(&self, line: impl Fn(StreamAsk) -> bool + Send + Sync + 'static) {
        *self.line.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(line));
    }

    fn cast(&self, ask: StreamAsk) -> bool {
        let line = self.line.lock().unwrap_or_else(PoisonError::into_inner).clone();
        line.is_some_and(|line| line(ask))
    }

    async fn call<R>(&self, build: impl FnOnce(RpcReplyPort<R>) -> StreamAsk) -> Option<R> {
        let (sender, receiver) = oneshot::channel();
        // Dropped unanswered when that StreamActor dies.
        if self.cast(build(RpcReplyPort::from(sender))) { receiver.await.ok() } else { None }
    }

    /// Hands a message over and waits until it is durable.
    ///
    /// # Errors
    ///
    /// When it is refused, or [`SendError::Unavailable`] when StreamActor is not running or does
    /// not answer within [`ACCEPT_TIMEOUT`].
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the message may or may not be accepted: ask again with the same id.
    pub async fn submit(&self, submission: Submission) -> Result<Accepted, SendError> {
        let asking = async {
            let place = Arc::clone(&self.places).acquire_owned().await;
            let permit = AskPermit { _permit: place.map_err(|_| SendError::Unavailable)? };
            let submission = Box::new(submission);
            let build = |reply| StreamAsk::Submit { submission, reply, permit };
            self.call(build).await.unwrap_or(Err(SendError::Unavailable))
        };
        tokio::time::timeout(ACCEPT_TIMEOUT, asking).await.unwrap_or(Err(SendError::Unavailable))
    }

    /// Tells of a new height. Says whether StreamActor is there to hear it.
    pub fn height(&self, height: u64) -> bool {
        self.cast(StreamAsk::Height(height))
    }

    /// How the link is; `None` when StreamActor is not running.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn health(&self) -> Option<LinkHealth> {
        let asking = self.call(StreamAsk::Health);
        tokio::time::timeout(super::QUERY_TIMEOUT, asking).await.ok().flatten()
    }
}
