//! The average of latencies that believes a higher one at once and a lower one slowly.
//!
//! After linkerd: a peer that becomes slow is left at once, and gets another chance as its average
//! decays. What decays is only an idle endpoint; see [`super::member`].

use std::time::{Duration, Instant};

#[derive(Debug, Clone, Copy)]
pub(super) struct PeakEwma {
    seconds: f64,
    at: Instant,
}

impl PeakEwma {
    pub(super) const fn new(now: Instant, default_rtt: Duration) -> Self {
        Self { seconds: default_rtt.as_secs_f64(), at: now }
    }

    /// One measured.
    pub(super) fn add(&mut self, now: Instant, sample: Duration, decay: Duration) {
        let sample = sample.as_secs_f64();
        if sample >= self.seconds {
            self.seconds = sample;
        } else {
            let keeps = self.keeps(now, decay);
            self.seconds = self.seconds * keeps + sample * (1.0 - keeps);
        }
        self.at = self.at.max(now);
    }

    /// As it stands, without decay.
    pub(super) const fn last(&self) -> f64 {
        self.seconds
    }

    /// After nothing was measured up to now.
    pub(super) fn decayed(&self, now: Instant, decay: Duration) -> f64 {
        self.seconds * self.keeps(now, decay)
    }

    /// The share of the average that is left now.
    fn keeps(&self, now: Instant, decay: Duration) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (-elapsed / decay.as_secs_f64()).exp()
    }
}
