//! The StreamActor: owns one [`Delivery`] and one child per connection.
//!
//! - `state`: its lifecycle, and what outlives it; what it looks like is [`crate::status`].
//! - `messages`: what goes through its mailbox; `routing`: where what is asked goes.
//! - `connections`: the connection set.
//! - `health`: the health monitor.
//!
//! It holds no message and takes no decision about any: those live in the machines behind
//! [`Delivery`], and everything it knows can be rebuilt from the disk. Its mailbox carries control.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use crate::delivery::{Delivery, LaneName, report_status, run_lane, tell_holes};
use crate::links::Links;
use crate::neighbours::Asks;
use crate::spawn;
use crate::submit::Submitter;
use crate::supervision::{Surrounds, TreePath};

mod connections;
mod health;
mod messages;
mod routing;
mod state;

use connections::Connections;
pub(crate) use messages::StreamMessage;
use routing::Routing;
pub(crate) use state::{Opener, Phase, StreamChild};

/// Holds the links to governance.
#[derive(Debug)]
pub(crate) struct StreamActor;

/// What a StreamActor is started with.
#[derive(Debug)]
pub(crate) struct StreamArguments {
    pub(crate) path: TreePath,
    pub(crate) delivery: Arc<Delivery>,
    pub(crate) links: Arc<Links>,
    pub(crate) submitter: Arc<Submitter>,
    pub(crate) asks: Asks,
    pub(crate) heights: watch::Sender<Option<u64>>,
    pub(crate) around: Surrounds,
}

/// What a StreamActor holds.
#[derive(Debug)]
pub(crate) struct StreamState {
    arguments: StreamArguments,
    connections: Connections,
    routing: Routing,
    _drivers: AbortOnDropHandle<()>,
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
        // Before anybody is told anything: it may ask something at once.
        let mailbox = myself.clone();
        arguments.asks.attach(move |ask| mailbox.cast(StreamMessage::Ask(ask)).is_ok());
        let drivers = drive(&myself, &arguments);
        let connections = Connections::start(&myself, &arguments).await?;
        let routing = Routing::new(
            Arc::clone(&arguments.delivery),
            Arc::clone(&arguments.links),
            Arc::clone(&arguments.submitter),
            arguments.heights.clone(),
        );
        Ok(StreamState { arguments, connections, routing, _drivers: drivers })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let StreamState { arguments, connections, routing, .. } = state;
        arguments.around.faults.reach(arguments.path.as_str(), message.as_str());
        match message {
            StreamMessage::DriverEnded(reason) => Err(reason.into()),
            StreamMessage::Start(endpoint) => {
                connections.start_one(&myself, arguments, endpoint).await
            }
            StreamMessage::Ask(ask) => {
                routing.handle_ask(ask);
                Ok(())
            }
        }
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let StreamState { arguments, connections, .. } = state;
        let (who, reason) = match event {
            SupervisionEvent::ActorFailed(who, error) => (who, error.to_string()),
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                (who, reason.unwrap_or_else(|| "stopped".to_owned()))
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {
                return Ok(());
            }
        };
        arguments.around.faults.reach(arguments.path.as_str(), "exit");
        connections.handle_exit(&myself, arguments, who.get_id(), &reason)
    }
}

/// Starts what keeps the delivery going; the actor fails when any of it ends.
fn drive(myself: &ActorRef<StreamMessage>, arguments: &StreamArguments) -> AbortOnDropHandle<()> {
    let StreamArguments { delivery, links, .. } = arguments;
    let mut drivers = delivery.drivers();
    let both = || (Arc::clone(delivery), Arc::clone(links));
    let (of_holes, to_peers) = both();
    drivers.spawn(tell_holes(of_holes, to_peers));
    for name in LaneName::ALL {
        let (of_lane, to_peers) = both();
        drivers.spawn(run_lane(of_lane, to_peers, name));
    }
    let (seen, over) = both();
    drivers.spawn(async move {
        health::run(seen, over).await;
        Ok(())
    });
    let (told, over) = both();
    let submitter = Arc::clone(&arguments.submitter);
    drivers.spawn(async move {
        report_status(told, over, submitter).await;
        Ok(())
    });
    let mailbox = myself.clone();
    spawn::watched_all(drivers, move |reason| {
        // The actor may be gone already; then nobody needs to know.
        drop(mailbox.cast(StreamMessage::DriverEnded(reason)));
    })
}
