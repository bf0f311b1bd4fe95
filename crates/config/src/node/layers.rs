//! The sections that other layers define: bounds against what those layers need.

use std::time::Duration;

use alys_stream_messaging::buffer::{
    BacklogPage, BufferConfig, ID_GROUP_MESSAGES_MAX, ID_GROUP_MESSAGES_MIN,
};
use alys_stream_messaging::dead_letter::DeadLetterConfig;
use alys_stream_messaging::router::{Policy, Router, RouterError};
use alys_stream_protocol::limits;
use alys_stream_transport::balance::BalanceConfigError;

use super::NodeConfig;
use super::validate::validate_name;
use crate::error::ConfigError;

/// Smallest `buffer.segment_bytes`: two messages of the largest size.
pub const SEGMENT_BYTES_MIN: u64 = 2 * MESSAGE_BYTES;

/// Largest `buffer.segment_bytes`: space on disk comes back in steps of it.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Smallest `buffer.index_cache_bytes`: a few pages, or every look would read the log.
pub const INDEX_CACHE_BYTES_MIN: u64 = 256 * 1024;

/// Largest `buffer.index_cache_bytes`: what more it costs is memory.
pub const INDEX_CACHE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Longest duration in `balance`: what is longer is a node that never takes an endpoint back.
pub const BALANCE_PERIOD_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// Smallest `dead_letters.bytes_max`: one segment of the default size.
pub const DEAD_LETTER_BYTES_MIN: u64 = 16 * 1024 * 1024;

/// Shortest `dead_letters.age_max`: somebody has to have a chance to look at them.
pub const DEAD_LETTER_AGE_MIN: Duration = Duration::from_secs(60);

/// [`limits::MESSAGE_BYTES_MAX`] and what may be around it.
const MESSAGE_BYTES: u64 = (limits::MESSAGE_BYTES_MAX + limits::RECORD_OVERHEAD_BYTES_MAX) as u64;

impl NodeConfig {
    pub(super) fn validate_layers(&self) -> Result<(), ConfigError> {
        validate_buffer(&self.buffer)?;
        validate_dead_letters(&self.dead_letters)?;
        self.validate_balance()?;
        self.validate_router()?;
        self.log.validate().map_err(|error| {
            let text = error.to_string();
            let (what, cure) = text.rsplit_once(": ").unwrap_or((&text, "correct it"));
            ConfigError::invalid("log.filter", what, cure)
        })
    }

    fn validate_balance(&self) -> Result<(), ConfigError> {
        let balance = &self.balance;
        if let Some(region) = &balance.region {
            validate_name("balance.region", region)?;
            if !self.endpoints.iter().any(|endpoint| endpoint.region.as_ref() == Some(region)) {
                let what = format!("no endpoint is in the region {region:?}");
                let cure = "correct it, name the `region` of endpoints, or leave it out";
                return Err(ConfigError::invalid("balance.region", what, cure));
            }
        }
        balance.check().map_err(|error| {
            let (key, cure) = match &error {
                BalanceConfigError::Range { key, min, max, .. } => {
                    (*key, format!("give {min} to {max}"))
                }
                BalanceConfigError::Zero { key } => (*key, "give more than 0".to_owned()),
                BalanceConfigError::Ejection { .. } => {
                    ("outlier.ejection_max", "make it as long as `ejection`, or longer".to_owned())
                }
            };
            let text = error.to_string();
            let what = text.split_once("; ").map_or(text.as_str(), |(what, _)| what);
            let what = what.strip_prefix(&format!("{key} ")).unwrap_or(what);
            ConfigError::invalid(format!("balance.{key}"), what, cure)
        })?;
        for (key, period) in [
            ("ewma.decay", balance.ewma.decay),
            ("ewma.default_rtt", balance.ewma.default_rtt),
            ("load.age_max", balance.load.age_max),
            ("slow_start.period", balance.slow_start.period),
            ("outlier.window", balance.outlier.window),
            ("outlier.stall_max", balance.outlier.stall_max),
            ("outlier.ejection", balance.outlier.ejection),
            ("outlier.ejection_max", balance.outlier.ejection_max),
        ] {
            if period > BALANCE_PERIOD_MAX {
                let what = format!("{} s are more than a day", period.as_secs());
                return Err(ConfigError::invalid(
                    format!("balance.{key}"),
                    what,
                    "give at most 24h",
                ));
            }
        }
        Ok(())
    }

    fn validate_router(&self) -> Result<(), ConfigError> {
        Router::try_new(&self.router).map_err(|error| router_error(&error))?;
        let enabled = self.endpoints.iter().filter(|endpoint| endpoint.enabled).count();
        for (name, kind) in &self.router.kinds {
            if let Some(Policy::Quorum(quorum)) = kind.policy
                && usize::from(quorum) > enabled
            {
                let what = format!(
                    "a quorum of {quorum} can never be reached with the {enabled} endpoints that \
                     are enabled"
                );
                let key = format!("router.kinds.{name}.policy");
                return Err(ConfigError::invalid(key, what, "lower it, or enable more endpoints"));
            }
        }
        Ok(())
    }
}

fn validate_segment(key: &str, bytes: u64) -> Result<(), ConfigError> {
    if (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&bytes) {
        return Ok(());
    }
    let cure = format!("give {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}");
    Err(ConfigError::invalid(key, format!("{bytes} bytes"), cure))
}

fn validate_dead_letters(letters: &DeadLetterConfig) -> Result<(), ConfigError> {
    validate_segment("dead_letters.segment_bytes", letters.segment_bytes)?;
    let bytes_min = DEAD_LETTER_BYTES_MIN.max(letters.segment_bytes);
    if letters.bytes_max < bytes_min {
        let what = format!("{} bytes are less than one segment", letters.bytes_max);
        let cure = format!("give at least {bytes_min}");
        return Err(ConfigError::invalid("dead_letters.bytes_max", what, cure));
    }
    if let Some(age) = letters.age_max.filter(|age| *age < DEAD_LETTER_AGE_MIN) {
        let what = format!("{} s are over before anybody has looked", age.as_secs());
        let cure = "give at least 1min, or leave it out to keep them";
        return Err(ConfigError::invalid("dead_letters.age_max", what, cure));
    }
    Ok(())
}

fn validate_buffer(buffer: &BufferConfig) -> Result<(), ConfigError> {
    validate_segment("buffer.segment_bytes", buffer.segment_bytes)?;
    for (key, bytes) in
        [("quota_bytes", buffer.quota_bytes), ("pending_bytes_max", buffer.pending_bytes_max)]
    {
        if bytes < MESSAGE_BYTES {
            let key = format!("buffer.{key}");
            let what = format!("{bytes} bytes have no room for one message of the largest size");
            let cure = format!("give at least {MESSAGE_BYTES}");
            return Err(ConfigError::invalid(key, what, cure));
        }
    }
    let index = buffer.index_cache_bytes;
    if !(INDEX_CACHE_BYTES_MIN..=INDEX_CACHE_BYTES_MAX).contains(&index) {
        let cure = format!("give {INDEX_CACHE_BYTES_MIN} to {INDEX_CACHE_BYTES_MAX}");
        let what = format!("{index} bytes");
        return Err(ConfigError::invalid("buffer.index_cache_bytes", what, cure));
    }
    let group = buffer.id_group_messages;
    let step = u32::try_from(BacklogPage::SEQS).unwrap_or(u32::MAX);
    if !(ID_GROUP_MESSAGES_MIN..=ID_GROUP_MESSAGES_MAX).contains(&group)
        || !group.is_multiple_of(step)
    {
        let cure =
            format!("give {ID_GROUP_MESSAGES_MIN} to {ID_GROUP_MESSAGES_MAX} in steps of {step}");
        let what = format!("{group} messages");
        return Err(ConfigError::invalid("buffer.id_group_messages", what, cure));
    }
    for (key, bytes) in [
        ("quota_low_bytes", buffer.quota_low_bytes),
        ("quota_normal_bytes", buffer.quota_normal_bytes),
        ("quota_high_bytes", buffer.quota_high_bytes),
    ] {
        let Some(bytes) = bytes else { continue };
        if !(MESSAGE_BYTES..=buffer.quota_bytes).contains(&bytes) {
            let what = format!("{bytes} bytes are not between the largest message and the quota");
            let cure = format!("give {MESSAGE_BYTES} to {}", buffer.quota_bytes);
            return Err(ConfigError::invalid(format!("buffer.{key}"), what, cure));
        }
    }
    Ok(())
}

fn router_error(error: &RouterError) -> ConfigError {
    let (name, key) = match error {
        RouterError::UnknownName { name } => (name, ""),
        RouterError::EmptyQuorum { name } => (name, ".policy"),
        RouterError::Volatile { name } => (name, ".durability"),
    };
    let text = error.to_string();
    let what = text.strip_prefix(&format!("kinds.{name}{key} ")).unwrap_or(&text);
    let (what, cure) = what.rsplit_once(": ").unwrap_or((what, "correct it"));
    ConfigError::invalid(format!("router.kinds.{name}{key}"), what, cure)
}
