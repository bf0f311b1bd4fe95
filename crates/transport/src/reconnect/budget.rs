//! How many attempts may be repeats: a share of the first ones, and a few in any case.
//!
//! Pure. A retry storm is what turns a hiccup into an outage: when everything fails at once,
//! repeats must not be a multiple of the work.
//!
//! Invariants:
//! - T49: in any window the repeats are at most `ratio` of the first attempts plus `per_second` for
//!   each second of it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::window::Window;

/// The size of a budget. Source of the defaults: Finagle, linkerd.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryBudgetConfig {
    /// Repeats for each first attempt; 0 to 10, default 0.2.
    pub ratio: f64,
    /// Repeats in a second that are always allowed; default 10.
    pub per_second: u32,
    /// Over so long; at least 1 s, default 10 s.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
}

impl Default for RetryBudgetConfig {
    fn default() -> Self {
        Self { ratio: 0.2, per_second: 10, window: Duration::from_secs(10) }
    }
}

/// The budget. First attempts are kept as successes of the window, repeats as failures.
#[derive(Debug, Clone)]
pub struct RetryBudget {
    config: RetryBudgetConfig,
    spent: Window,
}

impl RetryBudget {
    /// A full one. Values of `config` out of range are brought into it.
    #[must_use]
    pub fn new(config: RetryBudgetConfig) -> Self {
        let ratio = if config.ratio.is_nan() { 0.0 } else { config.ratio.clamp(0.0, 10.0) };
        let window = config.window.max(Duration::from_secs(1));
        let config = RetryBudgetConfig { ratio, window, ..config };
        Self { config, spent: Window::new(window) }
    }

    /// Something is tried for the first time.
    pub fn handle_first(&mut self, now: Instant) {
        self.spent.add(now, 1, 0);
    }

    /// Something is to be tried again. False when the budget is spent: then it is not.
    pub fn try_retry(&mut self, now: Instant) -> bool {
        let counted = self.spent.counted(now);
        let reserve = f64::from(self.config.per_second) * self.config.window.as_secs_f64();
        let allowed = counted.successes as f64 * self.config.ratio + reserve;
        let may = (counted.failures as f64) + 1.0 <= allowed;
        if may {
            self.spent.add(now, 0, 1);
        }
        may
    }

    /// How long after a refusal it is worth asking again.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.config.window / 10
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn repeats_are_a_share_of_the_first_attempts_and_a_few_more() {
        let t0 = start();
        let mut budget = RetryBudget::new(RetryBudgetConfig::default());
        let spend =
            |budget: &mut RetryBudget, now| (0..1000).filter(|_| budget.try_retry(now)).count();
        assert_eq!(spend(&mut budget, t0), 100, "T49: the reserve alone");
        for _ in 0..500 {
            budget.handle_first(t0);
        }
        assert_eq!(spend(&mut budget, t0), 100, "T49: a fifth of 500");
        let later = t0 + Duration::from_secs(11);
        assert_eq!(spend(&mut budget, later), 100, "the window has passed");
    }
}
