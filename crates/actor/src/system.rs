//! Starting and stopping the tree: `RootSupervisor` → `StreamActor` → one `Connection` per endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alys_stream_protocol::federation::Federation;
use alys_stream_protocol::submission::SubscribeResponse;
use alys_stream_protocol::time::WallClock;
use alys_stream_telemetry::metrics::Metrics;
use ractor::{Actor, ActorRef};
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::balance::BalanceSetting;
use crate::config::StreamConfig;
use crate::delivery::{Delivery, StartError};
use crate::handle::StreamHandle;
use crate::links::Links;
use crate::submit::Submitter;
use crate::supervisor::{RootArguments, RootMessage, RootSupervisor};
use crate::trust::Trust;

/// Pushes that a slow subscriber may lag behind before it loses the oldest.
const SUBSCRIBER_LAG_MAX: usize = 4096;

/// Time that connections get to close politely.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(3);

/// Where the tree is in its life.
#[derive(Debug, Clone)]
pub(crate) enum Phase {
    /// Messages are accepted.
    Running(Arc<Delivery>),
    /// The StreamActor died and is being started again.
    Restarting,
    /// The root gave up.
    Failed(String),
    /// Stopped as asked.
    Stopped,
}

/// Why the tree is not running any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// It was told to.
    Shutdown,
    /// The root supervisor's restart budget is spent.
    GaveUp(String),
}

/// Opens a [`Delivery`] from the disk, at start and after every death of the StreamActor.
#[derive(Debug, Clone)]
pub(crate) struct Opener {
    config: Arc<StreamConfig>,
    federation: Option<Federation>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn WallClock>,
    events: broadcast::Sender<Arc<SubscribeResponse>>,
}

impl Opener {
    pub(crate) fn config(&self) -> &StreamConfig {
        &self.config
    }

    /// Opens and recovers off the runtime's threads: it reads whole segments.
    pub(crate) async fn open(&self) -> Result<Arc<Delivery>, StartError> {
        let opener = self.clone();
        let opening = tokio::task::spawn_blocking(move || {
            Delivery::open(
                &opener.config,
                opener.federation,
                opener.metrics,
                opener.clock,
                opener.events,
            )
        });
        match opening.await {
            Ok(result) => result.map(Arc::new),
            Err(error) => Err(StartError::Interrupted(error.to_string())),
        }
    }
}

/// A running tree.
#[derive(Debug)]
pub struct StreamSystem {
    root: ActorRef<RootMessage>,
    handle: StreamHandle,
    phase: watch::Sender<Phase>,
    shutdown: CancellationToken,
    accepting: Arc<AtomicBool>,
    /// Reads certificates again when their files change, for as long as the tree lives.
    _reloading: Option<AbortOnDropHandle<()>>,
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
        let federation = config.federation.clone();
        let (events, _) = broadcast::channel(SUBSCRIBER_LAG_MAX);
        let shutdown = CancellationToken::new();
        let trust = Trust::load(&config, &clock, &shutdown).await?;
        let links = Arc::new(Links::new(&config, trust.tls, &metrics, &clock));
        let submitter =
            Submitter { node_id: config.node.node_id.clone(), federation: federation.clone() };
        let balance = BalanceSetting::new(config.bounds.balance.clone());
        let opener = Opener {
            config,
            federation,
            metrics,
            clock: Arc::clone(&clock),
            events: events.clone(),
        };
        let first = opener.open().await?;
        let (phase, phases) = watch::channel(Phase::Running(Arc::clone(&first)));
        let accepting = Arc::new(AtomicBool::new(true));
        let handle = StreamHandle::new(
            phases,
            Arc::clone(&links),
            submitter,
            clock,
            events,
            Arc::clone(&accepting),
            balance.clone(),
        );
        let arguments = RootArguments {
            opener,
            links,
            first,
            balance,
            phase: phase.clone(),
            shutdown: shutdown.clone(),
        };
        let (root, _task) = Actor::spawn(None, RootSupervisor, arguments)
            .await
            .map_err(|error| StartError::Interrupted(error.to_string()))?;
        Ok(Self { root, handle, phase, shutdown, accepting, _reloading: trust.reloading })
    }

    /// What callers hold.
    #[must_use]
    pub fn handle(&self) -> StreamHandle {
        self.handle.clone()
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
    pub async fn shutdown(self, drain: Duration) {
        self.accepting.store(false, Ordering::Release);
        let phase = self.phase.borrow().clone();
        if let Phase::Running(delivery) = &phase {
            let idle = self.handle.drained(delivery, drain).await;
            tracing::info!(idle, "draining is over");
        }
        self.shutdown.cancel();
        self.handle.disconnected(CLOSE_TIMEOUT).await;
        self.root.stop_children(Some("shutdown".into()));
        let stop = self.root.stop_and_wait(Some("shutdown".into()), None).await;
        if let Err(error) = stop {
            tracing::warn!(%error, "the root supervisor was gone already");
        }
        if let Phase::Running(delivery) = self.phase.send_replace(Phase::Stopped) {
            delivery.close().await;
        }
    }
}
