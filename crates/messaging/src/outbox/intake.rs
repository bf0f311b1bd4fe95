//! What an endpoint may be assigned while its connection is up: nothing while its peer takes
//! nothing, though others idle.
//!
//! Not here: what stops an endpoint from being *sent* anything. Whoever asks for batches does that;
//! what is under `all` and `quorum` stays queued for it all the while.
//!
//! An endpoint that is not [`Intake::Open`] keeps what is in flight and what waits there for a retry.
//! A key stays with it as long as it has a message of that key, and no longer (M14).

use std::collections::BTreeSet;

use alys_stream_protocol::message::{OrderingKey, Priority, Seq};
use alys_stream_protocol::time::UnixMillis;

use super::endpoint::Endpoint;
use super::{EndpointId, Outbox};

/// What a connected endpoint may be assigned of messages under `any`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Intake {
    /// As many as it has room for.
    #[default]
    Open,
    /// One, when nothing else waits to be sent there: whether it takes messages has to be proved.
    One,
    /// None.
    Closed,
}

impl Outbox {
    /// A connected endpoint takes messages, or does not for now. What was assigned to it and not
    /// sent goes back, in order, and is chosen again. Every new connection begins
    /// [`Intake::Open`]; without one, nothing is changed.
    pub fn handle_intake(&mut self, now: UnixMillis, id: EndpointId, intake: Intake) {
        self.learn_now(now);
        let endpoint = self.endpoints.get_mut(&id);
        let Some(endpoint) = endpoint.filter(|e| e.is_connected && e.intake != intake) else {
            return;
        };
        (endpoint.intake, endpoint.probe) = (intake, None);
        endpoint.is_eased = true;
        match intake {
            Intake::Open => {}
            Intake::One | Intake::Closed => self.take_back(id),
        }
        if intake != Intake::Closed {
            self.release_any(|hold| !hold.is_of_key());
        }
        self.go_on();
    }

    /// Takes back what is assigned to an endpoint and was not sent.
    fn take_back(&mut self, id: EndpointId) {
        let Some(endpoint) = self.endpoints.get(&id) else {
            return;
        };
        let is_unsent =
            |seq: &Seq| self.items.get(seq).is_some_and(|item| item.queued & endpoint.bit != 0);
        let unsent: Vec<Seq> = endpoint.assigned.iter().filter(is_unsent).collect();
        // Highest first: each goes to the front.
        for seq in unsent.into_iter().rev() {
            if let (Some(endpoint), Some(item)) =
                (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
            {
                item.unqueue_at(endpoint);
                endpoint.unassign(item.priority, seq);
            }
            self.leave_assigned(id, seq);
        }
        self.trim();
    }

    /// Keys leave endpoints that take nothing and have no message of theirs any more.
    pub(super) fn free_pins(&mut self) {
        for index in 0..self.connected.len() {
            let Some(id) = self.connected.get(index).copied() else {
                break;
            };
            let endpoint = self.endpoints.get_mut(&id);
            let Some(endpoint) = endpoint.filter(|e| e.intake != Intake::Open && e.is_eased) else {
                continue;
            };
            endpoint.is_eased = false;
            let assigned = endpoint.assigned.iter().filter_map(|seq| self.items.get(&seq));
            let kept: BTreeSet<(OrderingKey, Priority)> =
                assigned.filter_map(|item| Some((item.key.clone()?, item.priority))).collect();
            for (key, priority) in self.keys.keep_pins(id, &kept) {
                if let Some(lane) = self.any_lanes.get_mut(priority.index()) {
                    lane.release(&key);
                }
            }
        }
    }
}

impl Endpoint {
    /// Whether one more message under `any` may be assigned to it.
    pub(super) fn has_room(&self, priority: Priority, assigned_max: usize) -> bool {
        let is_let_in = match self.intake {
            Intake::Open => true,
            Intake::One => self.queued_count() == 0 && !self.is_probed(),
            Intake::Closed => false,
        };
        is_let_in && self.assigned_of(priority) < assigned_max
    }

    /// Whether what is to prove that it takes messages is on its way.
    fn is_probed(&self) -> bool {
        let is_here = |seq: Seq| self.in_flight.contains(seq) || self.assigned.contains(seq);
        self.probe.is_some_and(is_here)
    }

    /// A message is about to go there.
    pub(super) fn note_probe(&mut self, seq: Seq) {
        if self.intake == Intake::One && !self.is_probed() {
            self.probe = Some(seq);
        }
    }
}
