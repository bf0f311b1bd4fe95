//! One connection: the actor that owns the driver of one endpoint.
//!
//! The driver does the work in a task of its own, so that no long await ever holds up the mailbox.
//! When the driver panics, the actor fails, and the StreamActor starts it again.

use alys_stream_transport::grpc::EndpointDriver;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::task::AbortOnDropHandle;

use crate::exchange::EndpointExchange;
use crate::spawn;

/// Drives one endpoint.
#[derive(Debug)]
pub(crate) struct ConnectionActor;

/// What a connection is started with.
#[derive(Debug)]
pub(crate) struct ConnectionArguments {
    pub(crate) driver: EndpointDriver<EndpointExchange>,
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
        let watched = spawn::watched(arguments.driver.run(), move |ended| {
            // The actor may be gone already; then nobody needs to know.
            drop(myself.cast(ConnectionMessage::Ended(ended)));
        });
        Ok(ConnectionState { _driver: watched })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ConnectionMessage::Ended(None) => {
                myself.stop(Some("shutdown".into()));
                Ok(())
            }
            ConnectionMessage::Ended(Some(reason)) => Err(reason.into()),
        }
    }
}
