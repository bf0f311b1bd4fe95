//! The numbers of a governance node, in OpenMetrics text.
//!
//! Not those of an Alys node: this side has streams of nodes where that one has endpoints. Label
//! values are words of ours, never texts of peers.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use alys_stream_messaging::log::CommitObserver;
use alys_stream_protocol::governance::SignatureStatus;
use alys_stream_protocol::message::MessageKind;
use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::config::LimitsSection;

mod server;

use server::ServerMetrics;
pub(crate) use server::ServerNow;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    message_type: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Status {
    status: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Dialect {
    dialect: &'static str,
}

type Count<L> = Family<L, Counter<u64, AtomicU64>>;

/// All of them.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    applied: Count<Kind>,
    duplicates: Count<Reason>,
    answered: Count<Status>,
    declined: Count<Reason>,
    inbox_syncs: Counter<u64, AtomicU64>,
    server: ServerMetrics,
    streams: Family<Dialect, Gauge>,
    held: Gauge,
    owed: Gauge,
}

impl CommitObserver for Metrics {
    fn committed(&self, _entries: u64, _bytes: u64, _sync: Duration) {
        self.inbox_syncs.inc();
    }
}

impl Metrics {
    pub(crate) fn new() -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("alys_stream_governance"),
            applied: Family::default(),
            duplicates: Family::default(),
            answered: Family::default(),
            declined: Family::default(),
            inbox_syncs: Counter::default(),
            server: ServerMetrics::default(),
            streams: Family::default(),
            held: Gauge::default(),
            owed: Gauge::default(),
        };
        let registry = &mut metrics.registry;
        registry.register("applied", "Messages handed to the application", metrics.applied.clone());
        registry.register(
            "duplicates",
            "Messages that were there already and not applied",
            metrics.duplicates.clone(),
        );
        registry.register("answers", "Answers to signature requests", metrics.answered.clone());
        registry.register("declined", "Messages that were refused", metrics.declined.clone());
        registry.register("inbox_syncs", "Syncs of the inbox", metrics.inbox_syncs.clone());
        metrics.server.register(registry);
        registry.register("streams", "Live streams", metrics.streams.clone());
        registry.register(
            "held_messages",
            "Messages received and still to be applied or answered",
            metrics.held.clone(),
        );
        registry.register(
            "owed_messages",
            "Messages that nodes have still to take",
            metrics.owed.clone(),
        );
        metrics
    }

    pub(crate) fn applied(&self, kind: MessageKind, count: u64) {
        self.applied.get_or_create(&Kind { message_type: kind.as_str() }).inc_by(count);
    }

    pub(crate) fn duplicates_by_seq(&self, count: u64) {
        self.duplicates.get_or_create(&Reason { reason: "sequence" }).inc_by(count);
    }

    pub(crate) fn duplicates_by_id(&self, count: u64) {
        self.duplicates.get_or_create(&Reason { reason: "message_id" }).inc_by(count);
    }

    pub(crate) fn answered(&self, status: SignatureStatus) {
        let status = match status {
            SignatureStatus::Unspecified => "unspecified",
            SignatureStatus::Pending => "pending",
            SignatureStatus::Partial => "partial",
            SignatureStatus::Complete => "complete",
            SignatureStatus::Failed => "failed",
            SignatureStatus::Timeout => "timeout",
        };
        self.answered.get_or_create(&Status { status }).inc();
    }

    pub(crate) fn declined(&self, reason: &'static str) {
        self.declined.get_or_create(&Reason { reason }).inc();
    }

    pub(crate) fn connection_accepted(&self) {
        self.server.accepted.inc();
    }

    pub(crate) fn connection_refused(&self, reason: &'static str) {
        self.server.refused(reason);
    }

    pub(crate) fn connection_cut(&self, reason: &'static str) {
        self.server.cut(reason, 1);
    }

    /// The drain is over, and these were still there.
    pub(crate) fn drain_cut(&self, streams: usize, connections: usize) {
        let count = |value: usize| u64::try_from(value).unwrap_or(u64::MAX);
        self.server.cut_streams.inc_by(count(streams));
        self.server.cut("drain", count(connections));
    }

    pub(crate) fn accept_paused(&self) {
        self.server.pauses.inc();
    }

    /// Sets what the gRPC server shows at the moment of a scrape.
    pub(crate) fn refresh_server(&self, limits: &LimitsSection, now: &ServerNow) {
        self.server.refresh(limits, now);
    }

    /// Sets what is measured at the moment of a scrape.
    pub(crate) fn refresh(&self, sessions: usize, plain: usize, held: usize, owed: usize) {
        let set = |gauge: &Gauge, value: usize| gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
        set(&self.streams.get_or_create(&Dialect { dialect: "session" }), sessions);
        set(&self.streams.get_or_create(&Dialect { dialect: "plain" }), plain);
        set(&self.held, held);
        set(&self.owed, owed);
    }

    /// How many messages were recognised as repetitions, by `sequence` or `message_id`.
    pub(crate) fn duplicates(&self, reason: &'static str) -> u64 {
        self.duplicates.get_or_create(&Reason { reason }).get()
    }

    pub(crate) fn encode(&self) -> String {
        let mut out = String::new();
        if let Err(error) = text::encode(&mut out, &self.registry) {
            tracing::warn!(%error, "metrics cannot be encoded");
        }
        out
    }
}
