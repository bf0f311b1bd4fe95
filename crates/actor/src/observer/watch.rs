//! What the link of one endpoint reports, to the metrics and to those who choose endpoints.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use alys_stream_transport::connection::Transition;
use alys_stream_transport::endpoint::Dialect;
use alys_stream_transport::grpc::{LinkError, Observer};
use alys_stream_transport::reconnect::BreakerState;
use alys_stream_transport::session::driver::Observed;

use super::EndpointObserver;
use crate::exchange::EndpointExchange;

/// Sees one endpoint.
#[derive(Debug)]
pub(crate) struct EndpointWatch {
    all: Arc<EndpointObserver>,
    /// A handle outlives the stream; the stores behind it are opened again before that.
    exchange: Weak<EndpointExchange>,
}

impl EndpointWatch {
    pub(crate) fn new(all: Arc<EndpointObserver>, exchange: &Arc<EndpointExchange>) -> Self {
        Self { all, exchange: Arc::downgrade(exchange) }
    }
}

impl Observer for EndpointWatch {
    fn transition(&self, endpoint: &str, transition: &Transition) {
        self.all.transition(endpoint, transition);
        if let Some(exchange) = self.exchange.upgrade() {
            exchange.handle_state(transition.new);
        }
    }

    fn observed(&self, endpoint: &str, now: Instant, observed: &Observed<'_>) {
        self.all.observed(endpoint, now, observed);
        if matches!(observed, Observed::Draining { .. })
            && let Some(exchange) = self.exchange.upgrade()
        {
            exchange.handle_draining();
        }
    }

    fn failed(&self, endpoint: &str, error: &LinkError) {
        self.all.failed(endpoint, error);
    }

    fn breaker(&self, endpoint: &str, state: BreakerState) {
        self.all.breaker(endpoint, state);
        if let Some(exchange) = self.exchange.upgrade() {
            exchange.handle_breaker(state);
        }
    }

    fn needs_operator(&self, endpoint: &str, needs: bool) {
        self.all.needs_operator(endpoint, needs);
    }

    fn connected(&self, endpoint: &str, dialect: Dialect, after: Duration) {
        self.all.connected(endpoint, dialect, after);
    }
}
