//! What is known of every live message, in memory or not: a few bits each.
//!
//! Pages of 128 seqs, as those of the buffer, in blocks of four. A message has bits for: that it is
//! live, its priority, whether anybody was sent it, its class, and for each endpoint whether that
//! acknowledged it. Blocks without a live message take nothing. With three endpoints that is less
//! than 1.5 bytes for each message of a dense backlog.
//!
//! Not here: refusals. They are rare, and what is known of them is read with the message.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::time::UnixMillis;

use crate::buffer::BacklogPage;

mod acked;
mod bits;
mod block;
mod finding;

use bits::{PAGES, SEQS, block_of, place};
use block::{ACKED, ANY, Block, LIVE, NEVER, PLAIN, SENT, URGENT_HIGH, URGENT_LOW};

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

    /// Bytes of memory, nearly.
    pub(super) fn bytes(&self) -> usize {
        let row = size_of::<[u128; PAGES]>();
        let rows: usize = self.blocks.values().map(|block| block.rows.len() * row + 16).sum();
        let entry = size_of::<(u64, Block)>();
        // Nodes of a tree that grows at its end are a little more than half full.
        rows + (self.blocks.len() * entry + self.deadlines.len() * 16) * 2
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::seq_set::SeqSet;

    use super::*;

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
