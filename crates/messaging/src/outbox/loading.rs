//! What was asked for and is not there yet.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{Priority, Seq};

use super::words::{Action, LOAD_SEQS_MAX};

/// Most messages that are asked for and not there yet.
pub const LOADING_MAX: usize = 4 * LOAD_SEQS_MAX;

/// Who asked for a message. Nobody: it is only looked at.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wants {
    pub(super) priority: Priority,
    /// The bits of endpoints.
    pub(super) endpoints: u64,
    /// The lane of messages under `any`.
    pub(super) any: bool,
}

/// Messages that are asked for.
#[derive(Debug, Default)]
pub(super) struct Loading {
    asked: BTreeMap<Seq, Wants>,
    /// Those that no [`Action::Load`] has named yet.
    fresh: BTreeSet<Seq>,
}

impl Loading {
    pub(super) fn room(&self) -> usize {
        LOADING_MAX.saturating_sub(self.asked.len())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.asked.is_empty()
    }

    /// Asks for a message, unless somebody did.
    pub(super) fn ask(&mut self, seq: Seq, priority: Priority) -> &mut Wants {
        self.asked.entry(seq).or_insert_with(|| {
            self.fresh.insert(seq);
            Wants { priority, endpoints: 0, any: false }
        })
    }

    pub(super) fn find(&mut self, seq: Seq) -> Option<&mut Wants> {
        self.asked.get_mut(&seq)
    }

    /// A message is there, or never will be.
    pub(super) fn remove(&mut self, seq: Seq) -> Option<Wants> {
        self.fresh.remove(&seq);
        self.asked.remove(&seq)
    }

    /// Those of a range that were asked for.
    pub(super) fn within(&self, range: std::ops::RangeInclusive<Seq>) -> Vec<Seq> {
        self.asked.range(range).map(|(seq, _)| *seq).collect()
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        if self.fresh.is_empty() {
            return None;
        }
        let rest = match self.fresh.iter().nth(LOAD_SEQS_MAX).copied() {
            Some(next) => self.fresh.split_off(&next),
            None => BTreeSet::new(),
        };
        let seqs = std::mem::replace(&mut self.fresh, rest).into_iter().collect();
        Some(Action::Load { seqs })
    }
}
