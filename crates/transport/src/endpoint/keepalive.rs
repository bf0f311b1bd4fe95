//! How often HTTP/2 asks whether the peer is there.
//!
//! Pure. Many servers punish more than one ping in five minutes, and more than that while no call
//! is open: the `strict_peer` profile never gets there, and the other one learns from the answer
//! (gRFC A8).
//!
//! Invariants:
//! - T46: the interval is never below [`INTERVAL_MIN`], and never shorter than before.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Nobody pings more often, whatever is configured.
pub const INTERVAL_MIN: Duration = Duration::from_secs(10);

/// Doubling ends here: two hours, what TCP itself uses.
pub const INTERVAL_MAX: Duration = Duration::from_secs(7200);

/// The interval of the `strict_peer` profile: what the common servers allow.
pub const STRICT_INTERVAL: Duration = Duration::from_secs(300);

/// What the peer puts up with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepaliveProfile {
    /// As configured for all endpoints.
    #[default]
    Normal,
    /// One ping in 300 s and none while idle: for default gRPC servers. A dead link is then found
    /// by the heartbeats of the stream and by TCP.
    StrictPeer,
}

/// The pings of HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct KeepaliveConfig {
    /// Between two pings; default 30 s, at least 10 s. Lower finds a dead link sooner; a strict
    /// peer closes the connection for it.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// An unanswered ping ends the connection after this; default 10 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Also while no call is open; default true.
    pub while_idle: bool,
}

impl Default for KeepaliveConfig {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(30),
            timeout: Duration::from_secs(10),
            while_idle: true,
        }
    }
}

/// The pings of one endpoint, over all its connections.
#[derive(Debug, Clone, Copy)]
pub struct Keepalive {
    config: KeepaliveConfig,
}

impl Keepalive {
    /// As configured, in range.
    #[must_use]
    pub fn new(config: KeepaliveConfig, profile: KeepaliveProfile) -> Self {
        let config = match profile {
            KeepaliveProfile::Normal => config,
            KeepaliveProfile::StrictPeer => {
                KeepaliveConfig { interval: STRICT_INTERVAL, while_idle: false, ..config }
            }
        };
        let interval = config.interval.clamp(INTERVAL_MIN, INTERVAL_MAX);
        let timeout = config.timeout.max(Duration::from_secs(1));
        Self { config: KeepaliveConfig { interval, timeout, ..config } }
    }

    /// The peer closed a connection because of too many pings. Kept for as long as the process
    /// lives: the peer has not become more patient because the connection is a new one.
    pub fn handle_too_many_pings(&mut self) {
        self.config.interval = (self.config.interval * 2).min(INTERVAL_MAX);
    }

    /// What the next connection uses.
    #[must_use]
    pub const fn current(&self) -> KeepaliveConfig {
        self.config
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn profiles_have_their_intervals_and_complaints_double_them() {
        let normal = KeepaliveConfig::default();
        let mut keepalive = Keepalive::new(normal, KeepaliveProfile::Normal);
        assert_eq!(keepalive.current(), normal);
        let mut seen = Vec::new();
        for _ in 0..10 {
            keepalive.handle_too_many_pings();
            seen.push(keepalive.current().interval.as_secs());
        }
        assert_eq!(seen, [60, 120, 240, 480, 960, 1920, 3840, 7200, 7200, 7200], "T46");
        let strict = Keepalive::new(normal, KeepaliveProfile::StrictPeer).current();
        assert_eq!((strict.interval, strict.while_idle), (STRICT_INTERVAL, false));
        let hasty = KeepaliveConfig { interval: Duration::from_millis(1), ..normal };
        let current = Keepalive::new(hasty, KeepaliveProfile::Normal).current();
        assert_eq!(current.interval, INTERVAL_MIN, "T46");
    }
}
