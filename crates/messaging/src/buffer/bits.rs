//! A set of seqs that costs bits where it is ragged and intervals where it is not: what recovery
//! knows to be settled. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;

use super::BacklogPage;
use super::page::{bit_of, mask_between, number_of, runs};

#[derive(Debug)]
pub(super) struct SeqBits {
    /// Numbers of pages that are in it as a whole.
    full: SeqSet,
    /// The other pages of which something is in it.
    partial: BTreeMap<u64, u128>,
}

impl SeqBits {
    /// Only seq 0, which is never given: so that the first page can be full, too.
    pub(super) fn new() -> Self {
        Self { full: SeqSet::new(), partial: BTreeMap::from([(0, 1)]) }
    }

    pub(super) fn contains(&self, seq: Seq) -> bool {
        let number = number_of(seq.0);
        self.full.contains(Seq(number))
            || self.partial.get(&number).is_some_and(|bits| bits & bit_of(seq.0) != 0)
    }

    pub(super) fn insert_range(&mut self, range: &RangeInclusive<Seq>) {
        let (first, last) = (range.start().0, range.end().0);
        if first > last {
            return;
        }
        let (head, tail) = (number_of(first), number_of(last));
        self.insert_bits(head, mask_between(head, first, last));
        if head == tail {
            return;
        }
        self.insert_bits(tail, mask_between(tail, first, last));
        if tail - head > 1 {
            while let Some((&inner, _)) = self.partial.range(head + 1..tail).next() {
                self.partial.remove(&inner);
            }
            self.full.insert_range(Seq(head + 1)..=Seq(tail - 1));
        }
    }

    pub(super) fn insert_bits(&mut self, number: u64, bits: u128) {
        if bits == 0 || self.full.contains(Seq(number)) {
            return;
        }
        let all = self.partial.entry(number).or_default();
        *all |= bits;
        if *all == u128::MAX {
            self.partial.remove(&number);
            self.full.insert(Seq(number));
        }
    }

    /// What is *not* in it, up to and without `end`.
    pub(super) fn absent_below(&self, end: u64) -> SeqSet {
        let mut absent = SeqSet::new();
        let mut full = self.full.ranges().peekable();
        let mut partial = self.partial.iter().peekable();
        let mut number = 0;
        while number * BacklogPage::SEQS < end {
            while full.next_if(|range| range.end().0 < number).is_some() {}
            while partial.next_if(|(page, _)| **page < number).is_some() {}
            if let Some(range) = full.peek()
                && range.start().0 <= number
            {
                number = range.end().0 + 1;
                continue;
            }
            let first = number * BacklogPage::SEQS;
            if let Some((page, bits)) = partial.peek()
                && **page == number
            {
                for (from, to) in runs(!**bits & mask_between(number, 0, end - 1)) {
                    absent.insert_range(Seq(first + u64::from(from))..=Seq(first + u64::from(to)));
                }
                number += 1;
                continue;
            }
            // Nothing of this page; how far does that go on?
            let known = [full.peek().map(|range| range.start().0), partial.peek().map(|p| *p.0)];
            let next = known.into_iter().flatten().min().unwrap_or(u64::MAX / BacklogPage::SEQS);
            let last = (next * BacklogPage::SEQS).min(end) - 1;
            absent.insert_range(Seq(first)..=Seq(last));
            number = next;
        }
        absent
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_plain_set(
            ranges in prop::collection::vec((1..2000_u64, 0..600_u64), 0..20),
            end in 1..3000_u64,
        ) {
            let (mut bits, mut model) = (SeqBits::new(), BTreeSet::new());
            for (first, length) in ranges {
                bits.insert_range(&(Seq(first)..=Seq(first + length)));
                model.extend(first..=first + length);
            }
            for seq in 1..end {
                prop_assert_eq!(bits.contains(Seq(seq)), model.contains(&seq));
            }
            let absent: Vec<u64> = bits.absent_below(end).iter().map(|seq| seq.0).collect();
            let expected: Vec<u64> = (1..end).filter(|seq| !model.contains(seq)).collect();
            prop_assert_eq!(absent, expected);
        }
    }

    #[test]
    fn numbers_that_nobody_reaches_cost_nothing() {
        let mut bits = SeqBits::new();
        let far = u64::MAX / 2;
        bits.insert_range(&(Seq(far - 1000)..=Seq(far - 1)));
        bits.insert_range(&(Seq(1)..=Seq(500)));
        assert_eq!(
            bits.absent_below(far).ranges().collect::<Vec<_>>(),
            [Seq(501)..=Seq(far - 1001)]
        );
    }
}
