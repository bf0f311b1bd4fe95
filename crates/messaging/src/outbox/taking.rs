//! How messages are taken from the backlog: lanes go forward as far as there is room, ask for what
//! is not in memory (`asking`), and pass over what its key holds back (`holding`).

use alys_stream_protocol::message::{Priority, Seq};

use super::lane::{Lane, Owner};
use super::{EndpointId, Outbox};

/// How often lanes may go back within one event before that is a bug.
const ROUNDS_MAX: u32 = 100_000;

impl Outbox {
    /// Goes on with everything that became possible. The last step of every event.
    pub(super) fn go_on(&mut self) {
        let mut rounds = 0;
        self.ease();
        loop {
            rounds += 1;
            debug_assert!(rounds < ROUNDS_MAX, "invariant M25: lanes go forward");
            self.is_rewound = false;
            self.free_pins();
            for priority in Priority::ALL {
                self.look_for_room(priority);
                for index in 0..self.connected.len() {
                    if let Some(id) = self.connected.get(index).copied() {
                        self.advance(Owner::Endpoint(id), priority);
                    }
                }
                loop {
                    self.advance(Owner::Any, priority);
                    if !self.assign(priority) {
                        break;
                    }
                }
                self.pass_on(priority);
            }
            self.look_again();
            self.release_idle();
            self.ease();
            if !self.is_rewound {
                break;
            }
        }
        while let Some(action) = self.loading.poll_action() {
            self.actions.push_back(action);
        }
    }

    /// Takes what a lane may take, in order (M25).
    fn advance(&mut self, owner: Owner, priority: Priority) {
        while let Some(at) =
            self.lane(owner, priority).filter(|l| l.missing == 0).and_then(|l| l.at)
        {
            if !self.has_room(owner, priority) {
                return;
            }
            let Some(seq) = self.next_of(owner, priority, at) else {
                self.pass(owner, priority, Seq(u64::MAX));
                if let Some(lane) = self.lane_mut(owner, priority) {
                    lane.reach_head();
                }
                return;
            };
            if self.items.contains_key(&seq) {
                // First the step, then the look: it may send the lane back.
                self.pass(owner, priority, seq.next());
                self.visit(owner, priority, seq);
            } else {
                self.pass(owner, priority, seq);
                if !self.request(owner, priority, seq) {
                    return;
                }
            }
        }
    }

    pub(super) fn next_of(&self, owner: Owner, priority: Priority, at: Seq) -> Option<Seq> {
        match owner {
            Owner::Endpoint(id) => {
                let slot = self.endpoints.get(&id)?.slot;
                self.pages.next_for_endpoint(slot, priority, at)
            }
            Owner::Any => self.pages.next_for_any(priority, at),
        }
    }

    /// Whether a lane may take one more.
    pub(super) fn has_room(&self, owner: Owner, priority: Priority) -> bool {
        let window = self.config.window();
        match owner {
            Owner::Endpoint(id) => self.endpoints.get(&id).is_some_and(|endpoint| {
                endpoint.is_connected
                    && endpoint.lane(priority).is_some_and(|lane| lane.taken.len() < window)
            }),
            Owner::Any => !self.connected.is_empty() && self.waiting(priority) < window,
        }
    }

    pub(super) fn bit_of(&self, owner: Owner) -> u64 {
        match owner {
            Owner::Endpoint(id) => self.endpoints.get(&id).map_or(0, |endpoint| endpoint.bit),
            Owner::Any => 0,
        }
    }

    /// A lane goes on to `to`. It needs nothing below any more that it asked for.
    fn pass(&mut self, owner: Owner, priority: Priority, to: Seq) {
        let Some(lane) = self.lane_mut(owner, priority) else {
            return;
        };
        lane.pass(to);
        while let Some(lane) = self.lane_mut(owner, priority)
            && let Some(seq) = lane.batch.first().copied().filter(|seq| *seq < to)
        {
            lane.batch.pop_first();
            self.unwant(owner, seq);
        }
    }

    /// A lane of an endpoint that is lost holds nothing, and goes back to the first message that is
    /// not done there.
    pub(super) fn leave_lane(&mut self, id: EndpointId, priority: Priority, lane: Lane) {
        let owner = Owner::Endpoint(id);
        let Lane { at, taken, batch, gaps, .. } = lane;
        let passed = gaps.values().map(|gap| gap.from).min();
        if let Some(lane) = self.lane_mut(owner, priority) {
            *lane = Lane::from(at);
            for first in [taken.first().copied(), passed].into_iter().flatten() {
                lane.reopen(first);
            }
        }
        for seq in taken {
            self.leave(id, seq);
        }
        for seq in batch {
            self.unwant(owner, seq);
        }
    }
}
