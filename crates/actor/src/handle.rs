//! What callers hold: cheap to clone, never blocks the runtime.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use alys_stream_messaging::dead_letter::DeadLetterId;
use alys_stream_protocol::message::{Message, MessageId};
use alys_stream_protocol::submission::{Submission, SubscribeResponse};
use alys_stream_protocol::time::WallClock;
use alys_stream_transport::balance::{BalanceConfig, BalanceConfigError};
use tokio::sync::{broadcast, watch};

use crate::balance::BalanceSetting;
use crate::delivery::{Accepted, Delivery, SendError};
use crate::letters::{self, LetterFilter, LettersError, LettersPage, PageBounds, Replayed};
use crate::links::Links;
use crate::outcome::Follow;
use crate::status::Status;
use crate::submit::Submitter;
use crate::system::Phase;

/// How long a caller waits for a StreamActor that is being started again.
const RESTART_WAIT: Duration = Duration::from_secs(10);

/// Sends messages, follows their outcome, and sees what governance sends.
#[derive(Debug, Clone)]
pub struct StreamHandle {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    phase: watch::Receiver<Phase>,
    links: Arc<Links>,
    submitter: Submitter,
    clock: Arc<dyn WallClock>,
    events: broadcast::Sender<Arc<SubscribeResponse>>,
    accepting: Arc<AtomicBool>,
    balance: BalanceSetting,
}

impl StreamHandle {
    pub(crate) fn new(
        phase: watch::Receiver<Phase>,
        links: Arc<Links>,
        submitter: Submitter,
        clock: Arc<dyn WallClock>,
        events: broadcast::Sender<Arc<SubscribeResponse>>,
        accepting: Arc<AtomicBool>,
        balance: BalanceSetting,
    ) -> Self {
        let shared = Shared { phase, links, submitter, clock, events, accepting, balance };
        Self { shared: Arc::new(shared) }
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
        self.delivery().await?.accept(messages).await
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
        let now = self.shared.clock.now();
        let messages = submissions
            .into_iter()
            .enumerate()
            .map(|(index, submission)| {
                let message = self.shared.submitter.message(now, &delivery.router, submission);
                message.map_err(|source| SendError::Invalid { index, source })
            })
            .collect::<Result<Vec<_>, _>>()?;
        delivery.accept(messages).await
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
        Ok(self.running().await?.follow(id))
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
        let store = self.stores().await?.dead_letters.clone();
        // Off the runtime's threads: it reads the disk.
        let reading = tokio::task::spawn_blocking(move || letters::page(&store, &filter, bounds));
        reading.await.map_err(|error| LettersError::Io(error.to_string()))
    }

    /// Accepts the messages of dead letters again, under new numbers and their old identifiers, and
    /// removes those letters once that is durable. Meant for a few dozen at a time.
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
            return Err(LettersError::Unavailable);
        }
        self.stores().await?.replay_letters(ids).await
    }

    /// Removes dead letters for good; how many there were.
    ///
    /// # Errors
    ///
    /// When the store fails, or nothing runs.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped they are removed all the same.
    pub async fn purge_dead_letters(&self, ids: &[DeadLetterId]) -> Result<usize, LettersError> {
        self.stores().await?.purge_letters(ids).await
    }

    async fn stores(&self) -> Result<Arc<Delivery>, LettersError> {
        self.running().await.map_err(|_| LettersError::Unavailable)
    }

    /// What governance sends from now on. A subscriber that lags too far behind loses the oldest and
    /// is told how many.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<Arc<SubscribeResponse>> {
        self.shared.events.subscribe()
    }

    /// How everything is.
    #[must_use]
    pub fn status(&self) -> Status {
        let phase = self.shared.phase.borrow().clone();
        Status::gather(&phase, &self.shared.links, &self.shared.submitter, self.shared.clock.now())
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

    /// Waits until the connected endpoints have everything, or until `limit` has passed.
    pub(crate) async fn drained(&self, delivery: &Delivery, limit: Duration) -> bool {
        delivery.drained(&self.shared.links, limit).await
    }

    /// Waits until every stream is closed, or until `limit` has passed.
    pub(crate) async fn disconnected(&self, limit: Duration) {
        let closed = self.shared.links.closed();
        if tokio::time::timeout(limit, closed).await.is_err() {
            tracing::warn!(?limit, "not every stream closed politely");
        }
    }

    async fn delivery(&self) -> Result<Arc<Delivery>, SendError> {
        if !self.shared.accepting.load(Ordering::Acquire) {
            return Err(SendError::Unavailable);
        }
        self.running().await
    }

    /// The present delivery; waits a while for one that is being opened again.
    pub(crate) async fn running(&self) -> Result<Arc<Delivery>, SendError> {
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
