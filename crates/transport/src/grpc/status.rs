//! What can be seen of an endpoint from outside.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

use alys_stream_protocol::time::UnixMillis;
use serde::Serialize;

use super::LinkError;
use crate::balance::EndpointView;
use crate::connection::{StateKind, Transition};
use crate::endpoint::Dialect;
use crate::reconnect::BreakerState;
use crate::session::driver::Observed;

/// One change of state, in wall time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TransitionStatus {
    /// From.
    pub old: StateKind,
    /// To.
    pub new: StateKind,
    /// The cause.
    pub why: String,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// An endpoint, as the status output shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointStatus {
    /// Its name.
    pub name: String,
    /// Its address.
    pub url: String,
    /// Where its connection stands.
    pub state: StateKind,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// The peer's name for itself, once known.
    pub peer_id: Option<String>,
    /// The peer's program and version, once known.
    pub peer_software: Option<String>,
    /// The address connected to.
    pub address: Option<String>,
    /// Smoothed round-trip time, in microseconds.
    pub rtt_us: Option<u64>,
    /// What is spoken with it.
    pub dialect: Option<Dialect>,
    /// What that promises, in words.
    pub promise: Option<&'static str>,
    /// The session, by its name.
    pub session_id: Option<String>,
    /// The last failure; kept when the connection is up again.
    pub last_error: Option<String>,
    /// Whether only an operator can mend the last failure: bad credentials, a stale epoch, a log
    /// that was rolled back. It is tried again at the longest delay.
    pub permanent: bool,
    /// What is wrong with a link that is up, in words and numbers.
    pub issue: Option<String>,
    /// Attempts to dial.
    pub attempts: u64,
    /// When it is dialled again, in Unix milliseconds.
    pub retry_at_ms: Option<u64>,
    /// Messages sent and not acknowledged.
    pub in_flight: u64,
    /// How many messages the peer lets us send now; 0 without a session.
    pub credit_messages: u64,
    /// How many bytes of payload it lets us send now.
    pub credit_bytes: u64,
    /// The circuit breaker.
    pub breaker: BreakerState,
    /// When an open breaker lets a probe through, in Unix milliseconds.
    pub breaker_until_ms: Option<u64>,
    /// Whether the balancer gives it no messages for a while. Filled in by whoever balances, with
    /// [`EndpointStatus::with_balance`].
    pub ejected: bool,
    /// When the certificate of the peer expires, in Unix seconds.
    pub certificate_expires_at: Option<i64>,
    /// The interval of HTTP/2 pings, in milliseconds; longer than configured when the peer
    /// complained.
    pub keepalive_ms: u64,
    /// The last transitions, oldest first.
    pub history: VecDeque<TransitionStatus>,
}

impl EndpointStatus {
    /// Of an endpoint that nothing is known of yet.
    #[must_use]
    pub const fn new(name: String, url: String, at: UnixMillis) -> Self {
        Self {
            name,
            url,
            state: StateKind::Disconnected,
            since_ms: at.0,
            peer_id: None,
            peer_software: None,
            address: None,
            rtt_us: None,
            dialect: None,
            promise: None,
            session_id: None,
            last_error: None,
            permanent: false,
            issue: None,
            attempts: 0,
            retry_at_ms: None,
            in_flight: 0,
            credit_messages: 0,
            credit_bytes: 0,
            breaker: BreakerState::Closed,
            breaker_until_ms: None,
            ejected: false,
            certificate_expires_at: None,
            keepalive_ms: 0,
            history: VecDeque::new(),
        }
    }

    /// The same with what the balancer says of the endpoint.
    #[must_use]
    pub fn with_balance(mut self, view: Option<&EndpointView>) -> Self {
        self.ejected = view.is_some_and(|view| view.ejected.is_some());
        self
    }

    /// Whether the link is up and accepted by the peer.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.state.is_live()
    }
}

/// What a dialect promises, in words.
pub(super) const fn promise(dialect: Dialect) -> &'static str {
    match dialect {
        Dialect::Session => "exactly once, with resume",
        Dialect::Plain => "at least once, settled by answers and the heartbeat barrier",
    }
}

/// Sees what happens on endpoints: metrics, alerts. Called from their tasks: must not block.
pub trait Observer: fmt::Debug + Send + Sync + 'static {
    /// The connection changed its state.
    fn transition(&self, endpoint: &str, transition: &Transition) {
        _ = (endpoint, transition);
    }

    /// Something happened on the session, or on the plain stream, of the endpoint.
    fn observed(&self, endpoint: &str, now: Instant, observed: &Observed<'_>) {
        _ = (endpoint, now, observed);
    }

    /// An attempt or a connection failed.
    fn failed(&self, endpoint: &str, error: &LinkError) {
        _ = (endpoint, error);
    }

    /// The circuit breaker changed its state.
    fn breaker(&self, endpoint: &str, state: BreakerState) {
        _ = (endpoint, state);
    }

    /// Whether only an operator can mend the endpoint: to be alerted on. Called when it changes.
    fn needs_operator(&self, endpoint: &str, needs: bool) {
        _ = (endpoint, needs);
    }

    /// A connection is up and accepted, so long after the attempt began.
    fn connected(&self, endpoint: &str, dialect: Dialect, after: Duration) {
        _ = (endpoint, dialect, after);
    }
}

/// Sees nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
