//! What goes to an endpoint, and what it says to it.

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use super::lane::{Gate, Hold, Owner};
use super::pages::Class;
use super::words::REFUSAL_TEXT_BYTES_MAX;
use super::{Action, Attempt, Budget, EndpointId, Outbox, Refusal};
use crate::queue::Entry;

impl Outbox {
    /// Takes what goes to an endpoint next, as much as budget and batch allow; empty when there is
    /// nothing (until [`Action::Ready`]) or the budget is used up.
    pub fn poll_batch(
        &mut self,
        now: UnixMillis,
        id: EndpointId,
        budget: Budget,
        batch_records_max: usize,
        batch_bytes_max: usize,
    ) -> Vec<Seq> {
        self.learn_now(now);
        let records_max =
            batch_records_max.min(usize::try_from(budget.messages).unwrap_or(usize::MAX));
        let bytes_max = u64::try_from(batch_bytes_max).unwrap_or(u64::MAX);
        let mut bytes = 0;
        let mut batch = Vec::new();
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.is_ready_told = false;
        }
        while batch.len() < records_max && bytes < bytes_max {
            let Some(entry) = self.poll_sendable(now, id) else {
                break;
            };
            if bytes + u64::from(entry.bytes) > budget.bytes {
                break;
            }
            bytes += u64::from(entry.bytes);
            self.send(now, id, entry.seq);
            batch.push(entry.seq);
        }
        if !batch.is_empty() {
            self.balance.handle_sent(now, id, batch.len());
        }
        self.go_on();
        batch
    }

    /// The head of an endpoint's queue, once everything that must not be sent is out of its way.
    fn poll_sendable(&mut self, now: UnixMillis, id: EndpointId) -> Option<Entry> {
        loop {
            let endpoint = self.endpoints.get_mut(&id).filter(|endpoint| endpoint.is_connected)?;
            let (priority, entry) = endpoint.queue.peek(now)?;
            let seq = entry.seq;
            let Some(item) = self.items.get(&seq).filter(|item| item.queued & endpoint.bit != 0)
            else {
                // Withdrawn, settled or sent already.
                endpoint.queue.discard(now);
                continue;
            };
            if item.deadline.is_some_and(|deadline| deadline <= now) {
                self.expire(seq);
                continue;
            }
            if let Some(key) = item.key.clone() {
                let owner = if item.is_any() { Owner::Any } else { Owner::Endpoint(id) };
                let gate = if self.keys.is_held(&key, priority, seq, id) {
                    Gate::Held(Hold::Retry)
                } else {
                    self.lane_mut(owner, priority)?.gate(&key, seq)
                };
                let hold = match gate {
                    Gate::Open => return Some(entry),
                    Gate::Held(hold) => Some(hold),
                    Gate::Behind => None,
                };
                self.park(owner, priority, seq, hold);
                continue;
            }
            return Some(entry);
        }
    }

    fn send(&mut self, now: UnixMillis, id: EndpointId, seq: Seq) {
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        debug_assert!(
            item.deadline.is_none_or(|at| at > now),
            "invariant M13: never sent too late"
        );
        endpoint.queue.pop(now);
        item.unqueue_at(endpoint);
        item.in_flight |= endpoint.bit;
        endpoint.in_flight.insert(seq);
        if !self.pages.is_sent(seq) {
            self.pages.set_sent(seq);
            self.retries.handle_first_send();
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
            seqs.extend(endpoint.in_flight.range(range));
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
        endpoint.in_flight.remove(&seq);
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
            Some(_) | None => {
                item.refused |= endpoint.bit;
                item.taken &= !endpoint.bit;
                if let Some(lane) = endpoint.lane_mut(item.priority) {
                    lane.taken.remove(&seq);
                }
                self.idle.push(seq);
                self.judge(seq);
            }
        }
        if let Some(history) = self.items.get(&seq).and_then(|item| item.history()) {
            self.actions.push_back(Action::Remember { seq, history: history.clone() });
        }
        self.go_on();
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}
