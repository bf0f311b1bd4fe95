//! How many entries of each segment still matter: decides which segments may go. Pure.

use std::collections::BTreeMap;

use super::{Location, SegmentId, format};

#[derive(Debug, Clone, Copy, Default)]
struct Usage {
    live: u64,
    bytes: u64,
}

/// Counts live entries per segment.
#[derive(Debug, Default)]
pub(crate) struct SegmentUsage {
    segments: BTreeMap<SegmentId, Usage>,
    /// Bytes of segments without a live entry.
    idle_bytes: u64,
}

impl SegmentUsage {
    /// An entry lies in a segment; `is_live` when the segment must stay for it.
    pub(crate) fn handle_placed(&mut self, location: Location, is_live: bool) {
        let stored = format::stored_bytes(usize::try_from(location.payload_bytes).unwrap_or(0));
        let bytes = u64::try_from(stored).unwrap_or(u64::MAX);
        let usage = self.segments.entry(location.segment).or_default();
        let was_idle_bytes = if usage.live == 0 { usage.bytes } else { 0 };
        usage.bytes += bytes;
        usage.live += u64::from(is_live);
        let idle_bytes = if usage.live == 0 { usage.bytes } else { 0 };
        self.idle_bytes = self.idle_bytes + idle_bytes - was_idle_bytes;
    }

    /// A live entry stopped to matter.
    pub(crate) fn handle_released(&mut self, segment: SegmentId) {
        self.handle_released_many(segment, 1);
    }

    /// Some live entries stopped to matter.
    pub(crate) fn handle_released_many(&mut self, segment: SegmentId, count: u64) {
        if let Some(usage) = self.segments.get_mut(&segment).filter(|_| count > 0) {
            debug_assert!(usage.live >= count, "invariant M5: an entry is released once");
            let was_live = usage.live > 0;
            usage.live = usage.live.saturating_sub(count);
            if was_live && usage.live == 0 {
                self.idle_bytes += usage.bytes;
            }
        }
    }

    /// Takes the oldest segments without a live entry until at most `keep_bytes` of such remain.
    /// The newest segment is never taken: it is being written.
    pub(crate) fn poll_retirable(&mut self, keep_bytes: u64) -> Vec<SegmentId> {
        if self.idle_bytes <= keep_bytes {
            return Vec::new();
        }
        let Some(newest) = self.segments.last_key_value().map(|(segment, _)| *segment) else {
            return Vec::new();
        };
        let mut retired = Vec::new();
        let mut idle_bytes = self.idle_bytes;
        for (segment, usage) in &self.segments {
            if idle_bytes <= keep_bytes {
                break;
            }
            if usage.live == 0 && *segment != newest {
                idle_bytes -= usage.bytes;
                retired.push(*segment);
            }
        }
        for segment in &retired {
            self.segments.remove(segment);
        }
        self.idle_bytes = idle_bytes;
        retired
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
        }
        assert!(usage.poll_retirable(0).is_empty());
        usage.handle_released(SegmentId(2));
        usage.handle_released(SegmentId(3));
        usage.handle_released(SegmentId(4));
        assert_eq!(usage.poll_retirable(128), vec![SegmentId(2)]);
        assert_eq!(usage.poll_retirable(0), vec![SegmentId(3)]);
        assert!(usage.poll_retirable(0).is_empty(), "4 is being written, 1 is live");
    }
}
