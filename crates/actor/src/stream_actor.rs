//! The StreamActor: owns one [`Delivery`] and one child per connection.
//!
//! It holds no message and takes no decision about any: those live in the machines behind
//! [`Delivery`], and everything it knows can be rebuilt from the disk. Its mailbox carries control.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::outbox::EndpointId;
use ractor::{Actor, ActorId, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::connection_actor::{ConnectionActor, ConnectionArguments};
use crate::delivery::{Delivery, tell_holes};
use crate::exchange::EndpointExchange;
use crate::links::Links;
use crate::restart::{RestartBudget, RestartLimits, Verdict};
use crate::spawn;

/// Holds the links to governance.
#[derive(Debug)]
pub(crate) struct StreamActor;

/// What a StreamActor is started with.
#[derive(Debug)]
pub(crate) struct StreamArguments {
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) links: Arc<Links>,
    pub(crate) restarts: RestartLimits,
    pub(crate) shutdown: CancellationToken,
}

/// What a StreamActor is told.
#[derive(Debug)]
pub(crate) enum StreamMessage {
    /// A driver of the delivery ended; it never should.
    DriverEnded(String),
    /// The backoff of a connection is over.
    Start(EndpointId),
}

/// What a StreamActor holds.
#[derive(Debug)]
pub(crate) struct StreamState {
    arguments: StreamArguments,
    _drivers: AbortOnDropHandle<()>,
    connections: BTreeMap<EndpointId, Slot>,
}

#[derive(Debug)]
struct Slot {
    budget: RestartBudget,
    actor: Option<ActorId>,
}

impl Actor for StreamActor {
    type Msg = StreamMessage;
    type State = StreamState;
    type Arguments = StreamArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mailbox = myself.clone();
        let mut drivers = arguments.delivery.drivers();
        let (delivery, links) = (Arc::clone(&arguments.delivery), Arc::clone(&arguments.links));
        drivers.spawn(tell_holes(delivery, links));
        let drivers = spawn::watched_all(drivers, move |reason| {
            // The actor may be gone already; then nobody needs to know.
            drop(mailbox.cast(StreamMessage::DriverEnded(reason)));
        });
        let connections = arguments
            .links
            .enabled()
            .map(|endpoint| {
                let budget = RestartBudget::new(arguments.restarts);
                (endpoint, Slot { budget, actor: None })
            })
            .collect();
        let mut state = StreamState { arguments, _drivers: drivers, connections };
        let endpoints: Vec<_> = state.connections.keys().copied().collect();
        for endpoint in endpoints {
            state.start(&myself, endpoint).await?;
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
            StreamMessage::DriverEnded(reason) => Err(reason.into()),
            StreamMessage::Start(endpoint) => state.start(&myself, endpoint).await,
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
                state.handle_exit(&myself, who.get_id(), &error.to_string())
            }
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                state.handle_exit(&myself, who.get_id(), reason.as_deref().unwrap_or("stopped"))
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => Ok(()),
        }
    }
}

impl StreamState {
    async fn start(
        &mut self,
        myself: &ActorRef<StreamMessage>,
        endpoint: EndpointId,
    ) -> Result<(), ActorProcessingErr> {
        let StreamArguments { delivery, links, shutdown, .. } = &self.arguments;
        let exchange = Arc::new(EndpointExchange::new(Arc::clone(delivery), endpoint));
        let driver = links.driver(endpoint, exchange, shutdown.clone())?;
        let arguments = ConnectionArguments { driver };
        // No global name: a respawn under the same name can fail.
        let (actor, _task) =
            Actor::spawn_linked(None, ConnectionActor, arguments, myself.get_cell()).await?;
        if let Some(slot) = self.connections.get_mut(&endpoint) {
            slot.actor = Some(actor.get_id());
        }
        Ok(())
    }

    fn handle_exit(
        &mut self,
        myself: &ActorRef<StreamMessage>,
        who: ActorId,
        reason: &str,
    ) -> Result<(), ActorProcessingErr> {
        let Some((endpoint, slot)) =
            self.connections.iter_mut().find(|(_, slot)| slot.actor == Some(who))
        else {
            return Ok(());
        };
        slot.actor = None;
        let endpoint = *endpoint;
        if self.arguments.shutdown.is_cancelled() {
            return Ok(());
        }
        let name = self.arguments.delivery.endpoint_name(endpoint).to_owned();
        // What the dead stream carried belongs to the queue again.
        self.arguments.delivery.handle_lost(endpoint);
        self.arguments.delivery.metrics.actor_restart("connection");
        match slot.budget.handle_exit(tokio::time::Instant::now().into_std()) {
            Verdict::RestartAfter(wait) => {
                tracing::error!(endpoint = %name, reason, ?wait, "connection died, starting it again");
                start_after(myself, endpoint, wait);
                Ok(())
            }
            Verdict::Escalate => Err(format!("connection to {name} keeps dying: {reason}").into()),
        }
    }
}

fn start_after(myself: &ActorRef<StreamMessage>, endpoint: EndpointId, wait: Duration) {
    drop(myself.send_after(wait, move || StreamMessage::Start(endpoint)));
}
