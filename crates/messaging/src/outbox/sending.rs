//! What goes to an endpoint, and what it says to it.

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use super::budget::{Fit, Taken};
use super::item::Item;
use super::lane::{Gate, Hold, Owner};
use super::pages::Class;
use super::words::REFUSAL_TEXT_BYTES_MAX;
use super::{Action, Attempt, Budget, EndpointId, Outbox, Refusal};
use crate::queue::{Entry, Passed};

impl Outbox {
    /// Takes what goes to an endpoint next, as much as budget and batch allow; empty when there is
    /// nothing (until [`Action::Ready`]) or the budget is used up.
    ///
    /// The batch ends with the message that reaches `batch_bytes_max`: there is at most one longer
    /// one in it, the last. A class whose head does not fit is passed over (M26).
    pub fn poll_batch(
        &mut self,
        now: UnixMillis,
        id: EndpointId,
        budget: Budget,
        batch_records_max: usize,
        batch_bytes_max: usize,
    ) -> Vec<Seq> {
        self.learn_now(now);
        let bytes_max = u64::try_from(batch_bytes_max).unwrap_or(u64::MAX);
        let mut passed = self.passed_at_first(now, id, budget);
        let mut taken = Taken::default();
        let mut batch = Vec::new();
        while batch.len() < batch_records_max && taken.bytes < bytes_max {
            let Some((priority, entry)) = self.poll_sendable(now, id, passed) else {
                break;
            };
            match budget.fits(taken, priority, entry.bytes) {
                Fit::Fits => {
                    taken.messages = taken.messages.saturating_add(1);
                    taken.bytes += u64::from(entry.bytes);
                    self.send(id, priority, entry.seq);
                    batch.push(entry.seq);
                }
                Fit::NotNow => passed.insert(priority),
                Fit::TooLong => {
                    passed.insert(priority);
                    if let Some(endpoint) = self.endpoints.get_mut(&id) {
                        endpoint.passed.note(now, priority);
                    }
                    passed = passed.or(self.held_by_gathering(now, id, budget));
                }
            }
        }
        if !batch.is_empty() {
            self.balance.handle_sent(now, id, batch.len());
        }
        self.go_on();
        batch
    }

    /// Whom a class that gathers holds back from the start.
    fn passed_at_first(&mut self, now: UnixMillis, id: EndpointId, budget: Budget) -> Passed {
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.is_ready_told = false;
            endpoint.held_until = None;
            for priority in Priority::ALL {
                if endpoint.queued_of(priority) == 0 {
                    endpoint.passed.clear(priority);
                }
            }
        }
        self.held_by_gathering(now, id, budget)
    }

    /// Whom a class that gathers holds back.
    fn held_by_gathering(&mut self, now: UnixMillis, id: EndpointId, budget: Budget) -> Passed {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return Passed::NONE;
        };
        let Some((priority, until)) = endpoint.passed.gathering(now) else {
            return Passed::NONE;
        };
        // While a long one is on its way, another one below `Critical` would gather for nothing.
        let may_leave = priority == Priority::Critical || budget.large_bytes_max == u64::MAX;
        // And only what is in flight can make room.
        if endpoint.in_flight.is_empty() || !may_leave {
            return Passed::NONE;
        }
        endpoint.held_until = Some(until);
        Passed::all_below_critical_but(priority)
    }

    /// What was held back goes on when it was for long enough.
    pub(super) fn let_go(&mut self, now: UnixMillis) {
        for (id, endpoint) in &mut self.endpoints {
            if endpoint.held_until.is_some_and(|until| until <= now) {
                endpoint.held_until = None;
                endpoint.tell_ready(*id, &mut self.actions);
            }
        }
    }

    /// When [`Outbox::let_go`] has something to do.
    pub(super) fn held_until(&self) -> Option<UnixMillis> {
        self.endpoints.values().filter_map(|endpoint| endpoint.held_until).min()
    }

    /// The head of an endpoint's queue, once everything that must not be sent is out of its way.
    fn poll_sendable(
        &mut self,
        now: UnixMillis,
        id: EndpointId,
        passed: Passed,
    ) -> Option<(Priority, Entry)> {
        loop {
            let endpoint = self.endpoints.get_mut(&id).filter(|endpoint| endpoint.is_connected)?;
            let (priority, entry) = endpoint.queue.peek(now, passed)?;
            let seq = entry.seq;
            let Some(item) = self.items.get(&seq).filter(|item| item.queued & endpoint.bit != 0)
            else {
                // Withdrawn, settled or sent already.
                endpoint.queue.discard(priority);
                continue;
            };
            if item.deadline.is_some_and(|deadline| deadline <= now) {
                self.expire(seq);
                continue;
            }
            if !endpoint.takes(entry.bytes) {
                self.refuse_too_long(id, seq);
                continue;
            }
            if let Some(key) = item.key.clone() {
                let is_any = item.is_any();
                let owner = if is_any { Owner::Any } else { Owner::Endpoint(id) };
                let gate = if self.keys.is_held(&key, priority, seq, id) {
                    Gate::Held(Hold::Retry)
                } else {
                    self.lane_mut(owner, priority)?.gate(&key, seq)
                };
                let hold = match gate {
                    Gate::Open => match self.hold_at(id, &(key, priority), seq, is_any) {
                        None => return Some((priority, entry)),
                        hold => hold,
                    },
                    Gate::Held(hold) => Some(hold),
                    Gate::Behind => None,
                };
                self.park(owner, priority, seq, hold);
                continue;
            }
            return Some((priority, entry));
        }
    }

    /// Sends the head of a class.
    fn send(&mut self, id: EndpointId, priority: Priority, seq: Seq) {
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        debug_assert!(
            item.deadline.is_none_or(|at| at > self.now),
            "invariant M13: never sent too late"
        );
        let head = endpoint.queue.take(priority);
        debug_assert!(head.is_some_and(|head| head.seq == seq), "what is sent is the head");
        endpoint.passed.clear(priority);
        item.unqueue_at(endpoint);
        item.in_flight |= endpoint.bit;
        endpoint.in_flight.insert(seq);
        endpoint.note_probe(seq);
        if !self.pages.is_sent(seq) {
            self.pages.set_sent(seq);
            self.retries.handle_first_send(self.now);
        }
    }

    /// A peer has durably stored messages.
    pub fn handle_ack(&mut self, id: EndpointId, acked: &SeqSet) {
        let Some(endpoint) = self.endpoints.get(&id) else {
            return;
        };
        // Only what was sent can be acknowledged, whatever the peer claims.
        let mut seqs: Vec<Seq> = Vec::new();
        for range in acked.ranges() {
            seqs.extend(endpoint.in_flight.iter_in(range));
        }
        if !seqs.is_empty() {
            self.balance.handle_acked(self.now, id, seqs.len());
        }
        for seq in seqs {
            self.acknowledge(id, seq);
        }
        self.go_on();
    }

    /// A peer did not take a message.
    pub fn handle_nack(
        &mut self,
        now: UnixMillis,
        id: EndpointId,
        seq: Seq,
        refusal: Refusal,
        code: u32,
        text: &str,
    ) {
        self.learn_now(now);
        let after = match refusal {
            Refusal::InProgress => return,
            Refusal::Retry { after } => Some(after),
            Refusal::Terminal => None,
        };
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        if item.in_flight & endpoint.bit == 0 {
            return;
        }
        let attempt = Attempt { endpoint: endpoint.name.clone(), at: now, code, text: cut(text) };
        let refusals = item.refuse(attempt);
        self.pages.set_class(seq, Class::Complex);
        endpoint.in_flight.remove(seq);
        item.in_flight &= !endpoint.bit;
        match after {
            Some(after) if refusals < self.config.refusals_max => {
                let due = self.retries.push(now, (seq, id), refusals, after);
                item.wait_at(endpoint);
                item.note_due(endpoint, due);
                if let Some(key) = &item.key {
                    self.keys.wait(key, item.priority, seq, id);
                }
            }
            Some(_) | None => self.refuse_for_good(id, seq),
        }
        self.remember(seq);
        self.go_on();
    }

    /// An endpoint is not asked again.
    pub(super) fn refuse_for_good(&mut self, id: EndpointId, seq: Seq) {
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        item.refused |= endpoint.bit;
        item.taken &= !endpoint.bit;
        if let Some(lane) = endpoint.lane_mut(item.priority) {
            lane.taken.remove(&seq);
        }
        self.idle.push(seq);
        self.judge(seq);
        // Of one that died of it, its end is waited for.
        if let Some(name) = self.items.get(&seq).and_then(Item::name) {
            self.ends.handle_refused(name, id, seq);
        }
    }

    /// Who refused a message is made durable.
    pub(super) fn remember(&mut self, seq: Seq) {
        if let Some(history) = self.items.get(&seq).and_then(|item| item.history()) {
            let (history, ticket) = (history.clone(), self.ends.ticket());
            self.actions.push_back(Action::Remember { seq, history, ticket });
        }
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}
