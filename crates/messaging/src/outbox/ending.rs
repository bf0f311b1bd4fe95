//! How messages go on and end: acknowledgements, verdicts, deadlines, retries.

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::time::UnixMillis;

use super::item::{Item, Verdict};
use super::{Action, Cause, EndpointId, Outbox};
use crate::queue::{Entry, insert_ordered};
use crate::router::Policy;

impl Outbox {
    pub(super) fn acknowledge(&mut self, id: EndpointId, seq: Seq) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some(item) = self.items.get_mut(&seq) else {
            return;
        };
        endpoint.in_flight.remove(&seq);
        item.unqueue_at(endpoint);
        if let Some(due) = item.stop_waiting(endpoint.bit, id) {
            self.retries.remove(due, seq, id);
        }
        item.acknowledge(endpoint.bit);
        let key = item.key.clone();
        let priority = item.priority;
        if let Some(key) = key {
            let released = self.keys.stop_waiting(&key, priority, seq, id);
            self.requeue(id, released);
        }
        self.judge(seq);
    }

    /// Ends a message whose policy is met, or cannot be any more.
    pub(super) fn judge(&mut self, seq: Seq) {
        let Some(item) = self.items.get_mut(&seq) else {
            return;
        };
        match item.verdict() {
            Verdict::Open => {}
            Verdict::Answerless => self.withdraw(seq),
            Verdict::Settled => {
                self.remove(seq);
                self.actions.push_back(Action::Settle { seq });
            }
            Verdict::Refused => {
                let attempts = self.remove(seq).map(Item::into_attempts).unwrap_or_default();
                let (code, text) = attempts
                    .last()
                    .map_or((0, String::new()), |last| (last.code, last.text.clone()));
                let cause = Cause::Refused { code, text };
                self.actions.push_back(Action::Dead { seq, cause, attempts });
            }
        }
    }

    /// Acknowledged as its policy asks: copies that were not sent are not needed while the answer
    /// is awaited.
    fn withdraw(&mut self, seq: Seq) {
        let Some(item) = self.items.get_mut(&seq) else {
            return;
        };
        let mut waited = Vec::new();
        for (id, endpoint) in &mut self.endpoints {
            item.unqueue_at(endpoint);
            endpoint.unassign(item.priority, seq);
            if let Some(due) = item.stop_waiting(endpoint.bit, *id) {
                self.retries.remove(due, seq, *id);
                waited.push(*id);
            }
        }
        if let Some(key) = item.key.clone() {
            let priority = item.priority;
            for id in waited {
                let released = self.keys.stop_waiting(&key, priority, seq, id);
                self.requeue(id, released);
            }
            self.keys.unhold(&key, priority, seq);
        }
    }

    pub(super) fn expire(&mut self, seq: Seq) {
        let Some(item) = self.remove(seq) else { return };
        if item.is_settled_by_deadline() {
            self.actions.push_back(Action::Settle { seq });
            return;
        }
        let cause = if item.is_sent {
            Cause::TimedOut { may_have_been_seen: true }
        } else {
            Cause::Expired
        };
        self.actions.push_back(Action::Dead { seq, cause, attempts: item.into_attempts() });
    }

    /// Takes a message out of everything. Entries in queues are passed over when they come up.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Item> {
        let mut item = self.items.remove(&seq)?;
        if let Some(deadline) = item.deadline {
            self.deadlines.remove(&(deadline, seq));
        }
        if let Some(count) = self.unsettled.get_mut(item.priority.index()) {
            *count -= 1;
        }
        for (id, endpoint) in &mut self.endpoints {
            endpoint.in_flight.remove(&seq);
            item.unqueue_at(endpoint);
            endpoint.unassign(item.priority, seq);
            if let Some(due) = item.stop_waiting(endpoint.bit, *id) {
                self.retries.remove(due, seq, *id);
            }
        }
        if let Some(key) = &item.key {
            for (id, released) in self.keys.remove(key, item.priority, seq) {
                self.requeue(id, released);
            }
        }
        Some(item)
    }

    pub(super) fn retry(&mut self, seq: Seq, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some(item) = self.items.get_mut(&seq) else {
            return;
        };
        if item.stop_waiting(endpoint.bit, id).is_none() {
            return;
        }
        let Some(key) = item.key.clone() else {
            if item.policy == Policy::Any {
                // Somebody else may take it.
                item.avoid(id);
                item.targets = 0;
                let (priority, entry) = (item.priority, item.entry(seq));
                endpoint.unassign(priority, seq);
                self.wait_unassigned(priority, entry);
            } else {
                self.requeue(id, vec![seq]);
            }
            return;
        };
        let priority = item.priority;
        let mut seqs = self.keys.stop_waiting(&key, priority, seq, id);
        seqs.push(seq);
        self.requeue(id, seqs);
    }

    /// Puts messages back into the queue of an endpoint, each where its seq belongs.
    pub(super) fn requeue(&mut self, id: EndpointId, seqs: Vec<Seq>) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        for seq in seqs.into_iter().rev() {
            if let Some(item) = self.items.get_mut(&seq) {
                item.queue_at(seq, endpoint);
            }
        }
        endpoint.tell_ready(id, &mut self.actions);
    }

    pub(super) fn retries_of(&self, id: EndpointId) -> Vec<(Seq, UnixMillis)> {
        self.items.iter().filter_map(|(seq, item)| Some((*seq, item.due_at(id)?))).collect()
    }

    pub(super) fn wait_unassigned(&mut self, priority: Priority, entry: Entry) {
        if let Some(class) = self.unassigned.get_mut(priority.index()) {
            insert_ordered(class, entry);
        }
    }
}
