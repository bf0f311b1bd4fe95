//! What governance nodes refused for good: their other messages go on without it, and where the node
//! never hears of it, it comes again behind them.

use std::collections::BTreeMap;

use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::session::NackKind;

use crate::history::View;
use crate::journal::{Carried, Entry, Fact};
use crate::net::Machine;

/// What one process of the node has with one governance node.
struct Link {
    /// Sent on this connection and neither stored nor refused, in order.
    sent: Vec<Sent>,
    /// Refused for good on this connection.
    refused: Vec<Seq>,
    /// Everything that was sent on any is below.
    below: Seq,
}

struct Sent {
    seq: Seq,
    id: MessageId,
    /// Whether the governance node refused something for good since it was sent.
    may_be_refused: bool,
}

impl Default for Link {
    fn default() -> Self {
        Self { sent: Vec::new(), refused: Vec::new(), below: Seq(0) }
    }
}

impl Link {
    fn send(&mut self, records: &[Carried]) {
        let sent = |it: &Carried| Sent { seq: it.seq, id: it.id, may_be_refused: false };
        self.sent.extend(records.iter().map(sent));
        let last = records.iter().map(|record| record.seq.next()).max();
        self.below = last.unwrap_or(self.below).max(self.below);
    }

    fn refuse(&mut self, seq: Seq) {
        self.sent.retain(|it| it.seq != seq);
        self.refused.push(seq);
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
}

/// What a governance node refused for good, and may have refused unheard: everything is below that went
/// there before the next connection, on which it comes again.
pub(super) fn passed(view: View<'_>) -> BTreeMap<(Machine, Seq), Seq> {
    let mut links: BTreeMap<(Machine, Machine), Link> = BTreeMap::new();
    let mut passed = BTreeMap::new();
    for entry in &view.all.entries {
        if entry.node() == Some(view.node) {
            learn(entry, &mut links, &mut passed);
        }
        let of_gov = links.iter_mut().filter(|((_, to), _)| *to == entry.who);
        if let Fact::Stored { records } = &entry.fact {
            let ids: Vec<MessageId> = records.iter().map(|(_, _, id)| *id).collect();
            of_gov.for_each(|(_, link)| link.store(&ids));
        } else if entry.fact == Fact::RefusedForGood {
            let sent = of_gov.flat_map(|(_, link)| &mut link.sent);
            sent.for_each(|it| it.may_be_refused = true);
        }
    }
    passed
}

fn learn(
    entry: &Entry,
    links: &mut BTreeMap<(Machine, Machine), Link>,
    passed: &mut BTreeMap<(Machine, Seq), Seq>,
) {
    if let Fact::Hello { to, .. } = &entry.fact {
        // A second process of the node has connections of its own, and the same messages.
        for ((who, _), link) in links.iter_mut().filter(|((_, gov), _)| gov == to) {
            for seq in &link.refused {
                let below = passed.entry((*to, *seq)).or_insert(link.below);
                *below = link.below.max(*below);
            }
            if *who == entry.who {
                link.refused.clear();
                link.sent.clear();
            }
        }
    } else if let Fact::Sent { to, records, .. } = &entry.fact {
        links.entry((entry.who, *to)).or_default().send(records);
    } else if let Fact::Nacked { to, seq, kind } = &entry.fact
        && *kind == i32::from(NackKind::Terminal)
    {
        links.entry((*to, entry.who)).or_default().refuse(Seq(*seq));
    }
}
