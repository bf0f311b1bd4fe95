//! What travels on the links: messages, answers, federation updates.
//!
//! Existing dashboards query these series. Their names, labels and buckets never change.

use std::time::Duration;

use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::family::{Counters, Fractions, Gauges, Seconds};
use super::{Metrics, StreamType};

fn correlation_buckets() -> Histogram {
    Histogram::new([0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0])
}

fn federation_update_buckets() -> Histogram {
    Histogram::new([0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0])
}

/// The families of this module.
#[derive(Debug)]
pub(super) struct Traffic {
    message_buffer_size: Gauges<2>,
    request_correlation_duration: Seconds<2>,
    federation_update_duration: Seconds<2>,
    messages_sent: Counters<3>,
    messages_received: Counters<3>,
    message_errors: Counters<3>,
    messages_dropped: Counters<3>,
    signature_correlation_rate: Fractions<1>,
}

impl Traffic {
    pub(super) fn register(r: &mut Registry) -> Self {
        let per_message = ["endpoint", "message_type", "stream_type"];
        Self {
            message_buffer_size: Gauges::register(
                r,
                "alys_governance_message_buffer_size",
                ["endpoint", "message_type"],
                "Messages accepted and not settled",
            ),
            request_correlation_duration: Seconds::register(
                r,
                "alys_governance_request_correlation_duration_seconds",
                ["request_type", "endpoint"],
                correlation_buckets,
                "From a request to its answer",
            ),
            federation_update_duration: Seconds::register(
                r,
                "alys_federation_update_processing_duration_seconds",
                ["update_type", "processing_stage"],
                federation_update_buckets,
                "Time in each stage of a federation update",
            ),
            messages_sent: Counters::register(
                r,
                "alys_governance_messages_sent",
                per_message,
                "Messages written to a stream, repetitions included",
            ),
            messages_received: Counters::register(
                r,
                "alys_governance_messages_received",
                per_message,
                "Messages read from a stream, repetitions included",
            ),
            message_errors: Counters::register(
                r,
                "alys_governance_message_errors",
                ["endpoint", "error_type", "message_type"],
                "Messages that one of the two sides refused or could not read",
            ),
            messages_dropped: Counters::register(
                r,
                "alys_governance_messages_dropped",
                ["endpoint", "message_type", "reason"],
                "Messages that became dead letters or were withdrawn, by cause",
            ),
            signature_correlation_rate: Fractions::register(
                r,
                "alys_governance_signature_correlation_rate",
                ["endpoint"],
                "Signature requests answered and verified, of those sent, 0 to 1",
            ),
        }
    }
}

/// What travels on the links. `message_type` is always the word of a message kind.
impl Metrics {
    /// `unsettled` messages of a type are owed to an endpoint.
    pub fn buffer_size(&self, endpoint: &str, message_type: &str, unsettled: u64) {
        self.traffic.message_buffer_size.set([endpoint, message_type], unsettled);
    }

    /// A request was answered after `took`.
    pub fn correlation(&self, request_type: &str, endpoint: &str, took: Duration) {
        self.traffic.request_correlation_duration.observe([request_type, endpoint], took);
    }

    /// One stage of a federation update took `took`.
    pub fn federation_update(&self, update_type: &str, stage: &str, took: Duration) {
        self.traffic.federation_update_duration.observe([update_type, stage], took);
    }

    /// `n` messages were written to a stream.
    pub fn messages_sent(&self, endpoint: &str, message_type: &str, stream: StreamType, n: u64) {
        self.traffic.messages_sent.add([endpoint, message_type, stream.as_str()], n);
    }

    /// `n` messages were read from a stream.
    pub fn messages_received(
        &self,
        endpoint: &str,
        message_type: &str,
        stream: StreamType,
        n: u64,
    ) {
        self.traffic.messages_received.add([endpoint, message_type, stream.as_str()], n);
    }

    /// A message was refused by the peer, or could not be read or sent.
    pub fn message_error(&self, endpoint: &str, error_type: &str, message_type: &str) {
        self.traffic.message_errors.add([endpoint, error_type, message_type], 1);
    }

    /// A message became a dead letter or was withdrawn.
    pub fn dropped(&self, endpoint: &str, message_type: &str, reason: &str) {
        self.traffic.messages_dropped.add([endpoint, message_type, reason], 1);
    }

    /// Of all signature requests sent to an endpoint, the share it answered with a signature that
    /// verified, 0 to 1.
    pub fn signature_correlation_rate(&self, endpoint: &str, rate: f64) {
        self.traffic.signature_correlation_rate.set_unit([endpoint], rate);
    }
}
