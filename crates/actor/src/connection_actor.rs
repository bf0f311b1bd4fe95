//! One connection: the actor that owns the driver of one endpoint, and the actor of its stream.
//!
//! The driver does the work in a task of its own, so that no long await ever holds up the mailbox.
//! When the driver panics, the actor fails, and the StreamActor starts it again. When its stream
//! dies, the driver dials again.

use std::sync::Arc;

use alys_stream_transport::grpc::EndpointDriver;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SupervisionEvent};
use tokio_util::task::AbortOnDropHandle;

use crate::exchange::EndpointExchange;
use crate::fault::FaultPoints;
use crate::spawn;
use crate::supervision::{ActorState, Tree, TreePath};

mod stream;

use stream::StreamHost;

/// Drives one endpoint.
#[derive(Debug)]
pub(crate) struct ConnectionActor;

/// What a connection is started with.
#[derive(Debug)]
pub(crate) struct ConnectionArguments {
    pub(crate) driver: EndpointDriver<EndpointExchange>,
    pub(crate) path: TreePath,
    pub(crate) tree: Arc<Tree>,
    pub(crate) faults: FaultPoints,
}

/// What a connection is told.
#[derive(Debug)]
pub(crate) enum ConnectionMessage {
    /// The driver ended: `None` because it was told to, else why.
    Ended(Option<String>),
}

/// What a connection holds.
#[derive(Debug)]
pub(crate) struct ConnectionState {
    path: TreePath,
    stream: TreePath,
    tree: Arc<Tree>,
    faults: FaultPoints,
    _driver: AbortOnDropHandle<()>,
}

impl Actor for ConnectionActor {
    type Msg = ConnectionMessage;
    type State = ConnectionState;
    type Arguments = ConnectionArguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        arguments: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let ConnectionArguments { driver, path, tree, faults } = arguments;
        let stream = path.child("stream");
        let host =
            StreamHost::new(myself.get_cell(), stream.clone(), Arc::clone(&tree), faults.clone());
        let driver = driver.with_host(Arc::new(host));
        let watched = spawn::watched(driver.run(), move |ended| {
            // The actor may be gone already; then nobody needs to know.
            drop(myself.cast(ConnectionMessage::Ended(ended)));
        });
        Ok(ConnectionState { path, stream, tree, faults, _driver: watched })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        state.faults.reach(state.path.as_str(), "ended");
        match message {
            ConnectionMessage::Ended(None) => {
                myself.stop(Some("shutdown".into()));
                Ok(())
            }
            ConnectionMessage::Ended(Some(reason)) => Err(reason.into()),
        }
    }

    /// The end of a stream is the driver's business: it knows already, and dials again.
    async fn handle_supervisor_evt(
        &self,
        _myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match event {
            SupervisionEvent::ActorFailed(who, error) => {
                state.faults.reach(state.path.as_str(), "stream");
                let reason = error.to_string();
                tracing::error!(actor = state.stream.as_str(), reason, "a stream died");
                state.handle_stream_ended(&who, ActorState::Restarting, &reason);
            }
            SupervisionEvent::ActorTerminated(who, _, reason) => {
                state.faults.reach(state.path.as_str(), "stream");
                let reason = reason.unwrap_or_else(|| "killed".to_owned());
                state.handle_stream_ended(&who, ActorState::Ended, &reason);
            }
            SupervisionEvent::ActorStarted(_) | SupervisionEvent::ProcessGroupChanged(_) => {}
        }
        Ok(())
    }
}

impl ConnectionState {
    fn handle_stream_ended(&self, who: &ActorCell, activity: ActorState, reason: &str) {
        self.tree.handle_ended(&self.stream, Some(who.get_id()), activity, reason);
    }
}
