//! What neighbours ask of the StreamActor, as messages for actors that prefer a mailbox to a
//! [`crate::StreamHandle`].
//!
//! Mailboxes have no bound, so whoever asks takes a place first ([`Asks`] does) and the place rides
//! in the message: at most [`ASKS_MAX`] are on their way, and the next one waits.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::submission::Submission;
use ractor::{ActorRef, RpcReplyPort};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

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

/// The way for neighbours to ask. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Asks {
    actor: ActorRef<StreamAsk>,
    places: Arc<Semaphore>,
}

impl Asks {
    /// Asks go to this actor.
    #[must_use]
    pub fn new(actor: ActorRef<StreamAsk>) -> Self {
        Self { actor, places: Arc::new(Semaphore::new(ASKS_MAX)) }
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
            match self.actor.call(build, None).await {
                Ok(ractor::rpc::CallResult::Success(result)) => result,
                Ok(ractor::rpc::CallResult::Timeout | ractor::rpc::CallResult::SenderError)
                | Err(_) => Err(SendError::Unavailable),
            }
        };
        tokio::time::timeout(ACCEPT_TIMEOUT, asking).await.unwrap_or(Err(SendError::Unavailable))
    }

    /// Tells of a new height. Says whether StreamActor is there to hear it.
    pub fn height(&self, height: u64) -> bool {
        self.actor.cast(StreamAsk::Height(height)).is_ok()
    }

    /// How the link is; `None` when StreamActor is not running.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn health(&self) -> Option<LinkHealth> {
        match self.actor.call(StreamAsk::Health, Some(super::QUERY_TIMEOUT)).await {
            Ok(ractor::rpc::CallResult::Success(health)) => Some(health),
            Ok(ractor::rpc::CallResult::Timeout | ractor::rpc::CallResult::SenderError)
            | Err(_) => None,
        }
    }
}
