//! Successes and failures of the last while, in a fixed amount of memory.
//!
//! Pure. The time is cut into [`BUCKETS`] equal parts; what is older than all of them is forgotten
//! a part at a time, so an outcome counts for at least the period less one part.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Parts of a window: the error in its length is at most one of them.
pub(crate) const BUCKETS: u32 = 30;

/// What was counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) successes: u64,
    pub(crate) failures: u64,
}

impl Counted {
    pub(crate) const fn total(self) -> u64 {
        self.successes.saturating_add(self.failures)
    }

    /// The share of successes; 1 when nothing was counted.
    pub(crate) fn success_rate(self) -> f64 {
        match self.total() {
            0 => 1.0,
            total => self.successes as f64 / total as f64,
        }
    }
}

/// The window.
#[derive(Debug, Clone)]
pub(crate) struct Window {
    bucket: Duration,
    /// Parts with something in them: when each began, and what is in it; oldest first.
    buckets: VecDeque<(Instant, Counted)>,
}

impl Window {
    /// Of at least 30 ms.
    pub(crate) fn new(period: Duration) -> Self {
        let bucket = (period / BUCKETS).max(Duration::from_millis(1));
        Self { bucket, buckets: VecDeque::new() }
    }

    pub(crate) fn add(&mut self, now: Instant, successes: u64, failures: u64) {
        self.forget(now);
        let begins_new =
            self.buckets.back().is_none_or(|(began, _)| now.duration_since(*began) >= self.bucket);
        if begins_new {
            self.buckets.push_back((now, Counted::default()));
        }
        if let Some((_, counted)) = self.buckets.back_mut() {
            counted.successes = counted.successes.saturating_add(successes);
            counted.failures = counted.failures.saturating_add(failures);
        }
    }

    pub(crate) fn counted(&mut self, now: Instant) -> Counted {
        self.forget(now);
        self.peek(now)
    }

    /// As [`Window::counted`], without forgetting.
    pub(crate) fn peek(&self, now: Instant) -> Counted {
        let mut sum = Counted::default();
        for (_, counted) in self.buckets.iter().filter(|(began, _)| !self.is_over(now, *began)) {
            sum.successes = sum.successes.saturating_add(counted.successes);
            sum.failures = sum.failures.saturating_add(counted.failures);
        }
        sum
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.clear();
    }

    fn forget(&mut self, now: Instant) {
        while self.buckets.front().is_some_and(|(began, _)| self.is_over(now, *began)) {
            self.buckets.pop_front();
        }
    }

    fn is_over(&self, now: Instant, began: Instant) -> bool {
        now.saturating_duration_since(began) >= self.bucket * BUCKETS
    }
}
