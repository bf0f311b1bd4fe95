//! What the Bridge is told of signature requests: every change of stage, and the end until it has
//! dealt with it.
//!
//! Of one request only the newest is held. There is room for [`REQUESTS_MAX`] requests while the
//! Bridge does not keep up; then stages in between go first, and then the oldest ends, which the
//! Bridge can still look up by their id.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use tokio::sync::Notify;

use super::Delivery;
use crate::failure::Context;
use crate::outcome::{Outcome, is_final};

/// Requests whose news are held for the Bridge; about 1 KiB each, and more with signatures.
const REQUESTS_MAX: usize = 4096;

/// First wait before the Bridge is told again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(100);

/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// What the Bridge was not told yet.
#[derive(Debug, Default)]
pub(super) struct News {
    untold: Mutex<Untold>,
    arrived: Notify,
}

#[derive(Debug, Default)]
struct Untold {
    newest: BTreeMap<MessageId, Arc<Outcome>>,
    order: VecDeque<MessageId>,
}

impl Untold {
    /// Returns an end for which there was no room any more.
    fn handle_news(&mut self, id: MessageId, outcome: Arc<Outcome>) -> Option<MessageId> {
        if self.newest.insert(id, outcome).is_some() {
            return None;
        }
        self.order.push_back(id);
        if self.order.len() <= REQUESTS_MAX {
            return None;
        }
        let is_stage = |id: &MessageId| self.newest.get(id).is_none_or(|it| !is_final(it.state()));
        let place = self.order.iter().position(is_stage);
        let dropped = self.order.remove(place.unwrap_or(0))?;
        self.newest.remove(&dropped);
        place.is_none().then_some(dropped)
    }

    fn take(&mut self) -> Option<(MessageId, Arc<Outcome>)> {
        while let Some(id) = self.order.pop_front() {
            if let Some(outcome) = self.newest.remove(&id) {
                return Some((id, outcome));
            }
        }
        None
    }

    /// It was not told; something newer may have come meanwhile.
    fn put_back(&mut self, id: MessageId, outcome: Arc<Outcome>) {
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.newest.entry(id) {
            vacant.insert(outcome);
            self.order.push_front(id);
        }
    }
}

impl News {
    fn lock(&self) -> std::sync::MutexGuard<'_, Untold> {
        self.untold.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A signature request came further, or ended.
    pub(super) fn handle(&self, id: MessageId, outcome: &Outcome) {
        let dropped = self.lock().handle_news(id, Arc::new(outcome.clone()));
        if let Some(id) = dropped {
            tracing::error!(%id, "the Bridge does not keep up: it is not told how a request ended");
        }
        self.arrived.notify_one();
    }
}

/// Tells the Bridge, until it is aborted.
pub(super) async fn run(delivery: Arc<Delivery>) {
    let mut backoff = BACKOFF_MIN;
    loop {
        let next = delivery.news.lock().take();
        let Some((id, outcome)) = next else {
            delivery.news.arrived.notified().await;
            continue;
        };
        let told = delivery.neighbours.tell_signatures(id, Arc::clone(&outcome)).await;
        let Err(error) = told else {
            backoff = BACKOFF_MIN;
            continue;
        };
        let is_for_now = error.is_for_now();
        let context = Context { message_id: Some(id.to_string()), ..Context::default() };
        delivery.failures.record(&error, context);
        if is_for_now {
            delivery.news.lock().put_back(id, outcome);
            tokio::time::sleep(backoff).await;
            backoff = backoff.saturating_mul(2).min(BACKOFF_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::submission::OutcomeState;

    use super::*;
    use crate::outcome;

    fn news(id: MessageId, state: OutcomeState) -> Arc<Outcome> {
        Arc::new(outcome::plain(id, state, ""))
    }

    #[test]
    fn only_the_newest_of_a_request_is_told() {
        let mut untold = Untold::default();
        let id = MessageId::mint();
        untold.handle_news(id, news(id, OutcomeState::Pending));
        let (_, first) = untold.take().unwrap();
        untold.handle_news(id, news(id, OutcomeState::Complete));
        untold.put_back(id, first);
        assert_eq!(untold.take().map(|(_, it)| it.state()), Some(OutcomeState::Complete));
        assert_eq!(untold.take(), None);
    }

    #[test]
    fn stages_in_between_go_before_ends() {
        let mut untold = Untold::default();
        let ends: Vec<_> = (0..REQUESTS_MAX - 1).map(|_| MessageId::mint()).collect();
        for id in &ends {
            assert_eq!(untold.handle_news(*id, news(*id, OutcomeState::Failed)), None);
        }
        let stage = MessageId::mint();
        untold.handle_news(stage, news(stage, OutcomeState::Pending));
        let last = MessageId::mint();
        assert_eq!(untold.handle_news(last, news(last, OutcomeState::Complete)), None);
        assert!(!untold.newest.contains_key(&stage), "it went");
        let more = MessageId::mint();
        let dropped = untold.handle_news(more, news(more, OutcomeState::Complete));
        assert_eq!(dropped, ends.first().copied());
        assert_eq!(untold.order.len(), REQUESTS_MAX);
    }
}
