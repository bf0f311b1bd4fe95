//! The Bridge and the Network of a simulated node: they note what they are told of federations and
//! halts.

use std::marker::PhantomData;

use alys_stream_actor::neighbours::bridge::BridgeSnapshot;
use alys_stream_actor::neighbours::network::NetworkSnapshot;
use alys_stream_actor::neighbours::{BridgeMessage, NetworkMessage, Plug};
use ractor::{Actor, ActorProcessingErr, ActorRef, Message};

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

/// What such an actor is told.
trait Heard: Message {
    /// Notes what it is, and answers.
    fn deal(self, notes: &Notes);
}

/// The actor. What it was told is in the journal and survives it.
#[derive(Debug)]
struct Noting<M> {
    notes: Notes,
    messages: PhantomData<fn(M)>,
}

/// The plug of the Bridge.
pub(crate) fn bridge(who: Machine, journal: &Journal) -> Plug<BridgeMessage> {
    plug(Notes { who, actor: Name::Bridge, journal: journal.clone() })
}

/// The plug of the Network.
pub(crate) fn network(who: Machine, journal: &Journal) -> Plug<NetworkMessage> {
    plug(Notes { who, actor: Name::Network, journal: journal.clone() })
}

fn plug<M: Heard>(notes: Notes) -> Plug<M> {
    Plug::actor(move |_| (Noting { notes: notes.clone(), messages: PhantomData }, ()))
}

impl<M: Heard> Actor for Noting<M> {
    type Msg = M;
    type State = ();
    type Arguments = ();

    async fn pre_start(&self, _myself: ActorRef<M>, (): ()) -> Result<(), ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<M>,
        message: M,
        (): &mut (),
    ) -> Result<(), ActorProcessingErr> {
        message.deal(&self.notes);
        Ok(())
    }
}

impl Heard for BridgeMessage {
    fn deal(self, notes: &Notes) {
        let (what, answer) = match self {
            Self::Signatures { id, stage, answer, .. } => (format!("{stage:?} {id}"), answer),
            Self::Federation { in_force, answer } => {
                (format!("in force {}", in_force.version.0), answer)
            }
            Self::Halt { answer, .. } => ("halt".to_owned(), answer),
            Self::Resume { answer, .. } => ("resume".to_owned(), answer),
            Self::Snapshot(reply) => return drop(reply.send(BridgeSnapshot::default())),
        };
        notes.note(what);
        drop(answer.send(Ok(())));
    }
}

impl Heard for NetworkMessage {
    fn deal(self, notes: &Notes) {
        match self {
            Self::Rebroadcast { in_force, answer } => {
                notes.note(format!("in force {}", in_force.version.0));
                drop(answer.send(Ok(())));
            }
            Self::PeerCount(reply) => drop(reply.send(0)),
            Self::Snapshot(reply) => drop(reply.send(NetworkSnapshot::default())),
        }
    }
}
