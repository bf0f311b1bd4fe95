//! The checks of what governance pushes.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::Seq;

use crate::chain;
use crate::history::{History, Pushed, View};
use crate::journal::{Actor, Fact};
use crate::net::Machine;
use crate::plan::Push;

use super::Verdict;

/// D8: what governance pushes reaches its actor: at least once in all, and no more often than there
/// were lives in which the actor could have forgotten that.
pub(crate) fn invariant_d8_pushes_are_told(view: View<'_>) -> Verdict {
    let count = |is_it: &dyn Fn(&Fact) -> bool| {
        let times = view.entries().filter(|entry| is_it(&entry.fact)).count();
        u64::try_from(times).unwrap_or(u64::MAX)
    };
    for pushed in &view.all.pushed {
        let Some(what) = pushed.push.told_as() else { continue };
        for actor in pushed.push.actors() {
            let times = count(&|fact| fact.told(*actor) == Some(&what));
            if times == 0 && view.own.is_owed(view.node, pushed) {
                return Err(format!("{what}, pushed at {:?}, was never told {actor:?}", pushed.at));
            }
            // A halt lasts: it is told again when the StreamActor begins anew after its disk failed,
            // and so is what is in force.
            let again = match pushed.push {
                Push::Halt => count(&|fact| fact.in_force(*actor).is_some()),
                Push::Proposal(_) | Push::Update { .. } | Push::Unsigned { .. } => 0,
            };
            let lives = view.own.lives + again;
            if times > lives {
                return Err(format!("{what} was told {actor:?} {times} times in {lives} lives"));
            }
        }
    }
    Ok(())
}

impl Push {
    /// Who is told of it, as [`Push::told_as`] says.
    const fn actors(&self) -> &'static [Actor] {
        match self {
            Self::Halt => &[Actor::Chain, Actor::Bridge],
            Self::Proposal(_) | Self::Update { .. } | Self::Unsigned { .. } => &[Actor::Chain],
        }
    }
}

/// D8: the Chain is told of every update that enough members signed, or of a newer one: that it is in
/// force, or from which height on it is to be. Of what is in force the Bridge and the Network are told
/// as well.
pub(crate) fn invariant_d8_updates_are_told(view: View<'_>) -> Verdict {
    let newest = view.entries().filter_map(|entry| entry.fact.version_told()).max();
    if let Some(version) = view.own.newest_owed(view.node, &view.all.pushed)
        && newest < Some(version)
    {
        return Err(format!("update {version} was pushed, and the Chain was told of {newest:?}"));
    }
    let in_force = |actor| view.entries().filter_map(|it| it.fact.in_force(actor)).max();
    for actor in [Actor::Bridge, Actor::Network] {
        let (version, known) = (in_force(Actor::Chain), in_force(actor));
        if known < version {
            return Err(format!("{version:?} is in force, and {actor:?} was told of {known:?}"));
        }
    }
    Ok(())
}

/// D9: only updates that enough members signed take force, and only forwards.
pub(crate) fn invariant_d9_only_signed_updates_forwards(view: View<'_>) -> Verdict {
    let signed = |version| view.all.signed.contains_key(&version);
    let mut lasts = BTreeMap::new();
    for entry in view.entries() {
        let last = lasts.entry(entry.who).or_insert(0);
        let Some(version) = entry.fact.in_force(Actor::Chain) else { continue };
        if version > 0 && !signed(version) {
            return Err(format!("version {version} took force; enough members never signed it"));
        }
        let is_older_copy = view.own.restored.iter().any(|(at, _)| *at <= entry.at);
        if version < *last && !is_older_copy {
            return Err(format!("version {version} took force after {last}"));
        }
        *last = version;
    }
    Ok(())
}

/// D8: a session acknowledges a push only after the Chain was told of it; an update that is not new
/// only after it was told of a newer one.
pub(crate) fn invariant_d8_acknowledged_when_told(view: View<'_>) -> Verdict {
    let mut told = Told::default();
    let mut pushed = BTreeMap::<(Machine, Seq), String>::new();
    for entry in view.entries() {
        told.learn(&entry.fact);
        if let Fact::Pushed { records, .. } = &entry.fact {
            let keyed = records.iter().map(|(it, words)| ((entry.who, it.seq), words.clone()));
            pushed.extend(keyed.filter(|((_, seq), _)| !seq.is_volatile()));
        }
        let Fact::PushAcked { to, ranges } = &entry.fact else { continue };
        let mut words = ranges.iter().filter_map(|seq| pushed.get(&(*to, seq)));
        if let Some(early) = words.find(|words| !told.has(view.all, *to, words)) {
            return Err(format!(
                "{} acknowledged {early} to {} at {:?}, and its Chain does not know it",
                entry.who.name(),
                to.name(),
                entry.at
            ));
        }
    }
    Ok(())
}

/// What a Chain was told until some moment, and the Bridge of halts.
#[derive(Default)]
struct Told {
    what: BTreeSet<String>,
    is_bridge_halted: bool,
    newest: u64,
}

impl Told {
    fn learn(&mut self, fact: &Fact) {
        self.is_bridge_halted |= fact.told(Actor::Bridge) == Some("halt");
        self.newest = self.newest.max(fact.version_told().unwrap_or(0));
        self.what.extend(fact.told(Actor::Chain).map(str::to_owned));
    }

    /// Whether it knows a push, or need not: what too few members signed it never hears of.
    fn has(&self, history: &History, by: Machine, words: &str) -> bool {
        let Some(version) = words.strip_prefix("update ") else {
            let is_everywhere = words != "halt" || self.is_bridge_halted;
            return words.is_empty() || (self.what.contains(words) && is_everywhere);
        };
        let version = version.parse().unwrap_or(0);
        let is_signed = |pushed: &Pushed| {
            pushed.by == by
                && matches!(pushed.push, Push::Update { version: it, .. } if it == version)
        };
        version <= self.newest || !history.pushed.iter().any(is_signed)
    }
}

/// D9: an update takes force at its height and not before.
pub(crate) fn invariant_d9_only_at_its_height(view: View<'_>) -> Verdict {
    for entry in view.entries() {
        let Some(version) = entry.fact.in_force(Actor::Chain) else { continue };
        let Some(height) = view.all.height_of(version) else { continue };
        let now = chain::height(entry.at);
        if now < height {
            return Err(format!("{version} is in force at height {now}; it is for {height}"));
        }
    }
    Ok(())
}

impl History {
    /// From which height on a version is for, if enough members signed it.
    fn height_of(&self, wanted: u64) -> Option<u64> {
        self.signed.get(&wanted).copied()
    }
}
