//! What the outbox knows of one endpoint.

use std::collections::{BTreeSet, VecDeque};

use alys_stream_protocol::message::{Priority, Seq};

use super::{Action, EndpointId};
use crate::queue::PriorityQueue;

#[derive(Debug)]
pub(super) struct Endpoint {
    /// Its bit in the sets of endpoints of every message.
    pub(super) bit: u64,
    pub(super) is_connected: bool,
    /// Entries in it count only while their message says that it is queued here.
    pub(super) queue: PriorityQueue,
    /// How many entries of `queue` count.
    pub(super) queued: usize,
    pub(super) in_flight: BTreeSet<Seq>,
    /// Messages under `any` that were assigned to it: queued, in flight, held or refused here.
    pub(super) assigned: BTreeSet<Seq>,
    pub(super) assigned_count: [usize; 4],
    /// Whether `Ready` was said since it was last polled.
    pub(super) is_ready_told: bool,
}

impl Endpoint {
    pub(super) fn new(bit: u64) -> Self {
        Self {
            bit,
            is_connected: false,
            queue: PriorityQueue::new(),
            queued: 0,
            in_flight: BTreeSet::new(),
            assigned: BTreeSet::new(),
            assigned_count: [0; 4],
            is_ready_told: false,
        }
    }

    /// What the balancer compares: everything it has and has not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.in_flight.len() + self.queued
    }

    pub(super) fn assign(&mut self, priority: Priority, seq: Seq) {
        if self.assigned.insert(seq)
            && let Some(count) = self.assigned_count.get_mut(priority.index())
        {
            *count += 1;
        }
    }

    pub(super) fn unassign(&mut self, priority: Priority, seq: Seq) {
        if self.assigned.remove(&seq)
            && let Some(count) = self.assigned_count.get_mut(priority.index())
        {
            *count -= 1;
        }
    }

    pub(super) fn tell_ready(&mut self, id: EndpointId, actions: &mut VecDeque<Action>) {
        if self.is_connected && self.queued > 0 && !self.is_ready_told {
            self.is_ready_told = true;
            actions.push_back(Action::Ready(id));
        }
    }
}
