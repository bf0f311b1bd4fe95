//! Which bit of which page of which block a seq is. Pure arithmetic.

use std::ops::RangeInclusive;

use alys_stream_protocol::message::Seq;

use crate::buffer::BacklogPage;

/// Pages of one block.
pub(super) const PAGES: usize = 4;

pub(super) const PAGES_U64: u64 = 4;

pub(super) const SEQS: u64 = BacklogPage::SEQS;

/// The slots of a set of endpoints.
pub(super) fn slots(bits: u64) -> impl Iterator<Item = usize> {
    (0..64_usize).filter(move |slot| bits >> slot & 1 != 0)
}

pub(super) fn place(seq: Seq) -> (u64, usize, u128) {
    let (block, page) = block_of(seq.0 / SEQS);
    (block, page, 1 << (seq.0 % SEQS))
}

pub(super) fn block_of(page: u64) -> (u64, usize) {
    (page / PAGES_U64, usize::try_from(page % PAGES_U64).unwrap_or(0))
}

pub(super) fn page_number(block: u64, page: usize) -> u64 {
    block * PAGES_U64 + u64::try_from(page).unwrap_or(0)
}

/// The bits of the page that lie in a range.
pub(super) const fn range_bits(number: u64, first: u64, last: u64) -> u128 {
    let start = number * SEQS;
    if last < start || first >= start.saturating_add(SEQS) {
        return 0;
    }
    let mut bits = u128::MAX;
    if first > start {
        bits &= u128::MAX << (first - start);
    }
    if last < start + (SEQS - 1) {
        bits &= u128::MAX >> (SEQS - 1 - (last - start));
    }
    bits
}

/// The runs of set bits, each by its first and last.
pub(super) fn runs(mut bits: u128) -> impl Iterator<Item = RangeInclusive<u32>> {
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let first = bits.trailing_zeros();
        let length = (!(bits >> first)).trailing_zeros();
        let last = first + length - 1;
        bits = if last >= 127 { 0 } else { bits & (u128::MAX << (last + 1)) };
        Some(first..=last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_and_ranges_of_bits() {
        let found = |bits| runs(bits).map(|run| (*run.start(), *run.end())).collect::<Vec<_>>();
        assert_eq!(found(0), []);
        assert_eq!(found(0b1110_0101), [(0, 0), (2, 2), (5, 7)]);
        assert_eq!(found(u128::MAX), [(0, 127)]);
        assert_eq!(found(1 << 127 | 1), [(0, 0), (127, 127)]);
        assert_eq!(range_bits(1, 0, 127), 0);
        assert_eq!(range_bits(1, 130, 131), 0b1100);
        assert_eq!(range_bits(1, 0, u64::MAX), u128::MAX);
        assert_eq!(range_bits(1, 255, 300), 1 << 127);
    }
}
