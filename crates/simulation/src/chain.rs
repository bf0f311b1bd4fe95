//! The Chain of a simulated node: it notes what it is told, and tells heights.

use std::time::Duration;

use alys_stream_actor::neighbours::chain::{ChainSnapshot, NodeReport};
use alys_stream_actor::neighbours::{Asks, ChainMessage, Plug};
use alys_stream_protocol::governance::NodeStatus;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::task::JoinSet;

use crate::journal::{Actor as Name, Fact, Journal};
use crate::net::Machine;
use crate::plan::Plan;
use crate::planted::Planted;

/// The actor. What it was told is in the journal and survives it.
#[derive(Debug)]
pub(crate) struct NotingChain {
    who: Machine,
    journal: Journal,
    planted: Option<Planted>,
    /// Whom to tell heights, if there are blocks.
    asks: Option<Asks>,
}

/// With the bug `AnswerUnhandled`, how long after its answer it deals with what it was told.
const UNHANDLED_FOR: Duration = Duration::from_secs(1);

/// The height of the chain so long after the beginning: there is a block in every second.
pub(crate) const fn height(elapsed: Duration) -> u64 {
    elapsed.as_secs()
}

/// The plug of it.
pub(crate) fn plug(who: Machine, journal: &Journal, plan: &Plan) -> Plug<ChainMessage> {
    let (journal, planted, has_blocks) = (journal.clone(), plan.planted, plan.extras.has_blocks);
    Plug::actor(move |asks| {
        let asks = has_blocks.then_some(asks);
        (NotingChain { who, journal: journal.clone(), planted, asks }, ())
    })
}

/// Tells of every block.
async fn tell_heights(asks: Asks, journal: Journal, ahead: u64) {
    loop {
        asks.height(height(journal.elapsed()) + ahead);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

impl NotingChain {
    /// Deals with what it is told: it writes it down.
    fn deal_with(&self, what: String, tasks: &mut JoinSet<()>) {
        let (who, journal) = (self.who, self.journal.clone());
        let deal = move || journal.note(who, Fact::Told { actor: Name::Chain, what });
        if self.planted == Some(Planted::AnswerUnhandled) {
            tasks.spawn(async move {
                tokio::time::sleep(UNHANDLED_FOR).await;
                deal();
            });
        } else {
            deal();
        }
    }
}

impl Actor for NotingChain {
    type Msg = ChainMessage;
    type State = JoinSet<()>;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut tasks = JoinSet::new();
        if let Some(asks) = self.asks.clone() {
            let ahead = if self.planted == Some(Planted::ActTooEarly) { 1_000 } else { 0 };
            tasks.spawn(tell_heights(asks, self.journal.clone(), ahead));
        }
        Ok(tasks)
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        tasks: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (what, answer) = match message {
            ChainMessage::Scheduled { scheduled, answer } => {
                (format!("scheduled {}", scheduled.version.0), answer)
            }
            ChainMessage::InForce { in_force, answer } => {
                (format!("in force {}", in_force.version.0), answer)
            }
            ChainMessage::Halt { answer, .. } => ("halt".to_owned(), answer),
            ChainMessage::Resume { answer, .. } => ("resume".to_owned(), answer),
            ChainMessage::Proposal { proposal, answer } => {
                (format!("proposal {}", proposal.id), answer)
            }
            ChainMessage::ProposalClosed { proposal_id, answer } => {
                (format!("closed {proposal_id}"), answer)
            }
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
        self.deal_with(what, tasks);
        drop(answer.send(Ok(())));
        Ok(())
    }
}
