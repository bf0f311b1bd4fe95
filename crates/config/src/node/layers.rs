//! The sections that other layers define: bounds against what those layers need.

use alys_stream_messaging::buffer::BufferConfig;
use alys_stream_messaging::router::{Policy, Router, RouterError};
use alys_stream_protocol::limits;

use super::NodeConfig;
use crate::error::ConfigError;

/// Smallest `buffer.segment_bytes`: two messages of the largest size.
pub const SEGMENT_BYTES_MIN: u64 = 2 * MESSAGE_BYTES;

/// Largest `buffer.segment_bytes`: space on disk comes back in steps of it.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// [`limits::MESSAGE_BYTES_MAX`] and what may be around it.
const MESSAGE_BYTES: u64 = (limits::MESSAGE_BYTES_MAX + limits::RECORD_OVERHEAD_BYTES_MAX) as u64;

impl NodeConfig {
    pub(super) fn validate_layers(&self) -> Result<(), ConfigError> {
        validate_buffer(&self.buffer)?;
        self.validate_router()?;
        self.log.validate().map_err(|error| {
            let text = error.to_string();
            let (what, cure) = text.rsplit_once(": ").unwrap_or((&text, "correct it"));
            ConfigError::invalid("log.filter", what, cure)
        })
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

fn validate_buffer(buffer: &BufferConfig) -> Result<(), ConfigError> {
    let segment = buffer.segment_bytes;
    if !(SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&segment) {
        let cure = format!("give {SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}");
        return Err(ConfigError::invalid("buffer.segment_bytes", format!("{segment} bytes"), cure));
    }
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
