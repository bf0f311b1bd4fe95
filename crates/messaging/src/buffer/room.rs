//! Room: who may still be accepted, and who goes for it. Pure.
//!
//! Invariant M21: what is dropped for others is of low priority, durable, the oldest there is, and
//! handed to the owner, who makes a dead letter of it before it is settled (D5). Until then it
//! counts no more, up to an eighth of the quota and [`EVICTING_MAX`] messages.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{Priority, Seq};

use super::AppendCause;
use super::config::{BufferConfig, WhenFull};
use super::page::{mask_between, number_of};
use super::pages::{Pages, seqs_of};

/// Most messages that are being dropped and not settled yet.
const EVICTING_MAX: usize = 65_536;

#[derive(Debug)]
pub(super) struct Room {
    quotas: [u64; 4],
    quota_bytes: u64,
    is_dropping: bool,
    /// Everything of low priority up to it is settled or being dropped: what is dropped is always
    /// the oldest there is.
    evicted_to: u64,
    /// Being dropped: the owner has not settled them yet.
    evicting: BTreeMap<u64, u64>,
    evicting_bytes: u64,
    /// Of these, the ones that the owner was not told of yet.
    untold: BTreeSet<Seq>,
    evicted: u64,
}

impl Room {
    pub(super) fn new(config: &BufferConfig) -> Self {
        let mut quotas = [config.quota_bytes; 4];
        for priority in [Priority::Low, Priority::Normal, Priority::High, Priority::Critical] {
            if let Some(quota) = quotas.get_mut(priority.index()) {
                *quota = config.quota_bytes_of(priority);
            }
        }
        Self {
            quotas,
            quota_bytes: config.quota_bytes,
            is_dropping: config.when_full == WhenFull::DropOldestLow,
            evicted_to: 0,
            evicting: BTreeMap::new(),
            evicting_bytes: 0,
            untold: BTreeSet::new(),
            evicted: 0,
        }
    }

    pub(super) const fn quotas(&self) -> [u64; 4] {
        self.quotas
    }

    /// How many were dropped since the buffer was opened.
    pub(super) const fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Decides whether messages of these priorities and bytes are accepted, all or none, beside
    /// what is unsettled; drops others for them, of those below `durable_below`, when that is
    /// wanted.
    pub(super) fn admit(
        &mut self,
        pages: &Pages,
        durable_below: u64,
        messages: impl Iterator<Item = (Priority, u64)>,
    ) -> Result<(), AppendCause> {
        let used_bytes = pages.stored_bytes().saturating_sub(self.evicting_bytes);
        let mut after = used_bytes;
        let mut short = 0;
        let mut refusal = None;
        for (priority, bytes) in messages {
            after = after.saturating_add(bytes);
            let quota_bytes = self.quotas.get(priority.index()).copied().unwrap_or(0);
            let missing = after.saturating_sub(quota_bytes);
            if missing > short {
                short = missing;
                refusal = Some(AppendCause::Full { used_bytes, quota_bytes });
            }
        }
        match refusal {
            None => Ok(()),
            Some(refusal) if self.is_dropping => {
                self.evict(short, pages, durable_below).ok_or(refusal)
            }
            Some(refusal) => Err(refusal),
        }
    }

    /// Drops the oldest until `bytes` are free; `None`, and nothing is dropped, when that cannot be.
    fn evict(&mut self, bytes: u64, pages: &Pages, durable_below: u64) -> Option<()> {
        let last_seq = durable_below.checked_sub(1)?;
        let mut freed = 0;
        let mut chosen = Vec::new();
        let mut from = number_of(self.evicted_to + 1);
        while freed < bytes
            && let Some(page) = pages.next(from)
            && page.first_seq().0 <= last_seq
        {
            let low = page.by_priority.get(Priority::Low.index()).copied().unwrap_or(0);
            let bits = low & mask_between(page.number, self.evicted_to + 1, last_seq);
            let average = pages.average_bytes(page.number, Priority::Low);
            for seq in seqs_of(page.number, bits) {
                if freed >= bytes {
                    break;
                }
                freed += average;
                chosen.push((seq, average));
            }
            if chosen.is_empty() {
                // Nothing there, and nothing comes in there any more: not looked at again.
                self.evicted_to = (page.first_seq().0 + 127).min(last_seq);
            }
            from = page.number + 1;
        }
        let is_allowed = self.evicting_bytes == 0
            || (self.evicting_bytes.saturating_add(freed) <= self.quota_bytes / 8
                && self.evicting.len() + chosen.len() <= EVICTING_MAX);
        if freed < bytes || !is_allowed {
            return None;
        }
        for (seq, stored) in chosen {
            self.evicting.insert(seq, stored);
            self.untold.insert(Seq(seq));
            self.evicted_to = seq;
            self.evicted += 1;
        }
        self.evicting_bytes += freed;
        Some(())
    }

    pub(super) fn is_evicting(&self) -> bool {
        !self.evicting.is_empty()
    }

    pub(super) fn handle_settled(&mut self, seq: u64) {
        if let Some(stored) = self.evicting.remove(&seq) {
            self.evicting_bytes -= stored;
            self.untold.remove(&Seq(seq));
        }
    }

    pub(super) fn has_evicted(&self) -> bool {
        !self.untold.is_empty()
    }

    /// What was dropped since the last call.
    pub(super) fn take_evicted(&mut self) -> Vec<Seq> {
        std::mem::take(&mut self.untold).into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use alys_stream_protocol::time::UnixMillis;

    use super::*;
    use crate::buffer::page::{Added, bit_of};

    fn room(when_full: WhenFull) -> Room {
        Room::new(&BufferConfig {
            quota_bytes: 1000,
            quota_low_bytes: Some(700),
            quota_normal_bytes: Some(850),
            quota_high_bytes: Some(950),
            when_full,
            ..BufferConfig::default()
        })
    }

    /// So many bytes of unsettled messages, in one of low priority.
    fn stored(stored_bytes: u64) -> Pages {
        let mut pages = Pages::default();
        add(&mut pages, 1, Priority::Low, stored_bytes);
        pages
    }

    fn add(pages: &mut Pages, seq: u64, priority: Priority, stored_bytes: u64) {
        let accepted_at = UnixMillis(0);
        pages.add(&Added { seq, priority, stored_bytes, deadline: None, accepted_at });
    }

    fn settle(room: &mut Room, pages: &mut Pages, seq: u64) {
        pages.take(number_of(seq), bit_of(seq), u64::MAX, |_| None, |_, _| {});
        room.handle_settled(seq);
    }

    #[test]
    fn less_urgent_messages_leave_room_for_more_urgent_ones() {
        let mut room = room(WhenFull::Reject);
        let mut admit =
            |bytes, priority| room.admit(&stored(bytes), 2, [(priority, 100)].into_iter());
        for (priority, most) in [
            (Priority::Low, 600),
            (Priority::Normal, 750),
            (Priority::High, 850),
            (Priority::Critical, 900),
        ] {
            assert_eq!(admit(most, priority), Ok(()));
            let (used_bytes, quota_bytes) = (most + 1, most + 100);
            assert_eq!(
                admit(most + 1, priority),
                Err(AppendCause::Full { used_bytes, quota_bytes })
            );
        }
        let mixed = [(Priority::Critical, 300), (Priority::Low, 100)];
        assert!(room.admit(&stored(301), 2, mixed.into_iter()).is_err(), "the last does not fit");
        assert_eq!(room.admit(&stored(300), 2, mixed.into_iter()), Ok(()));
    }

    #[test]
    fn the_oldest_low_ones_go_and_only_when_that_helps() {
        let mut room = room(WhenFull::DropOldestLow);
        let mut pages = Pages::default();
        for seq in 300..305 {
            add(&mut pages, seq, Priority::Low, 100);
            add(&mut pages, seq + 200, Priority::Critical, 100);
        }
        let critical = |bytes| [(Priority::Critical, bytes)].into_iter();
        let full = room.admit(&pages, 1000, critical(501));
        assert!(full.is_err() && room.take_evicted().is_empty(), "it would not help");
        assert!(room.admit(&pages, 301, critical(120)).is_err(), "only what is durable goes");
        assert_eq!(room.admit(&pages, 1000, critical(120)), Ok(()));
        assert_eq!(room.take_evicted(), [Seq(300), Seq(301)]);
        assert_eq!(room.take_evicted(), []);
        add(&mut pages, 600, Priority::Critical, 120);
        // What was dropped is free already; more waits until it is settled.
        assert_eq!(room.admit(&pages, 1000, critical(80)), Ok(()));
        add(&mut pages, 601, Priority::Critical, 80);
        assert!(room.admit(&pages, 1000, critical(1)).is_err());
        settle(&mut room, &mut pages, 300);
        settle(&mut room, &mut pages, 301);
        assert!(!room.is_evicting());
        assert_eq!(room.admit(&pages, 1000, critical(1)), Ok(()));
        assert_eq!((room.take_evicted(), room.evicted()), (vec![Seq(302)], 3));
    }
}
