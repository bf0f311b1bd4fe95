//! What is not in memory is asked for: for whom, how much of it, and what becomes of what nobody
//! needs any more.

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;

use super::lane::{Lane, Owner};
use super::loading::Wants;
use super::pages::Class;
use super::{LOAD_SEQS_MAX, Outbox};
use crate::buffer::BacklogPage;

/// Seqs of one page.
const PAGE_SEQS: usize = 128;

const _: () = assert!(BacklogPage::SEQS == 128, "PAGE_SEQS is the same number");

impl Outbox {
    /// How many messages a lane may ask for.
    fn request_max(&self, owner: Owner, priority: Priority) -> usize {
        let (window, low) = (self.config.window(), self.config.window_low());
        let assigned_max = self.config.assigned_max(priority);
        let used = match owner {
            Owner::Endpoint(id) => {
                let Some(endpoint) = self.endpoints.get(&id) else {
                    return 0;
                };
                // While messages under `any` keep it busy, it need not run ahead of those, unless
                // some of them wait for that.
                let has_any = self.waiting(priority) >= low
                    || endpoint.assigned_of(priority) >= low.min(assigned_max);
                let is_busy = has_any && endpoint.queued_of(priority) > 0;
                if is_busy && !self.lane(Owner::Any, priority).is_some_and(Lane::waits_for_others) {
                    return 0;
                }
                endpoint.lane(priority).map_or(0, |lane| lane.taken.len())
            }
            Owner::Any => {
                let mut connected = self.connected.iter().filter_map(|id| self.endpoints.get(id));
                if !connected.any(|endpoint| endpoint.has_room(priority, assigned_max)) {
                    return 0;
                }
                self.waiting(priority)
            }
        };
        let wanted = if used < low { window - used } else { 0 };
        wanted.min(LOAD_SEQS_MAX).min(self.loading.room())
    }

    /// Asks for what comes next; whether there was anything to ask for.
    pub(super) fn request(&mut self, owner: Owner, priority: Priority, first: Seq) -> bool {
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

    /// Whether a page more may be asked for.
    pub(super) fn may_look_again(&self) -> bool {
        self.loading.room() >= PAGE_SEQS
    }

    /// Asks for what has to be looked at: past a deadline, or over perhaps.
    pub(super) fn look_again(&mut self) {
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
            self.ends.handle_over_unseen(range.clone());
            self.settled.insert_range(range);
        }
    }
}
