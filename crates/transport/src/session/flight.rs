//! What was sent and not acknowledged, and since when.
//!
//! Invariants:
//! - T32: a record that stays unacknowledged for the timeout ends the session, however lively its
//!   heartbeats: the next handshake says what the peer really has. A record that the peer reported
//!   as in progress is exempt.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;

/// The records of one session that are on their way.
#[derive(Debug)]
pub(super) struct Flight {
    timeout: Duration,
    unacknowledged: SeqSet,
    in_progress: SeqSet,
    /// What left together, oldest first.
    batches: VecDeque<(Instant, SeqSet)>,
    highest_sent: Seq,
}

impl Flight {
    pub(super) const fn new(timeout: Duration, highest_sent: Seq) -> Self {
        Self {
            timeout,
            unacknowledged: SeqSet::new(),
            in_progress: SeqSet::new(),
            batches: VecDeque::new(),
            highest_sent,
        }
    }

    /// A batch leaves.
    pub(super) fn handle_sent(&mut self, now: Instant, batch: SeqSet) {
        let Some(last) = batch.last() else { return };
        self.highest_sent = self.highest_sent.max(last);
        for range in batch.ranges() {
            self.unacknowledged.insert_range(range);
        }
        self.batches.push_back((now, batch));
    }

    /// The peer has `claimed`; returns the part of it that was on its way.
    pub(super) fn handle_acked(&mut self, claimed: &SeqSet) -> SeqSet {
        let acked = common(&self.unacknowledged, claimed);
        for range in acked.ranges() {
            self.remove(range);
        }
        acked
    }

    /// The peer refused a record. Returns whether it was on its way.
    pub(super) fn handle_refused(&mut self, seq: Seq) -> bool {
        let known = self.unacknowledged.contains(seq);
        self.remove(seq..=seq);
        known
    }

    /// The peer works on a record. Returns whether it was on its way.
    pub(super) fn handle_in_progress(&mut self, seq: Seq) -> bool {
        let known = self.unacknowledged.contains(seq);
        if known {
            self.in_progress.insert(seq);
            self.trim();
        }
        known
    }

    fn remove(&mut self, range: RangeInclusive<Seq>) {
        self.unacknowledged.remove_range(range.clone());
        self.in_progress.remove_range(range);
        self.trim();
    }

    /// Forgets the oldest batches that nothing is awaited of any more.
    fn trim(&mut self) {
        while let Some((_, batch)) = self.batches.front()
            && self.first_awaited(batch).is_none()
        {
            self.batches.pop_front();
        }
    }

    fn first_awaited(&self, batch: &SeqSet) -> Option<Seq> {
        batch
            .iter()
            .find(|seq| self.unacknowledged.contains(*seq) && !self.in_progress.contains(*seq))
    }

    /// The record that waits too long, when there is one, and how long it has.
    pub(super) fn overdue(&self, now: Instant) -> Option<(Seq, Duration)> {
        let (sent_at, batch) = self.batches.front()?;
        let waited = now.saturating_duration_since(*sent_at);
        let seq = self.first_awaited(batch)?;
        (waited >= self.timeout).then_some((seq, waited))
    }

    /// When the oldest one has waited too long.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.batches.front().map(|(sent_at, _)| *sent_at + self.timeout)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unacknowledged.is_empty()
    }

    pub(super) const fn count(&self) -> u64 {
        self.unacknowledged.count()
    }

    /// Those that the peer is not known to work on.
    pub(super) const fn awaited(&self) -> u64 {
        self.unacknowledged.count().saturating_sub(self.in_progress.count())
    }

    pub(super) const fn highest_sent(&self) -> Seq {
        self.highest_sent
    }
}

/// What is in both sets, in one walk: a peer chooses how torn one of them is.
fn common(one: &SeqSet, other: &SeqSet) -> SeqSet {
    let mut both = SeqSet::new();
    let mut others = other.ranges().peekable();
    for range in one.ranges() {
        while let Some(found) = others.peek().filter(|found| found.start() <= range.end()) {
            let (first, last) = (found.start().max(range.start()), found.end().min(range.end()));
            if first <= last {
                both.insert_range(*first..=*last);
            }
            if found.end() > range.end() {
                // The rest of it may meet the next one.
                break;
            }
            others.next();
        }
    }
    both
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_in_both_sets_is_found(
            one in prop::collection::btree_set(1..60_u64, 0..40),
            other in prop::collection::btree_set(1..60_u64, 0..40),
        ) {
            let set = |numbers: &std::collections::BTreeSet<u64>| -> SeqSet {
                numbers.iter().copied().map(Seq).collect()
            };
            let both: SeqSet = one.intersection(&other).copied().map(Seq).collect();
            prop_assert_eq!(common(&set(&one), &set(&other)), both);
        }
    }
}
