//! The way to one neighbour: bounded, with a timeout, and patient with its restarts.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_messaging::router::Target;
use ractor::{ActorRef, Message, RpcReplyPort};
use tokio::sync::oneshot::error::TryRecvError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{Answer, Handled, IN_FLIGHT_MAX, NotHandled};

/// Most unanswered messages to one neighbour that are ahead of everything: the same halt, told
/// again. One that does not answer these has it in its mailbox.
const URGENT_MAX: usize = 4;

/// A neighbour that did not deal with something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    /// There is none, or it is being started again.
    #[error("the {} actor is not running: it is told once it is", .0.as_str())]
    Absent(Target),
    /// It has not dealt with as much as it may have in its mailbox.
    #[error("the {} actor has not dealt with {IN_FLIGHT_MAX} earlier messages", .0.as_str())]
    Busy(Target),
    /// It did not answer in time. It may have dealt with it, or may do so later.
    #[error("the {} actor did not answer within {after:?}", target.as_str())]
    TimedOut {
        /// Who.
        target: Target,
        /// How long it had.
        after: Duration,
    },
    /// It died, or dropped the message.
    #[error("the {} actor ended before it answered", .0.as_str())]
    Died(Target),
    /// It says: not now.
    #[error("the {} actor says: {reason}", target.as_str())]
    Deferred {
        /// Who.
        target: Target,
        /// Why.
        reason: String,
    },
    /// It says: never.
    #[error("the {} actor refuses: {reason}", target.as_str())]
    Refused {
        /// Who.
        target: Target,
        /// Why.
        reason: String,
    },
}

impl TargetError {
    /// Whether the same message may be dealt with later.
    #[must_use]
    pub const fn is_for_now(&self) -> bool {
        match self {
            Self::Absent(_)
            | Self::Busy(_)
            | Self::TimedOut { .. }
            | Self::Died(_)
            | Self::Deferred { .. } => true,
            Self::Refused { .. } => false,
        }
    }
}

/// The way to one neighbour. Cheap to clone; all clones lead to the actor that is attached.
pub struct Port<M> {
    inner: Arc<Inner<M>>,
}

struct Inner<M> {
    target: Target,
    actor: Mutex<Option<ActorRef<M>>>,
    in_flight: Arc<Semaphore>,
    urgent: Arc<Semaphore>,
    /// How often somebody came; every change is a new life, which knows nothing yet.
    lives: watch::Sender<u64>,
    /// What nobody waits for any more, but the neighbour still has: at most [`IN_FLIGHT_MAX`] and
    /// [`URGENT_MAX`].
    late: Mutex<Vec<Late>>,
}

impl<M> Clone for Port<M> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<M> fmt::Debug for Port<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Port")
            .field("target", &self.inner.target)
            .field("free", &self.inner.in_flight.available_permits())
            .finish_non_exhaustive()
    }
}

/// A message that the neighbour has, and its place among those in flight.
struct Late {
    answer: Box<dyn Pending>,
    _permit: OwnedSemaphorePermit,
}

trait Pending: Send {
    /// Whether the neighbour has answered, or dropped the message.
    fn is_over(&mut self) -> bool;
}

impl<R: Send> Pending for oneshot::Receiver<R> {
    fn is_over(&mut self) -> bool {
        !matches!(self.try_recv(), Err(TryRecvError::Empty))
    }
}

/// Waits for an answer; when that is given up, the place stays taken until the neighbour is done.
struct Waiting<'a, M, R: Send + 'static> {
    inner: &'a Inner<M>,
    receiver: Option<oneshot::Receiver<R>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl<M, R: Send + 'static> Drop for Waiting<'_, M, R> {
    fn drop(&mut self) {
        if let (Some(mut receiver), Some(permit)) = (self.receiver.take(), self.permit.take())
            && !receiver.is_over()
        {
            let late = Late { answer: Box::new(receiver), _permit: permit };
            lock(&self.inner.late).push(late);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<M: Message> Port<M> {
    /// A port with nobody behind it.
    #[must_use]
    pub fn new(target: Target) -> Self {
        let inner = Inner {
            target,
            actor: Mutex::new(None),
            in_flight: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
            urgent: Arc::new(Semaphore::new(URGENT_MAX)),
            lives: watch::Sender::new(0),
            late: Mutex::default(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Who is behind it.
    #[must_use]
    pub fn target(&self) -> Target {
        self.inner.target
    }

    /// From now on this actor is behind it: at its start, and after each restart. It is told what
    /// stands, such as the federation in force and a halt.
    pub fn attach(&self, actor: ActorRef<M>) {
        *lock(&self.inner.actor) = Some(actor);
        self.inner.lives.send_modify(|lives| *lives += 1);
    }

    /// How often somebody came, now and as it changes.
    pub(crate) fn lives(&self) -> watch::Receiver<u64> {
        self.inner.lives.subscribe()
    }

    /// Nobody is behind it any more.
    pub fn detach(&self) {
        *lock(&self.inner.actor) = None;
    }

    /// Whether anybody is behind it.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        lock(&self.inner.actor).is_some()
    }

    /// How many messages the neighbour has not dealt with.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.sweep();
        IN_FLIGHT_MAX.saturating_sub(self.inner.in_flight.available_permits())
    }

    /// Whether nobody is behind it, or one who has as much to do as it may have.
    #[must_use]
    pub fn is_late(&self) -> bool {
        !self.is_attached() || self.in_flight() >= IN_FLIGHT_MAX
    }

    /// Asks something, and waits for the answer for at most `limit`.
    ///
    /// # Errors
    ///
    /// When nobody is there, the neighbour has too much to do, dies, or is too slow.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped the neighbour may or may not get the message.
    pub async fn call<R: Send + 'static>(
        &self,
        limit: Duration,
        build: impl FnOnce(RpcReplyPort<R>) -> M,
    ) -> Result<R, TargetError> {
        let target = self.inner.target;
        self.sweep();
        let permit = Arc::clone(&self.inner.in_flight).acquire_owned();
        let Ok(Ok(permit)) = tokio::time::timeout(limit, permit).await else {
            return Err(TargetError::Busy(target));
        };
        self.send(limit, permit, build).await
    }

    /// Tells something, and waits until it is dealt with, for at most `limit`.
    ///
    /// # Errors
    ///
    /// As [`Port::call`], and when the neighbour says that it did not deal with it.
    ///
    /// # Cancel safety
    ///
    /// As [`Port::call`].
    pub async fn tell(
        &self,
        limit: Duration,
        build: impl FnOnce(Answer) -> M,
    ) -> Result<(), TargetError> {
        let handled = self.call(limit, build).await?;
        self.dealt_with(handled)
    }

    /// As [`Port::tell`], without waiting for a place: for what is ahead of everything.
    pub(super) async fn tell_urgently(
        &self,
        limit: Duration,
        build: impl FnOnce(Answer) -> M,
    ) -> Result<(), TargetError> {
        self.sweep();
        let permit = Arc::clone(&self.inner.urgent).try_acquire_owned();
        let permit = permit.map_err(|_| TargetError::Busy(self.inner.target))?;
        let handled = self.send(limit, permit, build).await?;
        self.dealt_with(handled)
    }

    /// Leaves a message without waiting for the answer. Says whether it was left: not when nobody
    /// is there, or the neighbour has too much to do.
    pub(crate) fn post(&self, build: impl FnOnce(Answer) -> M) -> bool {
        self.sweep();
        let Some(actor) = lock(&self.inner.actor).clone() else {
            return false;
        };
        let Ok(permit) = Arc::clone(&self.inner.in_flight).try_acquire_owned() else {
            return false;
        };
        let (sender, receiver) = oneshot::channel::<Handled>();
        if actor.cast(build(RpcReplyPort::from(sender))).is_err() {
            return false;
        }
        lock(&self.inner.late).push(Late { answer: Box::new(receiver), _permit: permit });
        true
    }

    async fn send<R: Send + 'static>(
        &self,
        limit: Duration,
        permit: OwnedSemaphorePermit,
        build: impl FnOnce(RpcReplyPort<R>) -> M,
    ) -> Result<R, TargetError> {
        let target = self.inner.target;
        let actor = lock(&self.inner.actor).clone().ok_or(TargetError::Absent(target))?;
        let (sender, receiver) = oneshot::channel();
        let sent = actor.cast(build(RpcReplyPort::from((sender, limit))));
        sent.map_err(|_| TargetError::Absent(target))?;
        let mut waiting =
            Waiting { inner: &self.inner, receiver: Some(receiver), permit: Some(permit) };
        let Some(receiver) = waiting.receiver.as_mut() else {
            return Err(TargetError::Died(target));
        };
        match tokio::time::timeout(limit, receiver).await {
            Ok(Ok(answer)) => {
                waiting.receiver = None;
                Ok(answer)
            }
            Ok(Err(_)) => Err(TargetError::Died(target)),
            Err(_) => Err(TargetError::TimedOut { target, after: limit }),
        }
    }

    fn dealt_with(&self, handled: Handled) -> Result<(), TargetError> {
        let target = self.inner.target;
        handled.map_err(|not| match not {
            NotHandled::Later(reason) => TargetError::Deferred { target, reason },
            NotHandled::Never(reason) => TargetError::Refused { target, reason },
        })
    }

    /// Gives places back that the neighbour is done with.
    fn sweep(&self) {
        lock(&self.inner.late).retain_mut(|late| !late.answer.is_over());
    }
}
