//! What a lane does with a message in memory that it comes to: takes it, or passes it over.

use alys_stream_protocol::message::{Priority, Seq};

use super::lane::Owner;
use super::{EndpointId, Outbox};
use crate::queue::insert_ordered;
use crate::refusals::Standing;

impl Outbox {
    /// A lane comes to a message that is in memory: takes it, or passes it over.
    pub(super) fn visit(&mut self, owner: Owner, priority: Priority, seq: Seq) {
        match owner {
            Owner::Endpoint(id) => self.visit_for(id, priority, seq),
            Owner::Any => self.visit_any(priority, seq),
        }
    }

    fn visit_for(&mut self, id: EndpointId, priority: Priority, seq: Seq) {
        let owner = Owner::Endpoint(id);
        let (Some(item), Some(endpoint)) = (self.items.get_mut(&seq), self.endpoints.get(&id))
        else {
            return;
        };
        let bit = endpoint.bit;
        let is_done = (item.taken | item.acked | item.refused) & bit != 0;
        if item.is_any() || is_done || item.is_spared(self.enabled) {
            return;
        }
        let standing = item.of(&endpoint.name).map(|known| known.standing);
        if standing == Some(Standing::Final) {
            item.refused |= bit;
            self.judge(seq);
            return;
        }
        if let Some(key) = item.key.clone()
            && let Some(hold) = self.hold_of(owner, Some(id), &key, priority, seq)
        {
            self.park(owner, priority, seq, Some(hold));
            return;
        }
        let (Some(item), Some(endpoint)) = (self.items.get_mut(&seq), self.endpoints.get_mut(&id))
        else {
            return;
        };
        item.taken |= bit;
        if let Some(lane) = endpoint.lane_mut(priority) {
            lane.taken.insert(seq);
        }
        match item.waits_until(&endpoint.name, self.now) {
            Some(due) => {
                item.wait_at(endpoint);
                self.retries.restore(due, seq, id);
                if let Some(key) = &item.key {
                    self.keys.wait(key, priority, seq, id);
                }
            }
            None => {
                item.queue_at(seq, endpoint);
                endpoint.tell_ready(id, &mut self.actions);
            }
        }
    }

    fn visit_any(&mut self, priority: Priority, seq: Seq) {
        let Some(item) = self.items.get(&seq) else {
            return;
        };
        if !item.is_any() || item.is_taken || item.is_spared(self.enabled) {
            return;
        }
        if let Some(key) = item.key.clone() {
            let pin = self.keys.pin(&key, priority);
            if let Some(hold) = self.hold_of(Owner::Any, pin, &key, priority, seq) {
                self.park(Owner::Any, priority, seq, Some(hold));
                return;
            }
        }
        if self.wait_again(priority, seq) {
            return;
        }
        let Some(item) = self.items.get_mut(&seq) else {
            return;
        };
        item.is_taken = true;
        let entry = item.entry(seq);
        if let Some(waiting) = self.unassigned.get_mut(priority.index()) {
            insert_ordered(waiting, entry);
        }
    }
}
