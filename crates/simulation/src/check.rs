//! The checker: does the history of a run keep every promise?
//!
//! One function or more for each promise, `invariant_d1_…` to `invariant_d12_…`, and one for liveness.
//! Most judge one node by itself; those that look at what governance nodes and machines did judge the
//! whole run. They believe what was seen from outside: what callers were told, what passed on the wire, what lies on
//! the disks; the node's own word counts only where it is what was promised (a reported gap, the end
//! of a message).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_stream_protocol::message::{MessageId, Seq};

use crate::history::{History, Offered, View};
use crate::ledger::Applied;
use crate::plan::{Content, For, Spec};

mod disks;
mod memory;
mod passed;
mod pushes;
mod signatures;
mod stored;
mod wire;

pub(crate) use disks::{
    invariant_d11_a_full_disk_is_no_exit, invariant_d11_failed_syncs_are_final,
};
pub(crate) use memory::{invariant_d7_flight_is_bounded, invariant_d7_memory_is_bounded};
pub(crate) use pushes::{
    invariant_d8_acknowledged_when_told, invariant_d8_pushes_are_told,
    invariant_d8_updates_are_told, invariant_d9_only_at_its_height,
    invariant_d9_only_signed_updates_forwards, is_level,
};
pub(crate) use signatures::{invariant_d2_bridge_hears_one_end, invariant_d2_signed_by_enough};
pub(crate) use stored::{
    invariant_d1_accepted_when_stored, invariant_d2_acknowledged_when_stored,
    invariant_d2_settled_by_its_policy,
};
pub(crate) use wire::{
    invariant_d4_order_per_key, invariant_d6_no_expired_message_is_sent,
    invariant_d12_acknowledged_was_sent, invariant_d12_one_message_per_number,
    invariant_tls_nothing_in_the_clear,
};

/// A promise that was not kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which.
    pub invariant: &'static str,
    /// What is wrong.
    pub text: String,
}

/// What a check says.
pub(crate) type Verdict = Result<(), String>;

type Check = (&'static str, fn(&History) -> Verdict);
type NodeCheck = (&'static str, fn(View<'_>) -> Verdict);

/// Every check of the whole run, with its name.
const CHECKS: [Check; 9] = [
    ("d2_acknowledged_when_stored", invariant_d2_acknowledged_when_stored),
    ("d3_applied_once", invariant_d3_applied_once),
    ("d3_nodes_are_apart", invariant_d3_nodes_are_apart),
    ("d11_failed_syncs_are_final", invariant_d11_failed_syncs_are_final),
    ("d11_a_full_disk_is_no_exit", invariant_d11_a_full_disk_is_no_exit),
    ("d12_one_message_per_number", invariant_d12_one_message_per_number),
    ("d12_acknowledged_was_sent", invariant_d12_acknowledged_was_sent),
    ("tls_nothing_in_the_clear", invariant_tls_nothing_in_the_clear),
    ("liveness_everything_ends", liveness_everything_ends),
];

/// Every check of one node.
const NODE_CHECKS: [NodeCheck; 17] = [
    ("d1_accepted_is_durable", invariant_d1_accepted_is_durable),
    ("d1_accepted_when_stored", invariant_d1_accepted_when_stored),
    ("d2_exactly_one_end", invariant_d2_exactly_one_end),
    ("d2_settled_by_its_policy", invariant_d2_settled_by_its_policy),
    ("d2_signed_by_enough", invariant_d2_signed_by_enough),
    ("d2_bridge_hears_one_end", invariant_d2_bridge_hears_one_end),
    ("d4_order_per_key", invariant_d4_order_per_key),
    ("d5_holes_are_reported", invariant_d5_holes_are_reported),
    ("d6_no_expired_message_is_sent", invariant_d6_no_expired_message_is_sent),
    ("d7_memory_is_bounded", invariant_d7_memory_is_bounded),
    ("d7_flight_is_bounded", invariant_d7_flight_is_bounded),
    ("d8_pushes_are_told", invariant_d8_pushes_are_told),
    ("d8_updates_are_told", invariant_d8_updates_are_told),
    ("d8_acknowledged_when_told", invariant_d8_acknowledged_when_told),
    ("d9_only_at_its_height", invariant_d9_only_at_its_height),
    ("d9_only_signed_updates_forwards", invariant_d9_only_signed_updates_forwards),
    ("d10_damage_costs_one_record", invariant_d10_damage_costs_one_record),
];

/// Checks everything; what is wrong.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    check_some(history, |_| true)
}

/// Checks what is chosen by name.
pub(crate) fn check_some(history: &History, is_chosen: fn(&str) -> bool) -> Vec<Violation> {
    let of_nodes = history.views().flat_map(|view| {
        let chosen = NODE_CHECKS.into_iter().filter(move |(invariant, _)| is_chosen(invariant));
        chosen.filter_map(move |(invariant, check)| {
            let text = format!("{}: {}", view.node.name(), check(view).err()?);
            Some(Violation { invariant, text })
        })
    });
    let chosen = CHECKS.into_iter().filter(|(invariant, _)| is_chosen(invariant));
    let of_all = chosen.filter_map(|(invariant, check)| {
        let text = check(history).err()?;
        Some(Violation { invariant, text })
    });
    of_nodes.chain(of_all).collect()
}

/// In how many ledgers each message is.
type Holders = BTreeMap<MessageId, usize>;

impl History {
    fn holders(&self) -> Holders {
        let mut holders = Holders::new();
        for (machine, applied) in &self.applied {
            // A line that a flipped bit made unreadable was there (G5).
            let lost = self.lost_lines.iter().filter(|(at, _)| at == machine).map(|(_, id)| *id);
            let ids: BTreeSet<MessageId> = applied.iter().map(|it| it.id).chain(lost).collect();
            ids.into_iter().for_each(|id| *holders.entry(id).or_insert(0) += 1);
        }
        holders
    }
}

impl<'a> View<'a> {
    /// Whether a message may be lost for a reason that is none of the product's: its disk was
    /// replaced by an older copy.
    fn is_excused(self, offered: &Offered) -> bool {
        let accepted_at = offered.accepted.map_or(Duration::MAX, |(at, _)| at);
        self.own.restored.iter().any(|(restored_at, copied_at)| {
            accepted_at >= *copied_at && accepted_at <= *restored_at
        })
    }

    fn is_reported(self, seq: Seq) -> bool {
        self.own.gaps.iter().flatten().any(|[first, last]| (*first..=*last).contains(&seq.0))
    }

    fn accepted(self) -> impl Iterator<Item = (&'a Offered, Seq)> {
        let accepted = |offered: &Offered| offered.accepted.map(|(_, seq)| seq);
        let all = self.own.offered.iter().filter_map(move |it| Some((it, accepted(it)?)));
        // Of what an operator removed nothing is promised any more.
        let is_kept = |offered: &Offered| !self.own.purged.contains(&offered.spec.number);
        all.filter(move |(offered, _)| !self.is_excused(offered) && is_kept(offered))
    }

    /// Accepted messages that the node does not know, or knows nothing of the end of.
    fn lost(self) -> Vec<(&'a Offered, Seq)> {
        let holders = self.all.holders();
        let is_lost =
            |offered: &Offered| offered.end.is_none() && !self.may_be_forgotten(offered, &holders);
        self.accepted().filter(|(offered, _)| is_lost(offered)).collect()
    }

    /// Whether a message ended, and its id may have made room on a full disk (M36), or was in a file of
    /// ids of which a bit flipped.
    fn may_be_forgotten(self, offered: &Offered, holders: &Holders) -> bool {
        let may_be = self.own.was_full || self.own.are_ids_worn;
        // A deadline ends `all` early.
        let is_early = offered.spec.deadline.is_some() && holders.contains_key(&offered.id);
        may_be && (is_early || self.is_delivered(offered, holders) || offered.letter.is_some())
    }

    /// Whether a message is in as many ledgers as its policy asks for.
    fn is_delivered(self, offered: &Offered, holders: &Holders) -> bool {
        holders.get(&offered.id).copied().unwrap_or(0) >= self.needed(&offered.spec)
    }

    /// How many ledgers a policy asks for.
    fn needed(self, spec: &Spec) -> usize {
        match spec.target {
            // Copies of a request that is signed are withdrawn.
            _ if spec.content == Content::Signature => 1,
            For::Any => 1,
            For::Quorum => 2.min(self.all.applied.len()),
            For::All => self.all.applied.len().saturating_sub(self.own.off.len()),
        }
    }
}

/// D1: what was accepted is there after every crash, unless a bit of it flipped.
pub(crate) fn invariant_d1_accepted_is_durable(view: View<'_>) -> Verdict {
    let is_excused = |seq| view.own.flips > 0 && view.is_reported(seq);
    match view.lost().into_iter().find(|(_, seq)| !is_excused(*seq)) {
        // With flipped bits it is D5 and D10 that say what may be gone.
        Some((offered, seq)) if view.own.flips == 0 => {
            Err(format!("{} was accepted as {seq}, and the node does not know it", offered.name()))
        }
        _ => Ok(()),
    }
}

/// D2: every accepted message is settled by its policy or a dead letter, and not both.
pub(crate) fn invariant_d2_exactly_one_end(view: View<'_>) -> Verdict {
    let holders = view.all.holders();
    let mut short = 0;
    for (offered, seq) in view.accepted() {
        let name = offered.name();
        let is_complete = offered.end.as_deref() == Some("OUTCOME_STATE_COMPLETE");
        // A dead letter that was accepted again goes once that is durable.
        let is_replayed = view.own.replayed.contains(&offered.spec.number);
        if is_complete
            && !is_replayed
            && let Some(cause) = &offered.letter
        {
            return Err(format!("{name}, {seq}, is settled, and a dead letter: {cause}"));
        }
        let is_dead = ["OUTCOME_STATE_FAILED", "OUTCOME_STATE_TIMED_OUT"];
        let is_dead = offered.end.as_deref().is_some_and(|end| is_dead.contains(&end));
        let is_lost = view.own.lost_letters.contains(&offered.id);
        // Of what was replayed and lost there is neither.
        let may_be_lost = is_replayed && (view.own.flips > 0 || view.own.worn > 0);
        if is_dead && !may_be_lost && !is_lost && offered.letter.is_none() {
            let end = offered.end.as_deref().unwrap_or_default();
            return Err(format!("{name}, {seq}, ended as {end}, and there is no dead letter"));
        }
        let has = holders.get(&offered.id).copied().unwrap_or(0);
        let needs = view.needed_to_settle(&offered.spec);
        // A bit in the inbox of a governance node costs one message that it acknowledged (D10).
        short += if is_complete { needs.saturating_sub(has) } else { 0 };
        if is_complete && has < needs && short > view.all.worn {
            return Err(format!("{name}, {seq}, is settled, and {has} of {needs} have applied it"));
        }
    }
    Ok(())
}

/// D3: no governance node applied a message twice. A line that was written again because a sync failed
/// is one application (G16), and of all that are the same at most one is not such a line.
pub(crate) fn invariant_d3_applied_once(history: &History) -> Verdict {
    for (machine, applied) in &history.applied {
        let is_sure = |it: &Applied| {
            history.doubtful.get(machine).is_none_or(|places| !places.contains(&it.place))
        };
        let mut seen = BTreeMap::new();
        for it in applied {
            let (id, line) = (it.id, (it.log, it.seq, it.received));
            let (first, is_first_sure) = seen.get(&id).copied().unwrap_or((line, false));
            if first != line {
                return Err(format!("{} applied {id} twice", machine.name()));
            }
            if is_first_sure && is_sure(it) {
                let name = machine.name();
                return Err(format!("{name} has two lines of {id}, and neither had to be again"));
            }
            seen.insert(id, (line, is_first_sure || is_sure(it)));
        }
    }
    Ok(())
}

/// D3: a governance node keeps the logs of nodes apart: what it applied under a log of one was handed
/// over there, whatever number it has.
pub(crate) fn invariant_d3_nodes_are_apart(history: &History) -> Verdict {
    let offered = history.views().flat_map(|view| {
        let ids = view.own.offered.iter().map(|offered| offered.id);
        ids.map(move |id| (id, view.node))
    });
    let homes: BTreeMap<_, _> = offered.collect();
    for (machine, applied) in &history.applied {
        for it in applied {
            let (Some(home), Some(by)) = (homes.get(&it.id), it.by) else { continue };
            if *home != by {
                return Err(format!(
                    "{} applied {} as {} of {}, and it was handed to {}",
                    machine.name(),
                    it.id,
                    it.seq,
                    by.name(),
                    home.name()
                ));
            }
        }
    }
    Ok(())
}

/// D5: what is not there any more is reported as a gap.
pub(crate) fn invariant_d5_holes_are_reported(view: View<'_>) -> Verdict {
    if view.own.flips == 0 {
        return Ok(());
    }
    // A gap whose numbers cannot be derived says where it is, and that is all that can be said.
    let unnumbered = view.own.gaps.iter().filter(|gap| gap.is_none()).count();
    let mut unreported = view.lost();
    unreported.retain(|(_, seq)| !view.is_reported(*seq));
    // The note of a message that was over goes with its segment, and the start that said so is not
    // always the last.
    if view.own.lives > 2 {
        let (holders, mut bits) = (view.all.holders(), view.own.flips);
        unreported.retain(|(offered, _)| {
            let is_over = bits > 0 && view.is_delivered(offered, &holders);
            bits -= u32::from(is_over);
            !is_over
        });
    }
    match unreported.first() {
        Some((offered, seq)) if unreported.len() > unnumbered => Err(format!(
            "{}, {seq}, is gone, and no gap has it; gaps: {:?}",
            offered.name(),
            view.own.gaps
        )),
        _ => Ok(()),
    }
}

/// D10: a flipped bit costs the record that it is in, and no other. When it is in the note of what
/// was settled, that is not known any more, and is a reported gap (D5); the messages were delivered.
pub(crate) fn invariant_d10_damage_costs_one_record(view: View<'_>) -> Verdict {
    let (lost, holders) = (view.lost().into_iter(), view.all.holders());
    let lost: Vec<_> = lost.filter(|(offered, _)| !view.is_delivered(offered, &holders)).collect();
    if view.own.flips > 0 && lost.len() > usize::try_from(view.own.flips).unwrap_or(0) {
        let seqs: Vec<u64> = lost.iter().map(|(_, seq)| seq.0).collect();
        return Err(format!("{} bits flipped, and these are gone: {seqs:?}", view.own.flips));
    }
    Ok(())
}

/// After everything is mended, everything ends.
pub(crate) fn liveness_everything_ends(history: &History) -> Verdict {
    if history.unended.is_empty() { Ok(()) } else { Err(history.unended.join("; ")) }
}

#[cfg(test)]
mod tests;
