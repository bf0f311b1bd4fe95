//! What became of a message: the state that callers follow, the last one final.
//!
//! Final outcomes of signature requests are on stable storage before anyone learns them; those of
//! other messages follow from the buffer (settled) and the dead letters.
//!
//! Invariants:
//! - A5: a final outcome never changes.

use std::collections::HashMap;

use alys_stream_messaging::log::ReadError;
use alys_stream_messaging::outcome::Outcomes;
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{AwaitOutcomeResponse, OutcomeState};
use prost::Message as _;
use tokio::sync::watch;

use crate::handle::StreamHandle;

/// What became of a message so far.
///
/// The same value goes over the submission interface and into the outcome store.
pub type Outcome = AwaitOutcomeResponse;

/// Whether a state is the last one.
#[must_use]
pub const fn is_final(state: OutcomeState) -> bool {
    match state {
        OutcomeState::Unspecified | OutcomeState::Accepted | OutcomeState::Pending => false,
        OutcomeState::Complete | OutcomeState::Failed | OutcomeState::TimedOut => true,
    }
}

/// An outcome that says nothing but its state and why.
pub(crate) fn plain(id: MessageId, state: OutcomeState, reason: impl Into<String>) -> Outcome {
    Outcome {
        state: i32::from(state),
        message_id: id.as_bytes().to_vec().into(),
        reason: reason.into(),
        ..Outcome::default()
    }
}

/// What the outcome store has of a message, for whom it matters that it cannot be read.
pub(crate) fn read(store: &Outcomes, id: &MessageId) -> Result<Option<Outcome>, ReadError> {
    Ok(store.get(id)?.and_then(|bytes| Outcome::decode(bytes).ok()))
}

/// The same; what cannot be read is logged.
pub(crate) fn stored(store: &Outcomes, id: &MessageId) -> Option<Outcome> {
    read(store, id).unwrap_or_else(|error| {
        tracing::error!(%id, %error, "a stored outcome cannot be read");
        None
    })
}

/// How a message ended, as far as the outcome store says.
pub(crate) fn stored_final(store: &Outcomes, id: &MessageId) -> Option<Outcome> {
    stored(store, id).filter(|outcome| is_final(outcome.state()))
}

/// Follows one message.
#[derive(Debug)]
pub struct Follow {
    receiver: watch::Receiver<Outcome>,
    stage: Stage,
    /// How it is found again when a StreamActor ends under it.
    found: Option<(StreamHandle, MessageId)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Fresh,
    Following,
    Ended,
}

impl Follow {
    pub(crate) const fn new(receiver: watch::Receiver<Outcome>) -> Self {
        Self { receiver, stage: Stage::Fresh, found: None }
    }

    /// The same, beyond the end of the StreamActor that it was found with.
    pub(crate) fn beyond_restarts(mut self, handle: StreamHandle, id: MessageId) -> Self {
        self.found = Some((handle, id));
        self
    }

    /// Looks for the message in the next life of the StreamActor; false when there is none.
    async fn find_again(&mut self) -> bool {
        let Some((handle, id)) = &self.found else {
            return false;
        };
        let Ok(Some(follow)) = handle.follow(*id).await else {
            return false;
        };
        self.receiver = follow.receiver;
        true
    }

    /// A message whose outcome is known and final.
    pub(crate) fn finished(outcome: Outcome) -> Self {
        Self::new(watch::channel(outcome).1)
    }

    /// The next state: at once the present one, then every change, ending after the final one.
    /// Changes that come faster than they are asked for are merged; the final one is never missed
    /// while the node runs. When the StreamActor ends meanwhile, the state that the next one knows
    /// comes, which may be an earlier one. `None` after the final one, or when the node stops.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no state is lost when the future is dropped.
    pub async fn next(&mut self) -> Option<Outcome> {
        match self.stage {
            Stage::Fresh => {}
            Stage::Following => {
                if self.receiver.changed().await.is_err() && !self.find_again().await {
                    return None;
                }
            }
            Stage::Ended => return None,
        }
        let outcome = self.receiver.borrow_and_update().clone();
        self.stage = if is_final(outcome.state()) { Stage::Ended } else { Stage::Following };
        Some(outcome)
    }

    /// Waits for the final state. `None` when the node stops first.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: no state is lost when the future is dropped.
    pub async fn finished_outcome(&mut self) -> Option<Outcome> {
        loop {
            if let Ok(outcome) = self.receiver.wait_for(|outcome| is_final(outcome.state())).await {
                return Some(outcome.clone());
            }
            if !self.find_again().await {
                return None;
            }
        }
    }
}

/// Followed messages from which on those are looked for that nobody follows any more.
const SWEEP_MIN: usize = 1024;

/// Who follows which live message. As many as somebody really follows, twice at most (D7): who
/// stopped following is swept out whenever the number has doubled.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    live: HashMap<MessageId, watch::Sender<Outcome>>,
    /// How many were left by the last sweep.
    swept: usize,
}

impl Followers {
    /// Forgets messages that nobody follows any more, when that is worth it. Says whether it was.
    pub(crate) fn sweep(&mut self) -> bool {
        if self.live.len() < SWEEP_MIN.max(self.swept.saturating_mul(2)) {
            return false;
        }
        self.live.retain(|_, sender| !sender.is_closed());
        self.swept = self.live.len();
        true
    }

    /// Joins the followers of `id`; the first one brings the present state.
    pub(crate) fn join(&mut self, id: MessageId, present: impl FnOnce() -> Outcome) -> Follow {
        let sender = self.live.entry(id).or_insert_with(|| watch::channel(present()).0);
        Follow::new(sender.subscribe())
    }

    /// Tells the followers of `id`, and forgets them after a final state or when nobody is left.
    pub(crate) fn tell(&mut self, id: MessageId, outcome: Outcome) {
        let Some(sender) = self.live.get(&id) else {
            return;
        };
        let last = is_final(outcome.state());
        sender.send_replace(outcome);
        if last || sender.is_closed() {
            self.live.remove(&id);
        }
    }

    /// A first governance node has the message of `id`.
    pub(crate) fn tell_pending(&self, id: MessageId) {
        if let Some(sender) = self.live.get(&id) {
            sender.send_if_modified(|outcome| {
                let first = outcome.state() == OutcomeState::Accepted;
                if first {
                    outcome.set_state(OutcomeState::Pending);
                }
                first
            });
        }
    }

    /// Whether anyone follows `id`.
    pub(crate) fn has(&self, id: &MessageId) -> bool {
        self.live.contains_key(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_follower_sees_the_present_state_then_the_final_one_and_ends() {
        let id = MessageId::mint();
        let mut followers = Followers::default();
        let mut follow = followers.join(id, || plain(id, OutcomeState::Accepted, ""));
        assert_eq!(follow.next().await.map(|o| o.state()), Some(OutcomeState::Accepted));
        followers.tell_pending(id);
        assert_eq!(follow.next().await.map(|o| o.state()), Some(OutcomeState::Pending));
        followers.tell(id, plain(id, OutcomeState::Complete, ""));
        assert!(!followers.has(&id));
        assert_eq!(follow.next().await.map(|o| o.state()), Some(OutcomeState::Complete));
        assert!(follow.next().await.is_none());
    }

    #[test]
    fn who_stopped_following_takes_no_room() {
        let mut followers = Followers::default();
        let stays = MessageId::mint();
        let _follow = followers.join(stays, || plain(stays, OutcomeState::Accepted, ""));
        for _ in 0..10 * SWEEP_MIN {
            let id = MessageId::mint();
            drop(followers.join(id, || plain(id, OutcomeState::Accepted, "")));
            followers.sweep();
            assert!(followers.live.len() < SWEEP_MIN);
        }
        assert!(followers.has(&stays));
    }

    #[tokio::test]
    async fn a_finished_message_gives_its_outcome_once() {
        let id = MessageId::mint();
        let mut follow = Follow::finished(plain(id, OutcomeState::Failed, "refused"));
        assert_eq!(follow.finished_outcome().await.map(|o| o.reason), Some("refused".into()));
        assert_eq!(follow.next().await.map(|o| o.state()), Some(OutcomeState::Failed));
        assert!(follow.next().await.is_none());
    }
}
