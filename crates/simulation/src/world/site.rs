//! One Alys node with all that is its own: its machine, its second process, whoever hands messages to
//! it, and what is known of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_testkit::disk::Crash;
use serde_json::Value;
use tokio::task::JoinSet;

use super::ending;
use crate::clock::SkewedClock;
use crate::fault::Settings;
use crate::history::{Fill, NodeHistory};
use crate::journal::Journal;
use crate::machine::Hardware;
use crate::net::Machine;
use crate::node::Node;
use crate::plan::Plan;
use crate::sender::Senders;

/// States in which an endpoint has no session.
const AWAY: [&str; 4] = ["disconnected", "connecting", "authenticating", "failed"];

/// A node and its surroundings.
pub(super) struct Site {
    pub(super) machine: Machine,
    pub(super) node: Node,
    /// A second process of the node, while there is one, and the clock of its machine.
    pub(super) twin: Option<Node>,
    pub(super) twin_clock: Arc<SkewedClock>,
    pub(super) senders: Senders,
    /// Those who hand over a message, and operators who wait.
    pub(super) tasks: JoinSet<()>,
    pub(super) history: NodeHistory,
    /// Holes that the node reported, by their places.
    pub(super) gaps: BTreeMap<String, Option<[u64; 2]>>,
}

impl Site {
    pub(super) fn new(hardware: Hardware, journal: &Journal, plan: &Plan) -> Self {
        let (machine, place) = (hardware.machine, hardware.place.clone());
        let window_max = plan.shape(machine).window_max;
        Self {
            machine,
            node: Node::new(hardware, journal, plan),
            twin: None,
            twin_clock: Arc::new(SkewedClock::new(place)),
            senders: Senders::new(machine, journal),
            tasks: JoinSet::new(),
            history: NodeHistory { window_max, ..NodeHistory::default() },
            gaps: BTreeMap::new(),
        }
    }

    /// Starts the node; `false` when it does not start.
    pub(super) async fn start(&mut self) -> bool {
        let is_up = self.node.start().await;
        if is_up {
            let status = self.status();
            self.learn_gaps(&status);
        }
        is_up
    }

    /// The clocks of its machines.
    pub(super) fn clocks(&self) -> [(Machine, Arc<SkewedClock>); 2] {
        let clock = Arc::clone(&self.node.hardware.clock);
        [(self.machine, clock), (self.machine.twin(), Arc::clone(&self.twin_clock))]
    }

    /// What the node says of itself; nothing while it is down.
    pub(super) fn status(&self) -> Value {
        let status = self.node.system().map(|system| system.handle().status());
        status.and_then(|status| serde_json::to_value(status).ok()).unwrap_or_default()
    }

    /// Remembers the holes that the node reports: a later life does not report what this one does.
    pub(super) fn learn_gaps(&mut self, status: &Value) {
        for (place, seqs) in ending::gaps(status) {
            let known = self.gaps.entry(place).or_default();
            *known = known.or(seqs);
        }
    }

    /// Remembers how much is in memory.
    pub(super) fn learn_fill(&mut self, at: Duration, status: &Value) {
        let resident = status["queues"]["memory"]["resident"].as_u64().unwrap_or(0);
        let resident = usize::try_from(resident).unwrap_or(usize::MAX);
        let is_away = |endpoint: &&Value| {
            let state = endpoint["state"].as_str().unwrap_or_default();
            AWAY.iter().any(|away| state.eq_ignore_ascii_case(away))
        };
        let endpoints = status["endpoints"].as_array().into_iter().flatten();
        let connected = endpoints.filter(|endpoint| !is_away(endpoint)).count();
        let fill = Fill { at, resident, connected };
        let most = self.history.fills.entry(connected).or_insert(fill);
        if resident > most.resident {
            *most = fill;
        }
    }

    /// Has other settings from the next start on.
    pub(super) fn set_settings(&mut self, settings: Settings) {
        let before = self.node.settings().off.map(|(gov, _)| gov);
        self.node.set_settings(settings);
        let window_max = settings.window_max.unwrap_or(0);
        self.history.window_max = self.history.window_max.max(window_max);
        self.history.off.extend(before.map(|gov| (gov, false)));
        self.history.off.extend(settings.off.map(|(gov, _)| (gov, true)));
    }

    /// Ends the second process, if there is one.
    pub(super) fn take_twin(&mut self) -> Option<Node> {
        let mut twin = self.twin.take()?;
        twin.crash(Crash::Kill);
        self.history.lives += twin.hardware.life;
        Some(twin)
    }

    /// Whether a peer says that the log of the node is an old copy.
    pub(super) fn is_rolled_back(&self) -> bool {
        let status = self.status();
        let mut errors = status["endpoints"].as_array().into_iter().flatten();
        errors.any(|endpoint| {
            let error = endpoint["last_error"].as_str().unwrap_or_default().to_lowercase();
            error.contains("rolled_back") || error.contains("stale_epoch")
        })
    }

    /// Whether nobody waits for the node, and nothing waits in it.
    pub(super) fn is_quiet(&mut self) -> bool {
        while self.tasks.try_join_next().is_some() {}
        let status = self.status();
        let waiting = status["pushed_waiting"].as_object();
        let is_told = waiting.is_some_and(|lanes| lanes.values().all(|count| count == 0));
        self.tasks.is_empty() && status["queues"]["unsettled"] == 0 && is_told
    }

    /// What there is in a node that does not come to rest.
    pub(super) fn describe(&self) -> String {
        let status = self.status();
        let endpoints = status["endpoints"].as_array().into_iter().flatten();
        let endpoints: Vec<String> = endpoints
            .map(|it| format!("{} {} ({})", it["name"], it["state"], it["last_error"]))
            .collect();
        format!(
            "{} senders wait, {} unsettled, waiting {}, {}",
            self.tasks.len(),
            status["queues"]["unsettled"],
            status["pushed_waiting"],
            endpoints.join(", ")
        )
    }
}
