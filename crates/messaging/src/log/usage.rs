//! How many entries of each segment still matter: decides which segments may go. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::{Location, SegmentId};

#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    live: u64,
    /// The keys of its entries are below it, as far as they count.
    keys_below: u64,
}

/// Counts live entries per segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentUsage {
    segments: BTreeMap<SegmentId, Usage>,
    /// Those without a live entry.
    idle: BTreeSet<SegmentId>,
}

impl SegmentUsage {
    /// An entry lies in a segment; `is_live` when the segment must stay for it.
    pub(crate) fn handle_placed(&mut self, location: Location, is_live: bool) {
        let usage = self.segments.entry(location.segment).or_default();
        usage.live += u64::from(is_live);
        if usage.live == 0 {
            self.idle.insert(location.segment);
        } else if is_live && usage.live == 1 {
            self.idle.remove(&location.segment);
        }
    }

    /// An entry with a key that counts lies in a segment, live or not.
    pub(crate) fn handle_key(&mut self, segment: SegmentId, key: u64) {
        if let Some(usage) = self.segments.get_mut(&segment) {
            usage.keys_below = usage.keys_below.max(key.saturating_add(1));
        }
    }

    /// A live entry stopped to matter.
    pub(crate) fn handle_released(&mut self, segment: SegmentId) {
        self.handle_released_many(segment, 1);
    }

    /// Some live entries stopped to matter.
    pub(crate) fn handle_released_many(&mut self, segment: SegmentId, count: u64) {
        if let Some(usage) = self.segments.get_mut(&segment).filter(|_| count > 0) {
            debug_assert!(usage.live >= count, "invariant M5: an entry is released once");
            usage.live = usage.live.saturating_sub(count);
            if usage.live == 0 {
                self.idle.insert(segment);
            }
        }
    }

    /// Takes the segments without a live entry whose keys are below `keys_below`, oldest first.
    /// The newest segment is never taken: it is being written.
    pub(crate) fn poll_retirable(&mut self, keys_below: u64) -> Vec<SegmentId> {
        let Some(newest) = self.segments.last_key_value().map(|(segment, _)| *segment) else {
            return Vec::new();
        };
        let mut retired = Vec::new();
        for segment in self.idle.range(..newest) {
            if self.segments.get(segment).is_none_or(|usage| usage.keys_below <= keys_below) {
                retired.push(*segment);
            }
        }
        for segment in &retired {
            self.idle.remove(segment);
            self.segments.remove(segment);
        }
        retired
    }

    /// Whether a segment without a live entry is there that is not the newest.
    pub(crate) fn is_any_idle(&self) -> bool {
        let newest = self.segments.last_key_value().map(|(segment, _)| segment);
        self.idle.first().is_some_and(|oldest| newest.is_some_and(|newest| oldest < newest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64) -> Location {
        Location { segment: SegmentId(segment), offset: 0, payload_bytes: 32 }
    }

    #[test]
    fn only_idle_segments_that_are_not_the_newest_go_oldest_first() {
        let mut usage = SegmentUsage::default();
        for segment in 1..=4 {
            usage.handle_placed(at(segment), true);
            usage.handle_key(SegmentId(segment), segment * 10);
        }
        assert!(usage.poll_retirable(u64::MAX).is_empty() && !usage.is_any_idle());
        usage.handle_released(SegmentId(2));
        usage.handle_released(SegmentId(3));
        usage.handle_released(SegmentId(4));
        assert!(usage.poll_retirable(20).is_empty() && usage.is_any_idle());
        assert_eq!(usage.poll_retirable(21), vec![SegmentId(2)]);
        assert_eq!(usage.poll_retirable(u64::MAX), vec![SegmentId(3)]);
        assert!(usage.poll_retirable(u64::MAX).is_empty(), "4 is being written, 1 is live");
        assert!(!usage.is_any_idle());
    }
}
