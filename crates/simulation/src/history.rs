//! What the checker looks at after a run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_stream_protocol::message::{MessageId, Seq};

use crate::journal::Entry;
use crate::ledger::{Applied, Place};
use crate::net::Machine;
use crate::plan::{Push, Spec};

/// A message that somebody handed over.
#[derive(Debug, Clone)]
pub(crate) struct Offered {
    pub(crate) spec: Spec,
    pub(crate) id: MessageId,
    /// When, and under which number, its sender was told first that it is accepted.
    pub(crate) accepted: Option<(Duration, Seq)>,
    /// How it ended, as far as the node knows; `None` when the node does not know it.
    pub(crate) end: Option<String>,
    /// The cause of its dead letter.
    pub(crate) letter: Option<String>,
}

impl Offered {
    /// How a violation calls it.
    pub(crate) fn name(&self) -> String {
        format!("message {} ({})", self.spec.number, self.id)
    }
}

/// Something that a governance node was asked to push.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    pub(crate) at: Duration,
    pub(crate) by: Machine,
    pub(crate) push: Push,
    /// The nodes for which it said that this is on its disk.
    pub(crate) promised: BTreeSet<Machine>,
}

/// Everything there is to know of one run.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
    pub(crate) nodes: BTreeMap<Machine, NodeHistory>,
    pub(crate) applied: BTreeMap<Machine, Vec<Applied>>,
    pub(crate) pushed: Vec<Pushed>,
    /// Versions of updates that governance was told to sign with enough keys, with their heights.
    pub(crate) signed: BTreeMap<u64, u64>,
    pub(crate) seed: u64,
    /// Lines of ledgers that were written, and of which nobody was told that they are stored.
    pub(crate) doubtful: BTreeMap<Machine, BTreeSet<Place>>,
    /// Lines of ledgers that a flipped bit made unreadable, by the governance node and the message.
    pub(crate) lost_lines: BTreeSet<(Machine, MessageId)>,
    /// Bits that flipped in the inboxes of governance nodes.
    pub(crate) worn: usize,
    /// What did not end in time.
    pub(crate) unended: Vec<String>,
    /// Machines that did not come back.
    pub(crate) down: Vec<Machine>,
}

/// What there is to know of one node.
#[derive(Debug, Default)]
pub(crate) struct NodeHistory {
    pub(crate) offered: Vec<Offered>,
    /// Whether the node's disk was full at some time.
    pub(crate) was_full: bool,
    /// Bits that flipped in the node's buffer.
    pub(crate) flips: u32,
    /// Bits that flipped in its other files, and whether some did in the ids of earlier messages or in
    /// the mark of the buffer.
    pub(crate) worn: u64,
    pub(crate) are_ids_worn: bool,
    /// Messages whose dead letters a flipped bit made unreadable.
    pub(crate) lost_letters: BTreeSet<MessageId>,
    /// Numbers of holes that the node reports.
    pub(crate) gaps: Vec<Option<[u64; 2]>>,
    /// When a second process began, on a copy of the node's disk.
    pub(crate) twins: Vec<Duration>,
    /// When the node's disk was replaced by a copy, and from when the copy was.
    pub(crate) restored: Vec<(Duration, Duration)>,
    /// Governance nodes that were no endpoints at some time, and whether they are none in the end.
    pub(crate) off: BTreeMap<Machine, bool>,
    /// Messages whose dead letters an operator sent again.
    pub(crate) replayed: BTreeSet<u64>,
    /// And those whose dead letters an operator removed.
    pub(crate) purged: BTreeSet<u64>,
    /// Whether a neighbour did not deal with what it was told.
    pub(crate) was_moody: bool,
    /// The transactions of messages that were signed.
    pub(crate) signed: BTreeMap<u64, Vec<u8>>,
    pub(crate) window_max: usize,
    /// When the outbox held the most messages, by the number of endpoints that were connected.
    pub(crate) fills: BTreeMap<usize, Fill>,
    /// How often the node, a second process of it, or its StreamActor, began a new life.
    pub(crate) lives: u64,
}

/// How much was in memory at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fill {
    pub(crate) at: Duration,
    /// Messages in the outbox.
    pub(crate) resident: usize,
    /// Endpoints that may be connected.
    pub(crate) connected: usize,
}

/// The history of a run, as far as it concerns one node.
#[derive(Debug, Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) node: Machine,
    pub(crate) own: &'a NodeHistory,
    pub(crate) all: &'a History,
}

impl History {
    /// The views of all nodes.
    pub(crate) fn views(&self) -> impl Iterator<Item = View<'_>> {
        self.nodes.iter().map(|(node, own)| View { node: *node, own, all: self })
    }
}

impl<'a> View<'a> {
    /// What the node said and was told.
    pub(crate) fn entries(self) -> impl Iterator<Item = &'a Entry> {
        self.all.entries.iter().filter(move |entry| entry.node() == Some(self.node))
    }
}

impl NodeHistory {
    /// The newest update that enough members signed, that is on its way to the node.
    pub(crate) fn newest_owed(&self, node: Machine, pushed: &[Pushed]) -> Option<u64> {
        let version = |pushed: &Pushed| match pushed.push {
            Push::Update { version, .. } => Some(version),
            Push::Proposal(_) | Push::Halt | Push::Unsigned { .. } => None,
        };
        pushed.iter().filter(|it| self.is_owed(node, it)).filter_map(version).max()
    }

    /// Whether a push is on its way to the node, which has it in the end.
    pub(crate) fn is_owed(&self, node: Machine, pushed: &Pushed) -> bool {
        pushed.promised.contains(&node) && self.off.get(&pushed.by) != Some(&true)
    }
}
