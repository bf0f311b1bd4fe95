//! Opening everything from the disk, and closing it.
//!
//! The order matters: the buffer first (its lock fences a second process), then what is reconciled
//! with it, then what a crash left unhandled, and only then the streams.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use alys_stream_messaging::buffer::{Buffer, Recovered};
use alys_stream_messaging::dead_letter::DeadLetters;
use alys_stream_messaging::inbox::{Inbox, InboxConfig, Received};
use alys_stream_messaging::log::{CommitObserver, OpenError};
use alys_stream_messaging::outbox::{EndpointId, Outbox, OutboxConfig, TooManyEndpoints};
use alys_stream_messaging::outcome::{OutcomeConfig, Outcomes};
use alys_stream_messaging::refusals::Refusals;
use alys_stream_messaging::router::{Router, RouterError};
use alys_stream_protocol::message::Seq;
use alys_stream_protocol::seq_set::SeqSet;
use alys_stream_telemetry::metrics::Metrics;
use alys_stream_transport::tls::TlsLoadError;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::damage::Damage;
use super::fence::Fence;
use super::holes::Holes;
use super::news::{self, News};
use super::{Counts, Delivery, Ended, EndpointSlot, State, expiry, feed, governed, load, settle};
use crate::ack_ledger::AckLedger;
use crate::balance::SharedBalancer;
use crate::collector::Collector;
use crate::config::StreamConfig;
use crate::federation::{HistoryError, RestoreError};
use crate::letters::LettersError;
use crate::letters::deaths::Dying;
use crate::links::Links;
use crate::outcome::Followers;
use crate::proposals::ProposalLogError;
use crate::system::Surroundings;
use crate::tally::Tally;

/// How long [`Delivery::drained`] waits between two looks.
const LOOK_AGAIN: Duration = Duration::from_millis(20);

/// Why nothing could be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A store cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The router contradicts itself.
    #[error("router.{0}")]
    Router(#[from] RouterError),
    /// More endpoints than an outbox serves.
    #[error("endpoints: {0}")]
    Endpoints(#[from] TooManyEndpoints),
    /// Certificates, keys or lists cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsLoadError),
    /// The federation history cannot be read.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// The federation history and the configuration do not lead to a federation in force.
    #[error(transparent)]
    Restore(#[from] RestoreError),
    /// The log of proposals cannot be opened.
    #[error(transparent)]
    Proposals(#[from] ProposalLogError),
    /// It cannot be read whether the log was rolled back.
    #[error("data_dir: `rolled-back` cannot be read ({0}); make it readable")]
    Fence(#[source] std::io::Error),
    /// What a crash left half dead cannot be ended.
    #[error(transparent)]
    Deaths(#[from] LettersError),
    /// Starting was cut short.
    #[error("starting was interrupted: {0}")]
    Interrupted(String),
}

/// Everything is open, and nothing of what an earlier process left is taken up.
#[derive(Debug)]
#[must_use = "nothing goes on before it is resumed"]
pub(crate) struct Opened {
    delivery: Arc<Delivery>,
    recovered: Recovered,
    unhandled: Vec<Received>,
    dying: Dying,
}

impl Opened {
    /// Takes up what an earlier process left: what died is settled (A20), the rest goes to the outbox
    /// in bits, and answers that had come in go to the collector again. What had ended otherwise is
    /// found when its turn comes to be read back. It is not waited until the settlements are durable:
    /// on a full disk that is a long time, and a node that starts can be seen into.
    pub(crate) async fn resume(self) -> Result<Arc<Delivery>, StartError> {
        let Self { delivery, recovered, unhandled, dying } = self;
        match dying.settle(&delivery.buffer, &delivery.outcomes).await {
            Ok(settling) => delivery.hold_letters(settling).await,
            Err(error) => {
                delivery.close().await;
                return Err(error.into());
            }
        }
        let workers = delivery.workers.clone();
        let resuming = workers.run(move || {
            delivery.resume(recovered, unhandled);
            delivery
        });
        resuming.await.map_err(|error| StartError::Interrupted(error.to_string()))
    }
}

impl Delivery {
    /// Opens or creates everything under `config.data_dir`. Blocks on the disk.
    pub(crate) fn open(config: &StreamConfig, around: Surroundings) -> Result<Opened, StartError> {
        let router = Router::try_new(&config.router)?;
        let bounds = &config.bounds;
        let storage = Arc::clone(&config.ground.storage);
        let workers = storage.workers();
        let dir = |name: &str| config.data_dir.join(name);
        let (buffer, recovered) = buffer(config, &around.metrics)?;
        let mut damage = Damage::default();
        let (dead_letters, found) =
            DeadLetters::open(&dir("dead_letters"), bounds.dead_letters, Arc::clone(&storage))?;
        damage.add("dead_letters", &found);
        let (outcomes, found) =
            Outcomes::open(&dir("outcomes"), OutcomeConfig::default(), Arc::clone(&storage))?;
        damage.add("outcomes", &found);
        // Lies beside the buffer and follows it: what belongs to a settled message goes.
        let (refusals, found) = Refusals::open(
            &dir("refusals"),
            bounds.refusals,
            Arc::clone(&storage),
            buffer.log_id(),
            &|seq| buffer.is_live(seq),
        )?;
        damage.add("refusals", &found);
        let duties = governed::open(config, &around, &storage, &buffer, &mut damage)?;
        let (inbox, unhandled) = Inbox::open(&dir("inbox"), InboxConfig::default(), storage)?;
        damage.add("inbox", inbox.recovery());
        let Surroundings { metrics, clock, events, neighbours, failures, heights } = around;
        damage.report(&recovered, &metrics);
        let balancer = balancer(config);
        let outbox = outbox(config, &balancer)?;
        let resumed_below = buffer.next_seq();
        let fence = Fence::open(&config.ground.storage, &config.data_dir, buffer.log_id())
            .map_err(StartError::Fence)?;
        let dying = Dying::find(&buffer, &dead_letters, &outcomes);
        let delivery = Self {
            state: Mutex::new(State::new(outbox, resumed_below, config)),
            endpoints: slots(config),
            buffer,
            inbox,
            dead_letters,
            outcomes,
            refusals,
            balancer,
            router,
            gate: Arc::clone(&config.gate),
            workers,
            duties,
            news: News::default(),
            neighbours,
            failures,
            heights,
            disk_failed: AtomicBool::new(false),
            clock,
            metrics,
            events,
            accepted: AtomicU64::new(0),
            settle: Notify::new(),
            ending: Arc::default(),
            held_letters: Mutex::default(),
            settle_now: Notify::new(),
            load: Notify::new(),
            timer: Notify::new(),
            broken: Notify::new(),
            resumed_below,
            fence,
            letters_age_max: bounds.dead_letters.age_max,
            letters_watch: Mutex::default(),
            gaps: recovered.gaps.clone(),
            store_gaps: damage.gaps,
            holes: Holes::default(),
        };
        Ok(Opened { delivery: Arc::new(delivery), recovered, unhandled, dying })
    }

    /// The part of [`Opened::resume`] that waits for nobody. Blocks on the disk.
    fn resume(&self, recovered: Recovered, unhandled: Vec<Received>) {
        for gap in recovered.gaps.iter().filter(|gap| !gap.is_known) {
            gap.seqs.iter().cloned().for_each(|seqs| self.holes.add(seqs));
        }
        let backlog = self.buffer.stat();
        tracing::info!(
            log_id = %self.buffer.log_id(),
            epoch = self.buffer.epoch().0,
            unsettled = backlog.records(),
            unhandled = unhandled.len(),
            "buffer opened"
        );
        self.finish_replays(&recovered.replayed);
        self.finish_marks(recovered.replayed.keys().copied());
        let mut state = self.lock();
        for page in self.buffer.backlog() {
            state.outbox.handle_backlog(&page);
        }
        self.pump(&mut state);
        drop(state);
        for received in unhandled {
            self.dispatch(received);
        }
    }

    /// The tasks that keep it going; each lives until it is aborted.
    pub(crate) fn drivers(self: &Arc<Self>) -> JoinSet<Result<(), String>> {
        let mut drivers = JoinSet::new();
        let feeder = Arc::clone(self);
        drivers.spawn(async move {
            feed::run(feeder).await;
            Err("the buffer closed".to_owned())
        });
        let evictor = Arc::clone(self);
        drivers.spawn(async move {
            feed::run_evicted(evictor).await;
            Err("the buffer closed".to_owned())
        });
        // Whoever stores in the other logs waits for them, and fails with them.
        let inbox = self.inbox.clone();
        drivers.spawn(async move { Err(inbox.ended().await.to_string()) });
        let timer = Arc::clone(self);
        drivers.spawn(async move {
            feed::run_timer(timer).await;
            Ok(())
        });
        let expirer = Arc::clone(self);
        drivers.spawn(async move {
            expiry::run(expirer).await;
            Ok(())
        });
        drivers.spawn(settle::run(Arc::clone(self)));
        drivers.spawn(load::run(Arc::clone(self)));
        drivers.spawn(governed::run_federation(Arc::clone(self)));
        let closer = Arc::clone(self);
        drivers.spawn(async move {
            governed::run_proposals(closer).await;
            Ok(())
        });
        let teller = Arc::clone(self);
        drivers.spawn(async move {
            news::run(teller).await;
            Ok(())
        });
        let watched = Arc::clone(self);
        drivers.spawn(async move {
            watched.broken.notified().await;
            Err("a panic left the delivery in an unknown state".to_owned())
        });
        drivers
    }

    /// Waits until nothing is left that the connected endpoints could take or acknowledge, or until
    /// `limit` has passed. Says which. What waits for an endpoint that is away waits on the disk.
    pub(crate) async fn drained(&self, links: &Links, limit: Duration) -> bool {
        let idle = async {
            while !self.is_idle(links) {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        tokio::time::timeout(limit, idle).await.is_ok()
    }

    fn is_idle(&self, links: &Links) -> bool {
        // What becomes durable comes to the outbox, what ended there to the disk: looked at in that
        // order, nothing is between two places unseen.
        let fed_below = self.lock().fed_below.0;
        let mut unfed = (fed_below..self.buffer.next_seq().0).map(Seq);
        if unfed.any(|seq| !self.buffer.is_settled(seq)) {
            return false;
        }
        let live = links.statuses().into_iter().filter(|(_, status)| status.is_live());
        let live: Vec<EndpointId> = live.map(|(id, _)| id).collect();
        let Some(_ending) = self.ending.try_lock().ok().filter(|it| !**it) else { return false };
        let state = self.lock();
        let outbox = &state.outbox;
        let is_coming = !live.is_empty() && outbox.is_loading();
        let is_left = live.iter().any(|id| outbox.in_flight(*id) + outbox.queued(*id) > 0);
        !is_coming && !is_left && state.ended.is_empty()
    }

    /// Releases the files. What is appended already becomes durable first.
    pub(crate) async fn close(&self) {
        self.buffer.close().await;
        self.inbox.close().await;
        self.dead_letters.close().await;
        self.outcomes.close().await;
        self.refusals.close().await;
        if let Some(federation) = &self.duties.federation {
            federation.close().await;
        }
        self.duties.proposals.close().await;
    }
}

impl State {
    fn new(outbox: Outbox, resumed_below: Seq, config: &StreamConfig) -> Self {
        let endpoints = config.endpoints.len();
        let enabled = config.endpoints.iter().filter(|endpoint| endpoint.enabled).count();
        Self {
            outbox,
            fed_below: resumed_below,
            collector: Collector::new(enabled),
            followers: Followers::default(),
            followed: BTreeMap::new(),
            marked: None,
            replayed: SeqSet::new(),
            ledgers: std::iter::repeat_with(AckLedger::default).take(endpoints).collect(),
            volatile: vec![BTreeMap::new(); endpoints],
            wanted: VecDeque::new(),
            ended: Ended::default(),
            kept: BTreeMap::new(),
            peers: BTreeMap::new(),
            sent_below: BTreeMap::new(),
            wake_at: None,
            counts: Counts::default(),
        }
    }
}

fn buffer(config: &StreamConfig, metrics: &Arc<Metrics>) -> Result<(Buffer, Recovered), OpenError> {
    let storage = Arc::clone(&config.ground.storage);
    let opened = Buffer::open(&config.data_dir.join("buffer"), config.buffer, storage)?;
    opened.0.observe(Arc::new(CommitMetrics(Arc::clone(metrics))));
    Ok(opened)
}

fn slots(config: &StreamConfig) -> Vec<EndpointSlot> {
    let slot = |name: &String| EndpointSlot {
        name: name.clone(),
        ready: Notify::new(),
        tally: Tally::default(),
    };
    config.endpoints.iter().map(|endpoint| slot(&endpoint.name)).collect()
}

fn balancer(config: &StreamConfig) -> SharedBalancer {
    let endpoints = config.endpoints.iter().enumerate().filter_map(|(index, endpoint)| {
        let id = u16::try_from(index).ok().filter(|_| endpoint.enabled)?;
        Some((EndpointId(id), endpoint.name.clone(), endpoint.into()))
    });
    SharedBalancer::new(config.bounds.balance.clone(), config.seed, endpoints)
}

fn outbox(config: &StreamConfig, balancer: &SharedBalancer) -> Result<Outbox, TooManyEndpoints> {
    let mut outbox = Outbox::new(OutboxConfig { seed: config.seed, ..config.bounds.outbox });
    outbox.set_balance(Box::new(balancer.clone()));
    for (index, endpoint) in config.endpoints.iter().enumerate() {
        if endpoint.enabled {
            let id = u16::try_from(index).map_err(|_| TooManyEndpoints)?;
            outbox.handle_endpoint_added(EndpointId(id), &endpoint.name)?;
        }
    }
    Ok(outbox)
}

/// Tells the metrics about commits of the buffer.
#[derive(Debug)]
struct CommitMetrics(Arc<Metrics>);

impl CommitObserver for CommitMetrics {
    fn committed(&self, entries: u64, _bytes: u64, sync: Duration) {
        self.0.fsync(sync, entries);
    }
}
