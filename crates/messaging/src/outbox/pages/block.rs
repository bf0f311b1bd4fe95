//! The bits of four pages: rows of bits, and what they say together.

use alys_stream_protocol::message::Priority;

use super::bits::{PAGES, slots};

pub(super) const LIVE: usize = 0;
pub(super) const URGENT_HIGH: usize = 1;
pub(super) const URGENT_LOW: usize = 2;
pub(super) const SENT: usize = 3;
/// With `PLAIN`: the class, see [`Class`].
pub(super) const ANY: usize = 4;
pub(super) const PLAIN: usize = 5;
/// The first of one row for each endpoint.
pub(super) const ACKED: usize = 6;

pub(super) const NEVER: u64 = u64::MAX;

#[derive(Debug)]
pub(super) struct Block {
    /// For each page, no message of it that is not in memory has an earlier deadline.
    pub(super) deadlines: [u64; PAGES],
    pub(super) rows: Box<[[u128; PAGES]]>,
}

impl Block {
    pub(super) fn new() -> Self {
        Self { deadlines: [NEVER; PAGES], rows: vec![[0; PAGES]; ACKED].into() }
    }

    pub(super) fn row(&self, row: usize, page: usize) -> u128 {
        self.rows.get(row).and_then(|row| row.get(page)).copied().unwrap_or(0)
    }

    pub(super) fn row_mut(&mut self, row: usize, page: usize) -> Option<&mut u128> {
        if row >= self.rows.len() {
            let mut rows = std::mem::take(&mut self.rows).into_vec();
            rows.resize(row + 1, [0; PAGES]);
            self.rows = rows.into();
        }
        self.rows.get_mut(row)?.get_mut(page)
    }

    pub(super) fn set(&mut self, row: usize, page: usize, bits: u128) {
        if let Some(word) = self.row_mut(row, page) {
            *word |= bits;
        }
    }

    pub(super) fn clear(&mut self, row: usize, page: usize, bits: u128) {
        if row < self.rows.len()
            && let Some(word) = self.row_mut(row, page)
        {
            *word &= !bits;
        }
    }

    pub(super) fn live_of(&self, priority: Priority, page: usize) -> u128 {
        let (high, low) = (self.row(URGENT_HIGH, page), self.row(URGENT_LOW, page));
        self.row(LIVE, page)
            & match priority {
                Priority::Low => !high & !low,
                Priority::Normal => !high & low,
                Priority::High => high & !low,
                Priority::Critical => high & low,
            }
    }

    pub(super) fn acked_by_all(&self, enabled: u64, page: usize) -> u128 {
        if enabled == 0 {
            return 0;
        }
        slots(enabled).fold(u128::MAX, |bits, slot| bits & self.row(ACKED + slot, page))
    }

    pub(super) fn acked_by_some(&self, page: usize) -> u128 {
        (ACKED..self.rows.len()).fold(0, |bits, row| bits | self.row(row, page))
    }

    /// What an endpoint did not acknowledge and is not known to be under `any`.
    pub(super) fn unacknowledged_by(&self, slot: usize, priority: Priority, page: usize) -> u128 {
        let any = self.row(ANY, page) & self.row(PLAIN, page);
        self.live_of(priority, page) & !self.row(ACKED + slot, page) & !any
    }

    pub(super) fn complex(&self, page: usize) -> u128 {
        self.row(LIVE, page) & self.row(ANY, page) & !self.row(PLAIN, page)
    }

    /// Takes messages out; returns how many of each priority.
    pub(super) fn remove(&mut self, page: usize, bits: u128) -> [usize; 4] {
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

    pub(super) fn is_empty(&self) -> bool {
        self.rows.first().is_none_or(|live| live.iter().all(|bits| *bits == 0))
    }
}
