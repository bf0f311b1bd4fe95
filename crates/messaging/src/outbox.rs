//! The outbox: who gets a durable message, in which order, and when it is settled or dead. Pure.
//!
//! It holds references, never payloads. It is fed with what became durable, what endpoints do and
//! what they answer; it says what to send ([`Outbox::poll_batch`]) and what ended
//! ([`Outbox::poll_action`]).
//!
//! Under `all` and `quorum` every endpoint has its own copy of the reference. Under `any` there is
//! one, assigned to the connected endpoint with the least unacknowledged; what does not fit into
//! the window of any endpoint waits unassigned.
//!
//! Invariants:
//! - M12: a message ends in exactly one [`Action::Settle`], [`Action::Dead`] or [`Action::Lost`]
//!   (D2).
//! - M13: a message whose deadline has passed is never returned by `poll_batch` (D6).
//! - M14: messages of one key and priority are sent to an endpoint in order of seq; a later one
//!   waits while an earlier one waits for a retry there, and under `any` goes where the earlier
//!   unsettled one went (D4).
//! - M15: a lost connection puts everything unacknowledged back in order and is no attempt.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use crate::queue::Entry;
use crate::record::RecordMeta;
use crate::retry::RetryQueue;
use crate::router::{Policy, Route};

mod assign;
mod ending;
mod endpoint;
mod item;
mod keys;
mod words;

pub use words::{
    Action, Attempt, Budget, Cause, ENDPOINTS_MAX, EndpointId, REFUSAL_TEXT_BYTES_MAX, Refusal,
    TooManyEndpoints,
};

use endpoint::Endpoint;
use item::Item;
use keys::Keys;

/// Bounds of the outbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxConfig {
    /// After so many retryable refusals by one endpoint they count as a terminal one; default 20.
    pub refusals_max: u32,
    /// Messages under `any`, per priority, that are assigned to one endpoint and unacknowledged;
    /// default 2048, twice what credits allow in flight. `Critical` is not held back.
    pub assigned_max: usize,
    /// Makes the jitter of retries.
    pub seed: u64,
}

impl Default for OutboxConfig {
    fn default() -> Self {
        Self { refusals_max: 20, assigned_max: 2048, seed: 0 }
    }
}

/// The outbox.
#[derive(Debug)]
pub struct Outbox {
    config: OutboxConfig,
    endpoints: BTreeMap<EndpointId, Endpoint>,
    items: BTreeMap<Seq, Item>,
    /// Messages under `any` that no endpoint has, by the index of their priority (0 low to 3 critical).
    unassigned: [VecDeque<Entry>; 4],
    keys: Keys,
    retries: RetryQueue,
    deadlines: BTreeSet<(UnixMillis, Seq)>,
    actions: VecDeque<Action>,
    unsettled: [usize; 4],
}

impl Outbox {
    /// An outbox without endpoints and messages.
    #[must_use]
    pub fn new(config: OutboxConfig) -> Self {
        Self {
            config,
            endpoints: BTreeMap::new(),
            items: BTreeMap::new(),
            unassigned: Default::default(),
            keys: Keys::default(),
            retries: RetryQueue::new(config.seed),
            deadlines: BTreeSet::new(),
            actions: VecDeque::new(),
            unsettled: [0; 4],
        }
    }

    /// An endpoint is enabled. It gets a copy of everything under `all` and `quorum`.
    ///
    /// # Errors
    ///
    /// When there are [`ENDPOINTS_MAX`] already.
    pub fn handle_endpoint_added(&mut self, id: EndpointId) -> Result<(), TooManyEndpoints> {
        if self.endpoints.contains_key(&id) {
            return Ok(());
        }
        let used = self.endpoints.values().fold(0, |used, endpoint| used | endpoint.bit);
        let bit = (0..u64::BITS).map(|n| 1_u64 << n).find(|bit| used & bit == 0);
        let mut endpoint = Endpoint::new(bit.ok_or(TooManyEndpoints)?);
        for (seq, item) in &mut self.items {
            if item.policy != Policy::Any && !item.is_met() {
                item.targets |= endpoint.bit;
                item.queue_at(*seq, &mut endpoint);
            }
        }
        self.endpoints.insert(id, endpoint);
        Ok(())
    }

    /// An endpoint is disabled or gone from the configuration. Nobody waits for it any more.
    pub fn handle_endpoint_removed(&mut self, id: EndpointId) {
        self.handle_disconnected(id);
        let Some(endpoint) = self.endpoints.remove(&id) else {
            return;
        };
        for (seq, due) in self.retries_of(id) {
            self.retries.remove(due, seq, id);
        }
        self.keys.handle_endpoint_removed(id);
        let mut touched = Vec::new();
        for (seq, item) in &mut self.items {
            if item.forget(id, endpoint.bit) {
                touched.push(*seq);
            }
        }
        for seq in touched {
            self.judge(seq);
        }
        self.assign();
    }

    /// A message became durable.
    pub fn handle_accepted(&mut self, _now: UnixMillis, meta: RecordMeta, route: Route) {
        let seq = meta.seq;
        debug_assert!(!self.items.contains_key(&seq), "invariant M12: a seq is accepted once");
        if let Some(deadline) = meta.deadline {
            self.deadlines.insert((deadline, seq));
        }
        if let Some(count) = self.unsettled.get_mut(meta.priority.index()) {
            *count += 1;
        }
        let mut item = Item::new(meta, route);
        if let Some(key) = &item.key {
            self.keys.handle_accepted(key, item.priority, seq);
        }
        if route.policy == Policy::Any {
            self.wait_unassigned(item.priority, item.entry(seq));
            self.items.insert(seq, item);
            self.assign();
            return;
        }
        for (id, endpoint) in &mut self.endpoints {
            item.targets |= endpoint.bit;
            item.queue_at(seq, endpoint);
            endpoint.tell_ready(*id, &mut self.actions);
        }
        self.items.insert(seq, item);
    }

    /// An endpoint is ready to be sent to. `received` is what it has stored of this log already:
    /// that counts as acknowledged, the rest goes in order.
    pub fn handle_connected(&mut self, id: EndpointId, received: &SeqSet) {
        // A connection that was not seen to end is ended first.
        self.handle_disconnected(id);
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        endpoint.is_connected = true;
        for range in received.ranges() {
            let known: Vec<Seq> = self.items.range(range).map(|(seq, _)| *seq).collect();
            for seq in known {
                self.acknowledge(id, seq);
            }
        }
        self.assign();
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            endpoint.is_ready_told = false;
            endpoint.tell_ready(id, &mut self.actions);
        }
    }

    /// The connection is lost: what was not acknowledged goes back, in order (M15).
    pub fn handle_disconnected(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        endpoint.is_connected = false;
        endpoint.is_ready_told = false;
        let bit = endpoint.bit;
        let in_flight = std::mem::take(&mut endpoint.in_flight);
        // Highest first: each goes to the front of its queue.
        for seq in in_flight.into_iter().rev() {
            if let Some(item) = self.items.get_mut(&seq) {
                item.in_flight &= !bit;
                if item.policy != Policy::Any {
                    item.queue_at(seq, endpoint);
                }
            }
        }
        let freed = std::mem::take(&mut endpoint.assigned);
        endpoint.assigned_count = [0; 4];
        for seq in freed.into_iter().rev() {
            self.unassign(id, bit, seq);
        }
        self.keys.handle_endpoint_lost(id);
        self.assign();
    }

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
        self.assign();
        batch
    }

    /// The head of an endpoint's queue, once everything that must not be sent is out of its way.
    fn poll_sendable(&mut self, now: UnixMillis, id: EndpointId) -> Option<Entry> {
        loop {
            let endpoint = self.endpoints.get_mut(&id).filter(|endpoint| endpoint.is_connected)?;
            let (_, entry) = endpoint.queue.peek(now)?;
            let seq = entry.seq;
            let Some(item) =
                self.items.get_mut(&seq).filter(|item| item.queued & endpoint.bit != 0)
            else {
                // Withdrawn, settled or sent already.
                endpoint.queue.discard(now);
                continue;
            };
            if item.deadline.is_some_and(|deadline| deadline <= now) {
                self.expire(seq);
                continue;
            }
            if let Some(key) = &item.key
                && self.keys.is_held(key, item.priority, seq, id)
            {
                self.keys.hold(key, item.priority, seq, id);
                endpoint.queue.discard(now);
                item.unqueue_at(endpoint);
                continue;
            }
            return Some(entry);
        }
    }

    fn send(&mut self, now: UnixMillis, id: EndpointId, seq: Seq) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some(item) = self.items.get_mut(&seq) else {
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
        if !item.is_sent {
            item.is_sent = true;
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
        for seq in seqs {
            self.acknowledge(id, seq);
        }
        self.assign();
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
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some(item) = self.items.get_mut(&seq).filter(|item| item.in_flight & endpoint.bit != 0)
        else {
            return;
        };
        let after = match refusal {
            Refusal::InProgress => return,
            Refusal::Retry { after } => Some(after),
            Refusal::Terminal => None,
        };
        let refusals = item.refuse(Attempt { endpoint: id, at: now, code, text: cut(text) });
        endpoint.in_flight.remove(&seq);
        item.in_flight &= !endpoint.bit;
        match after {
            Some(after) if refusals < self.config.refusals_max => {
                let due = self.retries.push(now, (seq, id), refusals, after);
                item.wait_at(endpoint.bit, id, due);
                if let Some(key) = &item.key {
                    self.keys.wait(key, item.priority, seq, id);
                }
            }
            Some(_) | None => {
                item.refused |= endpoint.bit;
                endpoint.unassign(item.priority, seq);
                self.judge(seq);
            }
        }
        self.assign();
    }

    /// The answer to a message is there, or it is not wanted any more: unsent copies are
    /// withdrawn, it is settled.
    pub fn handle_concluded(&mut self, seq: Seq) {
        if self.remove(seq).is_some() {
            self.actions.push_back(Action::Settle { seq });
            self.assign();
        }
    }

    /// The buffer dropped a message for others: nobody is sent it any more, it is a dead letter.
    pub fn handle_evicted(&mut self, seq: Seq) {
        if let Some(item) = self.remove(seq) {
            let attempts = item.into_attempts();
            self.actions.push_back(Action::Dead { seq, cause: Cause::Evicted, attempts });
            self.assign();
        }
    }

    /// The buffer cannot read a message back: it can be delivered by nobody.
    pub fn handle_unreadable(&mut self, seq: Seq) {
        if self.remove(seq).is_some() {
            self.actions.push_back(Action::Lost { seq });
            self.assign();
        }
    }

    /// Time has passed: deadlines and retries.
    pub fn handle_timeout(&mut self, now: UnixMillis) {
        while let Some((deadline, seq)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.pop_first();
            self.expire(seq);
        }
        while let Some((seq, id)) = self.retries.pop(now) {
            self.retry(seq, id);
        }
        self.assign();
    }

    /// When [`Outbox::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        match (deadline, self.retries.poll_timeout()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// What the driver has to do next.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Messages that wait to be sent to an endpoint.
    #[must_use]
    pub fn queued(&self, id: EndpointId) -> usize {
        self.endpoints.get(&id).map_or(0, |endpoint| endpoint.queued)
    }

    /// Messages sent to an endpoint and not acknowledged.
    #[must_use]
    pub fn in_flight(&self, id: EndpointId) -> usize {
        self.endpoints.get(&id).map_or(0, |endpoint| endpoint.in_flight.len())
    }

    /// Messages that are neither settled nor dead, by the index of their priority (0 low to 3 critical).
    #[must_use]
    pub const fn unsettled(&self) -> [usize; 4] {
        self.unsettled
    }

    /// Messages under `any` that wait for an endpoint with room, by the index of their priority (0 low to 3 critical).
    #[must_use]
    pub fn unassigned(&self) -> [usize; 4] {
        [0, 1, 2, 3].map(|index| self.unassigned.get(index).map_or(0, VecDeque::len))
    }

    /// Refused messages that wait for their next attempt.
    #[must_use]
    pub fn retrying(&self) -> usize {
        self.retries.count()
    }

    /// Whether a message is neither settled nor dead.
    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        self.items.contains_key(&seq)
    }
}

fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX);
    text.get(..end).unwrap_or_default().to_owned()
}
