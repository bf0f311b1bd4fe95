//! A page of the index: 128 consecutive seqs as far as they are unsettled, in bits, and where to
//! read back what is known of each. Pure.
//!
//! Not here: single messages. What is known of them is a cache (the `known` module); whatever a
//! page does not say is read from the log.
//!
//! Invariants:
//! - M31: a page names every unsettled seq in it, and where its durable ones lie; nothing that is
//!   settled costs more than the bit that is not set.
//! - M32: the bytes of all pages add up to what the quota counts, exactly once the page is empty;
//!   within a page that is not in the cache, each message counts as the average of its priority.

use alys_stream_protocol::message::Priority;
use alys_stream_protocol::time::UnixMillis;

use super::BacklogPage;
use crate::log::{Location, SegmentId, format};

/// Bytes between two records of a page that are read rather than skipped.
const PART_GAP_BYTES: u32 = 32 * 1024;

/// Bytes that are read at once to read a part back, unless one record is larger.
const PART_BYTES_MAX: u32 = 256 * 1024;

/// A message that is added to a page.
#[derive(Debug, Clone, Copy)]
pub(super) struct Added {
    pub(super) seq: u64,
    pub(super) priority: Priority,
    pub(super) stored_bytes: u64,
    pub(super) deadline: Option<UnixMillis>,
    pub(super) accepted_at: UnixMillis,
}

/// Where some of the records of a page lie, close behind one another in one segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Part {
    pub(super) segment: SegmentId,
    pub(super) offset: u32,
    /// Behind the last of its records.
    pub(super) end: u32,
    /// The first of its records, counted within the page.
    first: u8,
}

/// What of a page was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// Which, by priority.
    pub(super) by_priority: [u128; 4],
    /// Their bytes, by priority.
    pub(super) bytes: [u64; 4],
}

#[derive(Debug)]
pub(super) struct Page {
    live: [u128; 4],
    /// Their bytes on disk, by priority.
    bytes: [u64; 4],
    deadline_min: Option<UnixMillis>,
    /// When the first message of the page was accepted.
    accepted_at: UnixMillis,
    /// The first part is here, since most pages have no other.
    head: Option<Part>,
    more: Vec<Part>,
}

/// Bytes of memory that a page takes, with its place in the map of pages.
pub(super) const PAGE_BYTES: u64 = (size_of::<Page>() + 16 + 32) as u64;

pub(super) const fn number_of(seq: u64) -> u64 {
    seq / BacklogPage::SEQS
}

pub(super) const fn index_of(seq: u64) -> u32 {
    // Below 128.
    (seq % BacklogPage::SEQS) as u8 as u32
}

pub(super) const fn bit_of(seq: u64) -> u128 {
    1 << index_of(seq)
}

/// The bits of those of page `number` that lie between two seqs, both included.
pub(super) const fn mask_between(number: u64, first: u64, last: u64) -> u128 {
    let page_first = number * BacklogPage::SEQS;
    let page_last = page_first + (BacklogPage::SEQS - 1);
    if last < page_first || first > page_last || first > last {
        return 0;
    }
    let from = if first > page_first { index_of(first) } else { 0 };
    let to = if last < page_last { index_of(last) } else { 127 };
    (u128::MAX << from) & (u128::MAX >> (127 - to))
}

/// The bits of those of page `number` that are below a seq.
pub(super) const fn mask_below(number: u64, end: u64) -> u128 {
    if end == 0 { 0 } else { mask_between(number, 0, end - 1) }
}

/// The numbers of the bits that are set, lowest first.
pub(super) fn indices(mut bits: u128) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let index = bits.trailing_zeros();
        bits &= bits - 1;
        Some(index)
    })
}

/// The runs of bits that are set, first and last of each, lowest first.
pub(super) fn runs(mut bits: u128) -> impl Iterator<Item = (u32, u32)> {
    std::iter::from_fn(move || {
        if bits == 0 {
            return None;
        }
        let first = bits.trailing_zeros();
        let length = (bits >> first).trailing_ones();
        bits &= u128::MAX.checked_shl(first + length).unwrap_or(0);
        Some((first, first + length - 1))
    })
}

impl Page {
    pub(super) const fn new(accepted_at: UnixMillis) -> Self {
        Self {
            live: [0; 4],
            bytes: [0; 4],
            deadline_min: None,
            accepted_at,
            head: None,
            more: Vec::new(),
        }
    }

    pub(super) const fn live(&self) -> u128 {
        let [low, normal, high, critical] = self.live;
        low | normal | high | critical
    }

    pub(super) const fn by_priority(&self) -> [u128; 4] {
        self.live
    }

    pub(super) const fn bytes(&self) -> [u64; 4] {
        self.bytes
    }

    pub(super) const fn accepted_at(&self) -> UnixMillis {
        self.accepted_at
    }

    pub(super) const fn deadline_min(&self) -> Option<UnixMillis> {
        self.deadline_min
    }

    pub(super) fn add(&mut self, added: &Added) {
        let index = added.priority.index();
        if let Some(bits) = self.live.get_mut(index) {
            *bits |= bit_of(added.seq);
        }
        if let Some(bytes) = self.bytes.get_mut(index) {
            *bytes += added.stored_bytes;
        }
        if let Some(deadline) = added.deadline
            && self.deadline_min.is_none_or(|earliest| deadline < earliest)
        {
            self.deadline_min = Some(deadline);
        }
    }

    /// Says where a record lies. Records come in order of seq.
    pub(super) fn place(&mut self, seq: u64, location: Location) {
        let stored = format::stored_bytes(usize::try_from(location.payload_bytes).unwrap_or(0));
        let end = location.offset.saturating_add(u32::try_from(stored).unwrap_or(u32::MAX));
        let last = if self.more.is_empty() { self.head.as_mut() } else { self.more.last_mut() };
        if let Some(part) = last
            && part.segment == location.segment
            && location.offset >= part.end
            && location.offset - part.end <= PART_GAP_BYTES
            && end - part.offset <= PART_BYTES_MAX
        {
            part.end = end;
            return;
        }
        let first = u8::try_from(index_of(seq)).unwrap_or(0);
        let part = Part { segment: location.segment, offset: location.offset, end, first };
        if self.head.is_none() {
            self.head = Some(part);
        } else {
            self.more.push(part);
        }
    }

    /// The parts, each with the bits of what may lie in it.
    pub(super) fn parts(&self) -> impl Iterator<Item = (Part, u128)> + '_ {
        let all = || self.head.iter().chain(&self.more);
        let ends = all().skip(1).map(|part| u32::from(part.first)).chain([128]);
        all().zip(ends).map(|(part, end)| {
            let above = u128::MAX.checked_shl(end).unwrap_or(0);
            (*part, (u128::MAX << part.first) & !above)
        })
    }

    /// Takes what of `mask` is there; `exact` says the bytes of one where they are known.
    pub(super) fn take(&mut self, mask: u128, exact: impl Fn(u32) -> Option<u64>) -> Taken {
        let mut taken = Taken { by_priority: [0; 4], bytes: [0; 4] };
        let classes = self.live.iter_mut().zip(&mut self.bytes);
        let results = taken.by_priority.iter_mut().zip(&mut taken.bytes);
        for ((live, bytes), (bits, sum)) in classes.zip(results) {
            *bits = *live & mask;
            if *bits == *live {
                (*sum, *bytes) = (*bytes, 0);
            } else {
                for index in indices(*bits) {
                    let average = *bytes / u64::from(live.count_ones().max(1));
                    let one = exact(index).unwrap_or(average).min(*bytes);
                    *sum += one;
                    *bytes -= one;
                    *live &= !(1 << index);
                }
            }
            *live &= !mask;
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Page {
        let mut page = Page::new(UnixMillis(5));
        for (seq, priority, stored_bytes) in
            [(256, Priority::Low, 100), (257, Priority::Low, 300), (300, Priority::High, 50)]
        {
            let (deadline, accepted_at) = (Some(UnixMillis(seq)), UnixMillis(5));
            page.add(&Added { seq, priority, stored_bytes, deadline, accepted_at });
        }
        page
    }

    #[test]
    fn masks_cut_at_both_ends_of_the_page() {
        assert_eq!(mask_between(2, 0, u64::MAX), u128::MAX);
        assert_eq!(mask_between(2, 256, 256), 1);
        assert_eq!(mask_between(2, 382, 500), 0b11 << 126);
        assert_eq!(mask_between(2, 0, 255), 0);
        assert_eq!(mask_between(2, 384, 500), 0);
        assert_eq!(indices(0b1011).collect::<Vec<_>>(), [0, 1, 3]);
        assert_eq!(runs(0b1011 | 1 << 127).collect::<Vec<_>>(), [(0, 1), (3, 3), (127, 127)]);
        assert_eq!(runs(u128::MAX).collect::<Vec<_>>(), [(0, 127)]);
    }

    #[test]
    fn bytes_are_exact_when_known_and_in_the_end() {
        let mut known = page();
        let taken = known.take(1, |_| Some(100));
        assert_eq!((taken.bytes, known.bytes()), ([100, 0, 0, 0], [300, 0, 50, 0]));
        let mut unknown = page();
        assert_eq!(unknown.take(1, |_| None).bytes, [200, 0, 0, 0], "the average");
        let rest = unknown.take(u128::MAX, |_| None);
        assert_eq!((rest.bytes, unknown.bytes()), ([200, 0, 50, 0], [0; 4]));
        assert_eq!((rest.by_priority, unknown.live()), ([2, 0, 1 << 44, 0], 0));
        assert_eq!(page().deadline_min(), Some(UnixMillis(256)));
    }

    #[test]
    fn parts_end_at_gaps_segments_and_a_size() {
        let mut page = page();
        let mut place = |seq, segment, offset| {
            let location = Location { segment: SegmentId(segment), offset, payload_bytes: 96 };
            page.place(seq, location);
        };
        place(256, 1, 4096);
        place(257, 1, 4224);
        place(260, 1, 4352 + PART_GAP_BYTES + 8);
        place(270, 2, 4096);
        place(271, 2, 4224);
        let parts: Vec<_> = page.parts().collect();
        let ends: Vec<_> = parts.iter().map(|(part, _)| (part.segment.0, part.end)).collect();
        assert_eq!(ends, [(1, 4352), (1, 4352 + PART_GAP_BYTES + 8 + 128), (2, 4352)]);
        let bits: Vec<_> = parts.iter().map(|(_, bits)| *bits).collect();
        assert_eq!(bits, [0b1111, 0b11_1111_1111 << 4, u128::MAX << 14]);
    }
}
