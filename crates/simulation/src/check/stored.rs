//! The checks that compare what is said with what is stored by then.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{MessageId, Seq};

use crate::history::{History, View};
use crate::journal::{Carried, Entry, Fact};
use crate::net::Machine;
use crate::plan::{Content, For, Spec};

use super::Verdict;

/// D1: a sender is told that a message is accepted, and a message leaves the node, only once it is
/// stored there under its number.
pub(crate) fn invariant_d1_accepted_when_stored(view: View<'_>) -> Verdict {
    let ids: BTreeMap<u64, MessageId> =
        view.own.offered.iter().map(|offered| (offered.spec.number, offered.id)).collect();
    let mut kept = BTreeSet::new();
    for entry in view.entries() {
        let mut early = None;
        if let Fact::Kept { records } | Fact::Found { records } = &entry.fact {
            kept.extend(records.iter().copied());
        } else if let Fact::Accepted { message, seq, .. } = &entry.fact {
            let told = ids.get(message).map(|id| (*seq, *id));
            early = told.filter(|told| !kept.contains(told)).map(|told| (told, "was accepted"));
        } else if let Fact::Sent { records, .. } = &entry.fact {
            let numbered = records.iter().filter(|record| !record.seq.is_volatile());
            let mut sent = numbered.map(|Carried { seq, id, .. }| (*seq, *id));
            early = sent.find(|sent| !kept.contains(sent)).map(|sent| (sent, "was sent"));
        }
        if let Some(((seq, id), what)) = early {
            let (who, at) = (entry.who.name(), entry.at);
            return Err(format!(
                "{id} {what} as {seq} at {at:?}, and the disk of {who} has it not"
            ));
        }
    }
    Ok(())
}

/// D2: no acknowledgement, and no welcome, leaves a governance node before what it covers is stored
/// there, unless the log itself has said to it that this is over (M16).
pub(crate) fn invariant_d2_acknowledged_when_stored(history: &History) -> Verdict {
    let mut logs = BTreeMap::new();
    let mut stored = BTreeSet::new();
    let mut over_below = BTreeMap::<(Machine, u8), Seq>::new();
    for entry in &history.entries {
        if let Fact::Hello { to, log, .. } = &entry.fact {
            logs.insert((entry.who, *to), *log);
        }
        if let Fact::Hello { to, log, settled_below, .. }
        | Fact::Sent { to, log, settled_below, .. }
        | Fact::Over { to, log, settled_below } = &entry.fact
        {
            let below = over_below.entry((*to, *log)).or_insert(Seq(0));
            *below = Seq(*settled_below).max(*below);
        }
        if let Fact::Stored { records } = &entry.fact {
            let numbered = records.iter().filter_map(|(log, seq, _)| Some(((*log)?, *seq)));
            stored.extend(numbered.map(|(log, seq)| (entry.who, log, seq)));
        }
        let Some((to, ranges)) = entry.fact.acknowledged() else { continue };
        let Some(log) = logs.get(&(to, entry.who)) else { continue };
        let below = over_below.get(&(entry.who, *log)).copied().unwrap_or(Seq(0));
        let is_early = |seq: &Seq| *seq >= below && !stored.contains(&(entry.who, *log, *seq));
        if let Some(seq) = ranges.iter().find(is_early) {
            return Err(format!(
                "{} acknowledged {seq} of log {log} to {} at {:?}, and its disk has it not",
                entry.who.name(),
                to.name(),
                entry.at
            ));
        }
    }
    Ok(())
}

/// D2: it is stored that a message is settled only after as many governance nodes as its policy asks
/// for have acknowledged it, or after its dead letter is stored.
pub(crate) fn invariant_d2_settled_by_its_policy(view: View<'_>) -> Verdict {
    let specs: BTreeMap<_, _> =
        view.own.offered.iter().map(|offered| (offered.id, offered.spec)).collect();
    let mut answers = Answers::default();
    let mut numbers = BTreeMap::<Machine, BTreeMap<Seq, MessageId>>::new();
    let mut over = BTreeSet::new();
    for entry in &view.all.entries {
        answers.learn(entry);
        if entry.node() != Some(view.node) {
            continue;
        }
        let numbers = numbers.entry(entry.who).or_default();
        if let Fact::Found { records } = &entry.fact {
            *numbers = records.iter().copied().collect();
        }
        if let Fact::Kept { records } = &entry.fact {
            numbers.extend(records.iter().copied());
        }
        if let Fact::Buried { id, .. } = &entry.fact {
            over.insert(*id);
        }
        let Fact::Settled { seqs } = &entry.fact else { continue };
        for seq in seqs.iter() {
            let id = numbers.get(&seq).filter(|id| !over.contains(*id));
            let Some((id, spec)) = id.and_then(|id| Some((*id, specs.get(id)?))) else { continue };
            let has = match spec.content {
                // What comes back settles it, whether or not an acknowledgement does.
                Content::Signature => answers.holders(id),
                Content::Application | Content::Pegin => answers.count(id),
            };
            let needs = view.needed_to_settle(spec);
            if has < needs && !view.may_be_unsettled(spec, seq) {
                let (name, at) = (spec.number, entry.at);
                return Err(format!(
                    "message {name} ({id}), {seq}, is settled at {at:?}, \
                     and {has} of {needs} have acknowledged it"
                ));
            }
            over.insert(id);
        }
    }
    Ok(())
}

impl View<'_> {
    /// How many have to acknowledge a message; a deadline ends `all` early.
    pub(super) fn needed_to_settle(self, spec: &Spec) -> usize {
        let needs = self.needed(spec);
        let is_early = spec.deadline.is_some() && spec.target == For::All;
        needs.min(if is_early { 1 } else { needs })
    }

    /// Whether a message is over because an operator removed it, or because it cannot be read.
    fn may_be_unsettled(self, spec: &Spec, seq: Seq) -> bool {
        let is_lost = self.own.flips > 0 && self.is_reported(seq);
        is_lost || self.own.purged.contains(&spec.number)
    }
}

/// Who has acknowledged what, so far.
#[derive(Default)]
pub(super) struct Answers {
    logs: BTreeMap<(Machine, Machine), u8>,
    sent: BTreeMap<(u8, Seq, Machine), MessageId>,
    /// What a governance node has stored, and what it was sent by the published protocol: there an
    /// answer to something later counts.
    stored: BTreeSet<(Machine, MessageId)>,
    asked: BTreeSet<(Machine, MessageId)>,
    had: BTreeMap<MessageId, BTreeSet<Machine>>,
}

impl Answers {
    pub(super) fn learn(&mut self, entry: &Entry) {
        if let Fact::Hello { to, log, .. } = &entry.fact {
            self.logs.insert((entry.who, *to), *log);
        } else if let Fact::Sent { to, log, records, .. } = &entry.fact {
            let keyed = records.iter().map(|it| ((*log, it.seq, *to), it.id));
            self.sent.extend(keyed);
        } else if let Fact::Asked { to, id, .. } = &entry.fact {
            self.asked.insert((*to, *id));
            self.see(*to, *id);
        } else if let Fact::Stored { records } = &entry.fact {
            for (_, _, id) in records {
                self.stored.insert((entry.who, *id));
                self.see(entry.who, *id);
            }
        } else if let Some((to, ranges)) = entry.fact.acknowledged() {
            let log = self.logs.get(&(to, entry.who)).copied().unwrap_or_default();
            let ids = ranges.iter().filter_map(|seq| self.sent.get(&(log, seq, entry.who)));
            for id in ids {
                self.had.entry(*id).or_default().insert(entry.who);
            }
        }
    }

    fn see(&mut self, gov: Machine, id: MessageId) {
        if self.stored.contains(&(gov, id)) && self.asked.contains(&(gov, id)) {
            self.had.entry(id).or_default().insert(gov);
        }
    }

    /// How many governance nodes have stored a message.
    pub(super) fn holders(&self, id: MessageId) -> usize {
        self.stored.iter().filter(|(_, stored)| *stored == id).count()
    }

    /// How many governance nodes have acknowledged a message.
    pub(super) fn count(&self, id: MessageId) -> usize {
        self.had.get(&id).map_or(0, BTreeSet::len)
    }
}
