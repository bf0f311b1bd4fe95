//! The load: peg-outs to sign at a steady rate, peg-ins and status updates beside them.
//!
//! Each message is a task of its own that does what a careful application does: submit with an
//! identifier of its own, submit again with the same one while the node does not answer, then follow
//! the outcome to its end, across restarts of the node.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_protocol::governance::{
    NodeStatus, PeginNotification, RequestPriority, StatusUpdate, SyncStatus,
};
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{Submission, submission::Payload};
use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};
use bitcoin::ScriptBuf;
use bytes::Bytes;
use fastrand::Rng;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::accounts::{Accounts, Class, FaultRecord};
use super::pegout::Pegout;
use super::timeline::Fault;
use crate::submission::client::{Client, Code, Status, is_final, is_transient};

/// Most messages without an end at once; the load waits when there are more.
const MESSAGES_MAX: usize = 8 * 1024;

/// Pause before a node that does not answer is asked again.
const AGAIN: Duration = Duration::from_millis(50);

/// After so long nobody is interested in a message any more: longer than any run.
const DEADLINE: Duration = Duration::from_secs(3600);

/// Time between two status updates.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// What all parts of the demo share.
#[derive(Debug)]
pub(crate) struct Shared {
    accounts: Mutex<Accounts>,
    started: Instant,
    events: mpsc::Sender<Event>,
}

impl Shared {
    /// Starts the books, and the clock.
    pub(crate) fn new(started: Instant, events: mpsc::Sender<Event>) -> Self {
        Self { accounts: Mutex::default(), started, events }
    }

    /// The books. A panic elsewhere does not make them wrong: each entry is one assignment.
    pub(crate) fn accounts(&self) -> MutexGuard<'_, Accounts> {
        self.accounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the start of the run.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) const fn started(&self) -> Instant {
        self.started
    }

    /// Writes a fault into the books, and tells whoever watches.
    pub(crate) fn cause(&self, kind: Fault, who: &str) {
        let now = self.now();
        let in_flight = {
            let mut accounts = self.accounts();
            accounts.handle_fault(now, kind);
            accounts.in_flight()
        };
        let who = who.to_owned();
        self.tell(Event::Caused { kind, at: now, who, in_flight });
    }

    /// Tells whoever watches. A run has six events at most, so there is always room.
    pub(crate) fn tell(&self, event: Event) {
        drop(self.events.try_send(event));
    }
}

/// What happens in a run, besides messages.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    /// Something was broken on purpose.
    Caused {
        kind: Fault,
        at: Duration,
        who: String,
        /// How many messages had no end at that moment.
        in_flight: u64,
    },
    /// Things are well again.
    Over(FaultRecord),
}

/// What to do, and how much of it.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) client: Client,
    pub(crate) federation: ScriptBuf,
    pub(crate) threshold: u32,
    pub(crate) rate: u32,
    pub(crate) run: Duration,
    pub(crate) seed: u64,
}

/// Puts the load on until the time of the run is over; then waits for all of it to end, for as long
/// as the caller lets it.
pub(crate) async fn run(workload: Workload, shared: Arc<Shared>) {
    let mut tasks = JoinSet::new();
    let room = Arc::new(Semaphore::new(MESSAGES_MAX));
    let mut rng = Rng::with_seed(workload.seed);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / workload.rate);
    let mut next_status = Duration::ZERO;
    let mut height = 800_000;
    while shared.now() < workload.run {
        ticks.tick().await;
        while tasks.try_join_next().is_some() {}
        let mut sending =
            Sending { workload: &workload, shared: &shared, room: &room, tasks: &mut tasks };
        let pegout = Pegout::random(&mut rng, &workload.federation);
        let request = Payload::SignatureRequest(pegout.request(workload.threshold));
        sending.follow(Class::Pegout, pegout_priority(&mut rng), request, Some(pegout)).await;
        let pegin = Payload::PeginNotification(pegin(&mut rng));
        sending.follow(Class::Pegin, pegin_priority(&mut rng), pegin, None).await;
        if shared.now() >= next_status {
            height += 1;
            next_status += STATUS_EVERY;
            sending.volatile(Payload::StatusUpdate(status(height))).await;
        }
    }
    while tasks.join_next().await.is_some() {}
}

struct Sending<'a> {
    workload: &'a Workload,
    shared: &'a Arc<Shared>,
    room: &'a Arc<Semaphore>,
    tasks: &'a mut JoinSet<()>,
}

impl Sending<'_> {
    /// Submits and follows to the end, in a task of its own.
    async fn follow(
        &mut self,
        class: Class,
        priority: RequestPriority,
        payload: Payload,
        pegout: Option<Pegout>,
    ) {
        let Some(permit) = self.permit().await else {
            return;
        };
        let id = MessageId::mint();
        self.shared.accounts().handle_created(id, class);
        let submission = submission(id, priority, payload);
        let (client, shared) = (self.workload.client.clone(), Arc::clone(self.shared));
        self.tasks.spawn(async move {
            let _permit = permit;
            if accept(&client, &shared, id, submission).await {
                end(&client, &shared, id, pegout).await;
            }
        });
    }

    /// Submits what is never stored and has no outcome: it may vanish with the node.
    async fn volatile(&mut self, payload: Payload) {
        let Some(permit) = self.permit().await else {
            return;
        };
        let submission = submission(MessageId::mint(), RequestPriority::Normal, payload);
        let (mut client, shared) = (self.workload.client.clone(), Arc::clone(self.shared));
        self.tasks.spawn(async move {
            let _permit = permit;
            let asked = Instant::now();
            if client.submit(submission).await.is_ok() {
                shared.accounts().handle_volatile(asked.elapsed());
            }
        });
    }

    /// `None` never happens: the semaphore is not closed.
    async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(self.room).acquire_owned().await.ok()
    }
}

/// Submits until the node has accepted; with the same identifier each time, so that it is one
/// message however often it arrives. `false` when the node refuses for good.
async fn accept(client: &Client, shared: &Shared, id: MessageId, submission: Submission) -> bool {
    let mut client = client.clone();
    loop {
        let asked = Instant::now();
        match client.submit(submission.clone()).await {
            Ok(_) => {
                shared.accounts().handle_accepted(shared.now(), id, asked.elapsed());
                return true;
            }
            Err(status) if is_transient(&status) => tokio::time::sleep(AGAIN).await,
            Err(status) => {
                shared.accounts().handle_refused(id, &text(&status));
                return false;
            }
        }
    }
}

/// Follows until the end, and checks the transaction that comes with it.
async fn end(client: &Client, shared: &Shared, id: MessageId, pegout: Option<Pegout>) {
    let mut client = client.clone();
    loop {
        match client.follow(id).await {
            Ok(mut outcomes) => {
                while let Ok(Some(outcome)) = outcomes.message().await {
                    if !is_final(&outcome) {
                        continue;
                    }
                    let now = shared.now();
                    let checked = pegout
                        .as_ref()
                        .filter(|_| !outcome.transaction.is_empty())
                        .map(|pegout| pegout.verify(&outcome.transaction));
                    let over = shared.accounts().handle_ended(now, id, &outcome, checked);
                    over.into_iter().for_each(|fault| shared.tell(Event::Over(fault)));
                    return;
                }
            }
            Err(status) if status.code() == Code::NotFound => {
                shared.accounts().handle_forgotten(id);
                return;
            }
            Err(_) => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn submission(id: MessageId, priority: RequestPriority, payload: Payload) -> Submission {
    let deadline = SystemClock.now().saturating_add(DEADLINE);
    Submission {
        message_id: Bytes::copy_from_slice(id.as_bytes()),
        priority: priority.into(),
        deadline_ms: UnixMillis::to_wire(Some(deadline)),
        ordering_key: Bytes::new(),
        traceparent: String::new(),
        payload: Some(payload),
    }
}

fn pegout_priority(rng: &mut Rng) -> RequestPriority {
    match rng.u32(0..10) {
        0 => RequestPriority::Critical,
        1..=6 => RequestPriority::High,
        _ => RequestPriority::Normal,
    }
}

fn pegin_priority(rng: &mut Rng) -> RequestPriority {
    if rng.bool() { RequestPriority::Normal } else { RequestPriority::Low }
}

fn pegin(rng: &mut Rng) -> PeginNotification {
    let mut txid = [0_u8; 32];
    rng.fill(&mut txid);
    let mut address = [0_u8; 20];
    rng.fill(&mut address);
    PeginNotification {
        btc_txid: hex::encode(txid),
        vout: rng.u32(0..4),
        amount: rng.u64(10_000..100_000_000),
        evm_address: format!("0x{}", hex::encode(address)),
        confirmations: rng.u32(6..100),
        extra_data: None,
    }
}

fn status(block_height: u64) -> StatusUpdate {
    StatusUpdate {
        status: NodeStatus::Active.into(),
        block_height,
        sync_status: SyncStatus::Synced.into(),
        connection_count: 8,
        metrics: None,
    }
}

fn text(status: &Status) -> String {
    format!("{}: {}", status.code().description(), status.message())
}
