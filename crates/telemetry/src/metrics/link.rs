//! The links to governance: connections, heartbeats, scores.
//!
//! Existing dashboards query these series. Their names, labels and buckets never change.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::family::{Counters, Fractions, Gauges, Seconds};
use super::{ConnectionStatus, Metrics, StreamType};

fn connection_latency_buckets() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.0, 5.0])
}

fn heartbeat_buckets() -> Histogram {
    Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0])
}

/// The families of this module.
#[derive(Debug)]
pub(super) struct Link {
    connection_status: Gauges<2>,
    connection_latency: Seconds<1>,
    reconnect_attempts: Counters<2>,
    stream_interruptions: Counters<2>,
    heartbeat_rtt: Seconds<1>,
    endpoint_health_score: Fractions<1>,
    stream_quality_score: Fractions<2>,
    backpressure_events: Counters<2>,
}

impl Link {
    pub(super) fn register(r: &mut Registry) -> Self {
        Self {
            connection_status: Gauges::register(
                r,
                "alys_governance_connection_status",
                ["endpoint", "node_id"],
                "0 disconnected, 1 connected, 2 authenticated, 3 streaming",
            ),
            connection_latency: Seconds::register(
                r,
                "alys_governance_connection_latency_seconds",
                ["endpoint"],
                connection_latency_buckets,
                "From the first packet to an authenticated connection",
            ),
            reconnect_attempts: Counters::register(
                r,
                "alys_governance_reconnect_attempts",
                ["endpoint", "reason"],
                "Attempts to connect again, by the reason the last connection ended",
            ),
            stream_interruptions: Counters::register(
                r,
                "alys_governance_stream_interruptions",
                ["endpoint", "interruption_type"],
                "Streams that ended without being closed politely",
            ),
            heartbeat_rtt: Seconds::register(
                r,
                "alys_governance_heartbeat_rtt_seconds",
                ["endpoint"],
                heartbeat_buckets,
                "From a heartbeat to its acknowledgement",
            ),
            endpoint_health_score: Fractions::register(
                r,
                "alys_governance_endpoint_health_score",
                ["endpoint"],
                "Health of an endpoint, 0 to 1",
            ),
            stream_quality_score: Fractions::register(
                r,
                "alys_governance_stream_quality_score",
                ["endpoint", "stream_type"],
                "Quality of a stream, 0 to 1",
            ),
            backpressure_events: Counters::register(
                r,
                "alys_governance_backpressure_events",
                ["endpoint", "severity"],
                "Times a sender had to wait or was turned away",
            ),
        }
    }
}

/// What happens on the links to governance. `endpoint` is always the configured name of one.
impl Metrics {
    /// A connection moved. `node_id` is our own, from the configuration.
    pub fn connection_status(&self, endpoint: &str, node_id: &str, status: ConnectionStatus) {
        self.link.connection_status.set([endpoint, node_id], status.as_number());
    }

    /// A connection was made and authenticated in `took`.
    pub fn connection_latency(&self, endpoint: &str, took: Duration) {
        self.link.connection_latency.observe([endpoint], took);
    }

    /// A connection is tried again, because the last one ended for `reason`.
    pub fn reconnect_attempt(&self, endpoint: &str, reason: &str) {
        self.link.reconnect_attempts.add([endpoint, reason], 1);
    }

    /// The health of an endpoint, from [`crate::score::endpoint_health`].
    pub fn endpoint_health(&self, endpoint: &str, score: f64) {
        self.link.endpoint_health_score.set_unit([endpoint], score);
    }

    /// The quality of a stream, from [`crate::score::stream_quality`].
    pub fn stream_quality(&self, endpoint: &str, stream: StreamType, score: f64) {
        self.link.stream_quality_score.set_unit([endpoint, stream.as_str()], score);
    }

    /// A heartbeat came back after `rtt`.
    pub fn heartbeat_rtt(&self, endpoint: &str, rtt: Duration) {
        self.link.heartbeat_rtt.observe([endpoint], rtt);
    }

    /// A sender had to wait (`warning`) or was turned away (`critical`).
    pub fn backpressure(&self, endpoint: &str, severity: &str) {
        self.link.backpressure_events.add([endpoint, severity], 1);
    }

    /// A stream ended without being closed politely.
    pub fn stream_interruption(&self, endpoint: &str, interruption_type: &str) {
        self.link.stream_interruptions.add([endpoint, interruption_type], 1);
    }
}
