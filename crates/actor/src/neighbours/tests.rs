//! The default neighbours, and the way to them.

use alys_stream_protocol::governance::{NodeStatus, SyncStatus};
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use bitcoin::Network;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinHandle;

use super::bridge::{BridgeSnapshot, SignatureStage};
use super::chain::{ChainSnapshot, NodeReport};
use super::network::NetworkSnapshot;
use super::report::Answers;
use super::storage::{AuditRecord, StorageSnapshot};
use super::sync::SyncSnapshot;
use super::*;
use crate::failure::Mode;
use crate::outcome;

/// All default neighbours, attached.
pub(crate) struct Tree {
    pub(crate) neighbours: Neighbours,
    chain: ActorRef<ChainMessage>,
    network: ActorRef<NetworkMessage>,
    _tasks: Vec<JoinHandle<()>>,
}

impl Tree {
    pub(crate) async fn start() -> Self {
        let neighbours = Neighbours::default();
        let (bridge, a) =
            Actor::spawn(None, MemoryBridge { network: Network::Regtest }, ()).await.unwrap();
        let (chain, b) = Actor::spawn(None, MemoryChain { block_height: 7 }, ()).await.unwrap();
        let (network, c) = Actor::spawn(None, MemoryNetwork { peers: 3 }, ()).await.unwrap();
        let (storage, d) = Actor::spawn(None, MemoryStorage, ()).await.unwrap();
        let (sync, e) = Actor::spawn(None, MemorySync, ()).await.unwrap();
        neighbours.bridge.attach(bridge);
        neighbours.chain.attach(chain.clone());
        neighbours.network.attach(network.clone());
        neighbours.storage.attach(storage);
        neighbours.sync.attach(sync);
        Self { neighbours, chain, network, _tasks: vec![a, b, c, d, e] }
    }

    pub(crate) fn attach_chain(&self) {
        self.neighbours.chain.attach(self.chain.clone());
    }

    pub(crate) fn attach_network(&self) {
        self.neighbours.network.attach(self.network.clone());
    }

    /// Asks the actor itself, whether it is attached or not.
    pub(crate) async fn chain(&self) -> ChainSnapshot {
        let asked = self.chain.call(ChainMessage::Snapshot, None).await.unwrap();
        asked.unwrap()
    }

    pub(crate) async fn network(&self) -> NetworkSnapshot {
        self.network.call(NetworkMessage::Snapshot, None).await.unwrap().unwrap()
    }

    pub(crate) async fn bridge(&self) -> BridgeSnapshot {
        self.neighbours.bridge.call(QUERY_TIMEOUT, BridgeMessage::Snapshot).await.unwrap()
    }

    pub(crate) async fn storage(&self) -> StorageSnapshot {
        self.neighbours.storage.call(QUERY_TIMEOUT, StorageMessage::Snapshot).await.unwrap()
    }

    pub(crate) async fn sync(&self) -> SyncSnapshot {
        self.neighbours.sync.call(QUERY_TIMEOUT, SyncMessage::Snapshot).await.unwrap()
    }
}

/// A Chain that misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bad {
    /// It answers nothing, and keeps what it got.
    Hangs,
    /// It panics at whatever it gets.
    Panics,
    /// It drops whatever it gets.
    Drops,
    /// It refuses for good.
    Refuses,
    /// It has no time now.
    Defers,
    /// It answers halts, and keeps everything else.
    HearsHaltsAlone,
}

#[derive(Debug)]
struct BadChain(Bad);

impl Actor for BadChain {
    type Msg = ChainMessage;
    type State = Vec<ChainMessage>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let answer = match self.0 {
            Bad::HearsHaltsAlone if matches!(message, ChainMessage::Halt { .. }) => Ok(()),
            Bad::Hangs | Bad::HearsHaltsAlone => {
                state.push(message);
                return Ok(());
            }
            Bad::Panics => panic!("told to"),
            Bad::Drops => return Ok(()),
            Bad::Refuses => Err(NotHandled::Never("not here".into())),
            Bad::Defers => Err(NotHandled::Later("busy".into())),
        };
        match message {
            ChainMessage::Scheduled { answer: port, .. }
            | ChainMessage::InForce { answer: port, .. }
            | ChainMessage::Halt { answer: port, .. }
            | ChainMessage::Resume { answer: port, .. }
            | ChainMessage::Proposal { answer: port, .. }
            | ChainMessage::ProposalClosed { answer: port, .. } => handled(port, answer),
            ChainMessage::NodeStatus(_) | ChainMessage::Snapshot(_) => {}
        }
        Ok(())
    }
}

pub(crate) async fn bad_chain(bad: Bad) -> ActorRef<ChainMessage> {
    Actor::spawn(None, BadChain(bad), ()).await.unwrap().0
}

/// A Chain that takes its time for each proposal.
#[derive(Debug)]
struct SlowChain {
    takes: Duration,
    told: Arc<std::sync::Mutex<Vec<String>>>,
}

impl Actor for SlowChain {
    type Msg = ChainMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        if let ChainMessage::Proposal { proposal, answer } = message {
            tokio::time::sleep(self.takes).await;
            self.told.lock().unwrap().push(proposal.id.clone());
            handled(answer, Ok(()));
        }
        Ok(())
    }
}

/// A Chain that takes so long for each proposal, and the ids of those that it was told of.
pub(crate) async fn slow_chain(
    takes: Duration,
) -> (ActorRef<ChainMessage>, Arc<std::sync::Mutex<Vec<String>>>) {
    let told = Arc::default();
    let chain = SlowChain { takes, told: Arc::clone(&told) };
    (Actor::spawn(None, chain, ()).await.unwrap().0, told)
}

/// A Network that answers nothing, and keeps what it got.
#[derive(Debug)]
struct HangingNetwork;

impl Actor for HangingNetwork {
    type Msg = NetworkMessage;
    type State = Vec<NetworkMessage>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(Vec::new())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.push(message);
        Ok(())
    }
}

pub(crate) async fn hanging_network() -> ActorRef<NetworkMessage> {
    Actor::spawn(None, HangingNetwork, ()).await.unwrap().0
}

/// A Chain that refuses everything for good.
pub(crate) async fn refusing_chain() -> ActorRef<ChainMessage> {
    bad_chain(Bad::Refuses).await
}

async fn close(port: &Port<ChainMessage>) -> Result<(), TargetError> {
    let build = |answer| ChainMessage::ProposalClosed { proposal_id: "p".into(), answer };
    port.tell(TELL_TIMEOUT, build).await
}

#[tokio::test(start_paused = true)]
async fn a_target_that_is_absent_hangs_panics_or_says_no_is_named() {
    let port = Port::new(Target::Chain);
    assert_eq!(close(&port).await, Err(TargetError::Absent(Target::Chain)));
    let target = Target::Chain;
    let expected = [
        (Bad::Hangs, TargetError::TimedOut { target, after: TELL_TIMEOUT }),
        (Bad::Panics, TargetError::Died(target)),
        (Bad::Drops, TargetError::Died(target)),
        (Bad::Refuses, TargetError::Refused { target, reason: "not here".into() }),
        (Bad::Defers, TargetError::Deferred { target, reason: "busy".into() }),
    ];
    for (bad, expected) in expected {
        port.attach(bad_chain(bad).await);
        assert_eq!(close(&port).await, Err(expected.clone()), "{bad:?}");
        assert_eq!(expected.is_for_now(), bad != Bad::Refuses);
    }
    port.detach();
    assert!(!port.is_attached());
}

#[tokio::test(start_paused = true)]
async fn a_target_that_hangs_gets_no_more_than_its_bound() {
    let port = Port::new(Target::Chain);
    let hanging = bad_chain(Bad::Hangs).await;
    port.attach(hanging.clone());
    for number in 0..IN_FLIGHT_MAX + 10 {
        let error = close(&port).await.unwrap_err();
        let is_busy = matches!(error, TargetError::Busy(_));
        assert_eq!(is_busy, number >= IN_FLIGHT_MAX, "{number}: {error}");
    }
    assert_eq!(port.in_flight(), IN_FLIGHT_MAX);
    // When it dies, what it held is over, and there is room for the next one.
    hanging.stop_and_wait(None, None).await.unwrap();
    let (chain, _task) = Actor::spawn(None, MemoryChain { block_height: 0 }, ()).await.unwrap();
    port.attach(chain);
    assert_eq!(port.in_flight(), 0);
    close(&port).await.unwrap();
}

#[tokio::test]
async fn giving_up_keeps_the_place_until_the_target_is_done() {
    let port = Port::new(Target::Chain);
    port.attach(bad_chain(Bad::Hangs).await);
    for number in 1..=5 {
        let mut told = Box::pin(close(&port));
        // Polled once: the message is in the mailbox.
        assert!(futures_poll(&mut told).is_pending());
        drop(told);
        assert_eq!(port.in_flight(), number);
    }
}

fn futures_poll<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context)
}

#[tokio::test]
async fn a_flood_of_events_leaves_the_newest_and_waits_for_nobody() {
    let tree = Tree::start().await;
    for number in 0..2000 {
        tree.neighbours.note(GovernanceEvent::ProposalClosed(number.to_string()));
        tokio::task::yield_now().await;
    }
    let sync = tree.sync().await;
    assert!(sync.events.len() <= 256 && sync.events_total > 0, "{}", sync.events_total);
    assert!(tree.neighbours.sync.in_flight() <= IN_FLIGHT_MAX);
}

#[tokio::test]
async fn the_bridge_knows_all_five_stages_apart() {
    let tree = Tree::start().await;
    let stages = [
        (OutcomeState::Pending, 0, SignatureStage::Pending),
        (OutcomeState::Pending, 1, SignatureStage::Partial),
        (OutcomeState::Complete, 2, SignatureStage::Complete),
        (OutcomeState::Failed, 0, SignatureStage::Failed),
        (OutcomeState::TimedOut, 1, SignatureStage::TimedOut),
    ];
    for (state, inputs_signed, expected) in stages {
        let id = MessageId::mint();
        let outcome = Arc::new(Outcome { inputs_signed, ..outcome::plain(id, state, "") });
        let stage = SignatureStage::of(&outcome);
        assert_eq!(stage, expected);
        assert_eq!(bridge::is_last(&outcome), stage > SignatureStage::Partial);
        tree.neighbours.tell_signatures(id, outcome).await.unwrap();
        assert_eq!(tree.bridge().await.signatures[&id.to_string()], expected);
    }
    assert_eq!(tree.bridge().await.stages.len(), 5);
}

#[tokio::test]
async fn the_bridge_remembers_a_bounded_number_of_requests() {
    let tree = Tree::start().await;
    for _ in 0..1500 {
        let id = MessageId::mint();
        let outcome = Arc::new(outcome::plain(id, OutcomeState::Pending, ""));
        tree.neighbours.tell_signatures(id, outcome).await.unwrap();
    }
    let bridge = tree.bridge().await;
    assert_eq!((bridge.signatures.len(), bridge.stages[&SignatureStage::Pending]), (1024, 1500));
}

#[tokio::test]
async fn storage_keeps_settings_and_audit_within_bounds() {
    let tree = Tree::start().await;
    let set = async |key: String, value: Option<String>| {
        let build = |answer| StorageMessage::Setting { key, value, answer };
        tree.neighbours.storage.tell(TELL_TIMEOUT, build).await
    };
    for number in 0..256 {
        set(number.to_string(), Some("v".into())).await.unwrap();
    }
    let refused = set("one more".into(), Some("v".into())).await.unwrap_err();
    assert!(!refused.is_for_now(), "{refused}");
    assert!(set("0".into(), Some("x".repeat(5000))).await.is_err());
    set("0".into(), None).await.unwrap();
    set("one more".into(), Some("v".into())).await.unwrap();
    for number in 0..1100 {
        let at = alys_stream_protocol::time::UnixMillis(number);
        let record = AuditRecord::new(at, "operator", "test", String::new());
        let build = |answer| StorageMessage::Audit { record, answer };
        tree.neighbours.storage.tell(TELL_TIMEOUT, build).await.unwrap();
    }
    let storage = tree.storage().await;
    assert_eq!((storage.audit.len(), storage.audit_total), (1024, 1100));
    assert_eq!(storage.settings.len(), 256);
}

#[tokio::test(start_paused = true)]
async fn the_gate_of_block_production_follows_the_link() {
    let tree = Tree::start().await;
    assert!(!tree.sync().await.is_gate_open, "nobody has said yet that the link is up");
    for mode in [Mode::Normal, Mode::NoEndpoint, Mode::Reduced, Mode::Halted, Mode::DiskFull] {
        let (endpoints_live, endpoints_enabled) = (1, 2);
        let health = LinkHealth { mode, reason: String::new(), endpoints_live, endpoints_enabled };
        tree.neighbours.tell_health(health).await.unwrap();
        assert_eq!(tree.sync().await.is_gate_open, mode.may_produce(), "{mode}");
    }
    tokio::time::advance(sync::HEALTH_STALE_AFTER).await;
    assert!(!tree.sync().await.is_gate_open, "the StreamActor is silent");
}

#[tokio::test(start_paused = true)]
async fn a_report_says_what_the_neighbours_said_and_goes_without_what_is_late() {
    let tree = Tree::start().await;
    let answers = tree.neighbours.ask_status().await;
    let node = Some(NodeReport { status: NodeStatus::Active, block_height: 7 });
    assert_eq!(answers, Answers { node, peers: Some(3), sync: Some(SyncStatus::Synced) });
    let report = answers.status_update(Mode::Normal);
    assert_eq!((report.block_height, report.connection_count), (7, 3));
    assert_eq!((report.status(), report.sync_status()), (NodeStatus::Active, SyncStatus::Synced));
    assert_eq!(answers.status_update(Mode::Halted).status(), NodeStatus::Degraded);
    tree.neighbours.chain.attach(bad_chain(Bad::Hangs).await);
    tree.neighbours.sync.detach();
    let answers = tree.neighbours.ask_status().await;
    assert_eq!(answers, Answers { node: None, peers: Some(3), sync: None });
    let report = answers.status_update(Mode::Normal);
    assert_eq!((report.status(), report.sync_status()), (NodeStatus::Degraded, SyncStatus::Error));
}

/// Accepts everything, one at a time and only when told to.
#[derive(Debug)]
struct Acceptor(Arc<tokio::sync::Semaphore>);

impl Actor for Acceptor {
    type Msg = StreamAsk;
    type State = u64;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(0)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        heights: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            StreamAsk::Submit { reply: port, permit, .. } => {
                self.0.acquire().await.unwrap().forget();
                reply(port, Err(crate::SendError::Unavailable));
                drop(permit);
            }
            StreamAsk::Height(height) => *heights = height,
            StreamAsk::Health(port) => {
                let (mode, reason) = (Mode::Normal, heights.to_string());
                let (endpoints_live, endpoints_enabled) = (1, 1);
                let health = LinkHealth { mode, reason, endpoints_live, endpoints_enabled };
                reply(port, health);
            }
        }
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn asks_are_bounded_and_end_in_an_answer() {
    let open = Arc::new(tokio::sync::Semaphore::new(0));
    let (actor, _task) = Actor::spawn(None, Acceptor(Arc::clone(&open)), ()).await.unwrap();
    let asks = Asks::new(actor.clone());
    let mut waiting = tokio::task::JoinSet::new();
    for _ in 0..asks::ASKS_MAX + 5 {
        let asks = asks.clone();
        waiting.spawn(async move { asks.submit(Default::default()).await });
    }
    open.add_permits(asks::ASKS_MAX + 5);
    while let Some(result) = waiting.join_next().await {
        assert!(matches!(result.unwrap(), Err(crate::SendError::Unavailable)));
    }
    assert!(asks.height(12));
    assert_eq!(asks.health().await.map(|it| it.reason), Some("12".into()));
    // One that hangs does not hold its caller for ever.
    let result = asks.submit(Default::default()).await;
    assert!(matches!(result, Err(crate::SendError::Unavailable)));
    actor.stop(None);
    open.add_permits(1);
}
