//! When to dial again: exponential backoff with jitter, per endpoint, which never gives up; and
//! what holds it back further: [`Breaker`] and [`RetryBudget`], and [`DialSpread`] at the start.
//!
//! Not the decision that a connection is lost: that is [`crate::connection`]'s.
//!
//! Invariants:
//! - T3: a delay is never longer than `backoff_max` and, jitter included, never shorter than the
//!   first one less its jitter; so a permanent failure cannot spin.
//! - T4: only proof of a working link (an acknowledged message, or 30 s healthy) resets it; a mere
//!   TCP connect does not, or a peer that accepts and dies would be dialled in a tight loop.

use std::time::Duration;

use serde::{Deserialize, Serialize};

mod breaker;
mod budget;
mod dials;
mod spread;

pub use breaker::{Admission, Breaker, BreakerConfig, BreakerState, Failure};
pub use budget::{RetryBudget, RetryBudgetConfig};
pub use dials::{Dials, DialsConfig};
pub use spread::{DialSpread, DialSpreadConfig};

/// The bounds of a [`Backoff`]. Source of the defaults: the gRPC connection-backoff specification.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BackoffConfig {
    /// The first delay; default 1 s. Lower finds a restarted peer sooner and costs it more dials.
    #[serde(with = "humantime_serde")]
    pub first: Duration,
    /// Each delay is so many times the one before; default 1.6.
    pub factor: f64,
    /// Each delay varies by this share, both ways; default 0.2. Spreads the dials of many nodes.
    pub jitter: f64,
    /// The longest delay, jitter included; default 120 s.
    #[serde(with = "humantime_serde")]
    pub backoff_max: Duration,
}

impl Default for BackoffConfig {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(1),
            factor: 1.6,
            jitter: 0.2,
            backoff_max: Duration::from_secs(120),
        }
    }
}

/// The delays of one endpoint.
#[derive(Debug, Clone)]
pub struct Backoff {
    config: BackoffConfig,
    /// The next delay before jitter.
    base: Duration,
    /// Failures since the last reset.
    failures: u32,
    rng: fastrand::Rng,
}

impl Backoff {
    /// A fresh one. Values out of range are brought into it: the factor to 1–10, the jitter to
    /// 0–0.9, the delays to at least 1 ms.
    #[must_use]
    pub fn new(config: BackoffConfig, seed: u64) -> Self {
        let least = Duration::from_millis(1);
        let first = config.first.max(least);
        let config = BackoffConfig {
            first,
            factor: config.factor.clamp(1.0, 10.0),
            jitter: config.jitter.clamp(0.0, 0.9),
            backoff_max: config.backoff_max.max(first),
        };
        Self { config, base: first, failures: 0, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The delay after one more failure.
    pub fn next_delay(&mut self) -> Duration {
        let base = self.base;
        self.failures = self.failures.saturating_add(1);
        self.base = base.mul_f64(self.config.factor).min(self.config.backoff_max);
        self.spread(base)
    }

    /// The longest delay, for a failure that only an operator can mend.
    pub fn permanent_delay(&mut self) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.base = self.config.backoff_max;
        self.spread(self.config.backoff_max)
    }

    /// The link has proved itself (T4).
    pub const fn reset(&mut self) {
        self.base = self.config.first;
        self.failures = 0;
    }

    /// Failures since the last reset.
    #[must_use]
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    fn spread(&mut self, base: Duration) -> Duration {
        let share = self.config.jitter * (2.0 * self.rng.f64() - 1.0);
        base.mul_f64(1.0 + share).min(self.config.backoff_max)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_delays_grow_by_the_factor_up_to_the_longest() {
        let config = BackoffConfig { jitter: 0.0, ..BackoffConfig::default() };
        let mut backoff = Backoff::new(config, 1);
        let delays: Vec<u64> =
            (0..12).map(|_| backoff.next_delay().as_millis().try_into().unwrap()).collect();
        assert_eq!(
            delays,
            [1000, 1600, 2560, 4096, 6553, 10485, 16777, 26843, 42949, 68719, 109_951, 120_000]
        );
        assert_eq!(backoff.failures(), 12);
        backoff.reset();
        assert_eq!(backoff.next_delay(), Duration::from_secs(1));
    }

    #[test]
    fn one_seed_gives_one_sequence() {
        let delays = |seed| {
            let mut backoff = Backoff::new(BackoffConfig::default(), seed);
            (0..20).map(|_| backoff.next_delay()).collect::<Vec<_>>()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
    }

    proptest! {
        #[test]
        fn every_delay_stays_within_its_bounds(seed: u64, steps in prop::collection::vec(0..4u8, 1..100)) {
            let config = BackoffConfig::default();
            let mut backoff = Backoff::new(config, seed);
            for step in steps {
                let delay = match step {
                    0 => { backoff.reset(); prop_assert_eq!(backoff.failures(), 0); continue }
                    1 => {
                        let delay = backoff.permanent_delay();
                        prop_assert!(delay >= config.backoff_max.mul_f64(0.8));
                        delay
                    }
                    _ => backoff.next_delay(),
                };
                prop_assert!(delay <= config.backoff_max, "T3: {:?}", delay);
                prop_assert!(delay >= config.first.mul_f64(0.8), "T3: {:?}", delay);
            }
        }
    }
}
