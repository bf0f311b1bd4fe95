//! What the outbox knows of one endpoint.

use std::collections::VecDeque;
use std::time::Duration;

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use super::budget::PassedOver;
use super::intake::Intake;
use super::lane::Lane;
use super::unanswered::Unanswered;
use super::{Action, EndpointId};
use crate::queue::PriorityQueue;

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) name: String,
    /// Which of the bits of every message is its own.
    pub(super) slot: usize,
    /// That bit.
    pub(super) bit: u64,
    pub(super) is_connected: bool,
    /// The longest payload that it takes; `None` before its first connection.
    pub(super) payload_bytes_max: Option<u32>,
    pub(super) intake: Intake,
    /// What went there last under [`Intake::One`].
    pub(super) probe: Option<Seq>,
    /// Whether it lost messages since keys were last freed.
    pub(super) is_eased: bool,
    /// Entries in it count only while their message says that it is queued here.
    pub(super) queue: PriorityQueue,
    /// How many entries of `queue` count, by the index of their priority.
    pub(super) queued: [usize; 4],
    pub(super) in_flight: SeqSet,
    pub(super) unanswered: Unanswered,
    /// Whose heads were too long for what was left of the budget.
    pub(super) passed: PassedOver,
    /// Until when shorter messages are held back for one of those.
    pub(super) held_until: Option<UnixMillis>,
    /// How many wait for a retry.
    pub(super) waiting: usize,
    /// What is taken for it, by the index of the priority.
    pub(super) lanes: [Lane; 4],
    /// Messages under `any` that were assigned to it: queued, in flight or refused here.
    pub(super) assigned: SeqSet,
    pub(super) assigned_count: [usize; 4],
    /// Whether `Ready` was said since it was last polled.
    pub(super) is_ready_told: bool,
}

impl Endpoint {
    pub(super) fn new(name: &str, slot: usize) -> Self {
        Self {
            name: name.to_owned(),
            slot,
            bit: 1 << slot,
            is_connected: false,
            payload_bytes_max: None,
            intake: Intake::Open,
            probe: None,
            is_eased: false,
            queue: PriorityQueue::new(),
            queued: [0; 4],
            in_flight: SeqSet::new(),
            unanswered: Unanswered::default(),
            passed: PassedOver::default(),
            held_until: None,
            waiting: 0,
            lanes: std::array::from_fn(|_| Lane::behind()),
            assigned: SeqSet::new(),
            assigned_count: [0; 4],
            is_ready_told: false,
        }
    }

    pub(super) fn queued_count(&self) -> usize {
        self.queued.iter().sum()
    }

    pub(super) fn in_flight_count(&self) -> usize {
        usize::try_from(self.in_flight.count()).unwrap_or(usize::MAX)
    }

    pub(super) fn queued_of(&self, priority: Priority) -> usize {
        self.queued.get(priority.index()).copied().unwrap_or(0)
    }

    pub(super) fn assigned_of(&self, priority: Priority) -> usize {
        self.assigned_count.get(priority.index()).copied().unwrap_or(0)
    }

    /// What the balancer compares: everything it has and has not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.in_flight_count() + self.queued_count() + self.waiting
    }

    pub(super) fn lane(&self, priority: Priority) -> Option<&Lane> {
        self.lanes.get(priority.index())
    }

    pub(super) fn lane_mut(&mut self, priority: Priority) -> Option<&mut Lane> {
        self.lanes.get_mut(priority.index())
    }

    pub(super) fn assign(&mut self, priority: Priority, seq: Seq) {
        if self.assigned.insert(seq)
            && let Some(count) = self.assigned_count.get_mut(priority.index())
        {
            *count += 1;
        }
    }

    pub(super) fn unassign(&mut self, priority: Priority, seq: Seq) {
        if self.assigned.remove(seq)
            && let Some(count) = self.assigned_count.get_mut(priority.index())
        {
            *count -= 1;
            self.is_eased = true;
        }
    }

    /// The clock was set back so far: what waits here waits no longer for that.
    pub(super) fn handle_set_back(&mut self, by: Duration) {
        self.passed.handle_set_back(by);
        self.held_until = self.held_until.map(|until| until.saturating_sub(by));
    }

    pub(super) fn tell_ready(&mut self, id: EndpointId, actions: &mut VecDeque<Action>) {
        if self.is_connected && self.queued_count() > 0 && !self.is_ready_told {
            self.is_ready_told = true;
            actions.push_back(Action::Ready(id));
        }
    }
}
