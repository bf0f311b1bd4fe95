//! Every actor panics at every kind of message while others are under way.

use std::time::Duration;

use alys_stream_actor::neighbours::{
    BridgeMessage, ChainMessage, NetworkMessage, QUERY_TIMEOUT, StorageMessage, SyncMessage,
    TELL_TIMEOUT,
};
use alys_stream_actor::{StopReason, StreamSystem};
use alys_stream_protocol::time::{SystemClock, WallClock as _};
use serde_json::json;
use tokio::time::Instant;

use crate::deaths::find;
use crate::faulty::Armed;
use crate::load::{Load, check_once};
use crate::pushes::signature_request;
use crate::rig::{PATIENCE, Rig, connected, until};

/// How long an actor gets to panic before it is provoked again.
const PROVOKE_EVERY: Duration = Duration::from_secs(5);

/// What makes an actor get a message of a kind.
struct Bench {
    rig: Rig,
    system: StreamSystem,
    armed: Armed,
    /// The next version of an update, and of an emergency.
    version: u64,
    emergency: u64,
}

impl Bench {
    async fn start() -> Self {
        let rig = Rig::start(2).await;
        let armed = Armed::default();
        let mut config = rig.config();
        config.faults = armed.points();
        config.neighbours = armed.neighbours();
        let system = rig.node(config).await;
        Self { rig, system, armed, version: 1, emergency: 1 }
    }

    async fn push(&self, what: &str, body: serde_json::Value) {
        self.rig.push(0, what, body).await;
    }

    async fn halt(&mut self, resume: bool) {
        let body = json!({ "version": self.emergency, "resume": resume });
        self.push("halt", body).await;
        self.emergency += 1;
    }

    async fn update(&mut self, effective_height: u64) {
        let body = json!({ "version": self.version, "effective_height": effective_height });
        self.push("federation_update", body).await;
        self.version += 1;
    }

    async fn proposal(&self, seconds: i64) {
        let deadline = SystemClock.now().as_unix_seconds() + seconds;
        self.push("proposal", json!({ "data": "00", "voting_deadline": deadline })).await;
    }

    /// Has the actor get such a message. Whoever asks hears no answer: that is the point.
    async fn provoke(&mut self, actor: &str, message: &str) {
        let neighbours = self.system.neighbours().clone();
        let asks = self.system.asks();
        match (actor, message) {
            ("bridge", "Signatures") => drop(asks.submit(signature_request()).await),
            (
                "bridge" | "chain" | "network" | "storage",
                "Federation" | "InForce" | "Rebroadcast",
            ) => {
                self.update(0).await;
            }
            ("bridge" | "chain", "Halt") => self.halt(false).await,
            ("bridge" | "chain", "Resume") => {
                self.halt(false).await;
                self.halt(true).await;
            }
            ("chain", "Scheduled") => self.update(1_000_000_000 + self.version).await,
            ("chain", "Proposal") => self.proposal(3600).await,
            ("chain", "ProposalClosed") => self.proposal(2).await,
            ("sync", "Event") => self.proposal(3600).await,
            ("sync", "Health") => self.kill("root/network/sync"),
            ("chain", "NodeStatus") | ("network", "PeerCount") | ("sync", "SyncStatus") => {
                drop(self.system.handle().report_status().await);
            }
            ("storage", "Audit") => self.halt(false).await,
            ("storage", "Setting") => {
                let build =
                    |answer| StorageMessage::Setting { key: "k".into(), value: None, answer };
                drop(neighbours.storage.tell(TELL_TIMEOUT, build).await);
            }
            ("bridge", "Snapshot") => {
                drop(neighbours.bridge.call(QUERY_TIMEOUT, BridgeMessage::Snapshot).await);
            }
            ("chain", "Snapshot") => {
                drop(neighbours.chain.call(QUERY_TIMEOUT, ChainMessage::Snapshot).await);
            }
            ("network", "Snapshot") => {
                drop(neighbours.network.call(QUERY_TIMEOUT, NetworkMessage::Snapshot).await);
            }
            ("storage", "Snapshot") => {
                drop(neighbours.storage.call(QUERY_TIMEOUT, StorageMessage::Snapshot).await);
            }
            ("sync", "Snapshot") => {
                drop(neighbours.sync.call(QUERY_TIMEOUT, SyncMessage::Snapshot).await);
            }
            ("root/system/stream", "submit") => drop(asks.submit(signature_request()).await),
            ("root/system/stream", "height") => _ = asks.height(1),
            ("root/system/stream", "health") => drop(asks.health().await),
            ("root/system/stream", "exit" | "start") => self.kill("root/system/stream/gov-0"),
            ("root/system/stream/gov-0", "stream") => self.kill("root/system/stream/gov-0/stream"),
            ("root/system", "exit" | "start") => self.kill("root/system/bridge"),
            ("root/network", "exit" | "start") => self.kill("root/network/sync"),
            ("root/storage", "exit" | "start") => self.kill("root/storage/storage"),
            ("root", "exit" | "start") => self.kill("root/network"),
            _ => panic!("nobody knows how to make {actor} get {message}"),
        }
    }

    /// Kills whoever is there.
    fn kill(&self, path: &str) {
        if let Some(actor) = find(&self.system, path) {
            actor.kill();
        }
    }

    /// It panics, and everything runs again. Whoever is being started again hears nothing, so it is
    /// provoked until it does.
    async fn panic_once(&mut self, actor: &str, message: &str) {
        self.armed.arm(actor, message);
        let armed = self.armed.clone();
        let give_up = Instant::now() + PATIENCE;
        while !armed.is_over() {
            assert!(Instant::now() < give_up, "{actor} never panics at {message}");
            self.provoke(actor, message).await;
            let panics = until("it panics", || armed.is_over());
            drop(tokio::time::timeout(PROVOKE_EVERY, panics).await);
        }
        let whole = || crate::deaths::ACTORS.iter().all(|path| find(&self.system, path).is_some());
        until(&format!("everything runs after {actor} panicked at {message}"), whole).await;
        connected(&self.system.handle(), 2).await;
    }
}

/// Every kind of message of every neighbour.
const NEIGHBOURS: [(&str, &[&str]); 5] = [
    ("bridge", &["Signatures", "Federation", "Halt", "Resume", "Snapshot"]),
    (
        "chain",
        &[
            "InForce",
            "Scheduled",
            "Halt",
            "Resume",
            "Proposal",
            "ProposalClosed",
            "NodeStatus",
            "Snapshot",
        ],
    ),
    ("network", &["Rebroadcast", "PeerCount", "Snapshot"]),
    ("storage", &["Federation", "Audit", "Setting", "Snapshot"]),
    ("sync", &["Event", "Health", "SyncStatus", "Snapshot"]),
];

/// Every kind of message of the actors of the tree that comes while it runs.
const TREE: [(&str, &[&str]); 5] = [
    ("root/system/stream", &["submit", "height", "health", "exit", "start"]),
    ("root/system/stream/gov-0", &["stream"]),
    ("root/system", &["exit", "start"]),
    ("root/network", &["exit", "start"]),
    ("root/storage", &["exit", "start"]),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_neighbour_panics_at_every_message_and_the_promises_hold() {
    check(&NEIGHBOURS).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_actor_of_the_tree_panics_at_every_message_and_the_promises_hold() {
    check(&TREE).await;
}

async fn check(cases: &[(&str, &[&str])]) {
    let mut bench = Bench::start().await;
    let load = Load::start(&bench.system.handle());
    let mut count = 0;
    for (actor, messages) in cases {
        for message in *messages {
            bench.panic_once(actor, message).await;
            load.more(10).await;
            count += 1;
        }
    }
    let sent = load.finish().await;
    let Bench { rig, system, .. } = bench;
    system.shutdown(Duration::from_secs(5)).await;
    check_once(&sent, &rig.applied().await);
    println!("cases: panics {count} under load, {} messages", sent.len());
}

/// Nobody is above the root: the tree stops in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_root_panics_at_every_message_and_the_tree_stops_in_order() {
    for message in ["exit", "start"] {
        let mut bench = Bench::start().await;
        let load = Load::start(&bench.system.handle());
        load.more(10).await;
        bench.armed.arm("root", message);
        bench.provoke("root", message).await;
        let stopped = tokio::time::timeout(PATIENCE, bench.system.stopped()).await.unwrap();
        assert_eq!(stopped, StopReason::GaveUp("the root supervisor died".to_owned()));
        drop(load);
    }
}
