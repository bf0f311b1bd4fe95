//! The Bridge signs and broadcasts Bitcoin transactions: peg-outs that the federation signs, and
//! peg-ins that it watches for.
//!
//! It asks for signatures and reports peg-ins ([`super::StreamAsk`]); it is told what becomes of
//! its requests, where coins go, and when to stop.

use std::collections::BTreeMap;
use std::sync::Arc;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use bitcoin::Network;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::ring::Ring;
use super::{Answer, NotHandled};
use crate::federation::{Addresses, Emergency, InForce, Version};
use crate::outcome::{Outcome, is_final};

/// Requests of which [`MemoryBridge`] remembers the last stage.
const SIGNATURES_MAX: usize = 1024;

/// How far a signature request is. The five are different things: none stands for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SignatureStage {
    /// Governance has it; nobody has signed.
    Pending,
    /// Some signatures are there and verified.
    Partial,
    /// Every input has its threshold: the witnesses are ready.
    Complete,
    /// It will never be signed; the outcome says why.
    Failed,
    /// Its deadline passed.
    TimedOut,
}

impl SignatureStage {
    /// The stage that an outcome describes.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        let is_partial = outcome.inputs_signed > 0
            || outcome.answers.iter().any(|answer| answer.signatures_valid > 0);
        match outcome.state() {
            OutcomeState::Complete => Self::Complete,
            OutcomeState::Failed => Self::Failed,
            OutcomeState::TimedOut => Self::TimedOut,
            OutcomeState::Unspecified | OutcomeState::Accepted | OutcomeState::Pending => {
                if is_partial {
                    Self::Partial
                } else {
                    Self::Pending
                }
            }
        }
    }
}

/// What the Bridge is told and asked.
#[derive(Debug)]
pub enum BridgeMessage {
    /// A signature request came further. Sent by StreamActor at every change of stage and once at
    /// the end; stages in between may be left out. `Ok` once it is noted; [`super::TELL_TIMEOUT`].
    /// A final one is told until it is dealt with; the outcome is durable before.
    Signatures {
        /// Which request.
        id: MessageId,
        /// How far it is.
        stage: SignatureStage,
        /// Its signatures, answers and reasons.
        outcome: Arc<Outcome>,
        /// Where to say so.
        answer: Answer,
    },
    /// This federation is in force: coins go to its address from now on, and new requests are
    /// signed by it; open ones stay with theirs. Sent by StreamActor at its start and at every
    /// change. `Ok` once new addresses are derived from it; [`super::TELL_TIMEOUT`].
    Federation {
        /// The federation.
        in_force: Arc<InForce>,
        /// Where to say so.
        answer: Answer,
    },
    /// Stop broadcasting and requesting, at once. Sent by StreamActor ahead of everything, and at
    /// its start while a halt lasts. `Ok` once nothing more leaves; [`super::HALT_TIMEOUT`].
    Halt {
        /// Who asked for it, and why.
        emergency: Arc<Emergency>,
        /// Where to say so.
        answer: Answer,
    },
    /// Go on. Sent by StreamActor once the resume is durable. `Ok` once it does;
    /// [`super::TELL_TIMEOUT`].
    Resume {
        /// Who asked for it, and why.
        emergency: Arc<Emergency>,
        /// Where to say so.
        answer: Answer,
    },
    /// What the Bridge knows. Sent by tests and `/status`; [`super::QUERY_TIMEOUT`].
    Snapshot(RpcReplyPort<BridgeSnapshot>),
}

/// What a [`MemoryBridge`] knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct BridgeSnapshot {
    /// The federation it was told of last.
    pub federation: Option<Version>,
    /// Where pegged-in coins go.
    pub address: Option<String>,
    /// Whether it stands still.
    pub is_halted: bool,
    /// How many halts and resumes it was told of.
    pub emergencies: u64,
    /// How often it was told of each stage.
    pub stages: BTreeMap<SignatureStage, u64>,
    /// The last stage of its newest requests, as text.
    pub signatures: BTreeMap<String, SignatureStage>,
}

/// A Bridge that keeps in memory what it is told, and broadcasts nothing.
#[derive(Debug)]
pub struct MemoryBridge {
    /// The Bitcoin network of its addresses.
    pub network: Network,
}

/// What a [`MemoryBridge`] holds.
#[derive(Debug)]
pub struct MemoryBridgeState {
    snapshot: BridgeSnapshot,
    order: Ring<String>,
}

impl Actor for MemoryBridge {
    type Msg = BridgeMessage;
    type State = MemoryBridgeState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let order = Ring::new(SIGNATURES_MAX);
        Ok(MemoryBridgeState { snapshot: BridgeSnapshot::default(), order })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let snapshot = &mut state.snapshot;
        match message {
            BridgeMessage::Signatures { id, stage, outcome, answer } => {
                tracing::debug!(%id, ?stage, reason = outcome.reason, "signature request");
                state.note(id, stage);
                super::handled(answer, Ok(()));
            }
            BridgeMessage::Federation { in_force, answer } => {
                let handled = self.address(&in_force).map(|address| {
                    snapshot.federation = Some(in_force.version);
                    snapshot.address = Some(address);
                });
                super::handled(answer, handled);
            }
            BridgeMessage::Halt { emergency, answer } => {
                tracing::warn!(reason = emergency.reason, "the bridge stands still");
                snapshot.is_halted = true;
                snapshot.emergencies += 1;
                super::handled(answer, Ok(()));
            }
            BridgeMessage::Resume { emergency, answer } => {
                tracing::warn!(reason = emergency.reason, "the bridge goes on");
                snapshot.is_halted = false;
                snapshot.emergencies += 1;
                super::handled(answer, Ok(()));
            }
            BridgeMessage::Snapshot(reply) => super::reply(reply, snapshot.clone()),
        }
        Ok(())
    }
}

impl MemoryBridge {
    fn address(&self, in_force: &InForce) -> Result<String, NotHandled> {
        let addresses = in_force.addresses(self.network);
        let Addresses { p2wsh, p2tr } =
            addresses.map_err(|error| NotHandled::Never(error.to_string()))?;
        let address = match in_force.federation.script_kind() {
            alys_stream_protocol::federation::ScriptKind::P2wsh => p2wsh,
            alys_stream_protocol::federation::ScriptKind::P2tr => p2tr,
        };
        Ok(address.to_string())
    }
}

impl MemoryBridgeState {
    fn note(&mut self, id: MessageId, stage: SignatureStage) {
        let id = id.to_string();
        *self.snapshot.stages.entry(stage).or_default() += 1;
        if self.snapshot.signatures.insert(id.clone(), stage).is_none() {
            self.order.push(id);
            // What the ring let go goes here too.
            if self.snapshot.signatures.len() > SIGNATURES_MAX {
                let kept: std::collections::BTreeSet<_> = self.order.iter().collect();
                self.snapshot.signatures.retain(|id, _| kept.contains(id));
            }
        }
    }
}

/// Whether a stage is the last one of its request, as its outcome is.
#[must_use]
pub fn is_last(outcome: &Outcome) -> bool {
    is_final(outcome.state())
}
