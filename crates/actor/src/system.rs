//! Starting and stopping the tree.
//!
//! ```text
//! start:  certificates ─▶ stores, from the disk ─▶ root ─▶ its children, in order
//! stop:   accept nothing ─▶ drain ─▶ close streams politely ─▶ actors ─▶ stores
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_stream_protocol::submission::SubscribeResponse;
use alys_stream_protocol::time::WallClock;
use alys_stream_telemetry::metrics::Metrics;
use ractor::{Actor, ActorCell};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::BalanceSetting;
use crate::config::StreamConfig;
use crate::delivery::StartError;
use crate::failure::FailureLog;
use crate::handle::StreamHandle;
use crate::links::Links;
use crate::neighbours::{Asks, NeighbourActors, Neighbours};
use crate::spawn;
use crate::stream_actor::{Opener, Phase, StreamChild};
use crate::submit::Submitter;
use crate::supervision::{
    Branch, Child, Escalation, Neighbour, Supervisor, SupervisorArguments, Surrounds, Tree,
    TreePath, words,
};
use crate::trust::Trust;

/// Pushes that a slow subscriber may lag behind before it loses the oldest.
const SUBSCRIBER_LAG_MAX: usize = 4096;

/// Time that connections get to close politely.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Time that each neighbour gets to end what it is at when the tree stops.
const NEIGHBOUR_STOP: Duration = Duration::from_secs(1);

/// Why the tree is not running any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// It was told to.
    Shutdown,
    /// The root supervisor's restart budget is spent.
    GaveUp(String),
}

/// What is around every life of the StreamActor.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) events: broadcast::Sender<Arc<SubscribeResponse>>,
    pub(crate) neighbours: Neighbours,
    pub(crate) failures: Arc<FailureLog>,
    /// The highest height that Chain told.
    pub(crate) heights: watch::Sender<Option<u64>>,
}

impl Surroundings {
    pub(crate) fn new(metrics: Arc<Metrics>, clock: Arc<dyn WallClock>) -> Self {
        Self {
            failures: Arc::new(FailureLog::new(Arc::clone(&clock), Arc::clone(&metrics))),
            metrics,
            clock,
            events: broadcast::channel(SUBSCRIBER_LAG_MAX).0,
            neighbours: Neighbours::default(),
            heights: watch::Sender::new(None),
        }
    }
}

/// How the tree is stopped in order, by whoever does it first.
#[derive(Debug, Clone)]
pub(crate) struct Orderly {
    links: Arc<Links>,
    phase: watch::Sender<Phase>,
    shutdown: CancellationToken,
    accepting: Arc<AtomicBool>,
    tree: Arc<Tree>,
    /// Held while somebody stops.
    stopping: Arc<tokio::sync::Mutex<()>>,
}

impl Orderly {
    /// The root gives up: streams are closed politely, then the stores. Its children are still there
    /// and start nothing again.
    pub(crate) async fn give_up(&self, reason: &str) {
        let _stopping = self.stopping.lock().await;
        if self.is_over() {
            return;
        }
        self.close_streams().await;
        self.close_stores(Phase::Failed(reason.to_owned())).await;
    }

    /// Stops everything. Whoever comes second waits for the first.
    async fn stop(&self, root: &ActorCell, drain: Duration) {
        self.accepting.store(false, Ordering::Release);
        let _stopping = self.stopping.lock().await;
        if self.is_over() {
            return;
        }
        let phase = self.phase.borrow().clone();
        if let Phase::Running(delivery) = &phase {
            let idle = delivery.drained(&self.links, drain).await;
            tracing::info!(idle, "draining is over");
        }
        self.close_streams().await;
        for (actor, cell) in self.tree.running().into_iter().filter(|(name, _)| is_neighbour(name))
        {
            let reason = Some("shutdown".to_owned());
            if cell.stop_and_wait(reason, Some(NEIGHBOUR_STOP)).await.is_err() {
                tracing::warn!(actor, "it did not stop in time");
            }
        }
        if let Err(error) = root.stop_and_wait(Some("shutdown".into()), None).await {
            tracing::warn!(%error, "the root supervisor was gone already");
        }
        self.close_stores(Phase::Stopped).await;
    }

    fn is_over(&self) -> bool {
        matches!(&*self.phase.borrow(), Phase::Failed(_) | Phase::Stopped)
    }

    async fn close_streams(&self) {
        self.accepting.store(false, Ordering::Release);
        self.shutdown.cancel();
        let closed = self.links.closed();
        if tokio::time::timeout(CLOSE_TIMEOUT, closed).await.is_err() {
            tracing::warn!(limit = ?CLOSE_TIMEOUT, "not every stream closed politely");
        }
    }

    async fn close_stores(&self, last: Phase) {
        let phase = self.phase.borrow().clone();
        if let Phase::Running(delivery) = phase {
            delivery.close().await;
        }
        self.tree.handle_stopped();
        self.phase.send_replace(last);
    }
}

/// Supervisors, and what belongs to the StreamActor, hold nothing that needs time to end.
fn is_neighbour(actor: &str) -> bool {
    actor.split('/').count() == 3 && actor != "root/system/stream"
}

/// A running tree.
#[derive(Debug)]
pub struct StreamSystem {
    handle: StreamHandle,
    phase: watch::Sender<Phase>,
    neighbours: Neighbours,
    asks: Asks,
    _stop: StopOnDrop,
    /// Reads certificates again when their files change, for as long as the tree lives.
    _reloading: Option<AbortOnDropHandle<()>>,
    /// Notices when the root itself dies.
    _watching: AbortOnDropHandle<()>,
}

/// What stops the tree, from the system and from every handle.
#[derive(Debug, Clone)]
pub(crate) struct Stopper {
    orderly: Orderly,
    root: ActorCell,
}

impl Stopper {
    pub(crate) async fn stop(&self, drain: Duration) {
        self.orderly.stop(&self.root, drain).await;
    }

    pub(crate) fn tree(&self) -> &Tree {
        &self.orderly.tree
    }
}

/// A tree that nobody holds any more ends, as after a crash.
#[derive(Debug)]
struct StopOnDrop(ActorCell);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.kill();
    }
}

impl StreamSystem {
    /// Opens the buffer, starts the tree, and dials every enabled endpoint in parallel.
    ///
    /// # Errors
    ///
    /// When a store cannot be opened (locked by another process, not writable, of a newer version),
    /// or an endpoint or a certificate cannot be used as configured.
    pub async fn start(
        config: StreamConfig,
        metrics: Arc<Metrics>,
        clock: Arc<dyn WallClock>,
    ) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let shutdown = CancellationToken::new();
        let trust = Trust::load(&config, &clock, &shutdown).await?;
        let around = Surroundings::new(metrics, Arc::clone(&clock));
        let links = Arc::new(Links::new(&config, trust.tls, &around));
        let opener = Opener { config: Arc::clone(&config), around: around.clone() };
        let first = opener.open().await?;
        let phase = watch::Sender::new(Phase::Running(Arc::clone(&first)));
        let accepting = Arc::new(AtomicBool::new(true));
        let tree = Arc::new(Tree::new(clock));
        let orderly = Orderly {
            links: Arc::clone(&links),
            phase: phase.clone(),
            shutdown: shutdown.clone(),
            accepting: Arc::clone(&accepting),
            tree: Arc::clone(&tree),
            stopping: Arc::default(),
        };
        let supervision = Surrounds {
            limits: config.restarts,
            tree,
            metrics: Arc::clone(&around.metrics),
            failures: Arc::clone(&around.failures),
            shutdown,
            faults: config.faults.clone(),
        };
        let stream = StreamChild {
            opener,
            links: Arc::clone(&links),
            submitter: Arc::new(Submitter { node_id: config.node.node_id.clone() }),
            asks: Asks::default(),
            first: Arc::new(Mutex::new(Some(first))),
            balance: BalanceSetting::new(config.bounds.balance.clone()),
            phase: phase.clone(),
            around: supervision,
        };
        let (root, watching) = start_root(&stream, &config.neighbours, orderly.clone()).await?;
        let stopper = Stopper { orderly, root: root.clone() };
        let (neighbours, asks) = (around.neighbours.clone(), stream.asks.clone());
        let handle = StreamHandle::new(&stream, links, around, accepting, stopper);
        Ok(Self {
            handle,
            phase,
            neighbours,
            asks,
            _stop: StopOnDrop(root),
            _reloading: trust.reloading,
            _watching: watching,
        })
    }

    /// What callers hold.
    #[must_use]
    pub fn handle(&self) -> StreamHandle {
        self.handle.clone()
    }

    /// The ports of the neighbouring actors: to attach actors of [`crate::neighbours::Plug::external`], and to
    /// ask those that are there.
    #[must_use]
    pub const fn neighbours(&self) -> &Neighbours {
        &self.neighbours
    }

    /// The way for actors to ask something through the mailbox of the StreamActor.
    #[must_use]
    pub fn asks(&self) -> Asks {
        self.asks.clone()
    }

    /// Every actor that runs, by its path from the root on: for tools that look at actors, and for
    /// tests that kill them.
    #[must_use]
    pub fn actors(&self) -> Vec<(String, ActorCell)> {
        self.handle.stopper().tree().running()
    }

    /// Resolves when the tree stops by itself: the root supervisor gave up.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn stopped(&self) -> StopReason {
        let mut phases = self.phase.subscribe();
        let ended = phases
            .wait_for(|phase| matches!(phase, Phase::Failed(_) | Phase::Stopped))
            .await
            .map(|phase| phase.clone());
        match ended {
            Ok(Phase::Failed(reason)) => StopReason::GaveUp(reason),
            Ok(Phase::Running(_) | Phase::Restarting | Phase::Stopped) | Err(_) => {
                StopReason::Shutdown
            }
        }
    }

    /// Stops: nothing new is accepted, what is in flight gets `drain` to settle, the streams are
    /// closed politely, and the stores are closed. What is left unsettled waits on the disk.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the tree ends as after a crash: nothing that was accepted is lost.
    pub async fn shutdown(self, drain: Duration) {
        self.handle.shutdown(drain).await;
    }
}

/// Starts the root, and with it everything below. What is given back first notices its death.
async fn start_root(
    stream: &StreamChild,
    actors: &NeighbourActors,
    orderly: Orderly,
) -> Result<(ActorCell, AbortOnDropHandle<()>), StartError> {
    let path = TreePath::root();
    let around = stream.around.clone();
    let arguments = SupervisorArguments {
        path: path.clone(),
        children: branches(stream, actors),
        escalation: Escalation::GiveUp(orderly.clone()),
        around: around.clone(),
    };
    let (root, task) = Actor::spawn(None, Supervisor, arguments)
        .await
        .map_err(|error| StartError::Interrupted(words(error)))?;
    let cell = root.get_cell();
    around.tree.handle_started(&path, cell.clone());
    let watching = spawn::owned(async move {
        // Its task ends with it, however it ends.
        drop(task.await);
        if !around.shutdown.is_cancelled() {
            orderly.give_up("the root supervisor died").await;
        }
    });
    Ok((cell, watching))
}

/// The three branches below the root.
fn branches(stream: &StreamChild, actors: &NeighbourActors) -> Vec<Box<dyn Child>> {
    let NeighbourActors { bridge, chain, network, storage, sync } = actors.clone();
    let (stream, around) = (stream.clone(), stream.around.clone());
    let (ports, asks) = (stream.opener.around.neighbours.clone(), stream.asks.clone());
    let (of_network, of_storage) = ((ports.clone(), asks.clone()), (ports.clone(), asks.clone()));
    vec![
        // Whoever is told comes before whoever tells: Storage, Network, Sync, then the StreamActor.
        Box::new(Branch::new("storage", around.clone(), move || {
            let (ports, asks) = &of_storage;
            Neighbour::child(&ports.storage, &storage, asks).into_iter().collect()
        })),
        Box::new(Branch::new("network", around.clone(), move || {
            let (ports, asks) = &of_network;
            let network = Neighbour::child(&ports.network, &network, asks);
            network.into_iter().chain(Neighbour::child(&ports.sync, &sync, asks)).collect()
        })),
        Box::new(Branch::new("system", around, move || {
            let bridge = Neighbour::child(&ports.bridge, &bridge, &asks);
            let chain = Neighbour::child(&ports.chain, &chain, &asks);
            let stream: Box<dyn Child> = Box::new(stream.clone());
            bridge.into_iter().chain(chain).chain([stream]).collect()
        })),
    ]
}
