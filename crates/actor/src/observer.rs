//! What the links report, as metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_stream_telemetry::metrics::{ConnectionStatus, Metrics};
use alys_stream_transport::connection::{Hurry, StateKind, Transition};
use alys_stream_transport::endpoint::Dialect;
use alys_stream_transport::grpc::{LinkError, Observer};

use alys_stream_transport::session::driver::Observed;

/// Turns events of all endpoints into metrics.
#[derive(Debug)]
pub(crate) struct EndpointObserver {
    metrics: Arc<Metrics>,
    node_id: String,
}

impl EndpointObserver {
    pub(crate) const fn new(metrics: Arc<Metrics>, node_id: String) -> Self {
        Self { metrics, node_id }
    }
}

/// The four steps that dashboards know, of our eleven states.
const fn status_of(state: StateKind) -> ConnectionStatus {
    match state {
        StateKind::Disconnected
        | StateKind::Connecting
        | StateKind::Critical
        | StateKind::Reconnecting
        | StateKind::Failed => ConnectionStatus::Disconnected,
        StateKind::Authenticating => ConnectionStatus::Connected,
        StateKind::Connected | StateKind::Suspended => ConnectionStatus::Authenticated,
        StateKind::Streaming | StateKind::Healthy | StateKind::Warning => {
            ConnectionStatus::Streaming
        }
    }
}

impl Observer for EndpointObserver {
    fn transition(&self, endpoint: &str, transition: &Transition) {
        self.metrics.connection_status(endpoint, &self.node_id, status_of(transition.new));
        match transition.new {
            StateKind::Critical => self.metrics.stream_interruption(endpoint, "lost"),
            StateKind::Suspended => self.metrics.stream_interruption(endpoint, "suspended"),
            StateKind::Reconnecting => self.metrics.reconnect_attempt(endpoint, "lost"),
            StateKind::Disconnected
            | StateKind::Connecting
            | StateKind::Authenticating
            | StateKind::Connected
            | StateKind::Streaming
            | StateKind::Healthy
            | StateKind::Warning
            | StateKind::Failed => {}
        }
    }

    fn observed(&self, endpoint: &str, _now: Instant, observed: &Observed<'_>) {
        match observed {
            Observed::Alive(rtt) => self.metrics.heartbeat_rtt(endpoint, rtt.last),
            Observed::Suspended(_) => self.metrics.backpressure(endpoint, "suspended"),
            Observed::Sent { .. }
            | Observed::Received(_)
            | Observed::Acked { .. }
            | Observed::Nacked(_)
            | Observed::Quality(_)
            | Observed::Resumed(_)
            | Observed::Draining { .. }
            | Observed::AuthRefreshed(_)
            | _ => {}
        }
    }

    fn failed(&self, endpoint: &str, error: &LinkError) {
        // What trying again will not mend needs a person.
        if error.hurry() == Hurry::Permanent {
            tracing::error!(endpoint, %error, "the connection needs an operator");
        } else {
            tracing::warn!(endpoint, %error, "the connection failed");
        }
        self.metrics.reconnect_attempt(endpoint, &error.step.to_string());
    }

    fn connected(&self, endpoint: &str, _dialect: Dialect, after: Duration) {
        self.metrics.connection_latency(endpoint, after);
    }
}
