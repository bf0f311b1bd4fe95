//! Why an endpoint whose stream is up takes no messages: its breaker is open, its peer suspends it, or
//! the stream is drained, by the peer or by this side.
//!
//! Levels, not events: what is said last counts, so nothing that is late or said twice leaves an
//! endpoint without messages for ever. Only a drain belongs to one stream.

use std::sync::PoisonError;

use alys_stream_messaging::outbox::Intake;
use alys_stream_protocol::message::LogId;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_transport::connection::StateKind;
use alys_stream_transport::reconnect::BreakerState;

use super::EndpointExchange;

/// What is known of one endpoint.
#[derive(Debug, Default)]
pub(super) struct Standing {
    breaker: BreakerState,
    is_suspended: bool,
    is_draining: bool,
}

impl Standing {
    const fn handle_breaker(&mut self, breaker: BreakerState) {
        self.breaker = breaker;
    }

    const fn handle_state(&mut self, state: StateKind) {
        self.is_suspended = matches!(state, StateKind::Suspended);
    }

    const fn handle_draining(&mut self) {
        self.is_draining = true;
    }

    /// A new stream is up.
    const fn handle_connected(&mut self) {
        self.is_draining = false;
    }

    /// What it may be assigned now.
    const fn intake(&self) -> Intake {
        if self.is_suspended || self.is_draining {
            return Intake::Closed;
        }
        match self.breaker {
            BreakerState::Closed => Intake::Open,
            // One message shows whether it takes any again; the breaker lets no other pass.
            BreakerState::HalfOpen => Intake::One,
            BreakerState::Open => Intake::Closed,
        }
    }
}

impl EndpointExchange {
    /// The circuit breaker changed its state.
    pub(crate) fn handle_breaker(&self, breaker: BreakerState) {
        self.stand(|standing| standing.handle_breaker(breaker));
    }

    /// The connection changed its state.
    pub(crate) fn handle_state(&self, state: StateKind) {
        self.stand(|standing| standing.handle_state(state));
    }

    /// The stream is about to be closed.
    pub(crate) fn handle_draining(&self) {
        self.stand(Standing::handle_draining);
    }

    fn stand(&self, change: impl FnOnce(&mut Standing)) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let before = standing.intake();
        change(&mut standing);
        let intake = standing.intake();
        if intake != before {
            self.delivery.handle_intake(self.endpoint, intake);
        }
    }

    /// A stream is up. The outbox begins anew with it; what holds messages back may be older.
    pub(super) fn connected(&self, peer: Option<LogId>, received: &SeqSet) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        standing.handle_connected();
        self.delivery.handle_connected(self.endpoint, peer, received);
        self.delivery.handle_intake(self.endpoint, standing.intake());
    }
}
