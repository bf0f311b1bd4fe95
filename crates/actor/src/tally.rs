//! What is counted of one endpoint, for its scores.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of one endpoint since the start.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    sent: AtomicU64,
    refused: AtomicU64,
    requests_sent: AtomicU64,
    requests_answered: AtomicU64,
}

impl Tally {
    /// Messages left, of which so many are signature requests.
    pub(crate) fn count_sent(&self, messages: u64, requests: u64) {
        self.sent.fetch_add(messages, Ordering::Relaxed);
        self.requests_sent.fetch_add(requests, Ordering::Relaxed);
    }

    /// The peer refused a message.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// The peer answered a signature request with valid signatures and no other.
    pub(crate) fn count_answered(&self) {
        self.requests_answered.fetch_add(1, Ordering::Relaxed);
    }

    /// Refused messages per sent one.
    pub(crate) fn error_rate(&self) -> f64 {
        share(self.refused.load(Ordering::Relaxed), self.sent.load(Ordering::Relaxed))
            .unwrap_or(0.0)
    }

    /// Signature requests answered and verified per sent one; `None` before the first.
    pub(crate) fn correlation_rate(&self) -> Option<f64> {
        share(
            self.requests_answered.load(Ordering::Relaxed),
            self.requests_sent.load(Ordering::Relaxed),
        )
    }
}

/// A part of a whole, from 0 to 1; `None` of nothing.
fn share(part: u64, whole: u64) -> Option<f64> {
    // Past 2^32 the rounding of a quotient no longer matters to a gauge.
    let narrow = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
    (whole > 0).then(|| (narrow(part) / narrow(whole)).min(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_stay_between_nothing_and_all() {
        let tally = Tally::default();
        assert_eq!((tally.error_rate(), tally.correlation_rate()), (0.0, None));
        tally.count_sent(4, 2);
        tally.count_refused();
        tally.count_answered();
        assert_eq!((tally.error_rate(), tally.correlation_rate()), (0.25, Some(0.5)));
        for _ in 0..9 {
            // Answers to what an earlier process sent.
            tally.count_answered();
        }
        assert_eq!(tally.correlation_rate(), Some(1.0));
    }
}
