//! Sets of sequence numbers as intervals: what acknowledgements, dedup and resume are made of.
//!
//! Invariants:
//! - P3: intervals are disjoint, not adjacent and ordered; so equal sets are equal values.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use crate::message::Seq;
use crate::session::SeqRange;

/// A set of [`Seq`], stored as disjoint, non-adjacent intervals.
///
/// Every operation is O(log n) in the number of intervals, plus the intervals it removes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SeqSet {
    /// First of each interval → its last.
    intervals: BTreeMap<u64, u64>,
    /// How many numbers are in it.
    count: u64,
}

impl SeqSet {
    /// The empty set.
    #[must_use]
    pub const fn new() -> Self {
        Self { intervals: BTreeMap::new(), count: 0 }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// How many numbers are in it.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// How many intervals it takes: what it costs to keep.
    #[must_use]
    pub fn interval_count(&self) -> usize {
        self.intervals.len()
    }

    /// Whether `seq` is in it.
    #[must_use]
    pub fn contains(&self, seq: Seq) -> bool {
        self.intervals.range(..=seq.0).next_back().is_some_and(|(_, last)| *last >= seq.0)
    }

    /// The highest number in it.
    #[must_use]
    pub fn last(&self) -> Option<Seq> {
        self.intervals.last_key_value().map(|(_, last)| Seq(*last))
    }

    /// The lowest number in it.
    #[must_use]
    pub fn first(&self) -> Option<Seq> {
        self.intervals.first_key_value().map(|(first, _)| Seq(*first))
    }

    /// The lowest number from `from` on that is *not* in it.
    #[must_use]
    pub fn first_absent(&self, from: Seq) -> Seq {
        match self.intervals.range(..=from.0).next_back() {
            Some((_, last)) if *last >= from.0 => Seq(last.saturating_add(1)),
            _ => from,
        }
    }

    /// Adds one number. Returns whether it was absent.
    pub fn insert(&mut self, seq: Seq) -> bool {
        self.insert_range(seq..=seq) == 1
    }

    /// Adds a range. Returns how many numbers were absent.
    pub fn insert_range(&mut self, range: RangeInclusive<Seq>) -> u64 {
        let (mut first, mut last) = (range.start().0, range.end().0);
        if first > last {
            return 0;
        }
        // Mostly it goes on where the last one ends, which then has nothing to swallow.
        if let Some(mut top) = self.intervals.last_entry()
            && *top.key() <= first
            && first <= top.get().saturating_add(1)
        {
            let end = top.get_mut();
            let added = last.saturating_sub(*end);
            *end = last.max(*end);
            self.count += added;
            return added;
        }
        let before = self.count;
        // Swallow every interval that overlaps or touches it, from the highest down.
        while let Some((&other_first, &other_last)) =
            self.intervals.range(..=last.saturating_add(1)).next_back()
        {
            if other_last.saturating_add(1) < first {
                break;
            }
            self.intervals.remove(&other_first);
            self.count -= other_last - other_first + 1;
            first = first.min(other_first);
            last = last.max(other_last);
        }
        self.intervals.insert(first, last);
        self.count += last - first + 1;
        self.count - before
    }

    /// Removes a range. Returns how many numbers were in it.
    pub fn remove_range(&mut self, range: RangeInclusive<Seq>) -> u64 {
        let (first, last) = (range.start().0, range.end().0);
        if first > last {
            return 0;
        }
        let before = self.count;
        while let Some((&other_first, &other_last)) = self.intervals.range(..=last).next_back() {
            if other_last < first {
                break;
            }
            // What stays is put before the rest goes: a set of one interval allocates nothing.
            if other_last > last {
                self.intervals.insert(last + 1, other_last);
            }
            self.count -= other_last.min(last) - other_first.max(first) + 1;
            if other_first < first {
                self.intervals.insert(other_first, first - 1);
                break;
            }
            self.intervals.remove(&other_first);
        }
        before - self.count
    }

    /// Removes one number. Returns whether it was in it.
    pub fn remove(&mut self, seq: Seq) -> bool {
        self.remove_range(seq..=seq) == 1
    }

    /// Removes everything below `seq`. Returns how many numbers went.
    pub fn remove_below(&mut self, seq: Seq) -> u64 {
        if seq.0 == 0 {
            return 0;
        }
        self.remove_range(Seq(0)..=Seq(seq.0 - 1))
    }

    /// The intervals, lowest first.
    pub fn ranges(&self) -> impl Iterator<Item = RangeInclusive<Seq>> + '_ {
        self.intervals.iter().map(|(first, last)| Seq(*first)..=Seq(*last))
    }

    /// Every number, lowest first.
    pub fn iter(&self) -> impl Iterator<Item = Seq> + '_ {
        self.intervals.iter().flat_map(|(first, last)| (*first..=*last).map(Seq))
    }

    /// Every number within a range, lowest first.
    pub fn iter_in(&self, range: RangeInclusive<Seq>) -> impl Iterator<Item = Seq> + '_ {
        let (first, last) = (range.start().0, range.end().0);
        let before = self.intervals.range(..first).next_back();
        let within = self.intervals.range(first..=last.max(first));
        before
            .into_iter()
            .chain(within)
            .flat_map(move |(start, end)| (*start.max(&first)..=*end.min(&last)).map(Seq))
    }

    /// The intervals as the wire has them.
    #[must_use]
    pub fn to_wire(&self) -> Vec<SeqRange> {
        self.intervals.iter().map(|(first, last)| SeqRange { first: *first, last: *last }).collect()
    }

    /// Reads ranges off the wire, in any order, overlapping or not.
    ///
    /// # Errors
    ///
    /// When a range starts at 0 or ends before it starts.
    pub fn try_from_wire(ranges: &[SeqRange]) -> Result<Self, InvalidRange> {
        let mut set = Self::new();
        for range in ranges {
            if range.first == 0 || range.first > range.last {
                return Err(InvalidRange { first: range.first, last: range.last });
            }
            set.insert_range(Seq(range.first)..=Seq(range.last));
        }
        Ok(set)
    }
}

impl FromIterator<Seq> for SeqSet {
    fn from_iter<I: IntoIterator<Item = Seq>>(seqs: I) -> Self {
        let mut set = Self::new();
        set.extend(seqs);
        set
    }
}

impl Extend<Seq> for SeqSet {
    fn extend<I: IntoIterator<Item = Seq>>(&mut self, seqs: I) {
        for seq in seqs {
            self.insert(seq);
        }
    }
}

/// A range that a peer or a disk holds wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{first}..={last} is not a range of sequence numbers (they start at 1 and ascend)")]
pub struct InvalidRange {
    /// Its first number.
    pub first: u64,
    /// Its last number.
    pub last: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(actions in prop::collection::vec((0..3u8, 1..60u64, 0..12u64), 0..120)) {
            let mut set = SeqSet::new();
            let mut model = BTreeSet::new();
            for (action, first, length) in actions {
                let range = Seq(first)..=Seq(first + length);
                let (changed, expected) = match action {
                    0 => (set.insert_range(range), (first..=first + length).filter(|n| model.insert(*n)).count()),
                    1 => (set.remove_range(range), (first..=first + length).filter(|n| model.remove(n)).count()),
                    _ => (u64::from(set.insert(Seq(first))), usize::from(model.insert(first))),
                };
                prop_assert_eq!(changed, expected as u64);
                prop_assert_eq!(set.count(), model.len() as u64);
                prop_assert_eq!(set.iter().map(|s| s.0).collect::<Vec<_>>(), model.iter().copied().collect::<Vec<_>>());
                let within = model.range(first..=first + length).copied();
                prop_assert!(set.iter_in(Seq(first)..=Seq(first + length)).map(|s| s.0).eq(within));
                let absent = (first..).find(|n| !model.contains(n)).unwrap();
                prop_assert_eq!(set.first_absent(Seq(first)), Seq(absent));
                prop_assert_eq!(SeqSet::try_from_wire(&set.to_wire()).unwrap(), set.clone());
                // P3: no two intervals overlap or touch.
                let ranges: Vec<_> = set.ranges().collect();
                prop_assert!(ranges.windows(2).all(|w| w[0].end().0 + 1 < w[1].start().0));
            }
        }
    }

    #[test]
    fn a_range_that_descends_or_starts_at_zero_is_refused() {
        assert!(SeqSet::try_from_wire(&[SeqRange { first: 0, last: 3 }]).is_err());
        assert!(SeqSet::try_from_wire(&[SeqRange { first: 4, last: 3 }]).is_err());
    }

    #[test]
    fn the_highest_number_does_not_overflow() {
        let mut set = SeqSet::new();
        set.insert(Seq(u64::MAX));
        set.insert(Seq(u64::MAX - 1));
        assert_eq!(set.interval_count(), 1);
        assert_eq!(set.remove_range(Seq(u64::MAX - 1)..=Seq(u64::MAX)), 2);
    }
}
