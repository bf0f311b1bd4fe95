//! What the checker looks at after a run.

use std::collections::BTreeMap;
use std::time::Duration;

use alys_stream_protocol::message::{MessageId, Seq};

use crate::governance::Applied;
use crate::journal::Entry;
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
    pub(crate) letter: Option<&'static str>,
}

/// Something that a governance node was asked to push.
#[derive(Debug, Clone)]
pub(crate) struct Pushed {
    pub(crate) at: Duration,
    pub(crate) push: Push,
    /// It said that this is on its disk.
    pub(crate) is_promised: bool,
}

/// Everything there is to know of one run.
#[derive(Debug, Default)]
pub(crate) struct History {
    pub(crate) entries: Vec<Entry>,
    pub(crate) offered: Vec<Offered>,
    pub(crate) applied: BTreeMap<Machine, Vec<Applied>>,
    pub(crate) pushed: Vec<Pushed>,
    /// Bits that flipped in the node's buffer.
    pub(crate) flips: u32,
    /// Numbers of holes that the node reports.
    pub(crate) gaps: Vec<Option<[u64; 2]>>,
    /// When the node's disk was replaced by a copy, and from when the copy was.
    pub(crate) restored: Vec<(Duration, Duration)>,
    pub(crate) seed: u64,
    pub(crate) window_max: usize,
    /// The most messages that the outbox held.
    pub(crate) resident_max: u64,
    /// Uses of files after a failed sync, per machine.
    pub(crate) misused: BTreeMap<Machine, u64>,
    /// How often the node, or its StreamActor, began a new life.
    pub(crate) lives: u64,
    /// What did not end in time.
    pub(crate) unended: Option<String>,
    /// Machines that did not come back.
    pub(crate) down: Vec<Machine>,
}
