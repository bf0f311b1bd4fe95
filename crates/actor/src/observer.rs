//! What the links report, as metrics.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_stream_telemetry::metrics::{BreakerPosition, ConnectionStatus, Metrics};
use alys_stream_transport::connection::{StateKind, Transition};
use alys_stream_transport::endpoint::Dialect;
use alys_stream_transport::grpc::{LinkError, Observer};
use alys_stream_transport::reconnect::BreakerState;
use alys_stream_transport::session::driver::Observed;

use crate::failure::{Context, FailureLog};

mod watch;

pub(crate) use watch::EndpointWatch;

/// Turns events of all endpoints into metrics.
#[derive(Debug)]
pub(crate) struct EndpointObserver {
    metrics: Arc<Metrics>,
    failures: Arc<FailureLog>,
    node_id: String,
}

impl EndpointObserver {
    pub(crate) const fn new(
        metrics: Arc<Metrics>,
        failures: Arc<FailureLog>,
        node_id: String,
    ) -> Self {
        Self { metrics, failures, node_id }
    }

    /// An endpoint is dialled from now on. Its series are there from the start: an alert on
    /// something that is absent never fires.
    pub(crate) fn added(&self, endpoint: &str) {
        self.breaker(endpoint, BreakerState::default());
        self.metrics.needs_operator(endpoint, false);
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
            StateKind::Suspended => self.metrics.stream_interruption(endpoint, "suspended"),
            StateKind::Reconnecting => {
                self.metrics.stream_interruption(endpoint, "lost");
                self.metrics.reconnect_attempt(endpoint, "lost");
            }
            StateKind::Disconnected
            | StateKind::Connecting
            | StateKind::Authenticating
            | StateKind::Connected
            | StateKind::Streaming
            | StateKind::Healthy
            | StateKind::Warning
            // A link that does badly may recover.
            | StateKind::Critical
            | StateKind::Failed => {}
        }
    }

    fn observed(&self, endpoint: &str, _now: Instant, observed: &Observed<'_>) {
        match observed {
            Observed::Alive(rtt) => self.metrics.heartbeat_rtt(endpoint, rtt.last),
            Observed::Suspended(_) => self.metrics.backpressure(endpoint, "suspended"),
            Observed::Sent { .. }
            | Observed::Received(_)
            | Observed::Credit(_)
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
        self.failures.record(error, Context::endpoint(endpoint));
        self.metrics.reconnect_attempt(endpoint, &error.step.to_string());
    }

    fn breaker(&self, endpoint: &str, state: BreakerState) {
        let position = match state {
            BreakerState::Closed => BreakerPosition::Closed,
            BreakerState::HalfOpen => BreakerPosition::HalfOpen,
            BreakerState::Open => BreakerPosition::Open,
        };
        self.metrics.breaker(endpoint, position);
    }

    fn needs_operator(&self, endpoint: &str, needs: bool) {
        self.metrics.needs_operator(endpoint, needs);
        if needs {
            tracing::error!(
                endpoint,
                "an operator has to act: trying again will not mend this link; \
                 `alys-stream endpoints` shows why"
            );
        } else {
            tracing::info!(endpoint, "no operator is needed any more");
        }
    }

    fn connected(&self, endpoint: &str, _dialect: Dialect, after: Duration) {
        self.metrics.connection_latency(endpoint, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_guards_an_endpoint_is_shown_from_the_start() {
        let metrics = Arc::new(Metrics::new());
        let clock = Arc::new(alys_stream_protocol::time::SystemClock);
        let failures = Arc::new(FailureLog::new(clock, Arc::clone(&metrics)));
        let observer = EndpointObserver::new(Arc::clone(&metrics), failures, "node".to_owned());
        let shown = |breaker: u64, operator: u64| {
            let text = metrics.encode();
            let has = |line: String| text.lines().any(|shown| shown == line);
            has(format!("alys_stream_breaker_state{{endpoint=\"gov\"}} {breaker}"))
                && has(format!("alys_stream_needs_operator{{endpoint=\"gov\"}} {operator}"))
        };
        assert!(!shown(0, 0));
        observer.added("gov");
        assert!(shown(0, 0));
        observer.breaker("gov", BreakerState::Open);
        observer.needs_operator("gov", true);
        assert!(shown(2, 1));
        observer.breaker("gov", BreakerState::HalfOpen);
        observer.needs_operator("gov", false);
        assert!(shown(1, 0));
    }
}
