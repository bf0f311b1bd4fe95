//! What is known of every live message, in memory or not: a few bits each.
//!
//! Pages of 128 seqs, as those of the buffer, in blocks of four. A message has bits for: that it is
//! live, its priority, whether anybody was sent it, its class, and for each endpoint whether that
//! acknowledged it. Blocks without a live message take nothing. With three endpoints that is less
//! than 1.5 bytes for each message of a dense backlog.
//!
//! Not here: refusals. They are rare, and what is known of them is read with the message.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::time::UnixMillis;

use crate::buffer::BacklogPage;

/// Pages of one block.
const PAGES: usize = 4;

const PAGES_U64: u64 = 4;

const SEQS: u64 = BacklogPage::SEQS;

const LIVE: usize = 0;
const URGENT_HIGH: usize = 1;
const URGENT_LOW: usize = 2;
const SENT: usize = 3;
/// With `PLAIN`: the class, see [`Class`].
const ANY: usize = 4;
const PLAIN: usize = 5;
/// The first of one row for each endpoint.
const ACKED: usize = 6;

const NEVER: u64 = u64::MAX;

/// What bits alone tell of a message's policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Under `any`, settled by one acknowledgement.
    Any,
    /// Under `all`, settled by those of every endpoint.
    All,
    /// Refused, under `quorum`, or its answer is awaited: the message itself has to be looked at.
    Complex,
    /// It was not in memory yet.
    Unknown,
}

#[derive(Debug)]
struct Block {
    /// For each page, no message of it that is not in memory has an earlier deadline.
    deadlines: [u64; PAGES],
    rows: Box<[[u128; PAGES]]>,
}

impl Block {
    fn new() -> Self {
        Self { deadlines: [NEVER; PAGES], rows: vec![[0; PAGES]; ACKED].into() }
    }

    fn row(&self, row: usize, page: usize) -> u128 {
        self.rows.get(row).and_then(|row| row.get(page)).copied().unwrap_or(0)
    }

    fn row_mut(&mut self, row: usize, page: usize) -> Option<&mut u128> {
        if row >= self.rows.len() {
            let mut rows = std::mem::take(&mut self.rows).into_vec();
            rows.resize(row + 1, [0; PAGES]);
            self.rows = rows.into();
        }
        self.rows.get_mut(row)?.get_mut(page)
    }

    fn set(&mut self, row: usize, page: usize, bits: u128) {
        if let Some(word) = self.row_mut(row, page) {
            *word |= bits;
        }
    }

    fn clear(&mut self, row: usize, page: usize, bits: u128) {
        if row < self.rows.len()
            && let Some(word) = self.row_mut(row, page)
        {
            *word &= !bits;
        }
    }

    fn live_of(&self, priority: Priority, page: usize) -> u128 {
        let (high, low) = (self.row(URGENT_HIGH, page), self.row(URGENT_LOW, page));
        self.row(LIVE, page)
            & match priority {
                Priority::Low => !high & !low,
                Priority::Normal => !high & low,
                Priority::High => high & !low,
                Priority::Critical => high & low,
            }
    }

    fn acked_by_all(&self, enabled: u64, page: usize) -> u128 {
        if enabled == 0 {
            return 0;
        }
        slots(enabled).fold(u128::MAX, |bits, slot| bits & self.row(ACKED + slot, page))
    }

    fn acked_by_some(&self, page: usize) -> u128 {
        (ACKED..self.rows.len()).fold(0, |bits, row| bits | self.row(row, page))
    }

    /// What an endpoint did not acknowledge and is not known to be under `any`.
    fn unacknowledged_by(&self, slot: usize, priority: Priority, page: usize) -> u128 {
        let any = self.row(ANY, page) & self.row(PLAIN, page);
        self.live_of(priority, page) & !self.row(ACKED + slot, page) & !any
    }

    fn complex(&self, page: usize) -> u128 {
        self.row(LIVE, page) & self.row(ANY, page) & !self.row(PLAIN, page)
    }

    /// Takes messages out; returns how many of each priority.
    fn remove(&mut self, page: usize, bits: u128) -> [usize; 4] {
        let removed = Priority::ALL.map(|priority| (priority, self.live_of(priority, page) & bits));
        for row in 0..self.rows.len() {
            self.clear(row, page, bits);
        }
        let mut counts = [0; 4];
        for (priority, bits) in removed {
            if let Some(count) = counts.get_mut(priority.index()) {
                *count = usize::try_from(bits.count_ones()).unwrap_or(0);
            }
        }
        counts
    }

    fn is_empty(&self) -> bool {
        self.rows.first().is_none_or(|live| live.iter().all(|bits| *bits == 0))
    }
}

/// The bits of every live message.
#[derive(Debug, Default)]
pub(super) struct Pages {
    blocks: BTreeMap<u64, Block>,
    /// The pages that have a deadline, by it.
    deadlines: BTreeSet<(UnixMillis, u64)>,
    live: [usize; 4],
    /// Every seq so far is below it.
    head: u64,
}

impl Pages {
    pub(super) const fn live(&self) -> [usize; 4] {
        self.live
    }

    pub(super) const fn head(&self) -> Seq {
        Seq(self.head)
    }

    pub(super) fn is_live(&self, seq: Seq) -> bool {
        self.is_set(LIVE, seq)
    }

    pub(super) fn is_sent(&self, seq: Seq) -> bool {
        self.is_set(SENT, seq)
    }

    pub(super) fn set_sent(&mut self, seq: Seq) {
        self.set(SENT, seq);
    }

    fn is_set(&self, row: usize, seq: Seq) -> bool {
        let (block, page, bit) = place(seq);
        self.blocks.get(&block).is_some_and(|block| block.row(row, page) & bit != 0)
    }

    fn set(&mut self, row: usize, seq: Seq) {
        let (block, page, bit) = place(seq);
        if let Some(block) = self.blocks.get_mut(&block) {
            debug_assert!(block.row(LIVE, page) & bit != 0, "invariant M24: bits are of live ones");
            block.set(row, page, bit);
        }
    }

    /// A message is live from now on.
    pub(super) fn insert(&mut self, seq: Seq, priority: Priority) {
        let (block, page, bit) = place(seq);
        let block = self.blocks.entry(block).or_insert_with(Block::new);
        debug_assert!(block.row(LIVE, page) & bit == 0, "invariant M12: a seq is accepted once");
        block.set(LIVE, page, bit);
        if matches!(priority, Priority::High | Priority::Critical) {
            block.set(URGENT_HIGH, page, bit);
        }
        if matches!(priority, Priority::Normal | Priority::Critical) {
            block.set(URGENT_LOW, page, bit);
        }
        if let Some(count) = self.live.get_mut(priority.index()) {
            *count += 1;
        }
        self.head = self.head.max(seq.0 + 1);
    }

    /// A page of messages that an earlier process left.
    pub(super) fn insert_page(&mut self, page: &BacklogPage) {
        for priority in Priority::ALL {
            let mut bits = page.by_priority.get(priority.index()).copied().unwrap_or(0);
            while bits != 0 {
                let seq = Seq(page.number * SEQS + u64::from(bits.trailing_zeros()));
                bits &= bits - 1;
                if !self.is_live(seq) {
                    self.insert(seq, priority);
                }
            }
        }
        if let Some(deadline) = page.deadline_min {
            self.note_deadline(Seq(page.number * SEQS), deadline);
        }
    }

    /// A message is over; returns whether it was live.
    pub(super) fn remove(&mut self, seq: Seq) -> bool {
        let (_, _, bit) = place(seq);
        self.remove_bits(seq.0 / SEQS, bit)
    }

    fn remove_bits(&mut self, number: u64, bits: u128) -> bool {
        let (key, page) = block_of(number);
        let Some(block) = self.blocks.get_mut(&key) else {
            return false;
        };
        let removed = block.remove(page, bits);
        for (count, removed) in self.live.iter_mut().zip(removed) {
            *count -= removed;
        }
        if block.row(LIVE, page) == 0
            && let Some(deadline) = block.deadlines.get_mut(page)
        {
            self.deadlines.remove(&(UnixMillis(*deadline), number));
            *deadline = NEVER;
        }
        if block.is_empty() {
            self.blocks.remove(&key);
        }
        removed.iter().any(|count| *count > 0)
    }

    pub(super) fn class(&self, seq: Seq) -> Class {
        match (self.is_set(ANY, seq), self.is_set(PLAIN, seq)) {
            (true, true) => Class::Any,
            (false, true) => Class::All,
            (true, false) => Class::Complex,
            (false, false) => Class::Unknown,
        }
    }

    pub(super) fn set_class(&mut self, seq: Seq, class: Class) {
        let (is_any, is_plain) = match class {
            Class::Any => (true, true),
            Class::All => (false, true),
            Class::Complex => (true, false),
            Class::Unknown => (false, false),
        };
        let (block, page, bit) = place(seq);
        if let Some(block) = self.blocks.get_mut(&block) {
            for (row, is_set) in [(ANY, is_any), (PLAIN, is_plain)] {
                if is_set { block.set(row, page, bit) } else { block.clear(row, page, bit) }
            }
        }
    }

    pub(super) fn set_acked(&mut self, slot: usize, seq: Seq) {
        self.set(ACKED + slot, seq);
    }

    /// The endpoints that acknowledged a message, as bits.
    pub(super) fn acked(&self, seq: Seq) -> u64 {
        let (block, page, bit) = place(seq);
        let Some(block) = self.blocks.get(&block) else {
            return 0;
        };
        let slots = (0..block.rows.len().saturating_sub(ACKED))
            .filter(|slot| block.row(ACKED + slot, page) & bit != 0);
        slots.fold(0, |acked, slot| acked | 1 << slot)
    }

    /// An endpoint has everything in a range. What that settles goes to `settled`; pages with
    /// messages that have to be looked at go to `recheck`.
    pub(super) fn acknowledge(
        &mut self,
        slot: usize,
        enabled: u64,
        range: &RangeInclusive<Seq>,
        settled: &mut SeqSet,
        recheck: &mut BTreeSet<u64>,
    ) {
        let (first, last) = (range.start().0, range.end().0);
        let mut over: Vec<(u64, u128)> = Vec::new();
        let (from, to) = (block_of(first / SEQS).0, block_of(last / SEQS).0);
        for (key, block) in self.blocks.range_mut(from..=to) {
            for page in 0..PAGES {
                let number = page_number(*key, page);
                let within = range_bits(number, first, last);
                let fresh = within & block.row(LIVE, page) & !block.row(ACKED + slot, page);
                if fresh == 0 {
                    continue;
                }
                block.set(ACKED + slot, page, fresh);
                let (any, plain) = (block.row(ANY, page), block.row(PLAIN, page));
                let ended = fresh & plain & (any | block.acked_by_all(enabled, page));
                if ended != 0 {
                    over.push((number, ended));
                }
                if fresh & block.complex(page) != 0 {
                    recheck.insert(number);
                }
            }
        }
        self.settle(&over, settled);
    }

    /// An endpoint is gone. Its acknowledgements count no more; returns the first message that may
    /// have to be sent to others because of that.
    pub(super) fn remove_slot(
        &mut self,
        slot: usize,
        enabled: u64,
        settled: &mut SeqSet,
        recheck: &mut BTreeSet<u64>,
    ) -> Option<Seq> {
        let mut over: Vec<(u64, u128)> = Vec::new();
        let mut first = None;
        for (key, block) in &mut self.blocks {
            for page in 0..PAGES {
                let number = page_number(*key, page);
                let open = block.complex(page) & block.row(ACKED + slot, page);
                if open != 0 && first.is_none() {
                    first = Some(Seq(number * SEQS + u64::from(open.trailing_zeros())));
                }
                block.clear(ACKED + slot, page, u128::MAX);
                let all = block.row(LIVE, page) & block.row(PLAIN, page) & !block.row(ANY, page);
                let ended = all & block.acked_by_all(enabled, page);
                if ended != 0 {
                    over.push((number, ended));
                }
                if block.complex(page) & block.acked_by_some(page) != 0 {
                    recheck.insert(number);
                }
            }
        }
        self.settle(&over, settled);
        first
    }

    fn settle(&mut self, over: &[(u64, u128)], settled: &mut SeqSet) {
        for (number, bits) in over {
            for run in runs(*bits) {
                let first = number * SEQS + u64::from(*run.start());
                let last = number * SEQS + u64::from(*run.end());
                settled.insert_range(Seq(first)..=Seq(last));
            }
            self.remove_bits(*number, *bits);
        }
    }

    /// The first message from `from` on that an endpoint may have to be sent.
    pub(super) fn next_for_endpoint(
        &self,
        slot: usize,
        priority: Priority,
        from: Seq,
    ) -> Option<Seq> {
        self.next(priority, from, |block, page| block.unacknowledged_by(slot, priority, page))
    }

    /// The first message from `from` on that may be under `any`.
    pub(super) fn next_for_any(&self, priority: Priority, from: Seq) -> Option<Seq> {
        self.next(priority, from, |block, page| {
            let all = block.row(PLAIN, page) & !block.row(ANY, page);
            block.live_of(priority, page) & !all
        })
    }

    /// How many messages from `from` on [`Pages::next_for_endpoint`] would find.
    pub(super) fn count_for_endpoint(&self, slot: usize, priority: Priority, from: Seq) -> usize {
        let mut count = 0;
        for (key, block) in self.blocks.range(block_of(from.0 / SEQS).0..) {
            for page in 0..PAGES {
                let within = range_bits(page_number(*key, page), from.0, u64::MAX);
                let bits = within & block.unacknowledged_by(slot, priority, page);
                count += usize::try_from(bits.count_ones()).unwrap_or(0);
            }
        }
        count
    }

    fn next(
        &self,
        priority: Priority,
        from: Seq,
        bits_of: impl Fn(&Block, usize) -> u128,
    ) -> Option<Seq> {
        if self.live.get(priority.index()).is_none_or(|live| *live == 0) {
            return None;
        }
        for (key, block) in self.blocks.range(block_of(from.0 / SEQS).0..) {
            for page in 0..PAGES {
                let number = page_number(*key, page);
                let bits = bits_of(block, page) & range_bits(number, from.0, u64::MAX);
                if bits != 0 {
                    return Some(Seq(number * SEQS + u64::from(bits.trailing_zeros())));
                }
            }
        }
        None
    }

    /// A message that is not in memory has a deadline.
    pub(super) fn note_deadline(&mut self, seq: Seq, deadline: UnixMillis) {
        let number = seq.0 / SEQS;
        let (key, page) = block_of(number);
        let Some(earliest) = self.blocks.get_mut(&key).and_then(|b| b.deadlines.get_mut(page))
        else {
            return;
        };
        if deadline.0 < *earliest {
            self.deadlines.remove(&(UnixMillis(*earliest), number));
            self.deadlines.insert((deadline, number));
            *earliest = deadline.0;
        }
    }

    /// When a message that is not in memory may be past its deadline.
    pub(super) fn deadline_min(&self) -> Option<UnixMillis> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// Takes a page with a deadline that has passed: all of it has to be looked at.
    pub(super) fn poll_deadline(&mut self, now: UnixMillis) -> Option<u64> {
        let (deadline, number) = *self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.deadlines.pop_first();
        let (key, page) = block_of(number);
        if let Some(earliest) = self.blocks.get_mut(&key).and_then(|b| b.deadlines.get_mut(page)) {
            *earliest = NEVER;
        }
        Some(number)
    }

    /// The live messages of a page, each with its priority.
    pub(super) fn of_page(&self, number: u64) -> Vec<(Seq, Priority)> {
        self.listed(number, |block, page| block.row(LIVE, page))
    }

    /// Those of a page that have to be looked at to know whether they are over.
    pub(super) fn undecided_of_page(&self, number: u64) -> Vec<(Seq, Priority)> {
        self.listed(number, |block, page| block.complex(page) & block.acked_by_some(page))
    }

    fn listed(&self, number: u64, bits: impl Fn(&Block, usize) -> u128) -> Vec<(Seq, Priority)> {
        let (key, page) = block_of(number);
        let Some(block) = self.blocks.get(&key) else {
            return Vec::new();
        };
        let mut seqs = Vec::new();
        for priority in Priority::ALL {
            let mut bits = bits(block, page) & block.live_of(priority, page);
            while bits != 0 {
                seqs.push((Seq(number * SEQS + u64::from(bits.trailing_zeros())), priority));
                bits &= bits - 1;
            }
        }
        seqs
    }

    /// Bytes of memory, nearly.
    pub(super) fn bytes(&self) -> usize {
        let row = size_of::<[u128; PAGES]>();
        let rows: usize = self.blocks.values().map(|block| block.rows.len() * row + 16).sum();
        let entry = size_of::<(u64, Block)>();
        // Nodes of a tree that grows at its end are a little more than half full.
        rows + (self.blocks.len() * entry + self.deadlines.len() * 16) * 2
    }
}

/// The slots of a set of endpoints.
fn slots(bits: u64) -> impl Iterator<Item = usize> {
    (0..64_usize).filter(move |slot| bits >> slot & 1 != 0)
}

fn place(seq: Seq) -> (u64, usize, u128) {
    let (block, page) = block_of(seq.0 / SEQS);
    (block, page, 1 << (seq.0 % SEQS))
}

fn block_of(page: u64) -> (u64, usize) {
    (page / PAGES_U64, usize::try_from(page % PAGES_U64).unwrap_or(0))
}

fn page_number(block: u64, page: usize) -> u64 {
    block * PAGES_U64 + u64::try_from(page).unwrap_or(0)
}

/// The bits of the page that lie in a range.
const fn range_bits(number: u64, first: u64, last: u64) -> u128 {
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
fn runs(mut bits: u128) -> impl Iterator<Item = RangeInclusive<u32>> {
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

    #[test]
    fn what_is_over_takes_nothing() {
        let mut pages = Pages::default();
        for seq in 1..=10_000 {
            pages.insert(Seq(seq), Priority::Normal);
            pages.note_deadline(Seq(seq), UnixMillis(seq));
        }
        assert_eq!(pages.live(), [0, 10_000, 0, 0]);
        for seq in 1..=10_000 {
            assert!(pages.remove(Seq(seq)));
            assert!(!pages.remove(Seq(seq)));
        }
        assert_eq!((pages.live(), pages.bytes(), pages.deadline_min()), ([0; 4], 0, None));
    }

    #[test]
    fn a_dense_backlog_with_three_endpoints_takes_less_than_a_byte_and_a_half_each() {
        let mut pages = Pages::default();
        for number in 0..10_000 {
            let by_priority = [u128::MAX, 0, 0, 0];
            pages.insert_page(&BacklogPage { number, by_priority, deadline_min: None });
        }
        for slot in 0..3 {
            pages.set_acked(slot, Seq(5));
            pages.acknowledge(
                slot,
                0b111,
                &(Seq(0)..=Seq(u64::MAX)),
                &mut SeqSet::new(),
                &mut BTreeSet::new(),
            );
        }
        let bytes = pages.bytes();
        assert!(bytes < 10_000 * 128 * 3 / 2, "{bytes}");
    }
}
