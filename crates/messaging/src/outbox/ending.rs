//! How messages end: acknowledgements, verdicts, deadlines, retries.

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::time::UnixMillis;

use super::intake::Intake;
use super::item::{Item, Verdict};
use super::lane::Owner;
use super::{Action, Cause, EndpointId, Outbox};
use crate::queue::insert_ordered;

impl Outbox {
    /// The answer to a message is there, or it is not wanted any more: unsent copies are
    /// withdrawn, it is settled.
    pub fn handle_concluded(&mut self, seq: Seq) {
        if self.end(seq).is_some() {
            self.settled.insert(seq);
            self.go_on();
        }
    }

    /// The buffer dropped a message for others: nobody is sent it any more, it is a dead letter.
    pub fn handle_evicted(&mut self, seq: Seq) {
        if let Some(item) = self.end(seq) {
            self.bury(seq, Cause::Evicted, item, "it made room for others");
            self.go_on();
        }
    }

    /// The buffer cannot read a message back: it can be delivered by nobody.
    pub fn handle_unreadable(&mut self, seq: Seq) {
        if self.end(seq).is_some() {
            self.actions.push_back(Action::Lost { seq });
            self.go_on();
        }
    }

    /// Time has passed: deadlines, retries, and what was held back for a long message.
    pub fn handle_timeout(&mut self, now: UnixMillis) {
        self.learn_now(now);
        while let Some((deadline, seq)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.expire(seq);
        }
        while let Some((seq, id)) = self.retries.pop(now) {
            self.retry(seq, id);
        }
        self.let_go(now);
        self.go_on();
    }

    /// When [`Outbox::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        let present = self.deadlines.first().map(|(deadline, _)| *deadline);
        // While nothing more may be asked for, what is late waits for what was.
        let absent = self.pages.deadline_min().filter(|_| self.may_look_again());
        let others = [self.retries.poll_timeout(), self.held_until()];
        [present, absent].into_iter().chain(others).flatten().min()
    }

    pub(super) fn acknowledge(&mut self, id: EndpointId, seq: Seq) {
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        if item.in_flight & endpoint.bit != 0 {
            item.in_flight &= !endpoint.bit;
            endpoint.in_flight.remove(seq);
        }
        item.unqueue_at(endpoint);
        item.acked |= endpoint.bit;
        self.pages.set_acked(endpoint.slot, seq);
        if item.taken & endpoint.bit != 0 {
            item.taken &= !endpoint.bit;
            if let Some(lane) = endpoint.lane_mut(item.priority) {
                lane.taken.remove(&seq);
            }
        }
        if item.is_any()
            && let Some(name) = item.name()
        {
            self.eased.insert(name);
        }
        self.stop_waiting(id, seq);
        self.idle.push(seq);
        self.judge(seq);
    }

    /// A message does not wait for a retry any more; what it held back goes on.
    fn stop_waiting(&mut self, id: EndpointId, seq: Seq) {
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        if !item.stop_waiting(endpoint) {
            return;
        }
        self.retries.remove(seq, id);
        let (key, priority) = (item.key.clone(), item.priority);
        if let Some(key) = key {
            self.keys.stop_waiting(&key, priority, seq, id);
            self.release_key(id, &key, priority);
        }
    }

    /// Ends a message whose policy is met, or cannot be any more.
    pub(super) fn judge(&mut self, seq: Seq) {
        let Some(item) = self.items.get(&seq) else {
            return;
        };
        match item.verdict(self.enabled) {
            Verdict::Open => {}
            Verdict::Answerless => self.withdraw(seq),
            Verdict::Settled => {
                self.end(seq);
                self.settled.insert(seq);
            }
            Verdict::Refused => {
                let item = self.end_present(seq);
                let history = item.as_ref().and_then(Item::history);
                let last = history.and_then(|history| history.attempts.last());
                let (code, text) = last.map(|last| (last.code, last.text.clone())).unzip();
                let (code, text) = (code.unwrap_or_default(), text.unwrap_or_default());
                self.bury(seq, Cause::Refused { code, text }, item, "others had refused it");
            }
        }
    }

    /// Acknowledged as its policy asks: copies that were not sent are not needed while the answer
    /// is awaited, but for those that later ones of its key would pass.
    fn withdraw(&mut self, seq: Seq) {
        if self.items.get(&seq).is_none_or(|item| item.key.is_some()) {
            return;
        }
        let ids: Vec<EndpointId> = self.connected.clone();
        for id in ids {
            self.stop_waiting(id, seq);
            let (Some(endpoint), Some(item)) =
                (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
            else {
                continue;
            };
            item.unqueue_at(endpoint);
            if item.in_flight & endpoint.bit != 0 {
                continue;
            }
            item.taken &= !endpoint.bit;
            if let Some(lane) = endpoint.lane_mut(item.priority) {
                lane.taken.remove(&seq);
            }
            if item.assigned & endpoint.bit != 0 {
                item.assigned &= !endpoint.bit;
                endpoint.unassign(item.priority, seq);
            }
        }
        if let Some(item) = self.items.get_mut(&seq) {
            item.is_taken = item.assigned != 0;
            self.idle.push(seq);
        }
    }

    pub(super) fn expire(&mut self, seq: Seq) {
        let is_sent = self.pages.is_sent(seq);
        let Some(item) = self.end_present(seq) else {
            return;
        };
        if item.is_settled_by_deadline() {
            self.settled.insert(seq);
            return;
        }
        let cause =
            if is_sent { Cause::TimedOut { may_have_been_seen: true } } else { Cause::Expired };
        self.bury(seq, cause, Some(item), "its deadline passed");
    }

    pub(super) fn end_present(&mut self, seq: Seq) -> Option<Item> {
        self.end(seq).flatten()
    }

    /// Takes a message out of everything (M12): `None` when it was over, else what is in memory of
    /// it. Entries in queues are passed over when they come up.
    pub(super) fn end(&mut self, seq: Seq) -> Option<Option<Item>> {
        let item = self.take_out(seq)?;
        match &item {
            // Nobody knows what is behind it.
            None => self.ends.handle_over_unseen(seq..=seq),
            Some((item, sent)) => {
                if let Some(name) = item.name() {
                    self.ends.handle_over(seq, name, item.acked, *sent);
                }
            }
        }
        Some(item.map(|(item, _)| item))
    }

    /// The same, without an end that is to be durable. Gives with what is in memory who has it in
    /// flight.
    pub(super) fn take_out(&mut self, seq: Seq) -> Option<Option<(Item, u64)>> {
        if !self.pages.remove(seq) {
            return None;
        }
        self.answer(seq);
        Some(self.remove(seq))
    }

    fn remove(&mut self, seq: Seq) -> Option<(Item, u64)> {
        let mut item = self.items.remove(&seq)?;
        let (priority, sent) = (item.priority, item.in_flight);
        if let Some(deadline) = item.deadline {
            self.deadlines.remove(&(deadline, seq));
        }
        let mut waited = Vec::new();
        for (id, endpoint) in &mut self.endpoints {
            let bit = endpoint.bit;
            if item.in_flight & bit != 0 {
                endpoint.in_flight.remove(seq);
            }
            item.unqueue_at(endpoint);
            if item.assigned & bit != 0 {
                endpoint.unassign(priority, seq);
            }
            if item.stop_waiting(endpoint) {
                self.retries.remove(seq, *id);
                waited.push(*id);
            }
            if (item.taken | item.wanted) & bit != 0
                && let Some(lane) = endpoint.lane_mut(priority)
            {
                lane.taken.remove(&seq);
                lane.batch.remove(&seq);
            }
        }
        if item.is_wanted
            && let Some(lane) = self.lane_mut(Owner::Any, priority)
        {
            lane.batch.remove(&seq);
        }
        if let Some(key) = &item.key {
            for id in waited {
                self.keys.stop_waiting(key, priority, seq, id);
                self.release_key(id, key, priority);
            }
            self.leave_key(key, priority, seq);
            self.eased.insert((key.clone(), priority));
        }
        Some((item, sent))
    }

    fn retry(&mut self, seq: Seq, id: EndpointId) {
        let (Some(endpoint), Some(item)) = (self.endpoints.get_mut(&id), self.items.get_mut(&seq))
        else {
            return;
        };
        if !item.stop_waiting(endpoint) {
            return;
        }
        let priority = item.priority;
        if item.is_any() && (item.key.is_none() || endpoint.intake != Intake::Open) {
            // Somebody else may take it.
            item.avoid = Some(id);
            item.assigned = 0;
            endpoint.unassign(priority, seq);
            let entry = item.entry(seq);
            if let Some(waiting) = self.unassigned.get_mut(priority.index()) {
                insert_ordered(waiting, entry);
            }
        } else {
            item.queue_at(seq, endpoint);
            endpoint.tell_ready(id, &mut self.actions);
        }
        if let Some(key) = item.key.clone() {
            self.keys.stop_waiting(&key, priority, seq, id);
            self.release_key(id, &key, priority);
        }
    }
}
