//! Performs what [`Federations`] decides: the history first, then the neighbours, in order; halts
//! ahead of both.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_messaging::router::Target;
use alys_stream_protocol::governance::{FederationUpdate, FederationUpdateType};
use alys_stream_protocol::message::Seq;
use alys_stream_telemetry::logs::AUDIT;
use tokio::sync::watch;

use super::behind::Behind;
use super::{
    Action, Emergency, FederationCounts, FederationHistory, Federations, HistoryError, InForce,
    Moment, Refused, Scheduled, Taken, Version,
};
use crate::agreement::{Agreement, AgreementPolicy};
use crate::neighbours::{AuditRecord, GovernanceEvent, Neighbours, TargetError};

/// An update that was not dealt with.
#[derive(Debug, thiserror::Error)]
pub enum FederationFailure {
    /// It is not acted on.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// It does not become durable: the StreamActor must be built again from the disk.
    #[error(transparent)]
    History(#[from] HistoryError),
    /// A neighbour has not dealt with it. The rest is done, and so will this be with the next call.
    #[error("the federation update was not dealt with by everybody: {0}")]
    Target(#[source] TargetError),
}

impl FederationFailure {
    /// Whether to try the same update again, after a backoff.
    #[must_use]
    pub fn is_for_now(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.is_for_now(),
            // Its federation is in force whatever a neighbour says: it is told until it agrees.
            Self::Target(_) => true,
            Self::History(_) => false,
        }
    }

    /// Whether the machine and the disk disagree: the StreamActor must be built again.
    #[must_use]
    pub const fn is_fatal(&self) -> bool {
        matches!(self, Self::History(_))
    }
}

/// The federations of one node.
#[derive(Debug)]
pub struct FederationDriver {
    machine: Mutex<Federations>,
    pub(super) policy: AgreementPolicy,
    agreement: Mutex<Agreement>,
    history: FederationHistory,
    neighbours: Neighbours,
    /// Whoever holds it performs actions.
    performing: tokio::sync::Mutex<()>,
    /// What neighbours have not dealt with.
    behind: Behind,
    in_force: watch::Sender<Arc<InForce>>,
    halted: watch::Sender<Option<Arc<Emergency>>>,
}

impl FederationDriver {
    /// Drives a machine that was restored from this history. Updates are acted on when as many of
    /// the `enabled` endpoints push them as the policy asks for.
    #[must_use]
    pub fn new(
        machine: Federations,
        history: FederationHistory,
        neighbours: Neighbours,
        policy: AgreementPolicy,
        enabled: impl IntoIterator<Item = EndpointId>,
    ) -> Self {
        let in_force = watch::Sender::new(Arc::clone(machine.in_force()));
        let halted = watch::Sender::new(machine.halted().cloned());
        Self {
            machine: Mutex::new(machine),
            policy,
            agreement: Mutex::new(Agreement::new(policy, enabled)),
            history,
            neighbours,
            performing: tokio::sync::Mutex::default(),
            behind: Behind::default(),
            in_force,
            halted,
        }
    }

    /// Tells everybody how things are. To be called once; what fails is for
    /// [`FederationDriver::retry`].
    ///
    /// # Errors
    ///
    /// When something does not become durable, or a neighbour did not deal with it.
    ///
    /// # Cancel safety
    ///
    /// As [`FederationDriver::handle_update`].
    pub async fn start(&self, moment: Moment) -> Result<(), FederationFailure> {
        self.lock().handle_started(moment);
        self.perform().await
    }

    /// Performs what is decided and was not done, because a neighbour did not deal with it. To be
    /// called after a backoff, until it says that nothing is left.
    ///
    /// # Errors
    ///
    /// As [`FederationDriver::start`].
    ///
    /// # Cancel safety
    ///
    /// As [`FederationDriver::handle_update`].
    pub async fn retry(&self) -> Result<(), FederationFailure> {
        self.perform().await
    }

    /// A neighbour began anew: it is told the halt that lasts, the federation in force, and what
    /// waits for its height.
    ///
    /// # Errors
    ///
    /// When it did not deal with it.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: to be called again.
    pub async fn handle_new_life(&self, target: Target) -> Result<(), FederationFailure> {
        let failed = FederationFailure::Target;
        let halt = self.halted.borrow().clone();
        if let Some(halt) = halt {
            self.neighbours.tell_halt(target, &halt).await.map_err(failed)?;
        }
        // Not while something is performed that replaces what is told here.
        let performing = self.performing.lock().await;
        let in_force = Arc::clone(&self.in_force.borrow());
        self.behind.handle_new_life(target, &in_force, &self.scheduled());
        drop(performing);
        self.behind.catch_up_one(target, &self.neighbours).await.map_err(failed)
    }

    /// Whether an update could be taken now; see [`Federations::examine`].
    ///
    /// # Errors
    ///
    /// As [`Federations::examine`].
    pub fn examine(&self, update: &FederationUpdate) -> Result<(), Refused> {
        self.lock().examine(update)
    }

    /// Takes an update or an emergency in, and returns once it is durable and everybody who is to
    /// be told has dealt with it. A halt is told before anything else, whatever is under way.
    ///
    /// # Errors
    ///
    /// When it is refused, or not dealt with; [`FederationFailure::is_for_now`] says whether to try
    /// again.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, what was decided is performed by the next call of any of these methods.
    pub async fn handle_update(
        &self,
        moment: Moment,
        endpoint: &str,
        update: &Arc<FederationUpdate>,
    ) -> Result<Taken, FederationFailure> {
        let taken = self.lock().handle_update(moment, endpoint, update);
        match taken {
            Ok(taken) if is_emergency(update) => self.perform_decided().await.map(|()| taken),
            Ok(taken) => self.perform().await.map(|()| taken),
            Err(refused) => {
                self.audit_refusal(moment, endpoint, update, &refused);
                // A conflict leaves something to do, and whoever does not hear of it now is told
                // later. All else is over at once: nobody who is refused waits for an actor, and
                // nobody waits behind it.
                if matches!(refused, Refused::Conflict { .. }) {
                    match self.perform().await {
                        Err(error @ FederationFailure::History(_)) => return Err(error),
                        Ok(())
                        | Err(FederationFailure::Refused(_) | FederationFailure::Target(_)) => {}
                    }
                }
                Err(refused.into())
            }
        }
    }

    /// How many endpoints must push the same.
    #[must_use]
    pub const fn policy(&self) -> AgreementPolicy {
        self.policy
    }

    /// Chain is at this height.
    ///
    /// # Errors
    ///
    /// As [`FederationDriver::start`].
    ///
    /// # Cancel safety
    ///
    /// As [`FederationDriver::handle_update`].
    pub async fn handle_height(
        &self,
        moment: Moment,
        height: u64,
    ) -> Result<(), FederationFailure> {
        self.lock().handle_height(moment, height);
        self.perform().await
    }

    /// Endpoints contradict each other about a version; see [`Federations::handle_conflict`].
    ///
    /// # Errors
    ///
    /// As [`FederationDriver::start`].
    ///
    /// # Cancel safety
    ///
    /// As [`FederationDriver::handle_update`].
    pub async fn handle_conflict(
        &self,
        moment: Moment,
        version: Version,
    ) -> Result<(), FederationFailure> {
        self.lock().handle_conflict(moment, version);
        self.perform().await
    }

    /// The federation in force, now and as it changes, each once it is durable: what new requests
    /// are checked against.
    #[must_use]
    pub fn in_force(&self) -> watch::Receiver<Arc<InForce>> {
        self.in_force.subscribe()
    }

    /// The halt in force, if any, now and as it changes.
    #[must_use]
    pub fn halted(&self) -> watch::Receiver<Option<Arc<Emergency>>> {
        self.halted.subscribe()
    }

    /// The federation that a message was accepted under; see [`Federations::under`].
    #[must_use]
    pub fn under(&self, seq: Seq) -> Option<Arc<InForce>> {
        self.lock().under(seq).cloned()
    }

    /// What waits for its height, next first.
    #[must_use]
    pub fn scheduled(&self) -> Vec<Arc<Scheduled>> {
        self.lock().scheduled().cloned().collect()
    }

    /// The highest version that was accepted or burnt.
    #[must_use]
    pub fn newest(&self) -> Version {
        self.lock().newest()
    }

    /// What was counted since the start.
    #[must_use]
    pub fn counts(&self) -> FederationCounts {
        self.lock().counts().clone()
    }

    /// Releases the history.
    pub async fn close(&self) {
        self.history.close().await;
    }

    /// Performs everything that is decided and not done. Calls after a failure go on where it was.
    async fn perform(&self) -> Result<(), FederationFailure> {
        let decided = self.perform_decided().await;
        let told = self.behind.catch_up(&self.neighbours).await;
        let told = told.map_err(FederationFailure::Target);
        decided.and(told)
    }

    /// The same, but for what has to be told of federations: an emergency does not wait for whoever
    /// does not deal with that.
    async fn perform_decided(&self) -> Result<(), FederationFailure> {
        let halts = self.perform_halts().await;
        let performing = self.performing.lock().await;
        loop {
            let Some(action) = self.lock().peek_action().cloned() else {
                break;
            };
            self.perform_one(&action).await?;
            self.lock().finish_action();
        }
        drop(performing);
        halts
    }

    /// Outside of the order of actions, and without waiting for anybody who performs them (A13).
    async fn perform_halts(&self) -> Result<(), FederationFailure> {
        loop {
            let Some(halt) = self.lock().peek_halt().cloned() else {
                return Ok(());
            };
            self.halted.send_replace(Some(Arc::clone(&halt)));
            tracing::error!(endpoint = halt.endpoint, reason = halt.reason, "emergency halt");
            if let Err(error) = self.neighbours.tell_emergency(&halt).await {
                tracing::error!(%error, "the emergency halt was not dealt with yet");
                return Err(FederationFailure::Target(error));
            }
            self.lock().finish_halt(&halt);
            self.audit(halt.at.0, &halt.endpoint, "halt", &halt.reason);
        }
    }

    async fn perform_one(&self, action: &Action) -> Result<(), FederationFailure> {
        match action {
            Action::Store(entry) => self.history.append(entry).await?,
            Action::TellScheduled(scheduled) => self.behind.handle_scheduled(scheduled),
            Action::TellInForce(in_force) => {
                self.in_force.send_replace(Arc::clone(in_force));
                self.behind.handle_in_force(in_force);
            }
            Action::TellResumed(emergency) => self.resume(emergency).await?,
            Action::Alert(conflict) => {
                tracing::error!(
                    version = conflict.version.0,
                    is_emergency = conflict.is_emergency,
                    is_in_force = conflict.is_in_force,
                    "two contents were signed for one version: ask the federation which one it meant"
                );
                self.neighbours.note(GovernanceEvent::Conflict(*conflict));
            }
        }
        Ok(())
    }

    /// Tells of a resume, unless a newer halt is in force: nobody may go on after that one.
    async fn resume(&self, emergency: &Arc<Emergency>) -> Result<(), FederationFailure> {
        if self.lock().halted().is_some() {
            tracing::warn!(
                endpoint = emergency.endpoint,
                "a resume came too late: a newer halt holds"
            );
            return Ok(());
        }
        self.halted.send_replace(None);
        self.neighbours.tell_emergency(emergency).await.map_err(FederationFailure::Target)?;
        tracing::warn!(endpoint = emergency.endpoint, "the emergency halt is over");
        self.audit(emergency.at.0, &emergency.endpoint, "resume", &emergency.reason);
        // A halt that came meanwhile may have overtaken it: it has the last word.
        self.lock().repeat_halt();
        self.perform_halts().await
    }

    /// Signatures that do not hold, conflicts and replays are for the audit; copies of old versions
    /// and the like only count.
    fn audit_refusal(
        &self,
        moment: Moment,
        endpoint: &str,
        update: &FederationUpdate,
        refused: &Refused,
    ) {
        let kind = update.update_type().as_str_name();
        tracing::warn!(endpoint, kind, %refused, "federation update refused");
        let action = format!("refused_{}", refused.word());
        self.audit(moment.at.0, endpoint, &action, &refused.to_string());
    }

    /// To the audit log, and to Storage if it has room for it.
    fn audit(&self, at_ms: u64, who: &str, action: &str, detail: &str) {
        tracing::info!(target: AUDIT, who, action, detail, "federation");
        self.neighbours.audit(AuditRecord {
            at_ms,
            who: who.to_owned(),
            action: action.to_owned(),
            detail: detail.to_owned(),
        });
    }

    pub(super) fn agreement(&self) -> MutexGuard<'_, Agreement> {
        self.agreement.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Federations> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_emergency(update: &FederationUpdate) -> bool {
    update.update_type() == FederationUpdateType::EmergencyHalt
}
