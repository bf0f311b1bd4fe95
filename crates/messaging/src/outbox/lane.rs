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
    /// An earlier one of the key, under the other policies, is not done; or the end of one is not
    /// durable.
    Before,
    /// There may be such an earlier one: the lane that tells is not that far.
    Unseen,
    /// Something is over and not durably so, of whichever key.
    Unknown,
}

impl Hold {
    /// Whether it ends when a message of the key is not in memory any more, or waits no more. For
    /// any other there may be another endpoint for which it is none.
    pub(super) const fn is_of_key(self) -> bool {
        match self {
            Self::Retry | Self::Full(_) | Self::Pinned => true,
            Self::NoRoom | Self::TooLong | Self::Before | Self::Unseen | Self::Unknown => false,
        }
    }
}

/// Messages of a key that were passed over: they are taken again, in order, before later ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    /// Every message of the key below was taken.
    pub(super) from: Seq,
    /// Whether the one at `from` was passed over; else it is not known yet which one is the first.
    pub(super) is_exact: bool,
    /// The last one that was passed over.
    pub(super) to: Seq,
    /// What has to end first.
    pub(super) hold: Option<Hold>,
}

impl Gap {
    /// They are looked at again. The first one may be over by now.
    const fn let_go(&mut self) {
        (self.hold, self.is_exact) = (None, false);
    }
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
    /// The same, as far as it ever was: of what is below, `gaps` knows all that was passed over and
    /// has a key, though it may have to be looked at again.
    pub(super) seen: Option<Seq>,
    /// Where that was when others last went on because of it.
    told: Option<Seq>,
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
    /// Keys of which more was taken, or is over: lanes that wait for it may go on.
    pub(super) eased: Vec<OrderingKey>,
}

impl Lane {
    /// A lane of which nothing was taken.
    pub(super) fn behind() -> Self {
        Self::from(Some(Seq(0)))
    }

    /// A lane of which everything below was taken; `None` of everything there is.
    pub(super) fn from(at: Option<Seq>) -> Self {
        Self { at, seen: at, told: at, ..Self::default() }
    }

    /// What is from `seq` on is looked at again.
    pub(super) fn rewind(&mut self, seq: Seq) {
        self.at = Some(self.at.map_or(seq, |at| at.min(seq)));
    }

    /// The same of what may never have been looked at.
    pub(super) fn reopen(&mut self, seq: Seq) {
        for place in [&mut self.at, &mut self.seen, &mut self.told] {
            *place = Some(place.map_or(seq, |place| place.min(seq)));
        }
    }

    /// There is a new message that it does not look at.
    pub(super) fn fall_behind(&mut self, seq: Seq) {
        self.at.get_or_insert(seq);
        self.seen.get_or_insert(seq);
    }

    /// Everything below `to` was looked at.
    pub(super) fn pass(&mut self, to: Seq) {
        self.at = Some(to);
        self.seen = self.seen.map(|seen| seen.max(to));
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
                self.eased.push(key.clone());
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
        (gap.from, gap.is_exact) = (seq.next(), false);
        if gap.from > gap.to {
            self.gaps.remove(key);
        }
        self.eased.push(key.clone());
        Gate::Open
    }

    /// Passes a message of a key over.
    pub(super) fn park(&mut self, key: &OrderingKey, seq: Seq, hold: Option<Hold>) {
        let first = Gap { from: seq, is_exact: true, to: seq, hold };
        let gap = self.gaps.entry(key.clone()).or_insert(first);
        // One that is held is looked at in order: whatever is below was taken, or is over.
        let is_first = !gap.is_exact && hold.is_some();
        if is_first && seq > gap.from {
            self.eased.push(key.clone());
        }
        if is_first || seq < gap.from {
            (gap.from, gap.is_exact) = (seq, true);
        }
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
        self.release_if(key, Hold::is_of_key)
    }

    /// The same of one thing that may hold messages of a key back.
    pub(super) fn release_if(&mut self, key: &OrderingKey, is_over: impl Fn(Hold) -> bool) -> bool {
        let Some(gap) = self.gaps.get_mut(key).filter(|gap| gap.hold.is_some_and(is_over)) else {
            return false;
        };
        gap.let_go();
        let from = gap.from;
        self.rewind(from);
        true
    }

    /// Nothing that `is_over` says so of holds anything back any more; whether something did.
    pub(super) fn release_all(&mut self, is_over: impl Fn(Hold) -> bool) -> bool {
        let mut first: Option<Seq> = None;
        for gap in self.gaps.values_mut() {
            if gap.hold.is_some_and(&is_over) {
                gap.let_go();
                first = Some(first.map_or(gap.from, |first| first.min(gap.from)));
            }
        }
        let aside = self.aside.extract_if(.., |hold, _| is_over(*hold)).map(|(_, seq)| seq).min();
        let first = first.into_iter().chain(aside).min();
        if let Some(first) = first {
            self.rewind(first);
        }
        first.is_some()
    }

    /// Whether something waits for what other lanes have not come to.
    pub(super) fn waits_for_others(&self) -> bool {
        self.gaps.values().any(|gap| gap.hold == Some(Hold::Unseen))
    }

    /// Everything was looked at.
    pub(super) fn reach_head(&mut self) {
        (self.at, self.seen) = (None, None);
        let passed = self.gaps.extract_if(.., |_, gap| gap.hold.is_none());
        self.eased.extend(passed.map(|(key, _)| key));
    }

    /// Whether it has come far enough that those that wait for it are looked at again: to the
    /// head, or by as much as they are ahead. They go back to what they passed over, so that a
    /// lane is walked a few times over any backlog, and not once for every step of another one.
    pub(super) fn poll_advance(&mut self, furthest: Seq) -> bool {
        let place = |at: Option<Seq>| at.unwrap_or(Seq(u64::MAX));
        let (told, seen) = (place(self.told), place(self.seen));
        let lead = if self.seen.is_none() { 0 } else { furthest.0.saturating_sub(seen.0) };
        let is_far = seen > told && seen.0 - told.0 >= lead;
        if is_far || seen < told {
            self.told = self.seen;
        }
        is_far
    }
}
