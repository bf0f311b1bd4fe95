//! What the bits are asked: what comes next, how much there is, and what has to be looked at.

use alys_stream_protocol::message::{Priority, Seq};

use super::Pages;
use super::bits::{PAGES, SEQS, block_of, page_number, range_bits};
use super::block::{ANY, Block, LIVE, PLAIN};

impl Pages {
    /// The first message from `from` on that an endpoint may have to be sent.
    pub(in crate::outbox) fn next_for_endpoint(
        &self,
        slot: usize,
        priority: Priority,
        from: Seq,
    ) -> Option<Seq> {
        self.next(priority, from, |block, page| block.unacknowledged_by(slot, priority, page))
    }

    /// The first message from `from` on that may be under `any`.
    pub(in crate::outbox) fn next_for_any(&self, priority: Priority, from: Seq) -> Option<Seq> {
        self.next(priority, from, |block, page| {
            let all = block.row(PLAIN, page) & !block.row(ANY, page);
            block.live_of(priority, page) & !all
        })
    }

    /// How many messages from `from` on [`Pages::next_for_endpoint`] would find.
    pub(in crate::outbox) fn count_for_endpoint(
        &self,
        slot: usize,
        priority: Priority,
        from: Seq,
    ) -> usize {
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

    /// The live messages of a page, each with its priority.
    pub(in crate::outbox) fn of_page(&self, number: u64) -> Vec<(Seq, Priority)> {
        self.listed(number, |block, page| block.row(LIVE, page))
    }

    /// Those of a page that have to be looked at to know whether they are over.
    pub(in crate::outbox) fn undecided_of_page(&self, number: u64) -> Vec<(Seq, Priority)> {
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
}
