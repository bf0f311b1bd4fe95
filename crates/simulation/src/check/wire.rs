//! The checks that read the wire.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;

use crate::history::{History, View};
use crate::journal::{Entry, Fact};
use crate::net::Machine;
use crate::world::number_of;

use super::Verdict;
use super::passed::passed;

/// How long a message may be under way between the last look at the clock and the wire, in
/// milliseconds: nothing of it waits for anything.
const ON_ITS_WAY_MS: i64 = 50;

/// D4: messages with one key and one priority are applied in the order in which they were accepted,
/// whatever their policies are.
pub(crate) fn invariant_d4_order_per_key(view: View<'_>) -> Verdict {
    let specs: BTreeMap<_, _> =
        view.own.offered.iter().map(|offered| (offered.id, offered.spec)).collect();
    let accepted: BTreeMap<_, _> =
        view.own.offered.iter().filter_map(|it| Some((it.id, it.accepted?.1))).collect();
    let (passed, denied) = (passed(view), denied(view));
    // A copy of the disk goes on, or runs beside the node: the published protocol fences neither.
    let is_copied = !view.own.restored.is_empty() || !view.own.twins.is_empty();
    let moments = Moments::of(view);
    for (machine, applied) in &view.all.applied {
        let (mut last, mut seen) = (BTreeMap::new(), BTreeSet::new());
        for it in applied {
            // Written again after a failed sync (G16): it was applied where it was first.
            if !seen.insert((it.id, it.log, it.seq, it.received)) {
                continue;
            }
            let Some(spec) = specs.get(&it.id) else { continue };
            // A plain peer does not know of keys.
            // And where a line was that cannot be read any more, nobody knows.
            let is_lost = view.all.lost_lines.contains(&(*machine, it.id));
            if is_lost || denied.contains(&(*machine, it.id)) {
                continue;
            }
            let Some(key) = spec.key else { continue };
            // The published protocol has no numbers: what counts is the one it was accepted under,
            // unless it was accepted again.
            let seq = match accepted.get(&it.id) {
                _ if it.by.is_some() => it.seq,
                Some(seq) if !is_copied && !view.own.replayed.contains(&spec.number) => *seq,
                Some(_) | None => continue,
            };
            let before = last.insert((it.log, key, spec.priority), (seq, it.id));
            // What left before the node can have heard of a refusal for good went on without it.
            let is_passed = |before: Seq| {
                passed.get(&(*machine, seq)).is_some_and(|sent_below| before < *sent_below)
            };
            // A copy does not know what was settled after it was made, and sends it once more.
            let is_restored_between = |before: MessageId| {
                let mut copies = view.own.restored.iter().map(|(at, _)| at).chain(&view.own.twins);
                copies.any(|at| moments.is_between(*machine, (before, it.id), *at))
            };
            let is_excused = |before, id| is_passed(before) || is_restored_between(id);
            let before = before.filter(|(before, id)| *before > seq && !is_excused(*before, *id));
            if let Some((before, id)) = before {
                return Err(format!(
                    "{} applied {before} ({id}) before {seq} ({}), both of key {key} and {}",
                    machine.name(),
                    it.id,
                    spec.priority
                ));
            }
        }
    }
    Ok(())
}

/// What peers that speak only the published protocol refused, for now or for good: they do not know
/// of keys, so what was under way behind it is applied before it.
fn denied(view: View<'_>) -> BTreeSet<(Machine, MessageId)> {
    let denied = |entry: &Entry| {
        let Fact::Denied { id, .. } = entry.fact else { return None };
        Some((entry.who, id))
    };
    view.entries().filter_map(denied).collect()
}

/// When messages were sent to governance nodes and stored there for the first time, and when they
/// were over.
#[derive(Default)]
struct Moments {
    sent: BTreeMap<(Machine, MessageId), Duration>,
    stored: BTreeMap<(Machine, MessageId), Duration>,
    over: BTreeMap<MessageId, Duration>,
}

impl Moments {
    fn of(view: View<'_>) -> Self {
        let mut this = Self::default();
        let mut ids = BTreeMap::<Machine, BTreeMap<Seq, MessageId>>::new();
        for entry in view.entries() {
            let mut note = |to: &Machine, id| {
                this.sent.entry((*to, id)).or_insert(entry.at);
            };
            let ids = ids.entry(entry.who).or_default();
            if let Fact::Sent { to, records, .. } = &entry.fact {
                records.iter().for_each(|record| note(to, record.id));
            } else if let Fact::Asked { to, id, .. } = &entry.fact {
                note(to, *id);
            } else if let Fact::Found { records } = &entry.fact {
                *ids = records.iter().copied().collect();
            } else if let Fact::Kept { records } = &entry.fact {
                ids.extend(records.iter().copied());
            } else if let Fact::Settled { seqs } = &entry.fact {
                for id in seqs.iter().filter_map(|seq| ids.get(&seq)) {
                    this.over.entry(*id).or_insert(entry.at);
                }
            }
        }
        for entry in &view.all.entries {
            if let Fact::Stored { records } = &entry.fact {
                for (_, _, id) in records {
                    this.stored.entry((entry.who, *id)).or_insert(entry.at);
                }
            }
        }
        this
    }

    /// Whether a copy came between the first sending of one message to a governance node, and that
    /// of another, or what the copy had stored there of another that had been over.
    fn is_between(&self, to: Machine, (one, other): (MessageId, MessageId), at: Duration) -> bool {
        let sent = |id| self.sent.get(&(to, id)).copied();
        let (Some(one), Some(first)) = (sent(one), sent(other)) else { return false };
        let was_over = self.over.get(&other).is_some_and(|over| *over <= at);
        let is_stored_since = || self.stored.get(&(to, other)).is_some_and(|stored| at <= *stored);
        one <= at && (at <= first || was_over && is_stored_since())
    }
}

/// D6: nothing leaves the node after its deadline, by the clock of the node.
pub(crate) fn invariant_d6_no_expired_message_is_sent(view: View<'_>) -> Verdict {
    let mut deadlines = BTreeMap::new();
    for entry in view.entries() {
        if let Fact::Offered { message, deadline_ms } = entry.fact {
            deadlines.insert(message, deadline_ms);
        }
        let (to, at_ms, sent): (_, _, Vec<_>) =
            if let Fact::Sent { to, at_ms, records, .. } = &entry.fact {
                let sent = records.iter().map(|it| (it.seq.to_string(), it.deadline_ms));
                (to, at_ms, sent.collect())
            } else if let Fact::Asked { to, at_ms, id } = &entry.fact {
                let number = number_of(view.all.seed, id).unwrap_or(u64::MAX);
                let is_replayed = view.own.replayed.contains(&number);
                let deadline_ms = deadlines.get(&number).filter(|_| !is_replayed);
                let deadline_ms = deadline_ms.copied().unwrap_or(0);
                (to, at_ms, vec![(format!("message {number}"), deadline_ms)])
            } else {
                continue;
            };
        let now = i64::try_from(*at_ms).unwrap_or(i64::MAX);
        let is_late = |deadline: i64| deadline > 0 && deadline.saturating_add(ON_ITS_WAY_MS) < now;
        if let Some((what, deadline)) = sent.into_iter().find(|(_, at)| is_late(*at)) {
            return Err(format!(
                "{what} left for {} at {:?}, {} ms after its deadline",
                to.name(),
                entry.at,
                now - deadline
            ));
        }
    }
    Ok(())
}

/// D12: under one number of one log, a governance node never has two messages: what it acknowledged
/// stays what it is, also when a former copy of the log goes on.
pub(crate) fn invariant_d12_one_message_per_number(history: &History) -> Verdict {
    let name = |id| number_of(history.seed, id).unwrap_or(u64::MAX);
    let (mut sent, mut acked) = (BTreeMap::new(), BTreeMap::new());
    let mut logs = BTreeMap::new();
    for entry in &history.entries {
        if let Fact::Hello { to, log, .. } = &entry.fact {
            logs.insert((entry.who, *to), *log);
        }
        if let Fact::Sent { to, log, records, .. } = &entry.fact {
            for record in records.iter().filter(|record| record.seq.0 > 0) {
                let key = (*log, record.seq, *to);
                let before = acked.get(&key).copied().unwrap_or(record.id);
                if before != record.id {
                    return Err(format!(
                        "{} acknowledged {} of log {log} as message {}, and is sent message {}",
                        to.name(),
                        record.seq,
                        name(&before),
                        name(&record.id)
                    ));
                }
                sent.insert(key, record.id);
            }
        }
        if let Fact::Acked { to, ranges } = &entry.fact {
            let log = logs.get(&(*to, entry.who)).copied().unwrap_or_default();
            let keys = ranges.iter().map(|seq| (log, seq, entry.who));
            acked.extend(keys.filter_map(|key| Some((key, *sent.get(&key)?))));
        }
    }
    Ok(())
}

/// D12: a governance node acknowledges to a node what this one's log sent it, and never what another
/// one's did under the same number.
pub(crate) fn invariant_d12_acknowledged_was_sent(history: &History) -> Verdict {
    let mut logs = BTreeMap::new();
    let mut sent = BTreeMap::<_, SeqSet>::new();
    for entry in &history.entries {
        if let Fact::Hello { to, log, .. } = &entry.fact {
            logs.insert((entry.who, *to), *log);
        }
        if let Fact::Sent { to, log, records, .. } = &entry.fact {
            let sent = sent.entry((*log, *to)).or_default();
            for record in records {
                sent.insert(record.seq);
            }
        }
        let (Fact::Acked { to, ranges } | Fact::Welcome { to, received: ranges, .. }) = &entry.fact
        else {
            continue;
        };
        let Some(log) = logs.get(&(*to, entry.who)) else { continue };
        let sent = sent.get(&(*log, entry.who));
        let is_sent = |seq: &Seq| sent.is_some_and(|sent| sent.contains(*seq));
        if let Some(seq) = ranges.iter().find(|seq| !is_sent(seq)) {
            return Err(format!(
                "{} acknowledged {seq} of log {log} to {}, which never sent it",
                entry.who.name(),
                to.name(),
            ));
        }
    }
    Ok(())
}

/// Where there is TLS, nothing else passes, and nobody reads what it carries.
pub(crate) fn invariant_tls_nothing_in_the_clear(history: &History) -> Verdict {
    let found = history.entries.iter().find_map(|entry| {
        let Fact::InTheClear { what } = entry.fact else { return None };
        Some(format!("{} sends {what} at {:?}", entry.who.name(), entry.at))
    });
    found.map_or(Ok(()), Err)
}
