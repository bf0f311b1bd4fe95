//! Everything that happened, in order: the event log of one run.
//!
//! The same seed gives the same bytes: nothing random of a process, no wall time, no address is in
//! it.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_protocol::message::{MessageId, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use tokio::time::Instant;

use crate::net::Machine;

/// A record that was seen on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Carried {
    pub(crate) seq: Seq,
    pub(crate) id: MessageId,
    pub(crate) deadline_ms: i64,
    pub(crate) priority: i32,
}

/// An actor of a node that is told what happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Actor {
    Chain,
    Bridge,
    Network,
    Storage,
    Sync,
}

impl Actor {
    /// Every one.
    pub(crate) const ALL: [Self; 5] =
        [Self::Chain, Self::Bridge, Self::Network, Self::Storage, Self::Sync];
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fact {
    /// A machine runs, in its so-manieth life.
    Started { life: u64 },
    /// It does not start, and why.
    NotStarted { why: String },
    /// A fault begins or ends.
    Fault(String),
    /// A message is handed over, to end by some moment of the node's clock; 0 for none.
    Offered { message: u64, deadline_ms: i64 },
    /// Its sender was told that it is accepted.
    Accepted { message: u64, seq: Seq, is_duplicate: bool },
    /// Its sender was told that it is not.
    Refused { message: u64, why: &'static str },
    /// A session begins: what the node says of its log.
    Hello { to: Machine, log: u8, epoch: u64, next_seq: u64, settled_below: u64 },
    /// What a governance node answers.
    Welcome { to: Machine, highest: u64, received: SeqSet },
    /// A governance node refuses the session.
    Rejected { to: Machine, code: i32 },
    /// Records leave the node; when they were handed to the link at the earliest, by its wall time, and
    /// below which number everything is over.
    Sent { to: Machine, log: u8, at_ms: u64, settled_below: u64, records: Vec<Carried> },
    /// A heartbeat, or the answer to one, says below which number everything is over.
    Over { to: Machine, log: u8, settled_below: u64 },
    /// A request of the published protocol leaves the node, at its wall time.
    Asked { to: Machine, at_ms: u64, id: MessageId },
    /// A governance node refuses one, for now or for good.
    Denied { to: Machine, id: MessageId },
    /// A governance node acknowledges.
    Acked { to: Machine, ranges: SeqSet },
    /// It refuses one.
    Nacked { to: Machine, seq: u64, kind: i32 },
    /// It refused something for good, whether or not anybody hears of it.
    RefusedForGood,
    /// A governance node sends records of its own; what is in each, in words.
    Pushed { to: Machine, records: Vec<(Carried, String)> },
    /// The node acknowledges what governance sent.
    PushAcked { to: Machine, ranges: SeqSet },
    /// Something passes on a connection with TLS that anybody can read, or nobody.
    InTheClear { what: &'static str },
    /// The node reports a hole.
    GapTold { to: Machine, first: u64, last: u64 },
    /// An actor of the node was told something, and dealt with it.
    Told { actor: Actor, what: String },
    /// The node has another disk, with these messages in its buffer.
    Found { records: Vec<(Seq, MessageId)> },
    /// Messages are stored in the buffer of the node.
    Kept { records: Vec<(Seq, MessageId)> },
    /// It is stored there that messages are settled, or dead.
    Settled { seqs: SeqSet },
    /// A dead letter is stored.
    Buried { seq: Seq, id: MessageId, cause: &'static str },
    /// A governance node has stored what it received, of which log; none for the published protocol.
    Stored { records: Vec<(Option<u8>, Seq, MessageId)> },
    /// A governance node has stored that it applied messages, of which log.
    Applied { lines: Vec<(Option<u8>, Seq, MessageId)> },
    /// A sync of a file or a folder failed.
    SyncFailed { what: String },
    /// A file is used, or relied on, after a sync of it failed.
    Misused { what: String, how: &'static str },
    /// A machine does not go on by itself.
    GaveUp { why: String },
    /// How a message ended, as the node says when everything is over.
    Ended { message: u64, how: String },
    /// The cause of a dead letter, as the node says then.
    Letter { message: u64, cause: &'static str },
}

impl Fact {
    /// What a governance node says that it has, and to whom.
    pub(crate) const fn acknowledged(&self) -> Option<(Machine, &SeqSet)> {
        if let Self::Acked { to, ranges } | Self::Welcome { to, received: ranges, .. } = self {
            return Some((*to, ranges));
        }
        None
    }

    /// What an actor was told.
    pub(crate) fn told(&self, wanted: Actor) -> Option<&str> {
        let Self::Told { actor, what } = self else { return None };
        (*actor == wanted).then_some(what)
    }

    /// The version of an update that somebody was told of, and who: it is in force.
    pub(crate) fn told_in_force(&self) -> Option<(Actor, u64)> {
        let Self::Told { actor, what } = self else { return None };
        Some((*actor, what.strip_prefix("in force ")?.parse().ok()?))
    }

    /// The version, if it was this actor.
    pub(crate) fn in_force(&self, wanted: Actor) -> Option<u64> {
        self.told_in_force().filter(|(actor, _)| *actor == wanted).map(|(_, version)| version)
    }

    /// The same, or it is to be in force.
    pub(crate) fn version_told(&self) -> Option<u64> {
        let scheduled = || self.told(Actor::Chain)?.strip_prefix("scheduled ")?.parse().ok();
        self.in_force(Actor::Chain).or_else(scheduled)
    }
}

/// One event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) at: Duration,
    pub(crate) who: Machine,
    pub(crate) fact: Fact,
}

impl Entry {
    /// The node that it is about, whichever process of it: who says it, or whom a governance node says
    /// it to.
    pub(crate) fn node(&self) -> Option<Machine> {
        if let Fact::Welcome { to, .. }
        | Fact::Rejected { to, .. }
        | Fact::Denied { to, .. }
        | Fact::Acked { to, .. }
        | Fact::Nacked { to, .. }
        | Fact::Pushed { to, .. } = &self.fact
        {
            return to.identity();
        }
        self.who.identity()
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>11.6} {:<6} {:?}", self.at.as_secs_f64(), self.who.name(), self.fact)
    }
}

/// The event log of one run. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Journal {
    begun: Instant,
    entries: Arc<Mutex<Vec<Entry>>>,
}

impl Journal {
    pub(crate) fn new() -> Self {
        Self { begun: Instant::now(), entries: Arc::default() }
    }

    pub(crate) fn note(&self, who: Machine, fact: Fact) {
        let at = self.begun.elapsed();
        self.entries().push(Entry { at, who, fact });
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn entries(&self) -> MutexGuard<'_, Vec<Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
