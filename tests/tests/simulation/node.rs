//! A simulated Alys node: its messages, and a driver for each of its endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_messaging::Refusal as Refused;
use alys_stream_messaging::outbox::{self, EndpointId, Intake};
use alys_stream_protocol::governance::{NodeType, StreamResponse};
use alys_stream_protocol::message::{Forgotten, LogId, Opening, Seq, Settled};
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_protocol::session::GapCause;
use alys_stream_transport::connection::{StateKind, Transition};
use alys_stream_transport::endpoint::EndpointConfig;
use alys_stream_transport::exchange::{
    Budget, Exchange, InboundRecord, LocalLog, Nack, NackKind, OutboundRecord, PeerLog,
    ReceiveCursor, ReceiveError, Refusal, Verdict,
};
use alys_stream_transport::grpc::{
    EndpointDriver, EndpointParts, EndpointSettings, NodeIdentity, Observer,
};
use alys_stream_transport::reconnect::{BreakerState, Dials, DialsConfig};
use bytes::Bytes;
use rustls::ClientConfig;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::network::{Holding, SimClock, SimNetwork, elapsed};
use super::owner::Owner;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a node is to be.
#[derive(Debug, Clone)]
pub(crate) struct NodePlan {
    pub(crate) name: String,
    pub(crate) seed: u64,
    /// Names and URLs.
    pub(crate) endpoints: Vec<(String, String)>,
    pub(crate) settings: EndpointSettings,
    /// Messages that it accepts in a second.
    pub(crate) per_second: u32,
    /// And then no more.
    pub(crate) messages: u64,
}

/// One change of the state of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) at: Duration,
    pub(crate) endpoint: String,
    pub(crate) to: StateKind,
    pub(crate) why: String,
}

/// What was seen of a node.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) changes: Vec<Change>,
    pub(crate) breakers: Vec<(Duration, String, BreakerState)>,
    /// How many messages had settled by when, whenever one more had.
    pub(crate) settled: Vec<(Duration, u64)>,
    /// What governance pushed.
    pub(crate) pushed: BTreeSet<(LogId, Seq)>,
    /// What its machine holds, as of the last look.
    pub(crate) holding: Holding,
}

/// A simulated node, as the test sees it.
#[derive(Debug)]
pub(crate) struct Node {
    plan: NodePlan,
    tls: Arc<ClientConfig>,
    pub(crate) network: SimNetwork,
    seen: Mutex<Seen>,
    owner: Mutex<Option<Arc<Owner>>>,
}

impl Node {
    pub(crate) fn new(plan: NodePlan, tls: Arc<ClientConfig>) -> Arc<Self> {
        let (network, seen, owner) = Default::default();
        Arc::new(Self { plan, tls, network, seen, owner })
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, Seen> {
        lock(&self.seen)
    }

    pub(crate) fn owner(&self) -> Arc<Owner> {
        Arc::clone(lock(&self.owner).as_ref().expect("the node runs"))
    }

    /// The present state of an endpoint.
    pub(crate) fn state(&self, endpoint: &str) -> StateKind {
        let seen = self.seen();
        let last = seen.changes.iter().rev().find(|change| change.endpoint == endpoint);
        last.map_or(StateKind::Disconnected, |change| change.to)
    }

    /// Whether all of its messages were accepted and have settled.
    pub(crate) fn is_done(&self) -> bool {
        let owner = lock(&self.owner);
        owner
            .as_ref()
            .is_some_and(|owner| owner.counts() == (self.plan.messages, self.plan.messages))
    }

    /// Its software.
    pub(crate) async fn run(self: Arc<Self>) -> turmoil::Result {
        let names: Vec<String> = self.plan.endpoints.iter().map(|(name, _)| name.clone()).collect();
        let owner = Owner::new(self.plan.seed, &names);
        *lock(&self.owner) = Some(Arc::clone(&owner));
        let dials = Arc::new(Dials::new(DialsConfig::default(), self.plan.seed));
        let mut tasks = JoinSet::new();
        for (id, (name, url)) in (0..).map(EndpointId).zip(&self.plan.endpoints) {
            let link = Arc::new(Link::new(Arc::clone(&self), Arc::clone(&owner), id));
            let parts = EndpointParts {
                config: EndpointConfig::new(name.clone(), url.parse().unwrap()),
                identity: self.identity(),
                tls: Some(Arc::clone(&self.tls)),
                exchange: Arc::clone(&link),
                observer: link,
                clock: Arc::new(SimClock),
                seed: self.plan.seed.wrapping_mul(31).wrapping_add(u64::from(id.0)),
                settings: self.plan.settings,
                shutdown: CancellationToken::new(),
            };
            let (driver, _handle) = EndpointDriver::try_new(parts)?;
            let driver = driver.with_dials(Arc::clone(&dials));
            tasks.spawn(driver.with_network(Arc::new(self.network.clone())).run());
        }
        tokio::select! {
            () = owner.keep_time() => {}
            () = self.accept(&owner) => {}
        }
        Ok(())
    }

    fn identity(&self) -> NodeIdentity {
        NodeIdentity {
            node_id: self.plan.name.clone(),
            software: "simulation/1".into(),
            public_key: "02".repeat(33),
            node_type: NodeType::Bridge,
            region: None,
            auth: None,
        }
    }

    /// Accepts messages at its pace, and notes what settles.
    async fn accept(&self, owner: &Owner) {
        let mut ticks = tokio::time::interval(Duration::from_secs(1) / self.plan.per_second);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            ticks.tick().await;
            let (accepted, settled) = owner.counts();
            if accepted < self.plan.messages {
                owner.accept();
            }
            let mut seen = self.seen();
            seen.holding = self.network.holding();
            if seen.settled.last().is_none_or(|(_, last)| *last < settled) {
                seen.settled.push((elapsed(), settled));
            }
        }
    }
}

/// One endpoint of a node: what its driver takes from the owner and tells the test.
#[derive(Debug)]
struct Link {
    node: Arc<Node>,
    owner: Arc<Owner>,
    id: EndpointId,
    peer: Mutex<Option<LogId>>,
    /// What is on its way since when.
    sent: Mutex<BTreeMap<Seq, Instant>>,
    acks: Mutex<u64>,
    breaker: Mutex<BreakerState>,
}

impl Link {
    fn new(node: Arc<Node>, owner: Arc<Owner>, id: EndpointId) -> Self {
        let (peer, sent, acks, breaker) = Default::default();
        Self { node, owner, id, peer, sent, acks, breaker }
    }

    fn intake(&self) -> Intake {
        match *lock(&self.breaker) {
            BreakerState::Closed => Intake::Open,
            BreakerState::HalfOpen => Intake::One,
            BreakerState::Open => Intake::Closed,
        }
    }
}

impl Observer for Link {
    fn transition(&self, endpoint: &str, transition: &Transition) {
        let (to, why) = (transition.new, transition.why.to_string());
        let change = Change { at: elapsed(), endpoint: endpoint.to_owned(), to, why };
        self.node.seen().changes.push(change);
    }

    fn breaker(&self, endpoint: &str, state: BreakerState) {
        *lock(&self.breaker) = state;
        self.node.seen().breakers.push((elapsed(), endpoint.to_owned(), state));
        self.owner.intake(self.id, self.intake());
    }
}

impl Exchange for Link {
    fn local(&self) -> LocalLog {
        self.owner.local()
    }

    fn receive_cursor(&self, peer_log: LogId) -> ReceiveCursor {
        let seen = self.node.seen();
        let of_log = seen.pushed.iter().filter(|(log, _)| *log == peer_log);
        let received: SeqSet = of_log.map(|(_, seq)| *seq).collect();
        let highest_seen = received.last().unwrap_or(Seq(0));
        ReceiveCursor {
            log_id: peer_log,
            received,
            highest_seen,
            seen: Opening::NONE,
            forgotten: Forgotten::NONE,
        }
    }

    fn receive_cursors(&self) -> Vec<ReceiveCursor> {
        let mut logs: Vec<LogId> = self.node.seen().pushed.iter().map(|(log, _)| *log).collect();
        logs.dedup();
        logs.into_iter().map(|log| self.receive_cursor(log)).collect()
    }

    fn established(&self, peer: &PeerLog) -> Result<(), Refusal> {
        *lock(&self.peer) = Some(peer.log_id);
        *lock(&self.acks) = 0;
        self.owner.connected(self.id, &peer.received, self.intake());
        Ok(())
    }

    fn established_plain(&self, peer_id: &str) {
        panic!("{peer_id} speaks sessions");
    }

    fn poll_batch(&self, budget: Budget) -> Vec<OutboundRecord> {
        let Budget { messages, bytes, critical_messages, critical_bytes, large_bytes_max } = budget;
        let budget =
            outbox::Budget { messages, bytes, critical_messages, critical_bytes, large_bytes_max };
        let batch = self.owner.batch(self.id, budget);
        let now = Instant::now();
        lock(&self.sent).extend(batch.iter().map(|record| (record.seq, now)));
        batch
    }

    async fn ready(&self) {
        self.owner.ready(self.id).await;
    }

    fn acked(&self, ack_id: u64, ranges: &SeqSet) {
        let mut sent = lock(&self.sent);
        let times = ranges.iter().filter_map(|seq| sent.remove(&seq)).map(|at| at.elapsed());
        let latency = times.max().unwrap_or_default();
        drop(sent);
        self.owner.acked(self.id, ranges, latency);
        *lock(&self.acks) = ack_id;
    }

    fn acks_durable(&self) -> u64 {
        *lock(&self.acks)
    }

    fn peer_settled(&self, _settled: Settled, _covered: &SeqSet) {}

    fn nacked(&self, nack: Nack) {
        let refusal = match nack.kind {
            NackKind::Retry { after } => Refused::Retry { after },
            NackKind::Terminal => Refused::Terminal,
            NackKind::InProgress => Refused::InProgress,
        };
        self.owner.refused(self.id, nack.seq, refusal, &nack.text);
    }

    async fn receive(&self, records: Vec<InboundRecord>) -> Result<Vec<Verdict>, ReceiveError> {
        let log = lock(&self.peer).expect("a session is established");
        // D3: what is known is acknowledged again.
        self.node.seen().pushed.extend(records.iter().map(|record| (log, record.seq)));
        Ok(records.iter().map(|_| Verdict::Stored).collect())
    }

    fn receive_unsequenced(&self, response: StreamResponse, _encoded: Bytes) {
        panic!("nothing here is plain: {response:?}");
    }

    fn gap(&self, range: RangeInclusive<Seq>, cause: GapCause, text: &str) {
        panic!("a gap {range:?}: {} {text}", cause.as_str_name());
    }

    fn lost(&self) {
        *lock(&self.peer) = None;
        lock(&self.sent).clear();
        self.owner.disconnected(self.id);
    }
}
