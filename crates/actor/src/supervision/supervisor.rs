//! The one kind of supervisor.
//!
//! It holds no state of its children and takes no part in what they do: it starts them, notices
//! their ends, and starts them again. An end never ends it; a spent budget does.

use std::sync::Arc;

use alys_stream_telemetry::metrics::Metrics;
use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio_util::sync::CancellationToken;

use super::restart::{RestartBudget, RestartLimits, Verdict};
use super::{ActorDied, ActorState, Child, Tree, TreePath};
use crate::failure::{Context, FailureLog};
use crate::fault::FaultPoints;
use crate::system::Orderly;

/// Keeps its children running, within a restart budget each.
#[derive(Debug)]
pub(crate) struct Supervisor;

/// What all supervisors share.
#[derive(Debug, Clone)]
pub(crate) struct Surrounds {
    pub(crate) limits: RestartLimits,
    pub(crate) tree: Arc<Tree>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) failures: Arc<FailureLog>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) faults: FaultPoints,
}

/// What happens when the budget of a child is spent.
#[derive(Debug, Clone)]
pub(crate) enum Escalation {
    /// The supervisor fails; its parent decides.
    Parent,
    /// The tree is stopped in order: nobody is above the root.
    GiveUp(Orderly),
}

/// What a supervisor is started with.
#[derive(Debug)]
pub(crate) struct SupervisorArguments {
    pub(crate) path: TreePath,
    /// In the order in which they are started.
    pub(crate) children: Vec<Box<dyn Child>>,
    pub(crate) escalation: Escalation,
    pub(crate) around: Surrounds,
}

/// What a supervisor is told.
#[derive(Debug)]
pub(crate) enum SupervisorMessage {
    /// The backoff of this child is over.
    Start(usize),
}

/// What a supervisor holds.
#[derive(Debug)]
pub(crate) struct SupervisorState {
    path: TreePath,
    slots: Vec<Slot>,
    escalation: Escalation,
    around: Surrounds,
}

#[derive(Debug)]
struct Slot {
    child: Box<dyn Child>,
    path: TreePath,
    budget: RestartBudget,
    actor: Option<ActorId>,
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = SupervisorArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let SupervisorArguments { path, children, escalation, around } = arguments;
        let slots = children.into_iter().map(|child| Slot {
            path: path.child(child.name()),
            child,
            budget: RestartBudget::new(around.limits),
            actor: None,
        });
        let mut state = SupervisorState { slots: slots.collect(), path, escalation, around };
        for place in 0..state.slots.len() {
            state.start(&myself, place).await?;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SupervisorMessage::Start(place) => {
                state.around.faults.reach(state.path.as_str(), "start");
                state.start(&myself, place).await
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                state.handle_exit(&myself, &who, &error.to_string()).await
            }
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                let reason = reason.unwrap_or_else(|| "stopped".to_owned());
                state.handle_exit(&myself, &who, &reason).await
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => Ok(()),
        }
    }
}

impl SupervisorState {
    /// Starts a child. One that cannot begin counts as one that ended at once.
    async fn start(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        place: usize,
    ) -> Result<(), ActorProcessingErr> {
        if self.around.shutdown.is_cancelled() {
            return Ok(());
        }
        let slot = &mut self.slots[place];
        match slot.child.start(myself.get_cell(), slot.path.clone()).await {
            Ok(actor) => {
                slot.actor = Some(actor.get_id());
                self.around.tree.handle_started(&slot.path, actor);
                Ok(())
            }
            Err(reason) => self.decide(myself, place, &reason).await,
        }
    }

    async fn handle_exit(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        who: &ActorCell,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        let is_it = |slot: &Slot| slot.actor == Some(who.get_id());
        let Some(place) = self.slots.iter().position(is_it) else {
            return Ok(());
        };
        self.around.faults.reach(self.path.as_str(), "exit");
        let slot = &mut self.slots[place];
        slot.actor = None;
        slot.child.ended().await;
        if self.around.shutdown.is_cancelled() {
            self.around.tree.handle_ended(&slot.path, None, ActorState::Ended, reason);
            return Ok(());
        }
        self.decide(myself, place, reason).await
    }

    async fn decide(
        &mut self,
        myself: &ActorRef<SupervisorMessage>,
        place: usize,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Slot { budget, path, .. } = &mut self.slots[place];
        let actor = path.as_str();
        self.around.failures.record(&ActorDied::new(path, reason), Context::default());
        match budget.handle_exit(tokio::time::Instant::now().into_std()) {
            Verdict::RestartAfter(wait) => {
                tracing::warn!(actor, ?wait, "it is started again");
                self.around.tree.handle_ended(path, None, ActorState::Restarting, reason);
                self.around.metrics.actor_restart(path.name());
                drop(myself.send_after(wait, move || SupervisorMessage::Start(place)));
                Ok(())
            }
            Verdict::Escalate => {
                self.around.tree.handle_ended(path, None, ActorState::Ended, reason);
                let reason = format!("{} keeps ending: {reason}", path.name());
                match &self.escalation {
                    Escalation::Parent => {
                        tracing::error!(actor, reason, "its supervisor fails");
                        Err(reason.into())
                    }
                    Escalation::GiveUp(orderly) => {
                        tracing::error!(actor, reason, "the restart budget of the root is spent");
                        orderly.give_up(&reason).await;
                        myself.stop(Some(reason));
                        Ok(())
                    }
                }
            }
        }
    }
}
