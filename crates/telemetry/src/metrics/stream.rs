//! Our own series, under `alys_stream_`: the buffer, the flow of messages, the actors, the build.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::family::{Counters, Fractions, Gauges, Seconds, registered, whole};

/// From a commit on a fast disk to one that somebody should look at.
fn fsync_buckets() -> Histogram {
    Histogram::new([0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0])
}

/// From a lone message to a full commit.
fn commit_buckets() -> Histogram {
    Histogram::new([1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16384.0])
}

/// Dense around a millisecond, where a healthy node accepts and is acknowledged.
fn message_buckets() -> Histogram {
    Histogram::new([
        0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0,
    ])
}

/// The families of this module.
#[derive(Debug)]
pub(super) struct Stream {
    buffer_messages: Gauges<1>,
    buffer_bytes: Gauges<1>,
    buffer_oldest_age: Fractions<1>,
    buffer_disk_bytes: Gauge,
    buffer_quota_bytes: Gauge,
    fsync: Histogram,
    records_per_fsync: Histogram,
    accept: Histogram,
    ack: Seconds<1>,
    in_flight: Gauges<1>,
    credit_messages: Gauges<1>,
    credit_bytes: Gauges<1>,
    ejected: Gauges<1>,
    retries: Counters<1>,
    dead_letters: Counters<1>,
    gaps: Counter,
    corruptions: Counter,
    invalid_signatures: Counters<1>,
    actor_restarts: Counters<1>,
}

impl Stream {
    pub(super) fn register(r: &mut Registry) -> Self {
        Self {
            buffer_messages: gauges(r, "buffer_messages", "priority", "Unsettled messages"),
            buffer_bytes: gauges(r, "buffer_bytes", "priority", "Payload of unsettled messages"),
            buffer_oldest_age: Fractions::register(
                r,
                "alys_stream_buffer_oldest_age_seconds",
                ["priority"],
                "Age of the oldest unsettled message, 0 when there is none",
            ),
            buffer_disk_bytes: plain(r, "buffer_disk_bytes", "What the buffer takes on disk"),
            buffer_quota_bytes: plain(r, "buffer_quota_bytes", "What it may take on disk"),
            fsync: plain_histogram(r, "fsync_seconds", "Duration of a sync", fsync_buckets()),
            records_per_fsync: plain_histogram(
                r,
                "records_per_fsync",
                "Records that one sync made durable",
                commit_buckets(),
            ),
            accept: plain_histogram(
                r,
                "accept_seconds",
                "From a message handed over to its sequence number, on stable storage",
                message_buckets(),
            ),
            ack: Seconds::register(
                r,
                "alys_stream_ack_seconds",
                ["endpoint"],
                message_buckets,
                "From a message written to a stream to its acknowledgement",
            ),
            in_flight: gauges(r, "in_flight_messages", "endpoint", "Sent, not acknowledged"),
            credit_messages: gauges(r, "credit_messages", "endpoint", "Messages we may send"),
            credit_bytes: gauges(r, "credit_bytes", "endpoint", "Bytes we may send"),
            ejected: gauges(
                r,
                "ejected",
                "endpoint",
                "1 while the balancer gives a connected endpoint no messages",
            ),
            retries: counters(r, "retries", "endpoint", "Messages sent again after a refusal"),
            dead_letters: counters(r, "dead_letters", "cause", "Messages that died, by cause"),
            gaps: plain(r, "gaps", "Reported holes in a sequence; each one deserves a look"),
            corruptions: plain(r, "corruptions", "Damaged records found on disk"),
            invalid_signatures: counters(
                r,
                "invalid_signatures",
                "endpoint",
                "Signatures that verify against no requested input",
            ),
            actor_restarts: counters(r, "actor_restarts", "actor", "Actors a supervisor restarted"),
        }
    }
}

fn name(suffix: &str) -> String {
    format!("alys_stream_{suffix}")
}

fn gauges(r: &mut Registry, suffix: &str, label: &'static str, help: &str) -> Gauges<1> {
    Gauges::register(r, &name(suffix), [label], help)
}

fn counters(r: &mut Registry, suffix: &str, label: &'static str, help: &str) -> Counters<1> {
    Counters::register(r, &name(suffix), [label], help)
}

fn plain<M>(r: &mut Registry, suffix: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    registered(r, &name(suffix), help, M::default())
}

fn plain_histogram(r: &mut Registry, suffix: &str, help: &str, buckets: Histogram) -> Histogram {
    registered(r, &name(suffix), help, buckets)
}

/// Registers the series that says what is running.
pub(super) fn register_build(r: &mut Registry) {
    let labels = ["version", "os", "arch"];
    let help = "What is running; always 1";
    Gauges::register(r, "alys_stream_build_info", labels, help)
        .set([crate::VERSION, std::env::consts::OS, std::env::consts::ARCH], 1);
}

/// What happens inside the node.
impl Metrics {
    /// What of one priority is in the buffer: messages, bytes of payload, and the age of the oldest.
    pub fn buffer(&self, priority: &str, messages: u64, bytes: u64, oldest_age: Option<Duration>) {
        self.stream.buffer_messages.set([priority], messages);
        self.stream.buffer_bytes.set([priority], bytes);
        self.stream.buffer_oldest_age.set_seconds([priority], oldest_age.unwrap_or_default());
    }

    /// What the buffer takes on disk, of what it may.
    pub fn buffer_disk(&self, used_bytes: u64, quota_bytes: u64) {
        self.stream.buffer_disk_bytes.set(whole(used_bytes));
        self.stream.buffer_quota_bytes.set(whole(quota_bytes));
    }

    /// A sync of the buffer made `records` durable in `took`.
    pub fn fsync(&self, took: Duration, records: u64) {
        self.stream.fsync.observe(took.as_secs_f64());
        let records = u32::try_from(records).unwrap_or(u32::MAX);
        self.stream.records_per_fsync.observe(f64::from(records));
    }

    /// A message was accepted after `took`.
    pub fn accept_seconds(&self, took: Duration) {
        self.stream.accept.observe(took.as_secs_f64());
    }

    /// A message was acknowledged `took` after it was sent.
    pub fn ack_seconds(&self, endpoint: &str, took: Duration) {
        self.stream.ack.observe([endpoint], took);
    }

    /// `messages` are sent to an endpoint and not acknowledged.
    pub fn in_flight(&self, endpoint: &str, messages: u64) {
        self.stream.in_flight.set([endpoint], messages);
    }

    /// What an endpoint lets us send.
    pub fn credits(&self, endpoint: &str, messages: u64, bytes: u64) {
        self.stream.credit_messages.set([endpoint], messages);
        self.stream.credit_bytes.set([endpoint], bytes);
    }

    /// Whether the balancer gives an endpoint no messages although it is connected.
    pub fn ejected(&self, endpoint: &str, is_ejected: bool) {
        self.stream.ejected.set([endpoint], u64::from(is_ejected));
    }

    /// A refused message is sent again.
    pub fn retry(&self, endpoint: &str) {
        self.stream.retries.add([endpoint], 1);
    }

    /// A message died of `cause`.
    pub fn dead_letter(&self, cause: &str) {
        self.stream.dead_letters.add([cause], 1);
    }

    /// A hole in a sequence was reported (D5).
    pub fn gap(&self) {
        self.stream.gaps.inc();
    }

    /// A damaged record was found on disk (D10).
    pub fn corruption(&self) {
        self.stream.corruptions.inc();
    }

    /// An endpoint sent a signature that verifies against nothing that was asked.
    pub fn invalid_signature(&self, endpoint: &str) {
        self.stream.invalid_signatures.add([endpoint], 1);
    }

    /// A supervisor restarted an actor.
    pub fn actor_restart(&self, actor: &str) {
        self.stream.actor_restarts.add([actor], 1);
    }
}
