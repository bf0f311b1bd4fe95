//! The checks of how much a node holds (D7).

use std::collections::BTreeMap;

use alys_stream_protocol::message::{MessageId, Seq};

use crate::history::{Fill, View};
use crate::journal::{Carried, Entry, Fact};
use crate::net::Machine;
use crate::plan::Spec;

use super::Verdict;
use super::stored::Answers;

/// How many priorities there are: every bound is one of each.
const PRIORITIES: usize = 4;

impl Fill {
    /// How many messages the outbox may have in memory (M24). For each priority and endpoint that is
    /// connected these are a window of what is taken for it, or asked for and about to be, and another
    /// one of what is assigned to it; and once a window of what waits for whoever has room.
    const fn bound(self, window: usize) -> usize {
        PRIORITIES * window * (2 * self.connected + 1)
    }
}

/// D7: the outbox holds no more than its windows let it, however long the outage (M24).
pub(crate) fn invariant_d7_memory_is_bounded(view: View<'_>) -> Verdict {
    let window = view.own.window_max;
    for fill in view.own.fills.values() {
        let bound = fill.bound(window);
        if fill.resident > bound {
            return Err(format!(
                "the outbox held {} messages at {:?}, with {} endpoints and a window of {window}; \
                 {bound} may be",
                fill.resident, fill.at, fill.connected
            ));
        }
    }
    Ok(())
}

/// D7: what was sent on one session and not answered is in memory: of one priority a window of what
/// is taken for the endpoint, and another one of what is assigned to it.
pub(crate) fn invariant_d7_flight_is_bounded(view: View<'_>) -> Verdict {
    let bound = 2 * view.own.window_max;
    let mut flight = Flight::of(view);
    for entry in &view.all.entries {
        flight.answers.learn(entry);
        if entry.node() != Some(view.node) {
            continue;
        }
        let Some((to, priority)) = flight.learn(entry) else { continue };
        let count = flight.count(view, (entry.who, to), priority);
        if count > bound {
            return Err(format!(
                "{count} messages of priority {priority} are under way from {} to {} at {:?}; \
                 {bound} may be",
                entry.who.name(),
                to.name(),
                entry.at
            ));
        }
    }
    Ok(())
}

/// What is under way on the sessions of a node. Messages that end without an answer of the one they
/// are under way to are not counted.
struct Flight {
    answers: Answers,
    specs: BTreeMap<MessageId, Spec>,
    under_way: BTreeMap<(Machine, Machine), BTreeMap<Seq, (i32, MessageId)>>,
}

impl Flight {
    fn of(view: View<'_>) -> Self {
        let specs = view.own.offered.iter().map(|offered| (offered.id, offered.spec)).collect();
        Self { answers: Answers::default(), specs, under_way: BTreeMap::new() }
    }

    /// Whether more is under way now, to whom, and of which priority.
    fn learn(&mut self, entry: &Entry) -> Option<(Machine, i32)> {
        let under_way = &mut self.under_way;
        if let Fact::Hello { to, .. } = &entry.fact {
            under_way.remove(&(entry.who, *to));
        } else if let Fact::Sent { to, records, .. } = &entry.fact {
            let there = under_way.entry((entry.who, *to)).or_default();
            let lasting = |it: &&Carried| !it.seq.is_volatile() && it.deadline_ms == 0;
            let lasting = records.iter().filter(lasting);
            there.extend(lasting.map(|it| (it.seq, (it.priority, it.id))));
            return Some((*to, records.last()?.priority));
        } else if let Fact::Acked { to, ranges } = &entry.fact {
            let there = under_way.entry((*to, entry.who)).or_default();
            there.retain(|seq, _| !ranges.contains(*seq));
        } else if let Fact::Nacked { to, seq, .. } = &entry.fact {
            let there = under_way.entry((*to, entry.who)).or_default();
            if let Some((_, id)) = there.remove(&Seq(*seq)) {
                self.forget(id);
            }
        } else if let Fact::Buried { id, .. } = &entry.fact {
            self.forget(*id);
        }
        None
    }

    fn forget(&mut self, id: MessageId) {
        for there in self.under_way.values_mut() {
            there.retain(|_, (_, it)| *it != id);
        }
    }

    /// How much of a priority is under way. What is settled by others needs no memory any more.
    fn count(&self, view: View<'_>, (who, to): (Machine, Machine), priority: i32) -> usize {
        let there = self.under_way.get(&(who, to)).into_iter().flatten();
        let is_open = |id: &MessageId| {
            let needed = self.specs.get(id).map(|spec| view.needed_to_settle(spec));
            needed.is_some_and(|needed| self.answers.count(*id) < needed)
        };
        there.filter(|(_, (it, id))| *it == priority && is_open(id)).count()
    }
}
