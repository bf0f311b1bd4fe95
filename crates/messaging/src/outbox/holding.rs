//! What holds messages of a key back, and what lets them go on (M14, M25).

use alys_stream_protocol::message::{OrderingKey, Priority, Seq};

use super::intake::Intake;
use super::lane::{Gate, Hold, Owner};
use super::{EndpointId, Outbox};

impl Outbox {
    /// What holds a message back, now that every earlier one of its key was looked at.
    pub(super) fn hold_of(
        &mut self,
        owner: Owner,
        id: Option<EndpointId>,
        key: &OrderingKey,
        priority: Priority,
        seq: Seq,
    ) -> Option<Hold> {
        if id.is_some_and(|id| self.keys.is_held(key, priority, seq, id)) {
            return Some(Hold::Retry);
        }
        // Those under `any` ask when it is known who is to have them (`assign`).
        if let Owner::Endpoint(id) = owner
            && let Some(hold) = self.hold_at(id, &(key.clone(), priority), seq, false)
        {
            return Some(hold);
        }
        match self.lane_mut(owner, priority)?.gate_in_order(key, seq) {
            Gate::Held(hold) => Some(hold),
            Gate::Open | Gate::Behind => None,
        }
    }

    /// Passes a message over, and takes it back from whom it is queued for.
    pub(super) fn park(&mut self, owner: Owner, priority: Priority, seq: Seq, hold: Option<Hold>) {
        let Some(item) = self.items.get_mut(&seq) else {
            return;
        };
        match owner {
            Owner::Endpoint(id) => {
                if let Some(endpoint) = self.endpoints.get_mut(&id) {
                    item.unqueue_at(endpoint);
                    item.taken &= !endpoint.bit;
                    if let Some(lane) = endpoint.lane_mut(priority) {
                        lane.taken.remove(&seq);
                    }
                }
            }
            Owner::Any => {
                let assigned = std::mem::take(&mut item.assigned);
                item.is_taken = false;
                for endpoint in self.endpoints.values_mut().filter(|e| e.bit & assigned != 0) {
                    item.unqueue_at(endpoint);
                    endpoint.unassign(priority, seq);
                }
            }
        }
        let key = item.key.clone();
        self.idle.push(seq);
        if let (Some(Hold::Full(id)), Some(full)) = (hold, self.full.get_mut(priority.index())) {
            full.insert(id);
        }
        match (key, self.lane_mut(owner, priority)) {
            (Some(key), Some(lane)) => lane.park(&key, seq, hold),
            (None, Some(lane)) => lane.put_aside(seq, hold),
            (_, None) => {}
        }
    }

    /// Nothing of a key waits for a retry at an endpoint any more, or one less.
    pub(super) fn release_key(&mut self, id: EndpointId, key: &OrderingKey, priority: Priority) {
        for owner in [Owner::Endpoint(id), Owner::Any] {
            if self.lane_mut(owner, priority).is_some_and(|lane| lane.release(key)) {
                self.is_rewound = true;
            }
        }
        // What had no room elsewhere may go where that waited.
        self.eased.insert((key.clone(), priority));
    }

    /// A message of a key left the memory.
    pub(super) fn leave_key(&mut self, key: &OrderingKey, priority: Priority, seq: Seq) {
        if self.keys.handle_left(key, priority, seq)
            && self.lane_mut(Owner::Any, priority).is_some_and(|lane| lane.release(key))
        {
            self.is_rewound = true;
        }
    }

    /// Messages that wait for room at an endpoint that was full may be assigned again.
    pub(super) fn look_for_room(&mut self, priority: Priority) {
        let index = priority.index();
        let assigned_max = self.config.assigned_max(priority);
        let low = assigned_max.div_ceil(2);
        let (Some(full), Some(lane)) = (self.full.get_mut(index), self.any_lanes.get_mut(index))
        else {
            return;
        };
        if full.is_empty() {
            return;
        }
        full.retain(|id| {
            let endpoint = self.endpoints.get(id);
            let is_open = endpoint.is_none_or(|endpoint| {
                endpoint.intake == Intake::Open && endpoint.assigned_of(priority) < low
            });
            // One that is to prove itself has room for one, of whichever key.
            let has_room = endpoint.is_some_and(|endpoint| {
                endpoint.intake == Intake::One && endpoint.has_room(priority, assigned_max)
            });
            if is_open || has_room {
                lane.release_all(|hold| {
                    hold == Hold::NoRoom || (is_open && hold == Hold::Full(*id))
                });
            }
            !is_open
        });
    }
}
