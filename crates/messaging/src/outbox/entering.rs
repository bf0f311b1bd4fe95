//! How messages come in: from an earlier process, newly accepted, or looked up again.

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::time::UnixMillis;

use super::item::Item;
use super::lane::Owner;
use super::words::Loaded;
use super::{Endpoint, Outbox};
use crate::buffer::BacklogPage;
use crate::record::RecordMeta;
use crate::refusals::{History, Standing};
use crate::router::Route;

impl Outbox {
    /// What an earlier process left unsettled, page by page, oldest first; before endpoints
    /// connect and before anything is accepted.
    pub fn handle_backlog(&mut self, page: &BacklogPage) {
        self.pages.insert_page(page);
        for lane in &mut self.any_lanes {
            lane.reopen(page.first_seq());
        }
    }

    /// A message became durable. In order of seq.
    pub fn handle_accepted(&mut self, now: UnixMillis, meta: RecordMeta, route: Route) {
        self.handle_accepted_all(now, [(meta, route)]);
    }

    /// Several messages became durable, with one commit. In order of seq. What that makes possible is
    /// looked for once, and not for each.
    pub fn handle_accepted_all(
        &mut self,
        now: UnixMillis,
        accepted: impl IntoIterator<Item = (RecordMeta, Route)>,
    ) {
        self.learn_now(now);
        for (meta, route) in accepted {
            self.take_in(meta, route);
        }
        self.go_on();
    }

    fn take_in(&mut self, meta: RecordMeta, route: Route) {
        let seq = meta.seq;
        debug_assert!(seq >= self.pages.head(), "messages are accepted in order");
        self.pages.insert(seq, meta.priority);
        let item = Item::new(meta, route, History::default());
        self.pages.set_class(seq, item.class());
        if item.is_any() {
            self.accept_any(seq, item);
        } else {
            self.accept_all(seq, item);
        }
    }

    fn accept_any(&mut self, seq: Seq, item: Item) {
        let priority = item.priority;
        let is_at_head = self.lane(Owner::Any, priority).is_some_and(|lane| lane.at.is_none());
        if is_at_head && self.has_room(Owner::Any, priority) {
            self.enter(seq, item);
            self.visit(Owner::Any, priority, seq);
            return;
        }
        if let Some(lane) = self.lane_mut(Owner::Any, priority) {
            lane.fall_behind(seq);
        }
        self.note_deadline(seq, &item);
    }

    fn accept_all(&mut self, seq: Seq, item: Item) {
        let (priority, window) = (item.priority, self.config.window());
        let mut takers = Vec::new();
        for (id, endpoint) in &mut self.endpoints {
            let is_connected = endpoint.is_connected;
            let Some(lane) = endpoint.lane_mut(priority) else {
                continue;
            };
            if is_connected && lane.at.is_none() && lane.taken.len() < window {
                takers.push(*id);
            } else {
                lane.fall_behind(seq);
            }
        }
        if takers.is_empty() {
            self.note_deadline(seq, &item);
            return;
        }
        self.enter(seq, item);
        for id in takers {
            self.visit(Owner::Endpoint(id), priority, seq);
        }
    }

    /// What is known of messages that [`super::Action::Load`] asked for.
    pub fn handle_loaded(&mut self, now: UnixMillis, loaded: Vec<Loaded>) {
        self.learn_now(now);
        for Loaded { meta, route, history } in loaded {
            let seq = meta.seq;
            if !self.pages.is_live(seq) {
                // Over meanwhile.
                continue;
            }
            let Some(wants) = self.answer(seq) else {
                continue;
            };
            let mut item = Item::new(meta, route, history);
            (item.wanted, item.is_wanted) = (wants.endpoints, wants.any);
            self.restore(seq, &mut item);
            self.pages.set_class(seq, item.class());
            let is_late = item.deadline.is_some_and(|deadline| deadline <= now);
            self.enter(seq, item);
            if is_late {
                self.expire(seq);
            } else {
                self.judge(seq);
            }
        }
        self.go_on();
    }

    /// What bits and history tell of a message.
    fn restore(&self, seq: Seq, item: &mut Item) {
        item.acked = self.pages.acked(seq);
        let Some(history) = item.history() else {
            return;
        };
        let is_final = |endpoint: &&Endpoint| {
            history.of(&endpoint.name).is_some_and(|known| known.standing == Standing::Final)
        };
        let refused = self.endpoints.values().filter(is_final).fold(0, |bits, e| bits | e.bit);
        let last = history.attempts.last().map(|attempt| attempt.endpoint.as_str());
        let by_name = |name| self.endpoints.iter().find(|(_, endpoint)| endpoint.name == name);
        let avoid = last.and_then(by_name).map(|(id, _)| *id);
        (item.refused, item.avoid) = (refused, avoid);
    }

    /// A message is not in the buffer any more, or not to be delivered: it is gone without an
    /// action.
    pub fn handle_forgotten(&mut self, seq: Seq) {
        // However it ended, it is not offered again.
        self.take_out(seq);
        self.go_on();
    }

    /// Takes a message into memory.
    fn enter(&mut self, seq: Seq, item: Item) {
        if let Some(deadline) = item.deadline {
            self.deadlines.insert((deadline, seq));
        }
        if let Some(name) = item.name() {
            self.keys.handle_entered(name, seq, item.is_any());
        }
        self.items.insert(seq, item);
        self.idle.push(seq);
    }

    /// Drops what nobody needs in memory any more down to its bits (M24).
    pub(super) fn release_idle(&mut self) {
        while let Some(seq) = self.idle.pop() {
            if self.items.get(&seq).is_none_or(Item::is_needed) {
                continue;
            }
            let Some(item) = self.items.remove(&seq) else {
                continue;
            };
            let is_used = item.queued | item.in_flight != 0 || item.is_waiting();
            debug_assert!(!is_used, "invariant M24: what is used is needed");
            if let Some(deadline) = item.deadline {
                self.deadlines.remove(&(deadline, seq));
            }
            self.note_deadline(seq, &item);
            if let Some(key) = &item.key {
                self.leave_key(key, item.priority, seq);
            }
        }
    }

    fn note_deadline(&mut self, seq: Seq, item: &Item) {
        if let Some(deadline) = item.deadline {
            self.pages.note_deadline(seq, deadline);
        }
    }
}
