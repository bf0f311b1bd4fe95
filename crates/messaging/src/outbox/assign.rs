//! The balancer of messages under `any`: to the connected endpoint with the least unacknowledged,
//! the lowest id among equals, and with their key wherever it is pinned.

use alys_stream_protocol::message::{Priority, Seq};

use super::{EndpointId, Outbox};
use crate::router::Policy;

/// Withdrawn entries are swept out of a queue when they are more than what counts, and more than
/// this.
const WITHDRAWN_MIN: usize = 1024;

impl Outbox {
    /// Assigns what waits, as far as endpoints have room.
    pub(super) fn assign(&mut self) {
        for priority in Priority::ALL {
            while let Some(seq) = self.next_unassigned(priority) {
                let Some(id) = self.choose(priority, seq) else {
                    break;
                };
                if let Some(class) = self.unassigned.get_mut(priority.index()) {
                    class.pop_front();
                }
                self.assign_to(id, seq);
            }
        }
        self.sweep();
    }

    fn next_unassigned(&mut self, priority: Priority) -> Option<Seq> {
        let class = self.unassigned.get_mut(priority.index())?;
        while let Some(entry) = class.front() {
            // What ended meanwhile, or was assigned, is passed over.
            if self.items.get(&entry.seq).is_some_and(|item| item.targets == 0) {
                return Some(entry.seq);
            }
            class.pop_front();
        }
        None
    }

    fn choose(&mut self, priority: Priority, seq: Seq) -> Option<EndpointId> {
        let item = self.items.get(&seq)?;
        if let Some(key) = &item.key
            && let Some(id) = self.keys.pin(key, priority)
            && self.endpoints.get(&id).is_some_and(|endpoint| endpoint.is_connected)
        {
            return Some(id);
        }
        let assigned_max = self.config.assigned_max;
        self.endpoints
            .iter()
            .filter(|(_, endpoint)| {
                let assigned = endpoint.assigned_count.get(priority.index()).copied().unwrap_or(0);
                endpoint.is_connected && (priority == Priority::Critical || assigned < assigned_max)
            })
            // One that refused it is asked again only when there is no other.
            .min_by_key(|(id, endpoint)| {
                (item.is_avoiding(**id), endpoint.unacknowledged(), **id)
            })
            .map(|(id, _)| *id)
    }

    fn assign_to(&mut self, id: EndpointId, seq: Seq) {
        let Some(endpoint) = self.endpoints.get_mut(&id) else {
            return;
        };
        let Some(item) = self.items.get_mut(&seq) else {
            return;
        };
        item.targets = endpoint.bit;
        if let Some(key) = &item.key {
            self.keys.set_pin(key, item.priority, id);
        }
        endpoint.assign(item.priority, seq);
        item.queue_at(seq, endpoint);
        endpoint.tell_ready(id, &mut self.actions);
    }

    /// Takes a message under `any` back from an endpoint that was lost.
    pub(super) fn unassign(&mut self, id: EndpointId, bit: u64, seq: Seq) {
        let Some(item) = self.items.get_mut(&seq) else {
            return;
        };
        debug_assert_eq!(item.policy, Policy::Any, "invariant: only these are assigned");
        if let Some(endpoint) = self.endpoints.get_mut(&id) {
            item.unqueue_at(endpoint);
        }
        if let Some(due) = item.stop_waiting(bit, id) {
            self.retries.remove(due, seq, id);
        }
        let held = match &item.key {
            Some(key) => self.keys.unassign(key, item.priority, seq, id),
            None => Vec::new(),
        };
        // One that acknowledged it, while its answer is awaited, keeps it.
        if !item.is_met() {
            item.targets = 0;
            let (priority, entry) = (item.priority, item.entry(seq));
            self.wait_unassigned(priority, entry);
        }
        // Copies under other policies stay here, and nothing holds them back any more.
        self.requeue(id, held);
    }

    /// Keeps queues of endpoints that are away for long from filling with withdrawn entries.
    fn sweep(&mut self) {
        for endpoint in self.endpoints.values_mut() {
            if endpoint.queue.count() > 2 * endpoint.queued + WITHDRAWN_MIN {
                let (items, bit) = (&self.items, endpoint.bit);
                endpoint.queue.retain(|entry| {
                    items.get(&entry.seq).is_some_and(|item| item.queued & bit != 0)
                });
            }
        }
    }
}
