//! The checks of what governance pushes.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::Seq;

use crate::chain;
use crate::history::{History, Pushed, View};
use crate::journal::Fact;
use crate::net::Machine;
use crate::plan::Push;

use super::Verdict;

/// How the Chain calls an update that takes force.
const IN_FORCE: &str = "in force ";

/// D8: what governance pushes reaches its actor: at least once in all, and no more often than there
/// were lives in which the actor could have forgotten that.
pub(crate) fn invariant_d8_pushes_are_told(view: View<'_>) -> Verdict {
    let told = |is_it: &dyn Fn(&str) -> bool| {
        let is_told = |fact: &Fact| matches!(fact, Fact::Told { what, .. } if is_it(what));
        let times = view.entries().filter(|entry| is_told(&entry.fact)).count();
        u64::try_from(times).unwrap_or(u64::MAX)
    };
    for pushed in &view.all.pushed {
        let Some(what) = pushed.push.told_as() else { continue };
        let times = told(&|it| it == what);
        if times == 0 && view.own.is_owed(view.node, pushed) {
            return Err(format!("{what}, pushed at {:?}, was never told", pushed.at));
        }
        // A halt lasts: it is told again when the StreamActor begins anew after its disk failed, and so
        // is what is in force.
        let again =
            if pushed.push == Push::Halt { told(&|it| it.starts_with(IN_FORCE)) } else { 0 };
        let lives = view.own.lives + again;
        if times > lives {
            return Err(format!("{what} was told {times} times in {lives} lives"));
        }
    }
    Ok(())
}

/// D8: the Chain is told of every update that enough members signed, or of a newer one: that it is in
/// force, or from which height on it is to be.
pub(crate) fn invariant_d8_updates_are_told(view: View<'_>) -> Verdict {
    let newest = view.entries().filter_map(|entry| entry.fact.version_told()).max();
    match view.own.newest_owed(view.node, &view.all.pushed) {
        Some(version) if newest < Some(version) => Err(format!(
            "update {version} was pushed, and the Chain was told of {newest:?} at most"
        )),
        _ => Ok(()),
    }
}

/// D9: only updates that enough members signed take force, and only forwards.
pub(crate) fn invariant_d9_only_signed_updates_forwards(view: View<'_>) -> Verdict {
    let signed = |version| view.all.signed.contains_key(&version);
    let mut lasts = BTreeMap::new();
    for entry in view.entries() {
        let last = lasts.entry(entry.who).or_insert(0);
        let Fact::Told { what, .. } = &entry.fact else { continue };
        let Some(version) = what.strip_prefix(IN_FORCE).and_then(|it| it.parse().ok()) else {
            continue;
        };
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

/// What a Chain was told until some moment.
#[derive(Default)]
struct Told {
    what: BTreeSet<String>,
    newest: u64,
}

impl Told {
    fn learn(&mut self, fact: &Fact) {
        let Fact::Told { what, .. } = fact else { return };
        self.newest = self.newest.max(fact.version_told().unwrap_or(0));
        self.what.insert(what.clone());
    }

    /// Whether it knows a push, or need not: what too few members signed it never hears of.
    fn has(&self, history: &History, by: Machine, words: &str) -> bool {
        let Some(version) = words.strip_prefix("update ") else {
            return words.is_empty() || self.what.contains(words);
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
        let Fact::Told { what, .. } = &entry.fact else { continue };
        let version = what.strip_prefix(IN_FORCE).and_then(|it| it.parse().ok());
        let Some(height) = version.and_then(|version| view.all.height_of(version)) else {
            continue;
        };
        let now = chain::height(entry.at);
        if now < height {
            return Err(format!("{what} at height {now}; it is for {height}"));
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
