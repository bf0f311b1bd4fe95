//! The root of the tree: keeps one StreamActor running, within a restart budget.
//!
//! A StreamActor that dies is replaced by a new one whose state comes from the disk. Past the budget
//! the root stops the tree and says why; the process then ends with a non-zero exit.

use std::sync::Arc;

use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::balance::BalanceSetting;
use crate::delivery::Delivery;
use crate::links::Links;
use crate::restart::{RestartBudget, Verdict};
use crate::stream_actor::{StreamActor, StreamArguments};
use crate::system::{Opener, Phase};

/// The root supervisor.
#[derive(Debug)]
pub(crate) struct RootSupervisor;

/// What the root is started with.
#[derive(Debug)]
pub(crate) struct RootArguments {
    pub(crate) opener: Opener,
    pub(crate) links: Arc<Links>,
    /// The first delivery, opened by whoever starts the tree, so that its errors reach the caller.
    pub(crate) first: Arc<Delivery>,
    pub(crate) balance: BalanceSetting,
    pub(crate) phase: watch::Sender<Phase>,
    pub(crate) shutdown: CancellationToken,
}

/// What the root is told.
#[derive(Debug)]
pub(crate) enum RootMessage {
    /// The backoff is over.
    Restart,
}

/// What the root holds.
#[derive(Debug)]
pub(crate) struct RootState {
    opener: Opener,
    links: Arc<Links>,
    balance: BalanceSetting,
    phase: watch::Sender<Phase>,
    shutdown: CancellationToken,
    budget: RestartBudget,
    child: Option<ActorId>,
}

impl Actor for RootSupervisor {
    type Msg = RootMessage;
    type State = RootState;
    type Arguments = RootArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let RootArguments { opener, links, first, balance, phase, shutdown } = arguments;
        let budget = RestartBudget::new(opener.config().restarts);
        let mut state = RootState { opener, links, balance, phase, shutdown, budget, child: None };
        state.spawn(&myself, first).await?;
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            RootMessage::Restart => state.restart(&myself).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                state.handle_exit(&myself, who.get_id(), &error.to_string()).await;
            }
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                let reason = reason.unwrap_or_else(|| "stopped".into());
                state.handle_exit(&myself, who.get_id(), &reason).await;
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl RootState {
    async fn spawn(
        &mut self,
        myself: &ActorRef<RootMessage>,
        delivery: Arc<Delivery>,
    ) -> Result<(), ActorProcessingErr> {
        let arguments = StreamArguments {
            delivery: Arc::clone(&delivery),
            links: Arc::clone(&self.links),
            restarts: self.opener.config().restarts,
            shutdown: self.shutdown.clone(),
        };
        let (actor, _task) =
            Actor::spawn_linked(None, StreamActor, arguments, myself.get_cell()).await?;
        self.child = Some(actor.get_id());
        self.balance.run(delivery, &self.phase);
        Ok(())
    }

    async fn restart(&mut self, myself: &ActorRef<RootMessage>) {
        if self.shutdown.is_cancelled() {
            return;
        }
        match self.opener.open().await {
            Ok(delivery) => {
                if let Err(error) = self.spawn(myself, delivery).await {
                    self.decide(myself, &error.to_string());
                }
            }
            Err(error) => self.decide(myself, &error.to_string()),
        }
    }

    async fn handle_exit(&mut self, myself: &ActorRef<RootMessage>, who: ActorId, reason: &str) {
        if self.child != Some(who) {
            return;
        }
        self.child = None;
        if self.shutdown.is_cancelled() {
            return;
        }
        // The directory must be free before it is opened again.
        if let Phase::Running(delivery) = self.phase.send_replace(Phase::Restarting) {
            delivery.metrics.actor_restart("stream");
            delivery.close().await;
        }
        self.decide(myself, reason);
    }

    fn decide(&mut self, myself: &ActorRef<RootMessage>, reason: &str) {
        match self.budget.handle_exit(tokio::time::Instant::now().into_std()) {
            Verdict::RestartAfter(wait) => {
                tracing::error!(reason, ?wait, "StreamActor died, starting it again");
                drop(myself.send_after(wait, || RootMessage::Restart));
            }
            Verdict::Escalate => {
                tracing::error!(reason, "StreamActor keeps dying, the node gives up");
                self.phase.send_replace(Phase::Failed(reason.to_owned()));
                myself.stop(Some(reason.to_owned()));
            }
        }
    }
}
