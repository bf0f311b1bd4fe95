//! The Chain produces blocks. Governance may stop it, and changes of the federation take effect at
//! heights that it counts.
//!
//! It tells StreamActor every new height ([`super::StreamAsk::Height`]).

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_stream_protocol::governance::NodeStatus;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::Answer;
use super::ring::Ring;
use crate::federation::{Emergency, InForce, SCHEDULED_MAX, Scheduled, Version};
use crate::proposals::Proposal;

/// Proposals that [`MemoryChain`] remembers.
const PROPOSALS_MAX: usize = 256;

/// What the Chain is told and asked.
#[derive(Debug)]
pub enum ChainMessage {
    /// Another federation takes over at a height. It supersedes every one it was told of before
    /// whose height is not below. Sent by StreamActor when the update is durable, and at its start
    /// while it waits. `Ok` once it is noted; [`super::TELL_TIMEOUT`].
    Scheduled {
        /// The federation and its height.
        scheduled: Arc<Scheduled>,
        /// Where to say so.
        answer: Answer,
    },
    /// This federation is in force. Sent by StreamActor at its start and at every change, once that
    /// is durable. `Ok` once blocks are checked against it; [`super::TELL_TIMEOUT`].
    InForce {
        /// The federation.
        in_force: Arc<InForce>,
        /// Where to say so.
        answer: Answer,
    },
    /// Produce no more blocks. Sent by StreamActor ahead of everything, as soon as the signatures
    /// are verified, and at its start while a halt lasts. `Ok` once no block leaves;
    /// [`super::HALT_TIMEOUT`].
    Halt {
        /// Who asked for it, and why.
        emergency: Arc<Emergency>,
        /// Where to say so.
        answer: Answer,
    },
    /// Go on producing blocks. Sent by StreamActor once the resume is durable. `Ok` once it does;
    /// [`super::TELL_TIMEOUT`].
    Resume {
        /// Who asked for it, and why.
        emergency: Arc<Emergency>,
        /// Where to say so.
        answer: Answer,
    },
    /// Governance votes on something. Sent by StreamActor once for each proposal, when as many
    /// endpoints brought it as its policy asks for. `Ok` once it is noted;
    /// [`super::TELL_TIMEOUT`].
    Proposal {
        /// The proposal.
        proposal: Arc<Proposal>,
        /// Where to say so.
        answer: Answer,
    },
    /// The voting deadline of a proposal passed. Sent by StreamActor once, after it told of the
    /// proposal. `Ok` once it is noted; [`super::TELL_TIMEOUT`].
    ProposalClosed {
        /// Its id.
        proposal_id: String,
        /// Where to say so.
        answer: Answer,
    },
    /// How is the node? Asked by StreamActor before each status report; [`super::QUERY_TIMEOUT`].
    NodeStatus(RpcReplyPort<NodeReport>),
    /// What the Chain knows. Sent by tests and `/status`; [`super::QUERY_TIMEOUT`].
    Snapshot(RpcReplyPort<ChainSnapshot>),
}

/// How the node is, for status reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeReport {
    /// In the words of the published protocol.
    pub status: NodeStatus,
    /// The height of its chain.
    pub block_height: u64,
}

/// What a [`MemoryChain`] knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct ChainSnapshot {
    /// The federation in force.
    pub federation: Option<Version>,
    /// Versions that wait for their height, by height.
    pub scheduled: BTreeMap<u64, Version>,
    /// Whether it produces no blocks.
    pub is_halted: bool,
    /// Why it was halted or resumed last.
    pub reason: String,
    /// How many halts and resumes it was told of.
    pub emergencies: u64,
    /// The newest proposals, oldest first: id, and whether voting is over.
    pub proposals: Vec<(String, bool)>,
    /// How many proposals there were.
    pub proposals_total: u64,
}

/// A Chain that keeps in memory what it is told, and stays at one height.
#[derive(Debug)]
pub struct MemoryChain {
    /// The height that it reports.
    pub block_height: u64,
}

/// What a [`MemoryChain`] holds.
#[derive(Debug)]
pub struct MemoryChainState {
    snapshot: ChainSnapshot,
    proposals: Ring<(String, bool)>,
}

impl Actor for MemoryChain {
    type Msg = ChainMessage;
    type State = MemoryChainState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let proposals = Ring::new(PROPOSALS_MAX);
        Ok(MemoryChainState { snapshot: ChainSnapshot::default(), proposals })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            ChainMessage::Scheduled { scheduled, answer } => {
                state.schedule(&scheduled);
                super::handled(answer, Ok(()));
            }
            ChainMessage::InForce { in_force, answer } => {
                state.snapshot.scheduled.retain(|_, version| *version > in_force.version);
                state.snapshot.federation = Some(in_force.version);
                super::handled(answer, Ok(()));
            }
            ChainMessage::Halt { emergency, answer } => {
                state.act(true, &emergency);
                super::handled(answer, Ok(()));
            }
            ChainMessage::Resume { emergency, answer } => {
                state.act(false, &emergency);
                super::handled(answer, Ok(()));
            }
            ChainMessage::Proposal { proposal, answer } => {
                // Twice after a crash: the id tells.
                if state.proposals.iter().all(|(id, _)| *id != proposal.id) {
                    state.proposals.push((proposal.id.clone(), false));
                }
                super::handled(answer, Ok(()));
            }
            ChainMessage::ProposalClosed { proposal_id, answer } => {
                for (_, is_closed) in state.proposals.iter_mut().filter(|it| it.0 == proposal_id) {
                    *is_closed = true;
                }
                super::handled(answer, Ok(()));
            }
            ChainMessage::NodeStatus(reply) => super::reply(reply, self.report(state)),
            ChainMessage::Snapshot(reply) => super::reply(reply, state.snapshot()),
        }
        Ok(())
    }
}

impl MemoryChain {
    const fn report(&self, state: &MemoryChainState) -> NodeReport {
        let status =
            if state.snapshot.is_halted { NodeStatus::Degraded } else { NodeStatus::Active };
        NodeReport { status, block_height: self.block_height }
    }
}

impl MemoryChainState {
    fn schedule(&mut self, scheduled: &Scheduled) {
        let later = &mut self.snapshot.scheduled;
        later.retain(|height, _| *height < scheduled.effective_height);
        later.insert(scheduled.effective_height, scheduled.version);
        while later.len() > SCHEDULED_MAX {
            later.pop_first();
        }
    }

    fn act(&mut self, is_halted: bool, emergency: &Emergency) {
        self.snapshot.is_halted = is_halted;
        self.snapshot.reason.clone_from(&emergency.reason);
        self.snapshot.emergencies += 1;
        tracing::warn!(is_halted, reason = emergency.reason, "block production");
    }

    fn snapshot(&self) -> ChainSnapshot {
        ChainSnapshot {
            proposals: self.proposals.to_vec(),
            proposals_total: self.proposals.total(),
            ..self.snapshot.clone()
        }
    }
}
