//! What callers hold: cheap to clone, never blocks the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alys_stream_messaging::dead_letter::DeadLetterId;
use alys_stream_protocol::governance::{PeginNotification, RequestPriority, SignatureRequest};
use alys_stream_protocol::message::{Message, MessageId, Priority};
use alys_stream_protocol::submission::{self, Submission, SubscribeResponse};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::balance::{BalanceConfig, BalanceConfigError};
use tokio::sync::{broadcast, watch};

use crate::balance::BalanceSetting;
use crate::delivery::{Accepted, Audited, Delivery, SendError};
use crate::failure::{FailureLog, Mode, ModeReport};
use crate::letters::{self, LetterFilter, LettersError, LettersPage, PageBounds, Replayed};
use crate::links::Links;
use crate::neighbours::Neighbours;
use crate::outcome::Follow;
use crate::status::{self, Status};
use crate::stream_actor::{Phase, StreamChild};
use crate::submit::Submitter;
use crate::supervision::Tree;
use crate::system::{Stopper, Surroundings};

/// How long a caller waits for a StreamActor that is being started again.
const RESTART_WAIT: Duration = Duration::from_secs(10);

/// Sends messages, follows their outcome, and sees what governance sends.
///
/// Cheap to clone; every clone is the same way into the same tree. Whatever it is asked while the
/// StreamActor is being started again waits for that, for 10 s at most, and is then
/// [`SendError::Unavailable`].
///
/// There is no other timeout inside: put one around what you await. It drops the future, so what it
/// means stands under *Cancel safety* of each method. Around those that accept messages it means that
/// nobody knows yet: ask again with the same ids, and nothing is stored twice.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    phase: watch::Receiver<Phase>,
    links: Arc<Links>,
    submitter: Arc<Submitter>,
    around: Surroundings,
    network: bitcoin::Network,
    accepting: Arc<AtomicBool>,
    balance: BalanceSetting,
    stopper: Stopper,
}

/// What a status is put together from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Seen<'a> {
    pub(crate) phase: &'a Phase,
    pub(crate) links: &'a Links,
    pub(crate) node_id: &'a str,
    pub(crate) neighbours: &'a Neighbours,
    pub(crate) failures: &'a FailureLog,
    pub(crate) tree: &'a Tree,
    pub(crate) network: bitcoin::Network,
    pub(crate) now: UnixMillis,
}

impl StreamHandle {
    pub(crate) fn new(
        stream: &StreamChild,
        links: Arc<Links>,
        around: Surroundings,
        accepting: Arc<AtomicBool>,
        stopper: Stopper,
    ) -> Self {
        let shared = Shared {
            phase: stream.phase.subscribe(),
            links,
            submitter: Arc::clone(&stream.submitter),
            around,
            network: stream.opener.config.network,
            accepting,
            balance: stream.balance.clone(),
            stopper,
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn stopper(&self) -> &Stopper {
        &self.shared.stopper
    }

    /// Accepts one message: see [`StreamHandle::send_all`].
    ///
    /// # Errors
    ///
    /// As [`StreamHandle::send_all`].
    ///
    /// # Cancel safety
    ///
    /// As [`StreamHandle::send_all`].
    pub async fn send(&self, message: Message) -> Result<Accepted, SendError> {
        let mut accepted = self.send_all(vec![message]).await?;
        accepted.pop().ok_or(SendError::Unavailable)
    }

    /// Accepts messages whose payloads are encoded already. Returns once every one that is logged is
    /// on stable storage in its durability class: from then on it is delivered or becomes a dead
    /// letter, whatever crashes.
    ///
    /// Waits while the disk is slower than the senders and, under `when_full: block`, while there is
    /// no room; never behind messages that are less urgent than the least urgent of these.
    ///
    /// # Errors
    ///
    /// Refusals before storing give the messages back. [`SendError::Io`] means that it is not known
    /// whether they are stored: send them again with the same ids.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped the messages may or may not have been accepted; sending them again
    /// with the same ids stores nothing twice.
    pub async fn send_all(&self, messages: Vec<Message>) -> Result<Vec<Accepted>, SendError> {
        let delivery = self.delivery().await?;
        delivery.accept(messages).await
    }

    /// Completes submissions (identity, time, priority, deadline), checks them, and accepts them all
    /// or none.
    ///
    /// # Errors
    ///
    /// As [`StreamHandle::send_all`]; [`SendError::Invalid`] names the field.
    ///
    /// # Cancel safety
    ///
    /// As [`StreamHandle::send_all`].
    pub async fn submit(&self, submissions: Vec<Submission>) -> Result<Vec<Accepted>, SendError> {
        let delivery = self.delivery().await?;
        delivery.submit(&self.shared.submitter, submissions).await
    }

    /// Has a transaction signed: accepts the request, and gives back what follows it. The present
    /// stage comes at once, then every change, then the end: signed, failed or timed out. That is
    /// durable before it is told, and [`StreamHandle::follow`] finds it again after a restart.
    ///
    /// # Errors
    ///
    /// As [`StreamHandle::submit`]. A deadline that passes is no error but an end
    /// ([`crate::neighbours::SignatureStage::TimedOut`]).
    ///
    /// # Cancel safety
    ///
    /// As [`StreamHandle::send_all`]: to ask again without a second transaction, set
    /// [`Submission::message_id`]. Dropping what follows stops nothing but the following.
    pub async fn request_signatures(
        &self,
        request: SignatureRequest,
        priority: Option<Priority>,
    ) -> Result<(Accepted, Follow), SendError> {
        let payload = submission::submission::Payload::SignatureRequest(request);
        self.submit_followed(submission_of(payload, priority)).await
    }

    /// Accepts one submission and follows it.
    ///
    /// # Errors
    ///
    /// As [`StreamHandle::submit`].
    ///
    /// # Cancel safety
    ///
    /// As [`StreamHandle::send_all`].
    pub async fn submit_followed(
        &self,
        submission: Submission,
    ) -> Result<(Accepted, Follow), SendError> {
        let mut accepted = self.submit(vec![submission]).await?;
        let accepted = accepted.pop().ok_or(SendError::Unavailable)?;
        let follow = self.follow(accepted.id).await?;
        follow.map(|follow| (accepted, follow)).ok_or(SendError::Unavailable)
    }

    /// Tells governance of coins that arrived at the address of the federation.
    ///
    /// # Errors
    ///
    /// As [`StreamHandle::submit`].
    ///
    /// # Cancel safety
    ///
    /// As [`StreamHandle::send_all`].
    pub async fn notify_pegin(&self, pegin: PeginNotification) -> Result<Accepted, SendError> {
        let payload = submission::submission::Payload::PeginNotification(pegin);
        self.submit_one(submission_of(payload, None)).await
    }

    /// Reports how the node is to governance: asks Chain, Network and Sync, 1 s each at most, and
    /// sends what they said. The node does so every 30 s by itself. Only the newest report waits for
    /// an endpoint that is away, in memory.
    ///
    /// # Errors
    ///
    /// As [`StreamHandle::submit`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: the next report replaces this one.
    pub async fn report_status(&self) -> Result<Accepted, SendError> {
        let delivery = self.delivery().await?;
        delivery.report(&self.shared.submitter, self.mode()).await
    }

    async fn submit_one(&self, submission: Submission) -> Result<Accepted, SendError> {
        let mut accepted = self.submit(vec![submission]).await?;
        accepted.pop().ok_or(SendError::Unavailable)
    }

    /// Follows a message by its identifier, also one that a process before this one accepted. `None`
    /// when it was never accepted, or so long ago that it is forgotten.
    ///
    /// # Errors
    ///
    /// [`SendError::Unavailable`] while nothing runs.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn follow(&self, id: MessageId) -> Result<Option<Follow>, SendError> {
        let follow = self.running().await?.follow(id);
        Ok(follow.map(|follow| follow.beyond_restarts(self.clone(), id)))
    }

    /// A page of the dead letters that are meant, oldest first.
    ///
    /// # Errors
    ///
    /// [`LettersError::Unavailable`] while nothing runs.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn dead_letters(
        &self,
        filter: LetterFilter,
        bounds: PageBounds,
    ) -> Result<LettersPage, LettersError> {
        let stores = self.stores().await?;
        let store = stores.dead_letters.clone();
        // Off the runtime's threads: it reads the disk.
        let reading = stores.workers.run(move || letters::page(&store, &filter, bounds));
        reading.await.map_err(|error| LettersError::Io(error.to_string()))
    }

    /// Accepts the messages of dead letters again, under new numbers and their old identifiers, and
    /// removes those letters once that is durable. What governance pushed is handed to its actor again
    /// instead, and its letter goes once that has dealt with it. Meant for a few dozen at a time.
    ///
    /// # Errors
    ///
    /// When a store fails, or nothing runs. What cannot be accepted is no error but a result.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, messages may be accepted and still be dead letters; replaying
    /// those again accepts nothing twice.
    pub async fn replay_dead_letters(
        &self,
        ids: &[DeadLetterId],
    ) -> Result<Vec<(DeadLetterId, Replayed)>, LettersError> {
        if !self.shared.accepting.load(Ordering::Acquire) {
            return Audited::new("replay", ids).fail(LettersError::Unavailable);
        }
        match self.stores().await {
            Ok(stores) => stores.replay_letters(ids).await,
            Err(error) => Audited::new("replay", ids).fail(error),
        }
    }

    /// Removes dead letters for good; how many there were.
    ///
    /// # Errors
    ///
    /// When the store fails, or nothing runs.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped they are removed all the same, or none is: it waits first for
    /// messages that are just ending.
    pub async fn purge_dead_letters(&self, ids: &[DeadLetterId]) -> Result<usize, LettersError> {
        match self.stores().await {
            Ok(stores) => stores.purge_letters(ids).await,
            Err(error) => Audited::new("purge", ids).fail(error),
        }
    }

    async fn stores(&self) -> Result<Arc<Delivery>, LettersError> {
        self.running().await.map_err(|_| LettersError::Unavailable)
    }

    /// What governance sends from now on. A subscriber that lags too far behind loses the oldest and
    /// is told how many.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<SubscribeResponse>> {
        self.shared.around.events.subscribe()
    }

    /// How everything is.
    #[must_use]
    pub fn status(&self) -> Status {
        let phase = self.shared.phase.borrow().clone();
        Status::gather(&Seen {
            phase: &phase,
            links: &self.shared.links,
            node_id: &self.shared.submitter.node_id,
            neighbours: &self.shared.around.neighbours,
            failures: &self.shared.around.failures,
            tree: self.shared.stopper.tree(),
            network: self.shared.network,
            now: self.shared.around.clock.now(),
        })
    }

    /// How many messages are accepted and not settled, for callers that bound it; 0 while nothing
    /// runs. Cheaper than [`StreamHandle::status`].
    #[must_use]
    pub fn unsettled(&self) -> u64 {
        match &*self.shared.phase.borrow() {
            Phase::Running(delivery) => delivery.buffer.stat().records(),
            Phase::Restarting | Phase::Failed(_) | Phase::Stopped => 0,
        }
    }

    /// How many messages of the memory class wait for the endpoint that is furthest behind.
    #[must_use]
    pub fn volatile_waiting(&self) -> usize {
        match &*self.shared.phase.borrow() {
            Phase::Running(delivery) => delivery.volatile_waiting(),
            Phase::Restarting | Phase::Failed(_) | Phase::Stopped => 0,
        }
    }

    fn mode(&self) -> Mode {
        let phase = self.shared.phase.borrow().clone();
        ModeReport::of(&status::facts(&phase, &self.shared.links)).mode
    }

    /// Waits until the connected endpoints have acknowledged everything, or until `limit` has passed;
    /// says which. Messages are still accepted meanwhile: for the end of a node there is
    /// [`StreamHandle::shutdown`]. What waits for an endpoint that is away waits on the disk.
    ///
    /// # Errors
    ///
    /// [`SendError::Unavailable`] while nothing runs.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn drain(&self, limit: Duration) -> Result<bool, SendError> {
        let delivery = self.running().await?;
        Ok(delivery.drained(&self.shared.links, limit).await)
    }

    /// Stops the tree: nothing new is accepted from now on, what is in flight gets `drain` to
    /// settle, the streams are closed politely, and the stores are closed. What is left unsettled
    /// waits on the disk. Called twice, the second one waits for the first.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped nothing is accepted any more, and the rest has not happened: call
    /// it again.
    pub async fn shutdown(&self, drain: Duration) {
        self.shared.stopper.stop(drain).await;
    }

    /// Whether messages can be accepted now, else why not.
    ///
    /// # Errors
    ///
    /// The reason, in words.
    pub fn ready(&self) -> Result<(), String> {
        if !self.shared.accepting.load(Ordering::Acquire) {
            return Err("draining".into());
        }
        match &*self.shared.phase.borrow() {
            Phase::Running(delivery) => delivery.room(),
            Phase::Restarting => Err("the StreamActor is being started again".into()),
            Phase::Failed(reason) => Err(format!("the supervisor gave up: {reason}")),
            Phase::Stopped => Err("stopped".into()),
        }
    }

    /// Writes the gauges that are read at a scrape.
    pub fn refresh_metrics(&self) {
        if let Phase::Running(delivery) = &*self.shared.phase.borrow() {
            delivery.refresh_metrics(&self.shared.links);
        }
    }

    /// Dials an endpoint at once instead of waiting for its backoff. False when there is none of
    /// that name.
    #[must_use]
    pub fn reconnect(&self, endpoint: &str) -> bool {
        self.shared.links.reconnect(endpoint)
    }

    /// Chooses endpoints in another way from now on, for messages that any of them may have: see
    /// `balance` in `docs/configuration.md`. What was measured of them stays, what they have been
    /// given stays with them, and no connection notices. It outlives restarts of the StreamActor.
    ///
    /// # Errors
    ///
    /// What [`BalanceConfig::check`] refuses; then nothing changes.
    pub fn set_balance(&self, config: BalanceConfig) -> Result<(), BalanceConfigError> {
        config.check()?;
        self.shared.balance.set(config, &self.shared.phase);
        Ok(())
    }

    async fn delivery(&self) -> Result<Arc<Delivery>, SendError> {
        if !self.shared.accepting.load(Ordering::Acquire) {
            return Err(SendError::Unavailable);
        }
        self.running().await
    }

    /// The present delivery; waits a while for one that is being opened again.
    pub(crate) async fn running(&self) -> Result<Arc<Delivery>, SendError> {
        if let Phase::Running(delivery) = &*self.shared.phase.borrow() {
            return Ok(Arc::clone(delivery));
        }
        let mut phases = self.shared.phase.clone();
        let settled = phases.wait_for(|phase| !matches!(phase, Phase::Restarting));
        let phase = tokio::time::timeout(RESTART_WAIT, settled)
            .await
            .map_err(|_| SendError::Unavailable)?
            .map_err(|_| SendError::Unavailable)?
            .clone();
        match phase {
            Phase::Running(delivery) => Ok(delivery),
            Phase::Restarting | Phase::Failed(_) | Phase::Stopped => Err(SendError::Unavailable),
        }
    }
}

/// A submission with everything else left to the defaults of its kind.
fn submission_of(
    payload: submission::submission::Payload,
    priority: Option<Priority>,
) -> Submission {
    let priority = priority.map_or(0, |priority| i32::from(RequestPriority::from(priority)));
    Submission { payload: Some(payload), priority, ..Submission::default() }
}
