//! A Bridge of yours in place of the default one: it asks for signatures, is told how far they are,
//! and says when it has dealt with that.
//!
//! `cargo run --example own_bridge`. The governance node that signs runs within the example.
#![expect(clippy::print_stdout, reason = "an example shows what it did")]

use std::error::Error;
use std::time::Duration;

use alys_stream::actor::neighbours::{Asks, BridgeMessage, NotHandled, Plug, SignatureStage};
use alys_stream::actor::ractor::{Actor, ActorProcessingErr, ActorRef};
use alys_stream::prelude::*;
use alys_stream::protocol::governance::SignatureRequest;
use tokio::sync::mpsc;

mod peer;
mod pegout;

/// Broadcasts nothing: it hands what is signed to the example.
#[derive(Debug)]
struct Bridge {
    asks: Asks,
    /// The same for every life of this actor, so that asking again stores nothing twice.
    id: MessageId,
    request: SignatureRequest,
    signed: mpsc::Sender<(MessageId, Outcome)>,
}

impl Actor for Bridge {
    type Msg = BridgeMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: BridgeMessage,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            BridgeMessage::Federation { in_force, answer } => {
                println!("bridge: federation {} is in force", in_force.version.0);
                // Told at the start: from here on there is somebody to sign.
                let handled =
                    self.ask().await.map_err(|error| NotHandled::Later(error.to_string()));
                answer.send(handled)?;
            }
            BridgeMessage::Signatures { id, stage, outcome, answer } => {
                println!("bridge: {stage:?}, {} inputs signed", outcome.inputs_signed);
                let is_over = stage == SignatureStage::Complete;
                // Not `Ok` before it is dealt with: else a crash would lose it.
                let handled = match self.signed.try_send((id, Outcome::clone(&outcome))) {
                    _ if !is_over => Ok(()),
                    Ok(()) => Ok(()),
                    Err(error) => Err(NotHandled::Later(error.to_string())),
                };
                answer.send(handled)?;
            }
            BridgeMessage::Halt { answer, .. } | BridgeMessage::Resume { answer, .. } => {
                answer.send(Ok(()))?;
            }
            // What the default Bridge shows of itself; this one shows nothing.
            BridgeMessage::Snapshot(_) => {}
        }
        Ok(())
    }
}

impl Bridge {
    async fn ask(&self) -> Result<(), SendError> {
        let submission = Submission {
            message_id: self.id.as_bytes().to_vec().into(),
            payload: Some(Payload::SignatureRequest(self.request.clone())),
            ..Submission::default()
        };
        let accepted = self.asks.submit(submission).await?;
        println!("bridge: asked for signatures, accepted as {}", accepted.seq);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let peer = peer::Peer::start(folder.path()).await?;
    let yaml = peer.node_yaml(folder.path());
    let (signed, mut told) = mpsc::channel(8);
    let id = MessageId::mint();
    let request = pegout::request(&peer.federation.script_pubkey());
    // The tree starts it, and starts it again when it dies.
    let bridge = Plug::actor(move |asks| {
        (Bridge { asks, id, request: request.clone(), signed: signed.clone() }, ())
    });
    let system = StreamBuilder::from_yaml(yaml, folder.path()).bridge(bridge).start().await?;

    while let Some((id, outcome)) = told.recv().await {
        if outcome.state() == OutcomeState::Complete {
            println!("{id} is signed: {} inputs, ready to broadcast", outcome.inputs_signed);
            break;
        }
    }
    for actor in system.handle().status().tree {
        println!("{}: {} restarts", actor.actor, actor.restarts);
    }
    system.shutdown(Duration::from_secs(5)).await;
    peer.running.shutdown(Duration::from_secs(1)).await;
    Ok(())
}
