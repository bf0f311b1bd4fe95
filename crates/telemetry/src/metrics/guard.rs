//! What guards the links: the circuit breaker, TLS, and what only an operator can mend.
//!
//! Times are Unix seconds, so that an alert compares them with `time()`.

use std::sync::atomic::Ordering;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::family::{Gauges, plain, whole};
use super::label::BreakerPosition;

/// Whose certificate it is, beside those of peers.
const OWN: &str = "own";
/// See [`OWN`].
const AUTHORITY: &str = "authority";

/// TLS towards governance as it is now; times are Unix seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TlsGauges {
    /// The generation of settings and files in force, from 1.
    pub generation: u64,
    /// When it came into force.
    pub since: u64,
    /// Changes that were not usable, since the start.
    pub failures: u64,
    /// Whether the files as they are now are not the ones in force.
    pub is_stale: bool,
    /// When the first certificate of our own chain expires.
    pub own_expires_at: Option<i64>,
    /// When the first of our private authorities expires.
    pub authority_expires_at: Option<i64>,
    /// When the first new revocation list is due.
    pub revocation_due_at: Option<i64>,
}

/// The families of this module.
#[derive(Debug)]
pub(super) struct Guard {
    breaker: Gauges<1>,
    needs_operator: Gauges<1>,
    peer_expiry: Gauges<1>,
    expiry: Gauges<1>,
    revocation_due: Gauge,
    generation: Gauge,
    since: Gauge,
    reload_failures: Counter,
    reload_stale: Gauge,
}

impl Guard {
    pub(super) fn register(r: &mut Registry) -> Self {
        Self {
            breaker: Gauges::register(
                r,
                "alys_stream_breaker_state",
                ["endpoint"],
                "0 closed, 1 half open, 2 open: then the endpoint is left alone for a while",
            ),
            needs_operator: Gauges::register(
                r,
                "alys_stream_needs_operator",
                ["endpoint"],
                "1 while trying again will not mend the link: somebody has to act",
            ),
            peer_expiry: Gauges::register(
                r,
                "alys_stream_peer_certificate_expiry_timestamp_seconds",
                ["endpoint"],
                "When the certificate that a peer showed last expires",
            ),
            expiry: Gauges::register(
                r,
                "alys_stream_certificate_expiry_timestamp_seconds",
                ["certificate"],
                "When the first of our own certificates of a kind expires",
            ),
            revocation_due: plain(
                r,
                "revocation_due_timestamp_seconds",
                "When the first new revocation list is due; 0 without lists",
            ),
            generation: plain(
                r,
                "tls_generation",
                "The generation of TLS settings and files in force; 0 without TLS",
            ),
            since: plain(
                r,
                "tls_last_reload_timestamp_seconds",
                "When that generation came into force; 0 without TLS",
            ),
            reload_failures: plain(r, "tls_reload_failures", "Changes of TLS files not usable"),
            reload_stale: plain(
                r,
                "tls_reload_stale",
                "1 while the TLS files as they are now are not usable and older ones are in force",
            ),
        }
    }
}

/// A gauge shows no times before 1970.
fn unix(at: i64) -> u64 {
    u64::try_from(at).unwrap_or(0)
}

/// What guards the links. `endpoint` is always the configured name of one.
impl Metrics {
    /// The circuit breaker of an endpoint moved.
    pub fn breaker(&self, endpoint: &str, position: BreakerPosition) {
        self.guard.breaker.set([endpoint], position.as_number());
    }

    /// Whether only an operator can mend the link to an endpoint.
    pub fn needs_operator(&self, endpoint: &str, needs: bool) {
        self.guard.needs_operator.set([endpoint], u64::from(needs));
    }

    /// When the certificate that a peer showed last expires, in Unix seconds.
    pub fn peer_certificate(&self, endpoint: &str, expires_at: i64) {
        self.guard.peer_expiry.set([endpoint], unix(expires_at));
    }

    /// TLS towards governance as it is now.
    pub fn tls(&self, tls: &TlsGauges) {
        let guard = &self.guard;
        guard.generation.set(whole(tls.generation));
        guard.since.set(whole(tls.since));
        // Counted elsewhere, since the start of the process.
        guard.reload_failures.inner().store(tls.failures, Ordering::Relaxed);
        guard.reload_stale.set(i64::from(tls.is_stale));
        guard.revocation_due.set(tls.revocation_due_at.unwrap_or_default());
        for (certificate, at) in [(OWN, tls.own_expires_at), (AUTHORITY, tls.authority_expires_at)]
        {
            match at {
                Some(at) => guard.expiry.set([certificate], unix(at)),
                None => guard.expiry.remove([certificate]),
            }
        }
    }
}
