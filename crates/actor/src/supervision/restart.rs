//! How often a child may be restarted, and how long to wait before each restart.
//!
//! Pure: the supervisors feed it the time of every exit. The scheme is OTP's restart intensity
//! (`MaxR` restarts in `MaxT` seconds) with exponential backoff between restarts.
//!
//! Invariants:
//! - A1: never more than `restarts_max` restarts within `window`; the next exit escalates.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Bounds of restarting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestartLimits {
    /// Most restarts within [`RestartLimits::window`].
    pub restarts_max: usize,
    /// The period that restarts are counted over.
    pub window: Duration,
    /// Wait before the first restart of a series.
    pub backoff_min: Duration,
    /// Longest wait before a restart.
    pub backoff_max: Duration,
}

impl Default for RestartLimits {
    /// 5 restarts in 60 s, waiting 100 ms, then twice as long each time, at most 30 s.
    fn default() -> Self {
        Self {
            restarts_max: 5,
            window: Duration::from_secs(60),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
        }
    }
}

/// What a supervisor does about an exit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Start the child again after this long.
    RestartAfter(Duration),
    /// The budget is spent: tell the parent.
    Escalate,
}

/// The exits of one child.
#[derive(Debug, Clone)]
pub struct RestartBudget {
    limits: RestartLimits,
    exits: VecDeque<Instant>,
    total: u64,
}

impl RestartBudget {
    /// A fresh budget.
    #[must_use]
    pub const fn new(limits: RestartLimits) -> Self {
        Self { limits, exits: VecDeque::new(), total: 0 }
    }

    /// How often the child has exited in all.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Counts an exit and says what to do about it.
    pub fn handle_exit(&mut self, now: Instant) -> Verdict {
        self.total += 1;
        while let Some(first) = self.exits.front() {
            if now.saturating_duration_since(*first) < self.limits.window {
                break;
            }
            self.exits.pop_front();
        }
        if self.exits.len() >= self.limits.restarts_max {
            return Verdict::Escalate;
        }
        let doublings = u32::try_from(self.exits.len()).unwrap_or(u32::MAX).min(16);
        self.exits.push_back(now);
        let wait = self.limits.backoff_min.saturating_mul(1 << doublings);
        Verdict::RestartAfter(wait.min(self.limits.backoff_max))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to start from")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_sixth_exit_within_a_minute_escalates() {
        let mut budget = RestartBudget::new(RestartLimits::default());
        let now = start();
        let waits: Vec<_> =
            (0..6).map(|n| budget.handle_exit(now + Duration::from_secs(n))).collect();
        let millis = |ms| Verdict::RestartAfter(Duration::from_millis(ms));
        assert_eq!(
            waits,
            [millis(100), millis(200), millis(400), millis(800), millis(1600), Verdict::Escalate]
        );
    }

    #[test]
    fn exits_far_apart_never_escalate() {
        let mut budget = RestartBudget::new(RestartLimits::default());
        let now = start();
        for n in 0..100 {
            let verdict = budget.handle_exit(now + Duration::from_secs(60 * n));
            assert_eq!(verdict, Verdict::RestartAfter(Duration::from_millis(100)));
        }
        assert_eq!(budget.total(), 100);
    }
}
