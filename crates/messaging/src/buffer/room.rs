//! Room: who may still be accepted, and who goes for it. Pure.
//!
//! Invariant M21: what is dropped for others is of low priority, durable, the oldest there is, and
//! handed to the owner, who makes a dead letter of it before it is settled (D5). Until then it
//! counts no more, up to an eighth of the quota.

use std::collections::{BTreeMap, BTreeSet};

use alys_stream_protocol::message::{Priority, Seq};

use super::AppendCause;
use super::config::{BufferConfig, WhenFull};

#[derive(Debug)]
pub(super) struct Room {
    quotas: [u64; 4],
    quota_bytes: u64,
    is_dropping: bool,
    /// Unsettled ones of low priority that are durable and not being dropped.
    low: BTreeMap<u64, u64>,
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
            low: BTreeMap::new(),
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
    /// `stored_bytes` of unsettled ones; drops others for them when that is wanted.
    pub(super) fn admit(
        &mut self,
        stored_bytes: u64,
        messages: impl Iterator<Item = (Priority, u64)>,
    ) -> Result<(), AppendCause> {
        let used_bytes = stored_bytes.saturating_sub(self.evicting_bytes);
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
            Some(refusal) if self.is_dropping => self.evict(short).ok_or(refusal),
            Some(refusal) => Err(refusal),
        }
    }

    /// Drops the oldest until `bytes` are free; `None`, and nothing is dropped, when that cannot be.
    fn evict(&mut self, bytes: u64) -> Option<()> {
        let mut freed = 0;
        let mut last = None;
        for (seq, stored) in &self.low {
            if freed >= bytes {
                break;
            }
            freed += stored;
            last = Some(*seq);
        }
        let is_allowed = self.evicting_bytes == 0
            || self.evicting_bytes.saturating_add(freed) <= self.quota_bytes / 8;
        if freed < bytes || !is_allowed {
            return None;
        }
        let kept = self.low.split_off(&(last? + 1));
        for (seq, stored) in std::mem::replace(&mut self.low, kept) {
            self.evicting.insert(seq, stored);
            self.untold.insert(Seq(seq));
            self.evicted += 1;
        }
        self.evicting_bytes += freed;
        Some(())
    }

    /// A message is durable and unsettled.
    pub(super) fn handle_durable(&mut self, seq: u64, priority: Priority, stored_bytes: u64) {
        if self.is_dropping && priority == Priority::Low {
            self.low.insert(seq, stored_bytes);
        }
    }

    pub(super) fn handle_settled(&mut self, seq: u64) {
        self.low.remove(&seq);
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
    use super::*;

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

    #[test]
    fn less_urgent_messages_leave_room_for_more_urgent_ones() {
        let mut room = room(WhenFull::Reject);
        let mut admit = |stored, priority| room.admit(stored, [(priority, 100)].into_iter());
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
        assert!(room.admit(301, mixed.into_iter()).is_err(), "the last one does not fit");
        assert_eq!(room.admit(300, mixed.into_iter()), Ok(()));
    }

    #[test]
    fn the_oldest_low_ones_go_and_only_when_that_helps() {
        let mut room = room(WhenFull::DropOldestLow);
        for seq in 1..=5 {
            room.handle_durable(seq, Priority::Low, 100);
            room.handle_durable(seq + 10, Priority::Critical, 100);
        }
        let full = room.admit(1000, [(Priority::Critical, 501)].into_iter());
        assert!(full.is_err() && room.take_evicted().is_empty(), "it would not help");
        assert_eq!(room.admit(1000, [(Priority::Critical, 120)].into_iter()), Ok(()));
        assert_eq!(room.take_evicted(), [Seq(1), Seq(2)]);
        assert_eq!(room.take_evicted(), []);
        // What was dropped is free already; more waits until it is settled.
        assert_eq!(room.admit(1120, [(Priority::Critical, 80)].into_iter()), Ok(()));
        assert!(room.admit(1200, [(Priority::Critical, 1)].into_iter()).is_err());
        room.handle_settled(1);
        room.handle_settled(2);
        assert_eq!(room.admit(1000, [(Priority::Critical, 1)].into_iter()), Ok(()));
        assert_eq!((room.take_evicted(), room.evicted()), (vec![Seq(3)], 3));
    }
}
