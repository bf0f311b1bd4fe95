//! When an endpoint is dialled for the first time: a few at once, the others spread.
//!
//! Pure. A node with hundreds of endpoints must not open them all in the same second; LND does the
//! same with its peers.
//!
//! Invariants:
//! - T50: within one period at most `at_once` endpoints are dialled without a delay, and no delay is
//!   longer than the period.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How first dials are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DialSpreadConfig {
    /// So many are dialled at once; default 10.
    pub at_once: u32,
    /// The others within this time; default 30 s.
    #[serde(with = "humantime_serde")]
    pub period: Duration,
}

impl Default for DialSpreadConfig {
    fn default() -> Self {
        Self { at_once: 10, period: Duration::from_secs(30) }
    }
}

/// Hands out the delays of first dials.
#[derive(Debug, Clone)]
pub struct DialSpread {
    config: DialSpreadConfig,
    /// Those that were dialled at once within the last period, oldest first.
    at_once: VecDeque<Instant>,
    rng: fastrand::Rng,
}

impl DialSpread {
    /// None was dialled yet.
    #[must_use]
    pub fn new(config: DialSpreadConfig, seed: u64) -> Self {
        Self { config, at_once: VecDeque::new(), rng: fastrand::Rng::with_seed(seed) }
    }

    /// How long the next endpoint waits for its first dial.
    pub fn next_delay(&mut self, now: Instant) -> Duration {
        let period = self.config.period;
        while self.at_once.front().is_some_and(|at| now.saturating_duration_since(*at) >= period) {
            self.at_once.pop_front();
        }
        let at_once = usize::try_from(self.config.at_once).unwrap_or(usize::MAX);
        if self.at_once.len() < at_once {
            self.at_once.push_back(now);
            return Duration::ZERO;
        }
        period.mul_f64(self.rng.f64())
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
    fn ten_go_at_once_and_the_others_are_spread_evenly() {
        let t0 = start();
        let config = DialSpreadConfig::default();
        let mut spread = DialSpread::new(config, 7);
        let delays: Vec<Duration> = (0..1010).map(|_| spread.next_delay(t0)).collect();
        assert!(delays.iter().take(10).all(Duration::is_zero), "T50");
        let others = delays.get(10..).unwrap();
        assert!(others.iter().all(|delay| *delay < config.period), "T50");
        // Of 1000 in ten parts each has about 100; 50 off would be five standard deviations.
        for part in 0..10 {
            let within = |delay: &&Duration| delay.as_millis() / 3000 == part;
            let count = others.iter().filter(within).count();
            assert!((50..150).contains(&count), "part {part} has {count} (seed 7)");
        }
        assert_eq!(spread.next_delay(t0 + config.period), Duration::ZERO, "long after the start");
        let mut same = DialSpread::new(config, 7);
        assert!(delays.iter().all(|delay| *delay == same.next_delay(t0)), "one seed, one sequence");
    }
}
