//! The Chain of a simulated node: it notes what it is told.

use std::sync::Arc;

use alys_stream_actor::neighbours::chain::{ChainSnapshot, NodeReport};
use alys_stream_actor::neighbours::{ChainMessage, Plug};
use alys_stream_protocol::governance::NodeStatus;
use ractor::{Actor, ActorProcessingErr, ActorRef};

use crate::journal::{Fact, Journal};
use crate::net::Machine;
use crate::planted::Planted;

/// The actor. What it was told is in the journal and survives it.
#[derive(Debug)]
pub(crate) struct NotingChain {
    who: Machine,
    journal: Journal,
    planted: Option<Planted>,
}

/// The plug of it.
pub(crate) fn plug(
    who: Machine,
    journal: &Journal,
    planted: Option<Planted>,
) -> Plug<ChainMessage> {
    let journal = Arc::new(journal.clone());
    Plug::actor(move |_| (NotingChain { who, journal: (*journal).clone(), planted }, ()))
}

impl NotingChain {
    fn note(&self, what: String) {
        if self.planted != Some(Planted::AnswerUnhandled) {
            self.journal.note(self.who, Fact::Told { actor: "chain", what });
        }
    }
}

impl Actor for NotingChain {
    type Msg = ChainMessage;
    type State = ();
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(())
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        _state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let answer = match message {
            ChainMessage::Scheduled { scheduled, answer } => {
                self.note(format!("scheduled {}", scheduled.version.0));
                answer
            }
            ChainMessage::InForce { in_force, answer } => {
                self.note(format!("in force {}", in_force.version.0));
                answer
            }
            ChainMessage::Halt { answer, .. } => {
                self.note("halt".to_owned());
                answer
            }
            ChainMessage::Resume { answer, .. } => {
                self.note("resume".to_owned());
                answer
            }
            ChainMessage::Proposal { proposal, answer } => {
                self.note(format!("proposal {}", proposal.id));
                answer
            }
            ChainMessage::ProposalClosed { answer, .. } => answer,
            ChainMessage::NodeStatus(reply) => {
                let report = NodeReport { status: NodeStatus::Active, block_height: 0 };
                drop(reply.send(report));
                return Ok(());
            }
            ChainMessage::Snapshot(reply) => {
                drop(reply.send(ChainSnapshot::default()));
                return Ok(());
            }
        };
        drop(answer.send(Ok(())));
        Ok(())
    }
}
