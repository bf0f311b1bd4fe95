//! The one order of a key and a priority at an endpoint, over all policies (M14, D4).
//!
//! Messages under `any` and the others are taken by different lanes, and each lane keeps its own
//! order. What is here keeps the order between the two:
//!
//! - One that every endpoint takes for itself waits at an endpoint for each earlier one under `any`,
//!   until that goes there before it, or until that is over: wherever such a one is, it may go there
//!   yet.
//! - One under `any` goes only where each earlier one of the others was taken before it.
//! - Both wait for ends that are not durable ([`super::ends`]), unless they go where those went.
//!
//! What is not in memory is known by how far lanes are: what a lane has not come to may be anything.
//! So nobody passes the lane that would tell; when that goes on, those that wait for it do
//! ([`Lane::poll_advance`](super::lane::Lane::poll_advance)).

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;

use super::item::Item;
use super::keys::Name;
use super::lane::{Hold, Owner};
use super::words::RefusalTicket;
use super::{EndpointId, Outbox};

/// What has no room where nothing else holds it back may go where something did.
const fn is_before(hold: Hold) -> bool {
    matches!(hold, Hold::Before | Hold::NoRoom)
}

impl Outbox {
    /// What holds a message of a key back at an endpoint, but for its own lane.
    pub(super) fn hold_at(
        &self,
        id: EndpointId,
        name: &Name,
        seq: Seq,
        is_any: bool,
    ) -> Option<Hold> {
        let (key, priority) = (&name.0, name.1);
        let endpoint = self.endpoints.get(&id)?;
        if let Some(hold) = self.ends.hold(name, seq, id, endpoint.bit) {
            return Some(hold);
        }
        let other = self.lane(if is_any { Owner::Endpoint(id) } else { Owner::Any }, priority)?;
        let next = other.seen.and_then(|seen| {
            if is_any {
                self.pages.next_for_endpoint(endpoint.slot, priority, seen)
            } else {
                self.pages.next_for_any(priority, seen)
            }
        });
        if next.is_some_and(|next| next < seq) {
            return Some(Hold::Unseen);
        }
        let is_passed_over = other.gaps.get(key).is_some_and(|gap| gap.from < seq);
        let gets_it = |seq| {
            let gets =
                |item: &Item| (item.acked | item.in_flight | item.queued) & endpoint.bit != 0;
            self.items.get(&seq).is_some_and(gets)
        };
        let is_before = !is_any && self.keys.any_before(name, seq).any(|seq| !gets_it(seq));
        (is_passed_over || is_before).then_some(Hold::Before)
    }

    /// Whether messages may wait in the order of their key until [`Outbox::handle_ends_durable`]:
    /// then ends are worth a sync of their own.
    #[must_use]
    pub fn awaits_ends(&self) -> bool {
        self.ends.is_awaited()
    }

    /// Ends that were told by an action are on stable storage, and will not come back. Others may be
    /// among them.
    pub fn handle_ends_durable(&mut self, ended: &SeqSet) {
        if self.ends.handle_durable(ended, &mut self.eased) {
            // It may have been what messages of any key waited for.
            let is_over = |hold| hold == Hold::Unknown || is_before(hold);
            for lane in &mut self.any_lanes {
                self.is_rewound |= lane.release_all(is_over);
            }
            for lane in self.endpoints.values_mut().flat_map(|endpoint| &mut endpoint.lanes) {
                self.is_rewound |= lane.release_all(is_over);
            }
        }
        if self.is_rewound || !self.eased.is_empty() {
            self.go_on();
        }
    }

    /// What [`super::Action::Remember`] asked for is on stable storage, up to this ticket.
    pub fn handle_remembered(&mut self, to: RefusalTicket) {
        self.ends.handle_remembered(to, &mut self.eased);
        if !self.eased.is_empty() {
            self.go_on();
        }
    }

    /// Keys of which something is done or over go on, and those of which another lane took more.
    pub(super) fn ease(&mut self) {
        for (index, any) in self.any_lanes.iter_mut().enumerate() {
            for endpoint in self.endpoints.values_mut() {
                let Some(lane) = endpoint.lanes.get_mut(index) else {
                    continue;
                };
                for key in lane.eased.drain(..) {
                    self.is_rewound |= any.release_if(&key, is_before);
                }
                for key in &any.eased {
                    self.is_rewound |= lane.release_if(key, is_before);
                }
            }
            any.eased.clear();
        }
        while let Some((key, priority)) = self.eased.pop_first() {
            let index = priority.index();
            let lanes = self.endpoints.values_mut().filter_map(|e| e.lanes.get_mut(index));
            for lane in lanes.chain(self.any_lanes.get_mut(index)) {
                self.is_rewound |= lane.release_if(&key, is_before);
            }
        }
    }

    /// Those that wait for lanes to come further go on, once they have.
    pub(super) fn pass_on(&mut self, priority: Priority) {
        let (index, head) = (priority.index(), self.pages.head());
        let connected = || self.connected.iter();
        let seen = |id| self.lane(Owner::Endpoint(id), priority).and_then(|lane| lane.seen);
        let furthest = connected().map(|id| seen(*id).unwrap_or(head)).max().unwrap_or(head);
        let Some(any) = self.any_lanes.get_mut(index) else {
            return;
        };
        let any_seen = any.seen.unwrap_or(head);
        let is_any_further = any.poll_advance(furthest);
        let mut is_one_further = false;
        for id in &self.connected {
            let lane = self.endpoints.get_mut(id).and_then(|e| e.lanes.get_mut(index));
            is_one_further |= lane.is_some_and(|lane| {
                let is_further = lane.poll_advance(any_seen);
                self.is_rewound |= is_any_further && lane.release_all(|hold| hold == Hold::Unseen);
                is_further
            });
        }
        self.is_rewound |=
            is_one_further && any.release_all(|hold| matches!(hold, Hold::Unseen | Hold::NoRoom));
    }
}
