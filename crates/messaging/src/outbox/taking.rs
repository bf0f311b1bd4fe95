//! How messages are taken from the backlog: lanes go forward as far as there is room, ask for what
//! is not in memory, and pass over what its key holds back.

use alys_stream_protocol::message::{OrderingKey, Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;

use super::lane::{Gate, Hold, Lane, Owner};
use super::loading::Wants;
use super::pages::Class;
use super::{EndpointId, LOAD_SEQS_MAX, Outbox};
use crate::buffer::BacklogPage;
use crate::queue::insert_ordered;
use crate::refusals::Standing;

/// How often lanes may go back within one event before that is a bug.
const ROUNDS_MAX: u32 = 100_000;

/// Seqs of one page.
const PAGE_SEQS: usize = 128;

const _: () = assert!(BacklogPage::SEQS == 128, "PAGE_SEQS is the same number");

impl Outbox {
    /// Goes on with everything that became possible. The last step of every event.
    pub(super) fn go_on(&mut self) {
        let mut rounds = 0;
        loop {
            rounds += 1;
            debug_assert!(rounds < ROUNDS_MAX, "invariant M25: lanes go forward");
            self.is_rewound = false;
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
            }
            self.look_again();
            self.release_idle();
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

    fn next_of(&self, owner: Owner, priority: Priority, at: Seq) -> Option<Seq> {
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
            Owner::Any => {
                !self.connected.is_empty()
                    && self.unassigned.get(priority.index()).is_some_and(|u| u.len() < window)
            }
        }
    }

    /// How many messages a lane may ask for.
    fn request_max(&self, owner: Owner, priority: Priority) -> usize {
        let (window, low) = (self.config.window(), self.config.window_low());
        let assigned_max = self.config.assigned_max(priority);
        let used = match owner {
            Owner::Endpoint(id) => {
                let Some(endpoint) = self.endpoints.get(&id) else {
                    return 0;
                };
                // While messages under `any` keep it busy, it need not run ahead of those.
                let waiting = self.unassigned.get(priority.index()).map_or(0, |w| w.len());
                let has_any =
                    waiting >= low || endpoint.assigned_of(priority) >= low.min(assigned_max);
                let is_busy = has_any && endpoint.queued_of(priority) > 0;
                if is_busy {
                    return 0;
                }
                endpoint.lane(priority).map_or(0, |lane| lane.taken.len())
            }
            Owner::Any => {
                let mut connected = self.connected.iter().filter_map(|id| self.endpoints.get(id));
                if connected.all(|endpoint| endpoint.assigned_of(priority) >= assigned_max) {
                    return 0;
                }
                self.unassigned.get(priority.index()).map_or(0, |waiting| waiting.len())
            }
        };
        let wanted = if used < low { window - used } else { 0 };
        wanted.min(LOAD_SEQS_MAX).min(self.loading.room())
    }

    /// Asks for what comes next; whether there was anything to ask for.
    fn request(&mut self, owner: Owner, priority: Priority, first: Seq) -> bool {
        let count_max = self.request_max(owner, priority);
        let mut next = Some(first);
        let mut asked = Vec::new();
        while let Some(seq) = next
            && asked.len() < count_max
        {
            next = self.next_of(owner, priority, seq.next());
            if self.items.contains_key(&seq) {
                continue;
            }
            if owner == Owner::Any && self.is_left_to_endpoints(priority, seq) {
                break;
            }
            let bit = self.bit_of(owner);
            let wants = self.loading.ask(seq, priority);
            wants.endpoints |= bit;
            wants.any |= owner == Owner::Any;
            asked.push(seq);
        }
        let is_asked = !asked.is_empty();
        if let Some(lane) = self.lane_mut(owner, priority) {
            lane.missing += asked.len();
            lane.batch.extend(asked);
        }
        is_asked
    }

    /// Whether the policy of a message is not known and some endpoint will look at it first, when
    /// it has nothing else to do: the lane of messages under `any` does not run ahead of those.
    fn is_left_to_endpoints(&self, priority: Priority, seq: Seq) -> bool {
        match self.pages.class(seq) {
            Class::Any | Class::All => false,
            Class::Complex | Class::Unknown => {
                let lanes = self.connected.iter().filter_map(|id| self.endpoints.get(id));
                let mut lanes = lanes.filter_map(|endpoint| endpoint.lane(priority));
                lanes.all(|lane| lane.at.is_some_and(|at| at <= seq))
            }
        }
    }

    fn bit_of(&self, owner: Owner) -> u64 {
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
        lane.at = Some(to);
        while let Some(lane) = self.lane_mut(owner, priority)
            && let Some(seq) = lane.batch.first().copied().filter(|seq| *seq < to)
        {
            lane.batch.pop_first();
            self.unwant(owner, seq);
        }
    }

    /// A lane does not need a message any more that it asked for.
    pub(super) fn unwant(&mut self, owner: Owner, seq: Seq) {
        let bit = self.bit_of(owner);
        if let Some(item) = self.items.get_mut(&seq) {
            item.wanted &= !bit;
            item.is_wanted &= owner != Owner::Any;
            self.idle.push(seq);
        }
        if let Some(wants) = self.loading.find(seq) {
            wants.endpoints &= !bit;
            wants.any &= owner != Owner::Any;
        }
    }

    /// A message that was asked for is there, or over.
    pub(super) fn answer(&mut self, seq: Seq) -> Option<Wants> {
        let wants = self.loading.remove(seq)?;
        for endpoint in self.endpoints.values_mut() {
            if wants.endpoints & endpoint.bit != 0
                && let Some(lane) = endpoint.lane_mut(wants.priority)
            {
                lane.missing -= 1;
            }
        }
        if wants.any
            && let Some(lane) = self.lane_mut(Owner::Any, wants.priority)
        {
            lane.missing -= 1;
        }
        Some(wants)
    }

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
        if item.is_any() || is_done || item.is_met(self.enabled) {
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
        match standing {
            Some(Standing::Waiting { due }) if due > self.now => {
                item.wait_at(endpoint);
                self.retries.restore(due, seq, id);
                if let Some(key) = &item.key {
                    self.keys.wait(key, priority, seq, id);
                }
            }
            Some(Standing::Waiting { .. } | Standing::Final) | None => {
                item.queue_at(seq, endpoint);
                endpoint.tell_ready(id, &mut self.actions);
            }
        }
    }

    fn visit_any(&mut self, priority: Priority, seq: Seq) {
        let Some(item) = self.items.get(&seq) else {
            return;
        };
        if !item.is_any() || item.is_taken || item.is_met(self.enabled) {
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

    /// What holds a message back, now that every earlier one of its key was looked at.
    fn hold_of(
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
            (None, Some(lane)) => lane.rewind(seq),
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
    }

    /// A message of a key left the memory.
    pub(super) fn leave_key(&mut self, key: &OrderingKey, priority: Priority) {
        if self.keys.handle_left(key, priority)
            && self.lane_mut(Owner::Any, priority).is_some_and(|lane| lane.release(key))
        {
            self.is_rewound = true;
        }
    }

    /// Messages whose key is pinned to an endpoint that was full may be assigned again.
    fn look_for_room(&mut self, priority: Priority) {
        let index = priority.index();
        let low = self.config.assigned_max(priority).div_ceil(2);
        let (Some(full), Some(lane)) = (self.full.get_mut(index), self.any_lanes.get_mut(index))
        else {
            return;
        };
        if full.is_empty() {
            return;
        }
        full.retain(|id| {
            let assigned = self.endpoints.get(id).map_or(0, |e| e.assigned_of(priority));
            if assigned < low {
                lane.release_all(|hold| hold == Hold::Full(*id));
            }
            assigned >= low
        });
    }

    /// Whether a page more may be asked for.
    pub(super) fn may_look_again(&self) -> bool {
        self.loading.room() >= PAGE_SEQS
    }

    /// Asks for what has to be looked at: past a deadline, or over perhaps.
    fn look_again(&mut self) {
        while self.may_look_again() {
            let seqs = if let Some(page) = self.pages.poll_deadline(self.now) {
                self.pages.of_page(page)
            } else if let Some(page) = self.recheck.pop_first() {
                self.pages.undecided_of_page(page)
            } else {
                break;
            };
            for (seq, priority) in seqs {
                if !self.items.contains_key(&seq) {
                    self.loading.ask(seq, priority);
                }
            }
        }
    }

    /// Messages that are not in memory were settled by what endpoints have.
    pub(super) fn settle_absent(&mut self, settled: &SeqSet) {
        for range in settled.ranges() {
            for seq in self.loading.within(range.clone()) {
                self.answer(seq);
            }
            self.settled.insert_range(range);
        }
    }

    /// A lane of an endpoint that is lost holds nothing, and goes back to the first message that is
    /// not done there.
    pub(super) fn leave_lane(&mut self, id: EndpointId, priority: Priority, lane: Lane) {
        let owner = Owner::Endpoint(id);
        let Lane { at, taken, batch, gaps, .. } = lane;
        let passed = gaps.values().map(|gap| gap.from).min();
        if let Some(lane) = self.lane_mut(owner, priority) {
            lane.at = at;
            for first in [taken.first().copied(), passed].into_iter().flatten() {
                lane.rewind(first);
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
