//! The knobs of the balancer.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How an endpoint is chosen among those that may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// Each in turn.
    RoundRobin,
    /// The highest tier by `priority`, in turn by weight within it; a full tier spills over to the
    /// next one, and a tier that comes back takes over with its slow start.
    Priority,
    /// The lowest time from send to acknowledgement.
    Latency,
    /// The fewest unacknowledged messages for its weight.
    LeastConnections,
    /// Each in turn as often as its weight says.
    WeightedRoundRobin,
    /// The cheaper of two chosen at random, by time from send to acknowledgement times what is
    /// unacknowledged.
    #[default]
    PeakEwma,
}

impl Policy {
    /// All six.
    pub const ALL: [Self; 6] = [
        Self::RoundRobin,
        Self::Priority,
        Self::Latency,
        Self::LeastConnections,
        Self::WeightedRoundRobin,
        Self::PeakEwma,
    ];
}

/// Where weights come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightSource {
    /// `weight` of the endpoint.
    #[default]
    Static,
    /// The same, lowered by what the peer reports of its load.
    LoadReport,
}

/// How messages that any endpoint may have are spread.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BalanceConfig {
    /// How one is chosen; default `peak_ewma`.
    pub policy: Policy,
    /// The region of this node: endpoints of the same `region` are preferred while one of them is
    /// healthy and has room. Default none: regions do not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// Where weights come from; default `static`.
    pub weights: WeightSource,
    /// How load reports become weights.
    pub load: LoadConfig,
    /// How latencies are averaged.
    pub ewma: EwmaConfig,
    /// How an endpoint that comes up gets its share.
    pub slow_start: SlowStartConfig,
    /// When an endpoint that is up gets no messages.
    pub outlier: OutlierConfig,
}

/// How latencies are averaged. Source of the defaults: linkerd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EwmaConfig {
    /// In this time the average moves 63 % of the way to lower latencies; default 10 s. Higher
    /// latencies count at once. Lower forgets a slow spell sooner.
    #[serde(with = "humantime_serde")]
    pub decay: Duration,
    /// What is assumed of an endpoint that has acknowledged nothing yet; default 30 ms.
    #[serde(with = "humantime_serde")]
    pub default_rtt: Duration,
}

impl Default for EwmaConfig {
    fn default() -> Self {
        Self { decay: Duration::from_secs(10), default_rtt: Duration::from_millis(30) }
    }
}

/// How load reports become weights: `weight × (1 − busy) / (1 + queued / queued_half)`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct LoadConfig {
    /// So many messages in the queue of the peer halve its weight; default 1024, one full window.
    pub queued_half: u32,
    /// The lowest share of its weight that an endpoint keeps, however busy it says it is; 0.01 to
    /// 1, default 0.1. Lower trusts the reports more.
    pub share_min: f64,
    /// An older report counts no more; default 45 s, three heartbeats.
    #[serde(with = "humantime_serde")]
    pub age_max: Duration,
}

impl Default for LoadConfig {
    fn default() -> Self {
        Self { queued_half: 1024, share_min: 0.1, age_max: Duration::from_secs(45) }
    }
}

/// How an endpoint that comes up gets its share. Source of the defaults: Envoy.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SlowStartConfig {
    /// Its weight grows for so long; default 30 s, 0 s for none.
    #[serde(with = "humantime_serde")]
    pub period: Duration,
    /// From this share of it; 0.01 to 1, default 0.1.
    pub from: f64,
}

impl Default for SlowStartConfig {
    fn default() -> Self {
        Self { period: Duration::from_secs(30), from: 0.1 }
    }
}

/// When an endpoint that is up gets no messages for a while. The rules are for a handful of
/// endpoints: Envoy's own defaults compare with a mean that three endpoints do not have.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OutlierConfig {
    /// Whether endpoints are ejected at all; default true.
    pub enabled: bool,
    /// After so many failures in a row; at least 1, default 5.
    pub consecutive_failures: u32,
    /// Below this share of successes in the window; 0 to 1, default 0.8.
    pub success_rate_min: f64,
    /// The share counts from so many outcomes in the window on; at least 1, default 20.
    pub outcomes_min: u64,
    /// The window; default 30 s.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// When nothing was acknowledged for so long although something should be; default 10 s. Less
    /// finds a black hole sooner and ejects peers whose disk hangs for a moment.
    #[serde(with = "humantime_serde")]
    pub stall_max: Duration,
    /// The first ejection lasts so long, the n-th in a row n times as long; default 30 s.
    #[serde(with = "humantime_serde")]
    pub ejection: Duration,
    /// The longest one; after as long without any, the count starts again. Default 300 s.
    #[serde(with = "humantime_serde")]
    pub ejection_max: Duration,
    /// At most this share of the endpoints is ejected at once; 0 to 1, default 0.5. Never the
    /// last one that is up.
    pub ejected_share_max: f64,
    /// While fewer than this share of the endpoints are up and not ejected, ejections are
    /// overruled; 0 to 1, default 0.5.
    pub healthy_share_min: f64,
}

impl Default for OutlierConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            consecutive_failures: 5,
            success_rate_min: 0.8,
            outcomes_min: 20,
            window: Duration::from_secs(30),
            stall_max: Duration::from_secs(10),
            ejection: Duration::from_secs(30),
            ejection_max: Duration::from_secs(300),
            ejected_share_max: 0.5,
            healthy_share_min: 0.5,
        }
    }
}

/// A value of a [`BalanceConfig`] that makes no sense.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum BalanceConfigError {
    /// Outside its range.
    #[error("{key} is {value}; it must be between {min} and {max}")]
    Range {
        /// The key, below the section of the balancer.
        key: &'static str,
        /// What it holds.
        value: f64,
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// A period of zero, or a count of zero.
    #[error("{key} is 0; it must be more")]
    Zero {
        /// The key, below the section of the balancer.
        key: &'static str,
    },
    /// One period is longer than the one that bounds it.
    #[error(
        "outlier.ejection_max ({ejection_max:?}) is shorter than outlier.ejection ({ejection:?}); make it longer"
    )]
    Ejection {
        /// The first one.
        ejection: Duration,
        /// The bound.
        ejection_max: Duration,
    },
}

/// The lowest share that slow start and load reports may leave of a weight: a weight of nothing
/// would never be chosen and so never be measured.
const SHARE_LEAST: f64 = 0.01;

impl BalanceConfig {
    /// Checks what the types alone cannot.
    ///
    /// # Errors
    ///
    /// The first value that makes no sense, with its key.
    pub fn check(&self) -> Result<(), BalanceConfigError> {
        let Self { load, ewma, slow_start, outlier, .. } = self;
        let shares = [
            ("load.share_min", load.share_min, SHARE_LEAST),
            ("slow_start.from", slow_start.from, SHARE_LEAST),
            ("outlier.success_rate_min", outlier.success_rate_min, 0.0),
            ("outlier.ejected_share_max", outlier.ejected_share_max, 0.0),
            ("outlier.healthy_share_min", outlier.healthy_share_min, 0.0),
        ];
        for (key, value, min) in shares {
            // Written so that what is no number is outside, too.
            if !(min..=1.0).contains(&value) {
                return Err(BalanceConfigError::Range { key, value, min, max: 1.0 });
            }
        }
        let zeros = [
            ("load.queued_half", load.queued_half == 0),
            ("load.age_max", load.age_max.is_zero()),
            ("ewma.decay", ewma.decay.is_zero()),
            ("ewma.default_rtt", ewma.default_rtt.is_zero()),
            ("outlier.consecutive_failures", outlier.consecutive_failures == 0),
            ("outlier.outcomes_min", outlier.outcomes_min == 0),
            ("outlier.window", outlier.window.is_zero()),
            ("outlier.stall_max", outlier.stall_max.is_zero()),
            ("outlier.ejection", outlier.ejection.is_zero()),
        ];
        if let Some((key, _)) = zeros.into_iter().find(|(_, is_zero)| *is_zero) {
            return Err(BalanceConfigError::Zero { key });
        }
        let OutlierConfig { ejection, ejection_max, .. } = *outlier;
        if ejection_max < ejection {
            return Err(BalanceConfigError::Ejection { ejection, ejection_max });
        }
        Ok(())
    }

    /// The same with every value in its range.
    pub(super) fn into_range(mut self) -> Self {
        let least = Duration::from_millis(1);
        let share = |value: f64, min: f64, default: f64| {
            if value.is_nan() { default } else { value.clamp(min, 1.0) }
        };
        self.load.share_min = share(self.load.share_min, SHARE_LEAST, SHARE_LEAST);
        self.load.queued_half = self.load.queued_half.max(1);
        self.load.age_max = self.load.age_max.max(least);
        self.slow_start.from = share(self.slow_start.from, SHARE_LEAST, 1.0);
        self.ewma.decay = self.ewma.decay.max(least);
        self.ewma.default_rtt = self.ewma.default_rtt.max(Duration::from_micros(1));
        let outlier = &mut self.outlier;
        outlier.consecutive_failures = outlier.consecutive_failures.max(1);
        outlier.success_rate_min = share(outlier.success_rate_min, 0.0, 0.0);
        outlier.outcomes_min = outlier.outcomes_min.max(1);
        outlier.window = outlier.window.max(least);
        outlier.stall_max = outlier.stall_max.max(least);
        outlier.ejection = outlier.ejection.max(least);
        outlier.ejection_max = outlier.ejection_max.max(outlier.ejection);
        outlier.ejected_share_max = share(outlier.ejected_share_max, 0.0, 0.0);
        outlier.healthy_share_min = share(outlier.healthy_share_min, 0.0, 1.0);
        self
    }
}
