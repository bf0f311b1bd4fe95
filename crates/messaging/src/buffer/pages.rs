//! All pages of the index: what is unsettled, with its counts and bytes. Pure.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use alys_stream_protocol::message::{Priority, Seq};
use alys_stream_protocol::time::UnixMillis;

use super::page::{
    Added, PAGE_BYTES, Page, Part, bit_of, indices, mask_below, mask_between, number_of, runs,
};
use super::{BacklogPage, PriorityStat};
use crate::log::{Location, SegmentId};

/// What is left of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    Nothing,
    Something,
}

/// Only pages with something unsettled are there.
#[derive(Debug, Default)]
pub(super) struct Pages {
    // Boxed: the nodes of the map would hold room for twice as many pages as there are.
    map: BTreeMap<u64, Box<Page>>,
    unsettled: [PriorityStat; 4],
}

impl Pages {
    pub(super) const fn unsettled(&self) -> [PriorityStat; 4] {
        self.unsettled
    }

    /// Bytes that the quota counts.
    pub(super) fn stored_bytes(&self) -> u64 {
        self.unsettled.iter().map(|stat| stat.bytes).sum()
    }

    /// Unsettled messages.
    pub(super) fn records(&self) -> u64 {
        self.unsettled.iter().map(|stat| stat.records).sum()
    }

    /// How many of those below `next_seq` are settled.
    pub(super) fn settled_count(&self, next_seq: u64) -> u64 {
        (next_seq - 1).saturating_sub(self.records())
    }

    /// Bytes of memory.
    pub(super) fn memory_bytes(&self) -> u64 {
        u64::try_from(self.map.len()).unwrap_or(u64::MAX).saturating_mul(PAGE_BYTES)
    }

    pub(super) fn add(&mut self, added: &Added) {
        if let Some(stat) = self.unsettled.get_mut(added.priority.index()) {
            stat.records += 1;
            stat.bytes += added.stored_bytes;
        }
        let number = number_of(added.seq);
        // Most often the newest page, which is found without a search.
        let last = self.map.last_entry().filter(|last| *last.key() == number);
        let page = match last {
            Some(last) => last.into_mut(),
            None => {
                let new = || Box::new(Page::new(added.accepted_at));
                self.map.entry(number).or_insert_with(new)
            }
        };
        page.add(added);
    }

    /// Says where an unsettled record lies; `false` when it is settled already.
    pub(super) fn place(&mut self, seq: u64, location: Location) -> bool {
        let number = number_of(seq);
        let last = self.map.last_entry().filter(|last| *last.key() == number);
        let page = match last {
            Some(last) => last.into_mut(),
            None => match self.map.get_mut(&number) {
                Some(page) => page,
                None => return false,
            },
        };
        let is_live = page.live() & bit_of(seq) != 0;
        if is_live {
            page.place(seq, location);
        }
        is_live
    }

    pub(super) fn is_live(&self, seq: u64) -> bool {
        self.map.get(&number_of(seq)).is_some_and(|page| page.live() & bit_of(seq) != 0)
    }

    /// The lowest unsettled seq, and when the first of its page was accepted.
    pub(super) fn first(&self) -> Option<(u64, UnixMillis)> {
        let (number, page) = self.map.first_key_value()?;
        let seq = number * BacklogPage::SEQS + u64::from(page.live().trailing_zeros());
        Some((seq, page.accepted_at()))
    }

    /// What of a page is unsettled below `durable_below`, and where its records lie.
    pub(super) fn plan(&self, number: u64, durable_below: u64) -> (u128, Vec<(Part, u128)>) {
        let Some(page) = self.map.get(&number) else {
            return (0, Vec::new());
        };
        let live = page.live() & mask_below(number, durable_below);
        (live, page.parts().filter(|(_, bits)| bits & live != 0).collect())
    }

    /// The page with the lowest number from `from` on.
    pub(super) fn next(&self, from: u64) -> Option<BacklogPage> {
        let (number, page) = self.map.range(from..).next()?;
        Some(BacklogPage {
            number: *number,
            by_priority: page.by_priority(),
            deadline_min: page.deadline_min(),
        })
    }

    /// The bytes that messages of a page and priority take on average.
    pub(super) fn average_bytes(&self, number: u64, priority: Priority) -> u64 {
        let Some(page) = self.map.get(&number) else {
            return 0;
        };
        let of = |bits: &u128| u64::from(bits.count_ones().max(1));
        let count = page.by_priority().get(priority.index()).map_or(1, of);
        page.bytes().get(priority.index()).map_or(0, |bytes| bytes / count)
    }

    /// The page in which something between two seqs is unsettled, from page `from` on.
    pub(super) fn next_touched(&self, from: u64, first: u64, last: u64) -> Option<(u64, u128)> {
        let (from, to) = (from.max(number_of(first)), number_of(last));
        if from > to {
            return None;
        }
        self.map
            .range(from..=to)
            .map(|(number, page)| (*number, page.live() & mask_between(*number, first, last)))
            .find(|(_, bits)| *bits != 0)
    }

    /// Settles some of a page. `release` hears how many records of a segment went: those below
    /// `durable_below` have a place there.
    pub(super) fn take(
        &mut self,
        number: u64,
        mask: u128,
        durable_below: u64,
        exact: impl Fn(u32) -> Option<u64>,
        mut release: impl FnMut(SegmentId, u64),
    ) -> Rest {
        let Some(page) = self.map.get_mut(&number) else {
            return Rest::Nothing;
        };
        let gone = page.live() & mask & mask_below(number, durable_below);
        for (part, bits) in page.parts() {
            let count = u64::from((gone & bits).count_ones());
            if count > 0 {
                release(part.segment, count);
            }
        }
        let taken = page.take(mask, exact);
        let rest = if page.live() == 0 { Rest::Nothing } else { Rest::Something };
        if rest == Rest::Nothing {
            self.map.remove(&number);
        }
        let sums = taken.by_priority.iter().zip(taken.bytes);
        for (stat, (bits, bytes)) in self.unsettled.iter_mut().zip(sums) {
            stat.records -= u64::from(bits.count_ones());
            stat.bytes -= bytes;
        }
        rest
    }

    /// The runs of unsettled seqs, lowest first, from `from` on.
    pub(super) fn live_runs(&self, from: u64) -> impl Iterator<Item = RangeInclusive<Seq>> + '_ {
        self.map.range(number_of(from)..).flat_map(move |(number, page)| {
            let bits = page.live() & mask_between(*number, from, u64::MAX);
            runs(bits).map(move |(first, last)| {
                let seq = |index: u32| Seq(number * BacklogPage::SEQS + u64::from(index));
                seq(first)..=seq(last)
            })
        })
    }

    /// The unsettled ones of each page.
    pub(super) fn bits(&self) -> impl Iterator<Item = (u64, u128)> + '_ {
        self.map.iter().map(|(number, page)| (*number, page.live()))
    }
}

/// The seqs of a page whose bits are set.
pub(super) fn seqs_of(number: u64, bits: u128) -> impl Iterator<Item = u64> {
    indices(bits).map(move |index| number * BacklogPage::SEQS + u64::from(index))
}
