//! The numbers of the gRPC server: connections, handshakes, limits, certificates.
//!
//! HTTP/2 enforces the limits of streams and headers itself and tells nobody: they are shown as
//! limits only.

use std::sync::atomic::AtomicU64;

use alys_stream_transport::tls::ReloadStatus;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::LimitsSection;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Limit {
    limit: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Certificate {
    certificate: &'static str,
}

type Count<L> = Family<L, Counter<u64, AtomicU64>>;

/// What a scrape finds at the moment.
#[derive(Debug)]
pub(crate) struct ServerNow {
    pub(crate) connections: usize,
    pub(crate) handshakes: usize,
    /// When the first certificate of a connected client expires, in Unix seconds.
    pub(crate) client_expires_at: Option<i64>,
    /// `None` without TLS.
    pub(crate) tls: Option<ReloadStatus>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct ServerMetrics {
    pub(super) accepted: Counter<u64, AtomicU64>,
    refused: Count<Reason>,
    cut: Count<Reason>,
    pub(super) cut_streams: Counter<u64, AtomicU64>,
    pub(super) pauses: Counter<u64, AtomicU64>,
    connections: Gauge,
    handshakes: Gauge,
    limits: Family<Limit, Gauge>,
    expiry: Family<Certificate, Gauge>,
    revocation_due: Gauge,
    generation: Gauge,
    reload_failures: Gauge,
    reload_stale: Gauge,
}

impl ServerMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register(
            "accepted_connections",
            "Connections that finished their handshake",
            self.accepted.clone(),
        );
        registry.register(
            "refused_connections",
            "Connections that ended before they could be used",
            self.refused.clone(),
        );
        registry.register(
            "cut_connections",
            "Connections cut by this node: its client is not trusted any more or never spoke, or the drain is over",
            self.cut.clone(),
        );
        registry.register(
            "cut_streams",
            "Streams that did not finish within the drain",
            self.cut_streams.clone(),
        );
        registry.register(
            "accept_pauses",
            "Pauses because no connection could be accepted, for example for want of file descriptors",
            self.pauses.clone(),
        );
        registry.register("connections", "Live connections", self.connections.clone());
        registry.register("pending_handshakes", "Handshakes under way", self.handshakes.clone());
        registry.register("limit", "Configured limits", self.limits.clone());
        self.register_tls(registry);
    }

    fn register_tls(&self, registry: &mut Registry) {
        registry.register(
            "certificate_expiry_timestamp_seconds",
            "When the first certificate of a kind expires",
            self.expiry.clone(),
        );
        registry.register(
            "revocation_due_timestamp_seconds",
            "When the first new revocation list is due; 0 without lists",
            self.revocation_due.clone(),
        );
        registry.register(
            "tls_generation",
            "The generation of TLS settings in force; 0 without TLS",
            self.generation.clone(),
        );
        registry.register(
            "tls_reload_failures",
            "Changes of TLS files that were not usable, since the start",
            self.reload_failures.clone(),
        );
        registry.register(
            "tls_reload_stale",
            "1 while the TLS files as they are now are not usable and older ones are in force",
            self.reload_stale.clone(),
        );
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    pub(super) fn cut(&self, reason: &'static str, count: u64) {
        self.cut.get_or_create(&Reason { reason }).inc_by(count);
    }

    pub(super) fn refresh(&self, limits: &LimitsSection, now: &ServerNow) {
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.connections, now.connections);
        set(&self.handshakes, now.handshakes);
        let limit = |limit, value: usize| set(&self.limits.get_or_create(&Limit { limit }), value);
        limit("connections", limits.connections_max);
        limit("handshakes", limits.handshakes_max);
        limit("streams_per_connection", usize::try_from(limits.streams_max).unwrap_or(usize::MAX));
        limit("header_bytes", usize::try_from(limits.header_bytes_max).unwrap_or(usize::MAX));
        let expires = |certificate, at: Option<i64>| {
            let label = Certificate { certificate };
            match at {
                Some(at) => drop(self.expiry.get_or_create(&label).set(at)),
                None => drop(self.expiry.remove(&label)),
            }
        };
        expires("client", now.client_expires_at);
        if let Some(tls) = &now.tls {
            expires("own", tls.facts.own_expires_at);
            expires("authority", tls.facts.authority_expires_at);
            self.revocation_due.set(tls.facts.revocation_due_at.unwrap_or_default());
            self.generation.set(i64::try_from(tls.generation).unwrap_or(i64::MAX));
            self.reload_failures.set(i64::try_from(tls.failures).unwrap_or(i64::MAX));
            self.reload_stale.set(i64::from(tls.error.is_some()));
        }
    }
}
