//! When bytes that a link takes now were handed to it at the earliest.
//!
//! Whoever writes to a link that takes nothing hands over a little more than it takes: the HTTP/2
//! library keeps it. What was chosen before a deadline may so be written after it, and no program
//! can take it back; what was chosen after its deadline may not hide behind that.

use std::collections::VecDeque;

/// What may be handed over and not be written: the send buffer of a stream, and the batches on
/// their way into it.
const AHEAD_BYTES_MAX: u64 = 1024 * 1024 + 128 * 1024;

/// One direction of a connection.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    written: u64,
    /// The link has taken less than there was since then.
    blocked_at: Option<u64>,
    /// It took everything then, unless more comes at once.
    flushed_at: Option<u64>,
    /// How much was written up to which moment, while there is a backlog.
    marks: VecDeque<(u64, u64)>,
}

impl Backlog {
    /// The link takes less than there is.
    pub(crate) fn handle_blocked(&mut self, now: u64) {
        self.settle(now);
        self.flushed_at = None;
        self.blocked_at.get_or_insert(now);
    }

    /// The link took everything that it was offered.
    pub(crate) fn handle_flushed(&mut self, now: u64) {
        self.flushed_at = Some(now);
    }

    /// Bytes are written. Says when they were handed over at the earliest.
    pub(crate) fn handle_written(&mut self, now: u64, bytes: usize) -> u64 {
        self.settle(now);
        self.written += u64::try_from(bytes).unwrap_or(u64::MAX);
        let Some(blocked_at) = self.blocked_at else { return now };
        self.marks.push_back((self.written, now));
        let is_behind = |(to, _): &(u64, u64)| to + AHEAD_BYTES_MAX <= self.written;
        while self.marks.get(1).is_some_and(is_behind) {
            self.marks.pop_front();
        }
        let behind = self.marks.front().filter(|mark| is_behind(mark));
        behind.map_or(blocked_at, |(_, at)| blocked_at.max(*at))
    }

    /// Time has passed since the link took everything: there is no backlog.
    fn settle(&mut self, now: u64) {
        if self.flushed_at.is_some_and(|at| at != now) {
            (self.blocked_at, self.flushed_at) = (None, None);
            self.marks.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_free_link_takes_was_handed_over_now() {
        let mut backlog = Backlog::default();
        assert_eq!(backlog.handle_written(5, 100), 5);
        backlog.handle_flushed(5);
        assert_eq!(backlog.handle_written(9, 100), 9);
    }

    #[test]
    fn what_a_blocked_link_takes_later_may_be_as_old_as_the_block() {
        let mut backlog = Backlog::default();
        backlog.handle_blocked(10);
        assert_eq!(backlog.handle_written(30, 100), 10);
        // It goes on writing in the same moment.
        backlog.handle_flushed(30);
        assert_eq!(backlog.handle_written(30, 100), 10);
        backlog.handle_flushed(30);
        backlog.handle_blocked(30);
        assert_eq!(backlog.handle_written(40, 100), 10);
        backlog.handle_flushed(40);
        assert_eq!(backlog.handle_written(41, 100), 41, "it had taken everything");
    }

    #[test]
    fn no_more_than_the_library_keeps_may_be_old() {
        let mut backlog = Backlog::default();
        let half = usize::try_from(AHEAD_BYTES_MAX).unwrap() / 2;
        backlog.handle_blocked(10);
        assert_eq!(backlog.handle_written(30, half), 10);
        assert_eq!(backlog.handle_written(40, half), 10);
        assert_eq!(backlog.handle_written(50, half), 30);
        assert_eq!(backlog.handle_written(60, half), 40);
    }
}
