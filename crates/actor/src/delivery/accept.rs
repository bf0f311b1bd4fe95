//! Messages in: validated, routed, stored; the caller learns the number once it is durable (D1).

use std::sync::atomic::Ordering;

use alys_stream_messaging::buffer::{AppendCause, AppendError};
use alys_stream_messaging::log::{DurabilityError, ReadError};
use alys_stream_messaging::outbox::{Budget, EndpointId};
use alys_stream_messaging::router::{Durability, UnknownKind};
use alys_stream_protocol::message::{Message, MessageId, Seq};
use alys_stream_protocol::submission::{OutcomeState, Submission};
use alys_stream_protocol::time::UnixMillis;

use tokio::time::Instant;

use super::Delivery;
use crate::failure::Context;
use crate::outcome::{self, Follow, Outcome};
use crate::submit::{SubmitError, Submitter};

/// A message that is ours now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// Its identifier.
    pub id: MessageId,
    /// Its number; `Seq::VOLATILE` for the memory class, which is never logged.
    pub seq: Seq,
    /// It had been accepted before; nothing was stored twice.
    pub duplicate: bool,
}

/// Why messages were not accepted. Every variant that refuses before storing gives them back.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A message is not what its kind says, or names something that is not configured.
    #[error("submissions[{index}].{source}")]
    Invalid {
        /// Which one, from 0.
        index: usize,
        /// What is wrong with it.
        source: SubmitError,
    },
    /// A payload is larger than both sides accept.
    #[error("{cause}")]
    TooLarge {
        /// Which one, and how large.
        cause: AppendCause,
        /// All messages of the call, untouched.
        messages: Vec<Message>,
    },
    /// The kind of a message has no route.
    #[error("{source}")]
    UnknownKind {
        /// Which kind.
        source: UnknownKind,
        /// All messages of the call, untouched.
        messages: Vec<Message>,
    },
    /// No room: the quota is used up or the disk is full. Nothing was stored; try again later.
    #[error("backpressure: {cause}")]
    Backpressure {
        /// What is full.
        cause: AppendCause,
        /// All messages of the call, untouched.
        messages: Vec<Message>,
    },
    /// The disk failed. The messages may or may not be stored: send again with the same ids, which
    /// stores nothing twice.
    #[error("the buffer could not be written: {0}")]
    Io(String),
    /// The node is stopping or restarting its StreamActor.
    #[error("the stream is not running (it is starting, restarting or stopping): try again")]
    Unavailable,
}

impl Delivery {
    /// Completes submissions, checks them, and accepts them all or none.
    pub(crate) async fn submit(
        &self,
        submitter: &Submitter,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Accepted>, SendError> {
        let now = self.clock.now();
        let in_force = self.in_force();
        let federation = in_force.as_ref().map(|it| &it.federation);
        let messages = submissions
            .into_iter()
            .enumerate()
            .map(|(index, submission)| {
                let message = submitter.message(now, &self.router, federation, submission);
                message.map_err(|source| SendError::Invalid { index, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        self.accept(messages).await
    }

    /// Accepts messages. Returns once those that are logged are durable in their class.
    pub(crate) async fn accept(&self, messages: Vec<Message>) -> Result<Vec<Accepted>, SendError> {
        let (now, begun) = (self.clock.now(), Instant::now());
        let mut messages = messages;
        let mut classes = Classes::default();
        for index in 0..messages.len() {
            match self.router.prepare(now, &mut messages[index]) {
                Ok(route) => classes.add(route.durability),
                Err(source) => return Err(SendError::UnknownKind { source, messages }),
            }
        }
        if !classes.has_memory {
            let accepted = self.store(now, messages, classes).await;
            let accepted = accepted.inspect_err(|error| self.note_send(error))?;
            self.metrics.accept_seconds(begun.elapsed());
            return Ok(accepted);
        }
        let ids: Vec<MessageId> = messages.iter().map(|message| message.id).collect();
        let (volatile, logged): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| self.is_volatile(message));
        let accepted = self.store(now, logged, classes).await;
        let accepted = accepted.inspect_err(|error| self.note_send(error))?;
        for message in volatile {
            self.offer_volatile(message);
        }
        self.metrics.accept_seconds(begun.elapsed());
        let mut logged = accepted.into_iter().peekable();
        let accepted = ids
            .into_iter()
            .map(|id| {
                logged.next_if(|accepted| accepted.id == id).unwrap_or(Accepted {
                    id,
                    seq: Seq::VOLATILE,
                    duplicate: false,
                })
            })
            .collect();
        Ok(accepted)
    }

    /// A refusal that says something about this node is kept for `/status`.
    fn note_send(&self, error: &SendError) {
        if matches!(error, SendError::Io(_)) {
            self.disk_failed.store(true, Ordering::Relaxed);
        }
        self.failures.record(error, Context::default());
    }

    /// Whether the log took nothing more the last time somebody tried.
    pub(crate) fn is_disk_failed(&self) -> bool {
        self.disk_failed.load(Ordering::Relaxed)
    }

    fn is_volatile(&self, message: &Message) -> bool {
        self.router
            .outbound(message.kind)
            .is_ok_and(|route| matches!(route.durability, Durability::Memory))
    }

    async fn store(
        &self,
        now: UnixMillis,
        messages: Vec<Message>,
        classes: Classes,
    ) -> Result<Vec<Accepted>, SendError> {
        if messages.is_empty() {
            return Ok(Vec::new());
        }
        let stored = self.buffer.append_waiting(now, messages).await.map_err(append_error)?;
        if classes.has_fsync {
            self.buffer.all_durable(&stored).await.map_err(durability_error)?;
        } else if let Some(last) = stored.iter().map(|stored| stored.seq).max() {
            // They are written in the order of their numbers.
            self.buffer.written(last).await.map_err(durability_error)?;
        }
        self.disk_failed.store(false, Ordering::Relaxed);
        let fresh = stored.iter().filter(|stored| !stored.is_duplicate).count();
        self.accepted.fetch_add(u64::try_from(fresh).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(stored
            .into_iter()
            .map(|it| Accepted { id: it.id, seq: it.seq, duplicate: it.is_duplicate })
            .collect())
    }

    /// Newest replaces older of the same kind; each endpoint gets it once it can.
    fn offer_volatile(&self, message: Message) {
        let mut state = self.lock();
        for waiting in &mut state.volatile {
            waiting.insert(message.kind, message.clone());
        }
        drop(state);
        for slot in &self.endpoints {
            slot.ready.notify_one();
        }
    }

    /// Messages of the memory class that wait for the endpoint that is furthest behind.
    pub(crate) fn volatile_waiting(&self) -> usize {
        self.lock().volatile.iter().map(std::collections::BTreeMap::len).max().unwrap_or(0)
    }

    /// Follows a message; `None` when it was never accepted, or so long ago that it is forgotten.
    pub(crate) fn follow(&self, id: MessageId) -> Option<Follow> {
        if let Some(outcome) = self.final_outcome(&id) {
            return Some(Follow::finished(outcome));
        }
        let mut guard = self.lock();
        let state = &mut *guard;
        if state.followers.sweep() {
            state.followed.retain(|_, id| state.followers.has(id));
        }
        let peers = &state.peers;
        let name_of = |source| super::State::source_name(peers, self, source);
        if let Some(present) = state.collector.snapshot(id, name_of) {
            return Some(state.followers.join(id, || present));
        }
        // Looked up again: it may have ended between the first look and the lock.
        if let Some(outcome) = self.final_outcome(&id) {
            return Some(Follow::finished(outcome));
        }
        let known = self.buffer.lookup(&id);
        let lives = known.filter(|seq| self.buffer.is_live(*seq));
        let Some(seq) = lives.or_else(|| self.lives_under(&id)).or(known) else {
            return self.ended_again(&id).map(Follow::finished);
        };
        if self.buffer.is_settled(seq) && !state.followers.has(&id) {
            let ended = self.died(&id, seq).or_else(|| self.ended_again(&id));
            let complete = || outcome::plain(id, OutcomeState::Complete, "");
            return Some(Follow::finished(ended.unwrap_or_else(complete)));
        }
        state.followed.insert(seq, id);
        self.settle_now.notify_one();
        Some(state.followers.join(id, || outcome::plain(id, OutcomeState::Accepted, "")))
    }

    pub(super) fn stored_outcome(&self, id: &MessageId) -> Option<Outcome> {
        outcome::stored(&self.outcomes, id)
    }

    /// The same, for whom it matters that it cannot be read.
    pub(super) fn read_outcome(&self, id: &MessageId) -> Result<Option<Outcome>, ReadError> {
        outcome::read(&self.outcomes, id)
    }

    /// How a message ended. A message that was accepted again after it died has not, until it ends
    /// again: see [`super::letters`].
    pub(super) fn final_outcome(&self, id: &MessageId) -> Option<Outcome> {
        outcome::stored_final(&self.outcomes, id)
    }

    /// Messages of the memory class that an endpoint has not been sent yet, as many as fit into
    /// the budget; what they take is taken off it.
    pub(crate) fn take_volatile(&self, endpoint: EndpointId, budget: &mut Budget) -> Vec<Message> {
        let mut state = self.lock();
        let Some(waiting) = state.volatile.get_mut(usize::from(endpoint.0)) else {
            return Vec::new();
        };
        let mut taken = Vec::new();
        // What does not fit stands before nothing: the next one of its kind takes its place.
        waiting.retain(|_, message| {
            let bytes = u64::try_from(message.payload.len()).unwrap_or(u64::MAX);
            let fits = budget.messages > 0 && bytes <= budget.bytes;
            if fits {
                budget.messages -= 1;
                budget.bytes -= bytes;
                taken.push(message.clone());
            }
            !fits
        });
        taken
    }
}

/// Which durability classes there are among the messages of one call.
#[derive(Debug, Clone, Copy, Default)]
struct Classes {
    has_memory: bool,
    has_fsync: bool,
}

impl Classes {
    const fn add(&mut self, durability: Durability) {
        match durability {
            Durability::Memory => self.has_memory = true,
            Durability::Fsync => self.has_fsync = true,
            // Whatever is stored waits to be written.
            Durability::Os => {}
        }
    }
}

fn append_error(error: AppendError) -> SendError {
    let AppendError { messages, cause } = error;
    match cause {
        AppendCause::Full { .. }
        | AppendCause::DiskFull
        | AppendCause::Backlog
        | AppendCause::IdsUnreadable => SendError::Backpressure { cause, messages },
        AppendCause::TooLarge { .. } => SendError::TooLarge { cause, messages },
        AppendCause::Poisoned => SendError::Io(cause.to_string()),
    }
}

fn durability_error(error: DurabilityError) -> SendError {
    SendError::Io(error.to_string())
}
