//! How much an endpoint may be sent now, by priority; and how long a message may be passed over for
//! shorter ones. Pure.
//!
//! A class whose head does not fit is passed over: it holds back neither a more urgent class nor a
//! less urgent one, and within it the order stays. So that a long message does not wait without end
//! while shorter ones take every byte that becomes free, its class *gathers* now and then: for a
//! while nobody else below `Critical` is sent anything, until what is in flight was acknowledged and
//! it fits. [`PASSED_MILLIS`] and [`GATHER_MILLIS`] bound how often and how long. `Critical` is not
//! passed over first: it gathers at once.

use std::time::Duration;

use alys_stream_protocol::message::Priority;
use alys_stream_protocol::time::UnixMillis;

/// How long the head of a class is passed over because it is too long for the bytes that are left,
/// before its class gathers. Shorter: the others are interrupted more often; longer: a long message
/// waits longer on a busy connection.
pub const PASSED_MILLIS: u64 = 10_000;

/// Longest that a class gathers before the others go on for as long as [`PASSED_MILLIS`]: what is in
/// flight then takes longer than this, or it will never fit. Longer: slower peers get long messages
/// past busy others; shorter: a message that never fits costs the others less.
pub const GATHER_MILLIS: u64 = 5_000;

/// What an endpoint may be sent now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// At most so many messages.
    pub messages: u32,
    /// At most so many bytes of payloads.
    pub bytes: u64,
    /// So many messages more, when all of these are critical.
    pub critical_messages: u32,
    /// So many bytes more, for critical messages alone.
    pub critical_bytes: u64,
    /// A message below `Critical` with a longer payload waits: another long one is on its way.
    pub large_bytes_max: u64,
}

impl Budget {
    /// A budget without anything set aside.
    #[must_use]
    pub const fn new(messages: u32, bytes: u64) -> Self {
        let (critical_messages, critical_bytes, large_bytes_max) = (0, 0, u64::MAX);
        Self { messages, bytes, critical_messages, critical_bytes, large_bytes_max }
    }

    /// Whether a message fits, after others were taken.
    pub(super) fn fits(&self, taken: Taken, priority: Priority, payload_bytes: u32) -> Fit {
        let payload_bytes = u64::from(payload_bytes);
        let (messages, bytes, large_bytes_max) = match priority {
            Priority::Critical => (
                self.messages.saturating_add(self.critical_messages),
                self.bytes.saturating_add(self.critical_bytes),
                u64::MAX,
            ),
            Priority::High | Priority::Normal | Priority::Low => {
                (self.messages, self.bytes, self.large_bytes_max)
            }
        };
        if taken.messages >= messages || payload_bytes > large_bytes_max {
            Fit::NotNow
        } else if taken.bytes.saturating_add(payload_bytes) > bytes {
            Fit::TooLong
        } else {
            Fit::Fits
        }
    }
}

/// What was taken of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Taken {
    pub(super) messages: u32,
    pub(super) bytes: u64,
}

/// Whether a message fits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fit {
    Fits,
    /// No message of its class does, or no other that is as long.
    NotNow,
    /// A shorter one of another class might.
    TooLong,
}

/// Since when the heads of the classes of one endpoint are passed over because they are too long.
#[derive(Debug, Default)]
pub(super) struct PassedOver {
    since: [Option<UnixMillis>; 4],
}

impl PassedOver {
    /// The head of a class was passed over.
    pub(super) fn note(&mut self, now: UnixMillis, priority: Priority) {
        if let Some(since) = self.since.get_mut(priority.index()) {
            since.get_or_insert(now);
        }
    }

    /// Something of a class was sent, or it is empty.
    pub(super) fn clear(&mut self, priority: Priority) {
        if let Some(since) = self.since.get_mut(priority.index()) {
            *since = None;
        }
    }

    /// The clock was set back so far.
    pub(super) fn handle_set_back(&mut self, by: Duration) {
        for since in self.since.iter_mut().flatten() {
            *since = since.saturating_sub(by);
        }
    }

    /// The most urgent class that gathers, and until when.
    pub(super) fn gathering(&self, now: UnixMillis) -> Option<(Priority, UnixMillis)> {
        Priority::ALL.into_iter().find_map(|priority| {
            let since = self.since.get(priority.index()).copied().flatten()?;
            let head_start = if priority == Priority::Critical { PASSED_MILLIS } else { 0 };
            let waited = now.0.saturating_sub(since.0).saturating_add(head_start);
            let turn = waited % (PASSED_MILLIS + GATHER_MILLIS);
            let left = PASSED_MILLIS + GATHER_MILLIS - turn;
            (turn >= PASSED_MILLIS).then(|| (priority, UnixMillis(now.0.saturating_add(left))))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_class_has_its_own_budget() {
        let budget = Budget {
            critical_messages: 1,
            critical_bytes: 100,
            large_bytes_max: 50,
            ..Budget::new(2, 200)
        };
        let taken = |messages, bytes| Taken { messages, bytes };
        assert_eq!(budget.fits(taken(1, 150), Priority::Low, 50), Fit::Fits);
        assert_eq!(budget.fits(taken(1, 151), Priority::Low, 50), Fit::TooLong);
        assert_eq!(budget.fits(taken(0, 0), Priority::High, 51), Fit::NotNow, "another is long");
        assert_eq!(budget.fits(taken(2, 0), Priority::Normal, 1), Fit::NotNow);
        assert_eq!(budget.fits(taken(2, 0), Priority::Critical, 300), Fit::Fits);
        assert_eq!(budget.fits(taken(2, 0), Priority::Critical, 301), Fit::TooLong);
        assert_eq!(budget.fits(taken(3, 0), Priority::Critical, 1), Fit::NotNow);
        let no_end = Budget::new(u32::MAX, u64::MAX);
        assert_eq!(no_end.fits(taken(9, u64::MAX), Priority::Low, 1), Fit::Fits);
    }

    #[test]
    fn a_class_gathers_for_a_while_after_it_was_passed_over_for_long() {
        let mut passed = PassedOver::default();
        let at = UnixMillis;
        passed.note(at(1_000), Priority::Low);
        passed.note(at(5_000), Priority::Low);
        let low = |until| Some((Priority::Low, at(until)));
        assert_eq!(passed.gathering(at(10_999)), None);
        assert_eq!(passed.gathering(at(11_000)), low(16_000));
        assert_eq!(passed.gathering(at(15_999)), low(16_000));
        assert_eq!(passed.gathering(at(16_000)), None, "the others go on");
        assert_eq!(passed.gathering(at(26_000)), low(31_000));
        passed.note(at(26_000), Priority::Critical);
        let critical = Some((Priority::Critical, at(31_000)));
        assert_eq!(passed.gathering(at(26_000)), critical, "at once");
        passed.clear(Priority::Critical);
        passed.clear(Priority::Low);
        assert_eq!(passed.gathering(at(26_000)), None);
    }
}
