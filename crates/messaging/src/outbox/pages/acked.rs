//! What acknowledgements of many messages at once, and the end of an endpoint, settle.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;

use super::Pages;
use super::bits::{PAGES, SEQS, block_of, page_number, range_bits, runs};
use super::block::{ACKED, ANY, LIVE, PLAIN};

impl Pages {
    /// An endpoint has everything in a range. What that settles goes to `settled`; pages with
    /// messages that have to be looked at go to `recheck`.
    pub(in crate::outbox) fn acknowledge(
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
    pub(in crate::outbox) fn remove_slot(
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
}
