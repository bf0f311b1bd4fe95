//! The thresholds of [`super::Vitals`].

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The thresholds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VitalsConfig {
    /// Overdue heartbeats that are a minor issue; at least 1, default 1.
    pub missed_minor: u32,
    /// Overdue heartbeats that are a critical issue; default 2.
    pub missed_critical: u32,
    /// A round trip of so many times its baseline is a minor issue; more than 1, default 3.
    pub rtt_minor: f64,
    /// The same for a critical one, if another number is out of its range too; default 10.
    pub rtt_critical: f64,
    /// A round trip below this is never an issue; default 100 ms. Higher is quieter on fast links,
    /// whose round trips vary by large factors.
    #[serde(with = "humantime_serde")]
    pub rtt_floor: Duration,
    /// A share of retryable refusals that is a minor issue; 0 to 1, default 0.05.
    pub error_rate_minor: f64,
    /// The same for a critical one; default 0.5.
    pub error_rate_critical: f64,
    /// The share counts from so many outcomes in the window on; at least 1, default 20.
    pub outcomes_min: u64,
    /// The window of the share; default 30 s.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// So long without credit or room while something is in flight is a minor issue; default 5 s.
    #[serde(with = "humantime_serde")]
    pub starved_minor: Duration,
    /// The same for a critical one; default 60 s.
    #[serde(with = "humantime_serde")]
    pub starved_critical: Duration,
    /// So long without an acknowledgement while one is owed is a minor issue; default 5 s.
    #[serde(with = "humantime_serde")]
    pub ack_age_minor: Duration,
    /// The same for a critical one; default 15 s, half of the time after which the session ends.
    #[serde(with = "humantime_serde")]
    pub ack_age_critical: Duration,
    /// An issue is over below this share of its threshold; 0.1 to 1, default 0.8.
    pub resolve_share: f64,
    /// And after so long below it; default 5 s. Lower shows a recovery sooner and flaps more.
    #[serde(with = "humantime_serde")]
    pub resolve_after: Duration,
}

impl Default for VitalsConfig {
    fn default() -> Self {
        Self {
            missed_minor: 1,
            missed_critical: 2,
            rtt_minor: 3.0,
            rtt_critical: 10.0,
            rtt_floor: Duration::from_millis(100),
            error_rate_minor: 0.05,
            error_rate_critical: 0.5,
            outcomes_min: 20,
            window: Duration::from_secs(30),
            starved_minor: Duration::from_secs(5),
            starved_critical: Duration::from_secs(60),
            ack_age_minor: Duration::from_secs(5),
            ack_age_critical: Duration::from_secs(15),
            resolve_share: 0.8,
            resolve_after: Duration::from_secs(5),
        }
    }
}

impl VitalsConfig {
    /// The same with every value in its range.
    pub(super) fn into_range(self) -> Self {
        let config = self;
        let share = |value: f64, min: f64| if value.is_nan() { 1.0 } else { value.clamp(min, 1.0) };
        let times = |value: f64, min: f64| if value.is_nan() { f64::MAX } else { value.max(min) };
        let missed_minor = config.missed_minor.max(1);
        let rtt_minor = times(config.rtt_minor, 1.1);
        let error_rate_minor = share(config.error_rate_minor, 0.001);
        let least = Duration::from_millis(1);
        let starved_minor = config.starved_minor.max(least);
        let ack_age_minor = config.ack_age_minor.max(least);
        Self {
            missed_minor,
            missed_critical: config.missed_critical.max(missed_minor),
            rtt_minor,
            rtt_critical: times(config.rtt_critical, rtt_minor),
            error_rate_minor,
            error_rate_critical: share(config.error_rate_critical, error_rate_minor),
            outcomes_min: config.outcomes_min.max(1),
            starved_minor,
            starved_critical: config.starved_critical.max(starved_minor),
            ack_age_minor,
            ack_age_critical: config.ack_age_critical.max(ack_age_minor),
            resolve_share: share(config.resolve_share, 0.1),
            ..config
        }
    }
}
