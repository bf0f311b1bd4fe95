//! How far the messages of one priority were taken for one endpoint, or under `any`.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{OrderingKey, Seq};

use super::EndpointId;

/// For whom messages are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// For one endpoint: what is not under `any`.
    Endpoint(EndpointId),
    /// For whoever the balancer chooses.
    Any,
}

/// Why messages of a key are not taken for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hold {
    /// An earlier one waits for a retry.
    Retry,
    /// The endpoint where the key is pinned has no room, or takes nothing.
    Full(EndpointId),
    /// Others than everybody take it, and those have no room.
    NoRoom,
    /// It is too long for the endpoint where the key is pinned: earlier ones end first.
    Pinned,
    /// It is too long for everybody who is connected, not for everybody.
    TooLong,
}

impl Hold {
    /// Whether it ends with the messages of the key that are in memory.
    const fn is_of_key(self) -> bool {
        match self {
            Self::Retry | Self::Full(_) | Self::Pinned => true,
            Self::NoRoom | Self::TooLong => false,
        }
    }
}

/// Messages of a key that were passed over: they are taken again, in order, before later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// Every message of the key below was taken.
    pub(super) from: Seq,
    /// The last one that was passed over.
    pub(super) to: Seq,
    /// What has to end first.
    pub(super) hold: Option<Hold>,
}

/// Whether a message of a key may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// Not before this has ended.
    Held(Hold),
    /// Not before earlier ones were taken again.
    Behind,
}

/// Where messages of one priority are taken from.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Everything below was taken or passed over; `None` at the head: everything there is.
    pub(super) at: Option<Seq>,
    /// Messages that were taken and are neither done here nor over; not used under `any`.
    pub(super) taken: BTreeSet<Seq>,
    /// Messages asked for that were not passed yet.
    pub(super) batch: BTreeSet<Seq>,
    /// How many of those are not there yet.
    pub(super) missing: usize,
    /// Keys with messages that were passed over.
    pub(super) gaps: BTreeMap<OrderingKey, Gap>,
    /// The first message without a key that was passed over, by what has to end first.
    pub(super) aside: BTreeMap<Hold, Seq>,
}

impl Lane {
    /// A lane of which nothing was taken.
    pub(super) fn behind() -> Self {
        Self { at: Some(Seq(0)), ..Self::default() }
    }

    /// What is from `seq` on is looked at again.
    pub(super) fn rewind(&mut self, seq: Seq) {
        self.at = Some(self.at.map_or(seq, |at| at.min(seq)));
    }

    /// Whether a message of a key may be sent.
    pub(super) fn gate(&mut self, key: &OrderingKey, seq: Seq) -> Gate {
        let Some(gap) = self.gaps.get(key) else {
            return Gate::Open;
        };
        if seq < gap.from {
            return Gate::Open;
        }
        match gap.hold {
            Some(hold) => Gate::Held(hold),
            None if self.at.is_some_and(|at| at <= gap.to) => Gate::Behind,
            None => {
                // Everything that was passed over was taken, or is over.
                self.gaps.remove(key);
                Gate::Open
            }
        }
    }

    /// Whether a message of a key may be taken, now that every earlier one was looked at.
    pub(super) fn gate_in_order(&mut self, key: &OrderingKey, seq: Seq) -> Gate {
        let Some(gap) = self.gaps.get_mut(key) else {
            return Gate::Open;
        };
        if seq < gap.from {
            return Gate::Open;
        }
        if let Some(hold) = gap.hold {
            return Gate::Held(hold);
        }
        gap.from = seq.next();
        if gap.from > gap.to {
            self.gaps.remove(key);
        }
        Gate::Open
    }

    /// Passes a message of a key over.
    pub(super) fn park(&mut self, key: &OrderingKey, seq: Seq, hold: Option<Hold>) {
        let gap = self.gaps.entry(key.clone()).or_insert(Gap { from: seq, to: seq, hold });
        gap.from = gap.from.min(seq);
        gap.to = gap.to.max(seq);
        gap.hold = hold.or(gap.hold);
        if gap.hold.is_none() {
            self.rewind(seq);
        }
    }

    /// Passes a message without a key over: it holds back no other.
    pub(super) fn put_aside(&mut self, seq: Seq, hold: Option<Hold>) {
        match hold {
            Some(hold) => {
                let first = self.aside.entry(hold).or_insert(seq);
                *first = seq.min(*first);
            }
            None => self.rewind(seq),
        }
    }

    /// Nothing that is done with a key holds its messages back any more; whether something did.
    pub(super) fn release(&mut self, key: &OrderingKey) -> bool {
        let Some(gap) = self.gaps.get_mut(key).filter(|gap| gap.hold.is_some_and(Hold::is_of_key))
        else {
            return false;
        };
        gap.hold = None;
        let from = gap.from;
        self.rewind(from);
        true
    }

    /// Nothing that `is_over` says so of holds anything back any more.
    pub(super) fn release_all(&mut self, is_over: impl Fn(Hold) -> bool) {
        let mut first: Option<Seq> = None;
        for gap in self.gaps.values_mut() {
            if gap.hold.is_some_and(&is_over) {
                gap.hold = None;
                first = Some(first.map_or(gap.from, |first| first.min(gap.from)));
            }
        }
        let aside = self.aside.extract_if(.., |hold, _| is_over(*hold)).map(|(_, seq)| seq).min();
        for first in first.into_iter().chain(aside) {
            self.rewind(first);
        }
    }

    /// Everything was looked at.
    pub(super) fn reach_head(&mut self) {
        self.at = None;
        self.gaps.retain(|_, gap| gap.hold.is_some());
    }
}
