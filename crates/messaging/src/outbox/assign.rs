//! Who gets messages under `any`: whom the balancer chooses, and with their key wherever it is
//! pinned.

use std::collections::VecDeque;

use alys_stream_protocol::message::{Priority, Seq};

use super::intake::Intake;
use super::keys::Name;
use super::lane::{Gate, Hold, Owner};
use super::sizing::Taker;
use super::{Candidate, EndpointId, Outbox};
use crate::queue::{Entry, insert_ordered};

/// What becomes of a message that waits unassigned.
enum Choice {
    Assign(EndpointId),
    /// It is passed over: what it waits for holds back no other key.
    Park(Option<Hold>),
    /// It is too long for every endpoint there is.
    Refuse,
    /// Whoever takes it is full; others may have what is behind it.
    Aside,
    /// Nobody has room.
    Wait,
}

impl Outbox {
    /// Assigns what waits, as far as endpoints have room. Whether it did.
    pub(super) fn assign(&mut self, priority: Priority) -> bool {
        let mut is_assigned = false;
        while let Some(entry) = self.first_of(priority, |outbox| &mut outbox.aside) {
            let choice = self.choose(priority, entry.seq);
            if matches!(choice, Choice::Wait | Choice::Aside) {
                break;
            }
            self.aside.get_mut(priority.index()).map(VecDeque::pop_front);
            is_assigned |= self.carry_out(priority, entry, choice);
        }
        while let Some(entry) = self.first_of(priority, |outbox| &mut outbox.unassigned) {
            let choice = self.choose(priority, entry.seq);
            if matches!(choice, Choice::Wait) {
                break;
            }
            self.unassigned.get_mut(priority.index()).map(VecDeque::pop_front);
            is_assigned |= self.carry_out(priority, entry, choice);
        }
        is_assigned
    }

    /// Does what was chosen with a message that waits no more. Whether it was assigned.
    fn carry_out(&mut self, priority: Priority, entry: Entry, choice: Choice) -> bool {
        match choice {
            Choice::Assign(id) => {
                self.assign_to(id, entry.seq);
                return true;
            }
            Choice::Park(hold) => self.park(Owner::Any, priority, entry.seq, hold),
            Choice::Refuse => self.die_too_long(entry.seq),
            Choice::Aside => {
                if let Some(aside) = self.aside.get_mut(priority.index()) {
                    insert_ordered(aside, entry);
                }
            }
            Choice::Wait => {}
        }
        false
    }

    /// The first message of a queue that still waits.
    fn first_of(
        &mut self,
        priority: Priority,
        queues: impl Fn(&mut Self) -> &mut [VecDeque<Entry>; 4],
    ) -> Option<Entry> {
        loop {
            let entry = queues(self).get_mut(priority.index())?.front().copied()?;
            // What ended meanwhile is passed over.
            let item = self.items.get(&entry.seq);
            if item.is_some_and(|item| item.is_taken && item.assigned == 0) {
                return Some(entry);
            }
            queues(self).get_mut(priority.index())?.pop_front();
        }
    }

    /// How many messages under `any` wait in memory for an endpoint with room.
    pub(super) fn waiting(&self, priority: Priority) -> usize {
        let index = priority.index();
        let count = |queues: &[VecDeque<Entry>; 4]| queues.get(index).map_or(0, VecDeque::len);
        count(&self.unassigned) + count(&self.aside)
    }

    fn choose(&mut self, priority: Priority, seq: Seq) -> Choice {
        let Some(item) = self.items.get(&seq) else {
            return Choice::Park(None);
        };
        let (avoid, name, bytes) = (item.avoid, item.name(), item.bytes);
        if let Some((key, _)) = &name {
            match self.any_lanes.get_mut(priority.index()).map(|lane| lane.gate(key, seq)) {
                Some(Gate::Held(hold)) => return Choice::Park(Some(hold)),
                Some(Gate::Behind) => return Choice::Park(None),
                Some(Gate::Open) | None => {}
            }
        }
        match self.taker(bytes) {
            Taker::Connected => {}
            Taker::Away => return Choice::Park(Some(Hold::TooLong)),
            Taker::Nobody => return Choice::Refuse,
        }
        if let Some(name) = &name
            && let Some(choice) = self.follow(name, seq, bytes)
        {
            return choice;
        }
        match self.balanced(priority, avoid, bytes, name.as_ref().map(|name| (name, seq))) {
            (Some(id), _) => return Choice::Assign(id),
            (None, Some(Hold::NoRoom)) => {}
            (None, Some(hold)) => return Choice::Park(Some(hold)),
            (None, None) if !self.is_for_full(priority, bytes) => return Choice::Wait,
            (None, None) => {}
        }
        // What is behind it may go to others (M26), but for what is of its key (M14).
        if let Some(name) = &name {
            self.watch_takers(name, seq, bytes);
            Choice::Park(Some(Hold::NoRoom))
        } else {
            Choice::Aside
        }
    }

    /// A message of a key that is pinned somewhere goes there.
    fn follow(&mut self, name: &Name, seq: Seq, bytes: u32) -> Option<Choice> {
        let (key, priority) = name;
        let id = self.keys.pin(key, *priority)?;
        if self.keys.is_held(key, *priority, seq, id) {
            return Some(Choice::Park(Some(Hold::Retry)));
        }
        let endpoint = self.endpoints.get(&id).filter(|e| e.is_connected)?;
        if !endpoint.takes(bytes) {
            return Some(Choice::Park(Some(Hold::Pinned)));
        }
        // What it keeps of the key comes first, whatever it may prove.
        let is_open = endpoint.intake == Intake::Open;
        if !is_open || !endpoint.has_room(*priority, self.config.assigned_max(*priority)) {
            return Some(Choice::Park(Some(Hold::Full(id))));
        }
        Some(match self.hold_at(id, name, seq, true) {
            Some(hold) => Choice::Park(Some(hold)),
            None => Choice::Assign(id),
        })
    }

    /// Whom the balancer chooses, among those that take it, have room, and may have it before
    /// what comes later. Else what holds it back, when something does at one of those: that there
    /// is no room at others, or what it is there.
    fn balanced(
        &mut self,
        priority: Priority,
        avoid: Option<EndpointId>,
        bytes: u32,
        keyed: Option<(&Name, Seq)>,
    ) -> (Option<EndpointId>, Option<Hold>) {
        let assigned_max = self.config.assigned_max(priority);
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.clear();
        let mut first_hold = None;
        let connected = self.connected.iter().filter_map(|id| Some((*id, self.endpoints.get(id)?)));
        let connected = connected.filter(|(_, e)| e.intake != Intake::Closed && e.takes(bytes));
        let connected = connected.filter(|(id, _)| {
            let hold = keyed.and_then(|(name, seq)| {
                // Of another policy it may be: such a one pins no key.
                let is_held = self.keys.is_held(&name.0, name.1, seq, *id);
                is_held.then_some(Hold::Retry).or_else(|| self.hold_at(*id, name, seq, true))
            });
            first_hold = first_hold.or(hold);
            hold.is_none()
        });
        candidates.extend(connected.map(|(id, endpoint)| Candidate {
            id,
            priority_class: priority,
            unacknowledged: endpoint.unacknowledged(),
            assigned: endpoint.assigned_of(priority),
            is_saturated: !endpoint.has_room(priority, assigned_max),
            is_avoided: avoid == Some(id),
        }));
        let others =
            if candidates.is_empty() { first_hold } else { first_hold.map(|_| Hold::NoRoom) };
        let chosen = self.chosen(&mut candidates);
        self.candidates = candidates;
        (chosen, others)
    }

    fn chosen(&mut self, candidates: &mut Vec<Candidate>) -> Option<EndpointId> {
        // That everybody is full needs no balancer.
        if candidates.iter().all(|candidate| candidate.is_saturated) {
            return None;
        }
        let first = self.balance.choose(self.now, candidates)?;
        if candidates.iter().find(|candidate| candidate.id == first)?.is_saturated {
            candidates.retain(|candidate| !candidate.is_saturated);
            let second = self.balance.choose(self.now, candidates)?;
            return candidates.iter().map(|c| c.id).find(|id| *id == second);
        }
        Some(first)
    }

    fn assign_to(&mut self, id: EndpointId, seq: Seq) {
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        item.assigned = endpoint.bit;
        if let Some(name) = item.name() {
            self.keys.set_pin(&name.0, name.1, id);
            self.eased.insert(name);
        }
        endpoint.assign(item.priority, seq);
        if item.acked & endpoint.bit != 0 {
            // It has it; later ones of its key follow it there.
            return;
        }
        endpoint.note_probe(seq);
        item.queue_at(seq, endpoint);
        endpoint.tell_ready(id, &mut self.actions);
    }

    /// A message that an endpoint refused waits for that endpoint again, if it is there: so a
    /// retry is due when it was before a restart.
    pub(super) fn wait_again(&mut self, priority: Priority, seq: Seq) -> bool {
        let Some(item) = self.items.get_mut(&seq) else {
            return false;
        };
        let pin = item.key.as_ref().and_then(|key| self.keys.pin(key, priority));
        let mut connected = self.endpoints.iter_mut().filter(|(_, e)| e.is_connected);
        let waits = connected.find_map(|(id, endpoint)| {
            let due = item.waits_until(&endpoint.name, self.now)?;
            Some((*id, endpoint, due))
        });
        let Some((id, endpoint, due)) = waits.filter(|(id, ..)| pin.is_none_or(|pin| pin == *id))
        else {
            return false;
        };
        (item.is_taken, item.assigned) = (true, endpoint.bit);
        item.wait_at(endpoint);
        endpoint.assign(priority, seq);
        self.retries.restore(due, seq, id);
        if let Some(key) = &item.key {
            self.keys.set_pin(key, priority, id);
            self.keys.wait(key, priority, seq, id);
        }
        true
    }

    /// Takes a message back from an endpoint that is lost.
    pub(super) fn leave(&mut self, id: EndpointId, seq: Seq) {
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        item.taken &= !endpoint.bit;
        item.assigned &= !endpoint.bit;
        item.queued &= !endpoint.bit;
        item.in_flight &= !endpoint.bit;
        if item.stop_waiting(endpoint) {
            self.retries.remove(seq, id);
            if let Some(key) = &item.key {
                self.keys.stop_waiting(key, item.priority, seq, id);
            }
        }
        self.idle.push(seq);
    }

    /// The same of a message under `any`: it is chosen again.
    pub(super) fn leave_assigned(&mut self, id: EndpointId, seq: Seq) {
        self.leave(id, seq);
        let Some(item) = self.items.get_mut(&seq) else {
            return;
        };
        // One that acknowledged it, while its answer is awaited, need not have it again.
        item.is_taken = !item.is_spared(self.enabled);
        if item.is_taken {
            let (priority, entry) = (item.priority, item.entry(seq));
            if let Some(waiting) = self.unassigned.get_mut(priority.index()) {
                insert_ordered(waiting, entry);
            }
        }
    }

    /// Keeps what waits unassigned within the window; without a connection it is nothing.
    pub(super) fn trim(&mut self) {
        let count_max = if self.connected.is_empty() { 0 } else { self.config.window() };
        for priority in Priority::ALL {
            while self.waiting(priority) > count_max {
                let index = priority.index();
                let last = self.unassigned.get_mut(index).and_then(VecDeque::pop_back);
                let last = last.or_else(|| self.aside.get_mut(index)?.pop_back());
                let Some(entry) = last else {
                    break;
                };
                let item = self.items.get(&entry.seq);
                if item.is_some_and(|item| item.is_taken && item.assigned == 0) {
                    self.park(Owner::Any, priority, entry.seq, None);
                }
            }
        }
    }
}
