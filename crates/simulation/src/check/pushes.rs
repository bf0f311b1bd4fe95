//! The checks of what governance pushes.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::Seq;

use crate::history::{History, Pushed, View};
use crate::journal::{Actor, Entry, Fact};
use crate::neighbours;
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
            // What was told is in files of which a bit may have flipped.
            let lives = view.own.lives + again + view.own.worn;
            // And Chain and Bridge are told of a halt until both have dealt with it.
            let is_again = pushed.push == Push::Halt && view.own.was_moody;
            if times > lives && !is_again {
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
/// force, or from which height on it is to be. Of what is in force the others are told as well.
pub(crate) fn invariant_d8_updates_are_told(view: View<'_>) -> Verdict {
    let newest = view.entries().filter_map(|entry| entry.fact.version_told()).max();
    if let Some(version) = view.own.newest_owed(view.node, &view.all.pushed)
        && newest < Some(version)
    {
        return Err(format!("update {version} was pushed, and the Chain was told of {newest:?}"));
    }
    // A former copy of the disk has an older one in force, of which everybody was told again.
    if !view.own.restored.is_empty() || is_level(&view.all.entries, view.node) {
        return Ok(());
    }
    let known = OF_FORCE.map(|actor| (actor, newest_in_force(&view.all.entries, view.node, actor)));
    Err(format!("of the federation in force were told, up to these versions: {known:?}"))
}

/// Who is told of the federation in force.
const OF_FORCE: [Actor; 4] = [Actor::Chain, Actor::Bridge, Actor::Network, Actor::Storage];

/// The newest federation in force that an actor of the first process of a node was told of.
fn newest_in_force(entries: &[Entry], node: Machine, actor: Actor) -> Option<u64> {
    let own = entries.iter().filter(|entry| entry.who == node);
    own.filter_map(|entry| entry.fact.in_force(actor)).max()
}

/// Whether the actors of a node were told of the newest federation in force that its Chain was told of.
pub(crate) fn is_level(entries: &[Entry], node: Machine) -> bool {
    let newest = |actor| newest_in_force(entries, node, actor);
    OF_FORCE.into_iter().all(|actor| newest(actor) >= newest(Actor::Chain))
}

/// D9: only updates that enough members signed take force, and only forwards.
pub(crate) fn invariant_d9_only_signed_updates_forwards(view: View<'_>) -> Verdict {
    let signed = |version| view.all.signed.contains_key(&version);
    let mut lasts = BTreeMap::new();
    for entry in view.entries() {
        let Some((actor, version)) = entry.fact.told_in_force() else { continue };
        let last = lasts.entry((entry.who, actor)).or_insert(0);
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
        let Some((_, version)) = entry.fact.told_in_force() else { continue };
        let Some(height) = view.all.height_of(version) else { continue };
        let now = neighbours::height(entry.at);
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
