//! When the writer has it written down how far the log is durable (M35).

use super::Writer;
use crate::log::Position;
use crate::log::format::Mark;

/// Bytes that are made durable before the mark says so, at most: it costs two syncs of the other
/// thread.
const UNMARKED_MAX: u64 = 8 * 1024 * 1024;

impl Writer {
    /// So many bytes were made durable, up to the position `last`. The first ones of a segment are
    /// marked at once.
    pub(super) fn mark_when_due(&mut self, last: u64, bytes: u64) {
        self.unmarked += bytes;
        if self.marked != self.tail.segment || self.unmarked >= UNMARKED_MAX {
            (self.marked, self.unmarked) = (self.tail.segment, 0);
            self.shared.housekeeping().mark = Some(self.mark(last));
            self.shared.wake_housekeeper.ring();
        }
    }

    /// Says that everything up to the position `last`, which is in the present segment if anything
    /// of it is, is durable.
    pub(super) fn mark(&self, last: u64) -> Mark {
        Mark {
            log_id: self.shared.log_id,
            segment: self.tail.segment,
            next_position: Position(last + 1),
            next_key: self.client.next_key(),
            offset: u32::try_from(self.tail.offset).unwrap_or(u32::MAX),
        }
    }
}
