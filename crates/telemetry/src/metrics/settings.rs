//! The configuration that is in force, and whether its file can still be used.
//!
//! Times are Unix seconds, so that an alert compares them with `time()`.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::family::{plain, whole};

/// The configuration as it is now; times are Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConfigGauges {
    /// The generation in force, from 1.
    pub generation: u64,
    /// When the file was read last and was usable.
    pub read_at: u64,
    /// How often it was read and was not usable, since the start.
    pub failures: u64,
    /// Whether it was not usable when it was read last.
    pub is_stale: bool,
}

/// The families of this module.
#[derive(Debug)]
pub(super) struct Settings {
    generation: Gauge,
    read_at: Gauge,
    failures: Counter,
    is_stale: Gauge,
}

impl Settings {
    pub(super) fn register(r: &mut Registry) -> Self {
        Self {
            generation: plain(
                r,
                "config_generation",
                "The generation of the configuration in force: 1 at the start, one more with each \
                 change that came into force since",
            ),
            read_at: plain(
                r,
                "config_last_reload_timestamp_seconds",
                "When the configuration file was read last and was usable",
            ),
            failures: plain(
                r,
                "config_reload_failures",
                "How often the configuration file was read again and was not usable",
            ),
            is_stale: plain(
                r,
                "config_reload_stale",
                "1 while the configuration file, as it was read last, is not usable",
            ),
        }
    }
}

/// What is configured.
impl Metrics {
    /// The configuration as it is now.
    pub fn config(&self, config: &ConfigGauges) {
        let settings = &self.settings;
        settings.generation.set(whole(config.generation));
        settings.read_at.set(whole(config.read_at));
        // Counted elsewhere, since the start of the process.
        settings.failures.inner().store(config.failures, Ordering::Relaxed);
        settings.is_stale.set(i64::from(config.is_stale));
    }
}
