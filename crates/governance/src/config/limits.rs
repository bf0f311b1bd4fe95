//! The `limits` section: what strangers and peers may take of the gRPC server.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::ConfigError;

/// Bounds of the gRPC server: tonic has none of its own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsSection {
    /// Connections at once, 1 to 1 000 000. Default 16 384. Each takes a file descriptor and, idle,
    /// some 30 KiB. One more is closed as soon as it is there.
    pub connections_max: usize,
    /// Handshakes at once, 1 to 100 000. Default 256. More wait in the backlog of the socket; higher
    /// spends more of the processor on strangers, lower lets slow ones hold up the others.
    pub handshakes_max: usize,
    /// How long a new connection may take for TLS, and again for the first bytes of HTTP/2, 10 ms to
    /// 5 min. Default 5 s. Higher lets silent ones hold their place longer.
    #[serde(with = "humantime_serde")]
    pub handshake_timeout: Duration,
    /// Streams at once on one connection, 1 to 65 535. Default 128. A peer needs one.
    pub streams_max: u32,
    /// Bytes of the headers of one request, 1 KiB to 1 MiB. Default 16 KiB. Larger ones are
    /// answered with status 431.
    pub header_bytes_max: u32,
}

impl Default for LimitsSection {
    fn default() -> Self {
        Self {
            connections_max: 16_384,
            handshakes_max: 256,
            handshake_timeout: Duration::from_secs(5),
            streams_max: 128,
            header_bytes_max: 16 * 1024,
        }
    }
}

impl LimitsSection {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let wrong = |key: &str, value: String, range: &str| {
            let key = format!("limits.{key}");
            Err(ConfigError::new(key, format!("is {value}"), format!("use {range}")))
        };
        if !(1..=1_000_000).contains(&self.connections_max) {
            return wrong("connections_max", self.connections_max.to_string(), "1 to 1000000");
        }
        if !(1..=100_000).contains(&self.handshakes_max) {
            return wrong("handshakes_max", self.handshakes_max.to_string(), "1 to 100000");
        }
        let timeouts = Duration::from_millis(10)..=Duration::from_secs(300);
        if !timeouts.contains(&self.handshake_timeout) {
            let value = format!("{:?}", self.handshake_timeout);
            return wrong("handshake_timeout", value, "10ms to 5m");
        }
        if !(1..=65_535).contains(&self.streams_max) {
            return wrong("streams_max", self.streams_max.to_string(), "1 to 65535");
        }
        if !(1024..=1024 * 1024).contains(&self.header_bytes_max) {
            return wrong("header_bytes_max", self.header_bytes_max.to_string(), "1024 to 1048576");
        }
        Ok(())
    }
}
