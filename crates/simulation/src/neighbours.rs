//! The Bridge and the Network of a simulated node: they note what they are told of federations and
//! halts.

use alys_stream_actor::neighbours::bridge::BridgeSnapshot;
use alys_stream_actor::neighbours::network::NetworkSnapshot;
use alys_stream_actor::neighbours::{BridgeMessage, NetworkMessage, Plug};
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::journal::{Actor as Name, Fact, Journal};
use crate::net::Machine;

/// Writes down what one actor is told.
#[derive(Debug, Clone)]
struct Notes {
    who: Machine,
    actor: Name,
    journal: Journal,
}

impl Notes {
    fn note(&self, what: String) {
        self.journal.note(self.who, Fact::Told { actor: self.actor, what });
    }
}

/// The actor. What it was told is in the journal and survives it.
#[derive(Debug)]
struct NotingBridge(Notes);

/// The plug of it.
pub(crate) fn bridge(who: Machine, journal: &Journal) -> Plug<BridgeMessage> {
    let notes = Notes { who, actor: Name::Bridge, journal: journal.clone() };
    Plug::actor(move |_| (NotingBridge(notes.clone()), ()))
}

impl Actor for NotingBridge {
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
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        let (what, answer) = match message {
            BridgeMessage::Signatures { id, stage, answer, .. } => {
                (format!("{stage:?} {id}"), answer)
            }
            BridgeMessage::Federation { in_force, answer } => {
                (format!("in force {}", in_force.version.0), answer)
            }
            BridgeMessage::Halt { answer, .. } => ("halt".to_owned(), answer),
            BridgeMessage::Resume { answer, .. } => ("resume".to_owned(), answer),
            BridgeMessage::Snapshot(reply) => {
                drop(reply.send(BridgeSnapshot::default()));
                return Ok(());
            }
        };
        self.0.note(what);
        drop(answer.send(Ok(())));
        Ok(())
    }
}

/// The actor. What it was told is in the journal and survives it.
#[derive(Debug)]
struct NotingNetwork(Notes);

/// The plug of it.
pub(crate) fn network(who: Machine, journal: &Journal) -> Plug<NetworkMessage> {
    let notes = Notes { who, actor: Name::Network, journal: journal.clone() };
    Plug::actor(move |_| (NotingNetwork(notes.clone()), ()))
}

impl Actor for NotingNetwork {
    type Msg = NetworkMessage;
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
        message: Self::Msg,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NetworkMessage::Rebroadcast { in_force, answer } => {
                self.0.note(format!("in force {}", in_force.version.0));
                drop(answer.send(Ok(())));
            }
            NetworkMessage::PeerCount(reply) => drop(reply.send(0)),
            NetworkMessage::Snapshot(reply) => drop(reply.send(NetworkSnapshot::default())),
        }
        Ok(())
    }
}
