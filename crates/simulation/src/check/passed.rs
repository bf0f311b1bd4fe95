//! What governance nodes refused for good: their other messages go on without it, and where the node
//! never hears of it, it comes again behind them.

use std::collections::BTreeMap;

use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::session::NackKind;

use crate::history::View;
use crate::journal::{Carried, Entry, Fact};
use crate::net::Machine;

/// What was refused by whom, and everything is below that went there before the next connection, on
/// which it comes again.
pub(super) type Passed = BTreeMap<(Machine, Seq), Seq>;

/// What one process of the node has with one governance node.
struct Link {
    now: Connection,
    /// The one before: what is done with it may be noted when the next one has begun.
    former: Connection,
}

struct Connection {
    /// Sent and neither stored nor refused, in order.
    sent: Vec<Sent>,
    /// Refused for good.
    refused: Vec<Seq>,
    /// Everything that was sent on it or before is below.
    below: Seq,
}

struct Sent {
    seq: Seq,
    id: MessageId,
    /// Whether the governance node refused something for good since it was sent.
    may_be_refused: bool,
}

impl Connection {
    const fn after(below: Seq) -> Self {
        Self { sent: Vec::new(), refused: Vec::new(), below }
    }

    fn send(&mut self, records: &[Carried]) {
        // What comes again on the same connection was not to come again.
        self.refused.retain(|refused| records.iter().all(|it| it.seq != *refused));
        let sent = |it: &Carried| Sent { seq: it.seq, id: it.id, may_be_refused: false };
        self.sent.extend(records.iter().map(sent));
        let last = records.iter().map(|record| record.seq.next()).max();
        self.below = last.unwrap_or(self.below).max(self.below);
    }

    /// Whether this was sent, and nothing came of it until now.
    fn take(&mut self, seq: Seq) -> bool {
        let before = self.sent.len();
        self.sent.retain(|it| it.seq != seq);
        self.sent.len() < before
    }

    /// A stream is read in order: what was sent before something that is stored is stored, or refused,
    /// though the refusal was not written any more.
    fn store(&mut self, ids: &[MessageId]) {
        let Some(last) = self.sent.iter().rposition(|it| ids.contains(&it.id)) else { return };
        let (mut at, mut refused) = (0, Vec::new());
        self.sent.retain(|it| {
            let is_refused = at < last && it.may_be_refused && !ids.contains(&it.id);
            refused.extend(is_refused.then_some(it.seq));
            at += 1;
            !is_refused && !ids.contains(&it.id)
        });
        self.refused.append(&mut refused);
    }

    fn pass(&self, gov: Machine, passed: &mut Passed) {
        for seq in &self.refused {
            let below = passed.entry((gov, *seq)).or_insert(self.below);
            *below = self.below.max(*below);
        }
    }
}

impl Default for Link {
    fn default() -> Self {
        Self { now: Connection::after(Seq(0)), former: Connection::after(Seq(0)) }
    }
}

/// Reads off what was refused for good, heard or not.
pub(super) fn passed(view: View<'_>) -> Passed {
    let mut links: BTreeMap<(Machine, Machine), Link> = BTreeMap::new();
    let mut passed = Passed::new();
    for entry in &view.all.entries {
        if entry.node() == Some(view.node) {
            learn(entry, &mut links, &mut passed);
        }
        let of_gov = links.iter_mut().filter(|((_, to), _)| *to == entry.who);
        if let Fact::Stored { records } = &entry.fact {
            let ids: Vec<MessageId> = records.iter().map(|(_, _, id)| *id).collect();
            for (_, link) in of_gov {
                link.now.store(&ids);
                link.former.store(&ids);
                link.former.pass(entry.who, &mut passed);
            }
        } else if entry.fact == Fact::RefusedForGood {
            let sent =
                of_gov.flat_map(|(_, link)| link.now.sent.iter_mut().chain(&mut link.former.sent));
            sent.for_each(|it| it.may_be_refused = true);
        }
    }
    passed
}

fn learn(entry: &Entry, links: &mut BTreeMap<(Machine, Machine), Link>, passed: &mut Passed) {
    if let Fact::Hello { to, .. } = &entry.fact {
        // A second process of the node has connections of its own, and the same messages.
        for ((who, _), link) in links.iter_mut().filter(|((_, gov), _)| gov == to) {
            link.now.pass(*to, passed);
            if *who == entry.who {
                let next = Connection::after(link.now.below);
                link.former = std::mem::replace(&mut link.now, next);
            }
        }
    } else if let Fact::Sent { to, records, .. } = &entry.fact {
        links.entry((entry.who, *to)).or_default().now.send(records);
    } else if let Fact::Nacked { to, seq, kind } = &entry.fact {
        let (seq, link) = (Seq(*seq), links.entry((*to, entry.who)).or_default());
        let is_of_former = !link.now.take(seq) && link.former.take(seq);
        if *kind == i32::from(NackKind::Terminal) {
            let of = if is_of_former { &mut link.former } else { &mut link.now };
            of.refused.push(seq);
            link.former.pass(entry.who, passed);
        }
    }
}
