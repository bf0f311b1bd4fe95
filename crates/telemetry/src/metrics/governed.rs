//! What governance decides, whether the node can act on it, and what stands in the way.

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::Metrics;
use super::family::{Counters, Gauges, registered, whole};

/// The federation in force and what surrounds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct GovernedGauges {
    /// The version in force.
    pub version: u64,
    /// Updates that wait for their height.
    pub scheduled: u64,
    /// Whether governance halted block production.
    pub is_halted: bool,
}

/// The families of this module.
#[derive(Debug)]
pub(super) struct Governed {
    mode: Gauges<1>,
    failures: Counters<2>,
    version: Gauge,
    scheduled: Gauge,
    halted: Gauge,
    waiting: Gauges<1>,
    mailbox: Gauges<1>,
}

impl Governed {
    pub(super) fn register(r: &mut Registry) -> Self {
        Self {
            mode: Gauges::register(
                r,
                "alys_stream_mode",
                ["mode"],
                "1 for what the node can do now, 0 for what it was before",
            ),
            failures: Counters::register(
                r,
                "alys_stream_failures",
                ["class", "kind"],
                "Errors of every layer, classified once",
            ),
            version: plain(r, "federation_version", "Version of the federation in force"),
            scheduled: plain(
                r,
                "federation_scheduled_updates",
                "Accepted federation updates that wait for their height",
            ),
            halted: plain(r, "halted", "1 while governance halts block production"),
            waiting: Gauges::register(
                r,
                "alys_stream_pushed_waiting",
                ["lane"],
                "What governance pushed and an actor has not dealt with",
            ),
            mailbox: Gauges::register(
                r,
                "alys_stream_mailbox_depth",
                ["actor"],
                "Messages to a neighbouring actor that it has not answered",
            ),
        }
    }
}

fn plain(r: &mut Registry, suffix: &str, help: &str) -> Gauge {
    registered(r, &format!("alys_stream_{suffix}"), help, Gauge::default())
}

/// What governance decides, and how far it comes.
impl Metrics {
    /// The node went from one mode to another.
    pub fn mode(&self, before: Option<&str>, now: &str) {
        if let Some(before) = before {
            self.governed.mode.set([before], 0);
        }
        self.governed.mode.set([now], 1);
    }

    /// An error was classified.
    pub fn failure(&self, class: &str, kind: &str) {
        self.governed.failures.add([class, kind], 1);
    }

    /// The federation in force and what surrounds it.
    pub fn governed(&self, gauges: &GovernedGauges) {
        let GovernedGauges { version, scheduled, is_halted } = *gauges;
        self.governed.version.set(whole(version));
        self.governed.scheduled.set(whole(scheduled));
        self.governed.halted.set(i64::from(is_halted));
    }

    /// So much of what governance pushed waits in a lane.
    pub fn pushed_waiting(&self, lane: &str, waiting: u64) {
        self.governed.waiting.set([lane], waiting);
    }

    /// A neighbouring actor has not answered so many messages.
    pub fn mailbox_depth(&self, actor: &str, messages: u64) {
        self.governed.mailbox.set([actor], messages);
    }
}
