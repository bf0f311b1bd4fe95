//! The circuit breaker of one endpoint: a peer that fails again and again is left alone for a while,
//! then tried with one probe.
//!
//! Pure. Not the backoff: that says when to dial again after *one* failure; this one also holds
//! back messages on a link that is up and refuses everything.
//!
//! ```text
//!            5 failures in a row, or too few successes
//!   Closed ────────────────────────────────────────────▶ Open ◀──────────┐
//!     ▲                                                   │ time         │ the probe failed:
//!     │                the probe succeeded                ▼              │ twice as long
//!     └────────────────────────────────────────────── HalfOpen ──────────┘
//! ```
//!
//! Invariants:
//! - T43: while it is half open exactly one probe is out; asking for it does not spend it.
//! - T44: it never stays open for longer than `open_max`.
//! - T45: exhaustion (`RESOURCE_EXHAUSTED`, busy) never counts as a failure in a row: a peer without
//!   room is not a broken one.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::window::Window;

/// When the breaker opens, and for how long. Source of the defaults: linkerd.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BreakerConfig {
    /// Opens after so many failures in a row; at least 1, default 5. Higher is more patient.
    pub consecutive_failures: u32,
    /// Opens below this share of successes in the window; 0 to 1, default 0.8. 0 switches the rate
    /// off.
    pub success_rate_min: f64,
    /// The share counts from so many outcomes in the window on; at least 1, default 20.
    pub outcomes_min: u64,
    /// The window; default 30 s.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// It is open for so long at first, and for twice as long after each failed probe; default 1 s.
    #[serde(with = "humantime_serde")]
    pub open: Duration,
    /// The longest time, jitter included; default 60 s.
    #[serde(with = "humantime_serde")]
    pub open_max: Duration,
    /// Each time varies by this share, both ways; default 0.5.
    pub jitter: f64,
    /// A probe without an outcome has failed after this; default 30 s, the time for an
    /// acknowledgement.
    #[serde(with = "humantime_serde")]
    pub probe_timeout: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self {
            consecutive_failures: 5,
            success_rate_min: 0.8,
            outcomes_min: 20,
            window: Duration::from_secs(30),
            open: Duration::from_secs(1),
            open_max: Duration::from_secs(60),
            jitter: 0.5,
            probe_timeout: Duration::from_secs(30),
        }
    }
}

impl BreakerConfig {
    fn into_range(self) -> Self {
        let least = Duration::from_millis(1);
        let share = |value: f64, max: f64| if value.is_nan() { 0.0 } else { value.clamp(0.0, max) };
        let open = self.open.max(least);
        Self {
            consecutive_failures: self.consecutive_failures.max(1),
            success_rate_min: share(self.success_rate_min, 1.0),
            outcomes_min: self.outcomes_min.max(1),
            window: self.window.max(least),
            open,
            open_max: self.open_max.max(open),
            jitter: share(self.jitter, 0.9),
            probe_timeout: self.probe_timeout.max(least),
        }
    }
}

/// How bad a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// It did not work.
    Broken,
    /// The peer has no room (T45).
    Exhausted,
}

/// What may pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Everything.
    Free,
    /// One probe: whoever sends it calls [`Breaker::handle_probe_sent`].
    Probe,
    /// Nothing.
    Refused {
        /// The probe may pass then; `None` while it is out.
        until: Option<Instant>,
    },
}

/// Where the breaker stands, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Everything passes.
    #[default]
    Closed,
    /// Nothing passes.
    Open,
    /// One probe passes, or is out.
    HalfOpen,
}

impl BreakerState {
    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    /// Half open from `until` on, until somebody sends the probe.
    Open {
        until: Instant,
    },
    Probing {
        since: Instant,
    },
}

/// The breaker.
#[derive(Debug, Clone)]
pub struct Breaker {
    config: BreakerConfig,
    state: State,
    failures_in_a_row: u32,
    outcomes: Window,
    /// The next open period before jitter.
    base: Duration,
    rng: fastrand::Rng,
}

impl Breaker {
    /// A closed one. Values of `config` out of range are brought into it.
    #[must_use]
    pub fn new(config: BreakerConfig, seed: u64) -> Self {
        let config = config.into_range();
        Self {
            config,
            state: State::Closed,
            failures_in_a_row: 0,
            outcomes: Window::new(config.window),
            base: config.open,
            rng: fastrand::Rng::with_seed(seed),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self, now: Instant) -> BreakerState {
        match self.state {
            State::Closed => BreakerState::Closed,
            State::Open { until } if now < until => BreakerState::Open,
            State::Open { .. } | State::Probing { .. } => BreakerState::HalfOpen,
        }
    }

    /// What may pass now. Asking changes nothing (T43).
    #[must_use]
    pub fn poll_admission(&self, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::Free,
            State::Open { until } if now < until => Admission::Refused { until: Some(until) },
            State::Open { .. } => Admission::Probe,
            State::Probing { .. } => Admission::Refused { until: None },
        }
    }

    /// When [`Breaker::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        match self.state {
            State::Closed | State::Open { .. } => None,
            State::Probing { since } => Some(since + self.config.probe_timeout),
        }
    }

    /// Gives up a probe that has no outcome.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|at| now >= at) {
            self.handle_failure(now, Failure::Broken);
        }
    }

    /// The one probe has left.
    pub const fn handle_probe_sent(&mut self, now: Instant) {
        match self.state {
            State::Open { .. } => self.state = State::Probing { since: now },
            State::Closed | State::Probing { .. } => {}
        }
    }

    /// The probe proved half of what it should (the peer accepted us): it is handed on to the first
    /// message.
    pub const fn handle_probe_returned(&mut self, now: Instant) {
        match self.state {
            State::Probing { .. } => self.state = State::Open { until: now },
            State::Closed | State::Open { .. } => {}
        }
    }

    /// So much worked.
    pub fn handle_success(&mut self, now: Instant, count: u64) {
        match self.state {
            State::Closed => {
                self.failures_in_a_row = 0;
                self.outcomes.add(now, count, 0);
            }
            // What was on its way when it opened proves nothing.
            State::Open { until } if now < until => {}
            State::Open { .. } | State::Probing { .. } => self.close(),
        }
    }

    /// Something did not work. Returns whether this opened it.
    pub fn handle_failure(&mut self, now: Instant, failure: Failure) -> bool {
        match self.state {
            State::Closed => {
                self.outcomes.add(now, 0, 1);
                if failure == Failure::Broken {
                    self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
                }
                if !self.is_too_bad(now) {
                    return false;
                }
                self.open(now);
                true
            }
            State::Open { until } if now < until => false,
            State::Open { .. } | State::Probing { .. } => {
                if failure == Failure::Broken {
                    self.base = (self.base * 2).min(self.config.open_max);
                }
                self.open(now);
                true
            }
        }
    }

    fn is_too_bad(&mut self, now: Instant) -> bool {
        if self.failures_in_a_row >= self.config.consecutive_failures {
            return true;
        }
        let counted = self.outcomes.counted(now);
        counted.total() >= self.config.outcomes_min
            && counted.success_rate() < self.config.success_rate_min
    }

    fn open(&mut self, now: Instant) {
        let share = self.config.jitter * (2.0 * self.rng.f64() - 1.0);
        let period = self.base.mul_f64(1.0 + share).min(self.config.open_max);
        self.state = State::Open { until: now + period };
        self.failures_in_a_row = 0;
        self.outcomes.clear();
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.base = self.config.open;
        self.failures_in_a_row = 0;
        self.outcomes.clear();
    }
}

#[cfg(test)]
mod tests;
