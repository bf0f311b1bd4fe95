//! The `transport` section: how connections to governance are made, kept, judged and given up.
//!
//! Only composed here: each part is defined, with its defaults, beside what it bounds.

use std::time::Duration;

use alys_stream_transport::connection::ConnectionConfig;
use alys_stream_transport::endpoint::KeepaliveConfig;
use alys_stream_transport::grpc::EndpointSettings;
use alys_stream_transport::health::{HeartbeatConfig, VitalsConfig};
use alys_stream_transport::reconnect::{BackoffConfig, BreakerConfig, DialsConfig};
use alys_stream_transport::session::rotation::RotationConfig;
use alys_stream_transport::session::{AckConfig, Compression};
use serde::{Deserialize, Serialize};

mod bounds;

/// How connections to governance are made, kept, judged and given up; the same for all endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TransportSection {
    /// TCP and TLS with one address; default 5 s, at most `connection.connect_timeout`. Lower tries
    /// the next address sooner; higher bears slower networks.
    #[serde(with = "humantime_serde")]
    pub address_timeout: Duration,
    /// Each request of the handshake; default 5 s, at most `connection.authenticate_timeout`.
    #[serde(with = "humantime_serde")]
    pub step_timeout: Duration,
    /// How long a polite close may take; default 5 s. Longer leaves less to send again.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// How long a peer's answer that it has sessions is believed; default 10 min. Longer saves a
    /// request for each connection. One that has none is asked at every connection.
    #[serde(with = "humantime_serde")]
    pub dialect_cache: Duration,
    /// How long a message to a plain `governance.v1` peer waits for company before it is asked
    /// whether all came through; default 200 ms. Longer asks less; shorter settles sooner.
    #[serde(with = "humantime_serde")]
    pub barrier_delay: Duration,
    /// When batches are compressed; default `auto`.
    pub compression: Compression,
    /// The timers of a connection.
    pub connection: ConnectionConfig,
    /// When a connection is dialled again.
    pub backoff: BackoffConfig,
    /// How all endpoints together are dialled.
    pub dials: DialsConfig,
    /// When a peer that fails again and again is left alone.
    pub breaker: BreakerConfig,
    /// Is the peer there.
    pub heartbeat: HeartbeatConfig,
    /// The pings of HTTP/2.
    pub keepalive: KeepaliveConfig,
    /// When acknowledgements leave, and how long ours may take.
    pub acks: AckConfig,
    /// When a stream is opened anew for its age.
    pub rotation: RotationConfig,
    /// When a link that is up has a minor or a critical issue.
    pub vitals: VitalsConfig,
}

impl Default for TransportSection {
    fn default() -> Self {
        // Taken apart field by field, so that a new key cannot be forgotten here.
        let EndpointSettings {
            connection,
            backoff,
            heartbeat,
            acks,
            rotation,
            compression,
            breaker,
            vitals,
            keepalive,
            address_timeout,
            step_timeout,
            drain,
            dialect_cache,
            barrier_delay,
        } = EndpointSettings::default();
        Self {
            address_timeout,
            step_timeout,
            drain,
            dialect_cache,
            barrier_delay,
            compression,
            connection,
            backoff,
            dials: DialsConfig::default(),
            breaker,
            heartbeat,
            keepalive,
            acks,
            rotation,
            vitals,
        }
    }
}

impl TransportSection {
    /// What the driver of each endpoint is told. [`Self::dials`] belongs to all of them together.
    #[must_use]
    pub const fn settings(&self) -> EndpointSettings {
        EndpointSettings {
            connection: self.connection,
            backoff: self.backoff,
            heartbeat: self.heartbeat,
            acks: self.acks,
            rotation: self.rotation,
            compression: self.compression,
            breaker: self.breaker,
            vitals: self.vitals,
            keepalive: self.keepalive,
            address_timeout: self.address_timeout,
            step_timeout: self.step_timeout,
            drain: self.drain,
            dialect_cache: self.dialect_cache,
            barrier_delay: self.barrier_delay,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_transport_and_within_the_bounds() {
        let section = TransportSection::default();
        assert_eq!(section.settings(), EndpointSettings::default());
        assert_eq!(section.dials, DialsConfig::default());
        assert_eq!(section.validate(), Ok(()));
    }
}
