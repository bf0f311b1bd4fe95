//! The neighbours of the StreamActor: what it tells them, what it asks them, and what they ask.
//!
//! Any node can plug its own actors in: an actor that takes the message enum of its neighbour is
//! attached to the [`Port`] of that neighbour. The actors named `Memory…` are the defaults: they
//! keep in bounded memory what they are told, and show it.
//!
//! | neighbour | is told | is asked | asks ([`StreamAsk`]) |
//! |---|---|---|---|
//! | [`bridge`] | signatures, federation address, halt, resume | – | signatures, peg-in |
//! | [`chain`] | scheduled and new federation, halt, resume, proposals | node status | a new height |
//! | [`network`] | federation update to rebroadcast | peer count | – |
//! | [`storage`] | federation history, audit, settings | – | – |
//! | [`sync`] | governance events, health of the link | sync status | health of the link |
//!
//! Rules for every message:
//! - What carries an [`Answer`] is a call: `Ok` says that it is dealt with, and only then is
//!   governance told so (D8). [`NotHandled::Later`] has it sent again, [`NotHandled::Never`] makes
//!   it a dead letter. No answer within the timeout counts as `Later`.
//! - It may come twice: after a crash, or when an answer came too late. Every message carries what
//!   it takes to notice: a version, an id, a digest.
//! - A neighbour that is absent, hangs or is slow holds back what is meant for it, never memory: at
//!   most [`IN_FLIGHT_MAX`] messages are in its mailbox.
//!
//! Not here: when any of this is sent. That is for whoever holds the [`Neighbours`].

use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::router::Target;
use alys_stream_protocol::message::MessageId;
use ractor::RpcReplyPort;

use crate::federation::{Emergency, EmergencyKind, InForce, Scheduled};
use crate::outcome::Outcome;
use crate::proposals::Proposal;

pub mod asks;
pub mod bridge;
pub mod chain;
mod lives;
pub mod network;
mod plug;
mod port;
pub mod report;
mod ring;
pub mod storage;
pub mod sync;
#[cfg(test)]
pub(crate) mod tests;

pub use asks::{Asks, StreamAsk};
pub use bridge::{BridgeMessage, MemoryBridge, SignatureStage};
pub use chain::{ChainMessage, MemoryChain};
pub(crate) use lives::Lives;
pub use network::{MemoryNetwork, NetworkMessage};
pub use plug::{NeighbourActors, Plug};
pub use port::{Port, TargetError};
pub use storage::{AuditRecord, MemoryStorage, StorageMessage};
pub use sync::{GovernanceEvent, LinkHealth, MemorySync, SyncMessage};

/// Most messages to one neighbour that are not answered. Payloads are shared, and at most 1 MiB
/// each (a proposal).
pub const IN_FLIGHT_MAX: usize = 64;

/// How long a neighbour may take to deal with what it is told.
pub const TELL_TIMEOUT: Duration = Duration::from_secs(5);

/// How long Chain and Bridge may take to say that they heard of a halt. It is told again until
/// they do.
pub const HALT_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a neighbour may take to say how it is. A report goes without what is late.
pub const QUERY_TIMEOUT: Duration = Duration::from_secs(1);

/// What a neighbour says about something it was told.
pub type Handled = Result<(), NotHandled>;

/// Where it says so.
pub type Answer = RpcReplyPort<Handled>;

/// A neighbour did not deal with something.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotHandled {
    /// Not now: it is sent again, after a backoff.
    #[error("not now: {0}")]
    Later(String),
    /// Never: it becomes a dead letter.
    #[error("not at all: {0}")]
    Never(String),
}

/// The ports of all neighbours. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Neighbours {
    /// Signs and broadcasts Bitcoin transactions.
    pub bridge: Port<BridgeMessage>,
    /// Produces blocks.
    pub chain: Port<ChainMessage>,
    /// Talks to other nodes.
    pub network: Port<NetworkMessage>,
    /// Keeps history.
    pub storage: Port<StorageMessage>,
    /// Follows the chain.
    pub sync: Port<SyncMessage>,
}

impl Default for Neighbours {
    fn default() -> Self {
        Self {
            bridge: Port::new(Target::Bridge),
            chain: Port::new(Target::Chain),
            network: Port::new(Target::Network),
            storage: Port::new(Target::Storage),
            sync: Port::new(Target::Sync),
        }
    }
}

impl Neighbours {
    /// Tells Chain and Bridge, at the same time, of a halt or a resume, and Sync of the event.
    ///
    /// A halt does not wait for its turn among what else is in flight.
    ///
    /// # Errors
    ///
    /// When Chain or Bridge did not deal with it; both were told.
    ///
    /// # Cancel safety
    ///
    /// When it is dropped, both have it in their mailboxes already, unless they were absent.
    pub async fn tell_emergency(&self, emergency: &Arc<Emergency>) -> Result<(), TargetError> {
        let (chain, bridge) = match emergency.kind {
            EmergencyKind::Halt => tokio::join!(
                self.tell_halt(Target::Chain, emergency),
                self.tell_halt(Target::Bridge, emergency),
            ),
            EmergencyKind::Resume => tokio::join!(
                self.chain.tell(TELL_TIMEOUT, |answer| {
                    ChainMessage::Resume { emergency: Arc::clone(emergency), answer }
                }),
                self.bridge.tell(TELL_TIMEOUT, |answer| {
                    BridgeMessage::Resume { emergency: Arc::clone(emergency), answer }
                }),
            ),
        };
        self.note(GovernanceEvent::Emergency(Arc::clone(emergency)));
        chain.and(bridge)
    }

    /// Tells one of Chain and Bridge of a halt: a new one, or one that lasts and that it knows nothing
    /// of, since it began anew.
    ///
    /// # Errors
    ///
    /// When it did not deal with it.
    pub async fn tell_halt(
        &self,
        target: Target,
        emergency: &Arc<Emergency>,
    ) -> Result<(), TargetError> {
        let emergency = Arc::clone(emergency);
        match target {
            Target::Chain => {
                let build = |answer| ChainMessage::Halt { emergency, answer };
                self.chain.tell_urgently(HALT_TIMEOUT, build).await
            }
            Target::Bridge => {
                let build = |answer| BridgeMessage::Halt { emergency, answer };
                self.bridge.tell_urgently(HALT_TIMEOUT, build).await
            }
            Target::Network
            | Target::Storage
            | Target::Sync
            | Target::Link
            | Target::Requester
            | Target::Application => Ok(()),
        }
    }

    /// How often each began anew.
    pub(crate) fn lives(&self) -> Lives {
        Lives {
            bridge: self.bridge.lives(),
            chain: self.chain.lives(),
            network: self.network.lives(),
            storage: self.storage.lives(),
            sync: self.sync.lives(),
        }
    }

    /// Tells Chain of an update that waits for its height, and Sync of the event.
    ///
    /// # Errors
    ///
    /// When Chain did not deal with it.
    pub async fn tell_scheduled(&self, scheduled: &Arc<Scheduled>) -> Result<(), TargetError> {
        self.note(GovernanceEvent::Scheduled(Arc::clone(scheduled)));
        let build = |answer| ChainMessage::Scheduled { scheduled: Arc::clone(scheduled), answer };
        self.chain.tell(TELL_TIMEOUT, build).await
    }

    /// Tells one of Chain, Bridge, Network and Storage of the federation in force.
    ///
    /// # Errors
    ///
    /// When it did not deal with it.
    pub async fn tell_in_force(
        &self,
        target: Target,
        in_force: &Arc<InForce>,
    ) -> Result<(), TargetError> {
        let in_force = Arc::clone(in_force);
        match target {
            Target::Chain => {
                let build = |answer| ChainMessage::InForce { in_force, answer };
                self.chain.tell(TELL_TIMEOUT, build).await
            }
            Target::Bridge => {
                let build = |answer| BridgeMessage::Federation { in_force, answer };
                self.bridge.tell(TELL_TIMEOUT, build).await
            }
            Target::Network => {
                let build = |answer| NetworkMessage::Rebroadcast { in_force, answer };
                self.network.tell(TELL_TIMEOUT, build).await
            }
            Target::Storage => {
                let build = |answer| StorageMessage::Federation { in_force, answer };
                self.storage.tell(TELL_TIMEOUT, build).await
            }
            Target::Sync => {
                self.note(GovernanceEvent::InForce(in_force));
                Ok(())
            }
            Target::Link | Target::Requester | Target::Application => Ok(()),
        }
    }

    /// Tells Chain of a proposal, and Sync of the event.
    ///
    /// # Errors
    ///
    /// When Chain did not deal with it.
    pub async fn tell_proposal(&self, proposal: &Arc<Proposal>) -> Result<(), TargetError> {
        self.note(GovernanceEvent::Proposal(Arc::clone(proposal)));
        let build = |answer| ChainMessage::Proposal { proposal: Arc::clone(proposal), answer };
        self.chain.tell(TELL_TIMEOUT, build).await
    }

    /// Tells Chain that voting on a proposal is over, and Sync of the event.
    ///
    /// # Errors
    ///
    /// When Chain did not deal with it.
    pub async fn tell_closed(&self, proposal_id: &str) -> Result<(), TargetError> {
        let proposal_id = proposal_id.to_owned();
        self.note(GovernanceEvent::ProposalClosed(proposal_id.clone()));
        let build = |answer| ChainMessage::ProposalClosed { proposal_id, answer };
        self.chain.tell(TELL_TIMEOUT, build).await
    }

    /// Tells Bridge how far one of its signature requests is.
    ///
    /// # Errors
    ///
    /// When Bridge did not deal with it; a final outcome is to be told again.
    pub async fn tell_signatures(
        &self,
        id: MessageId,
        outcome: Arc<Outcome>,
    ) -> Result<(), TargetError> {
        let stage = SignatureStage::of(&outcome);
        let build = |answer| BridgeMessage::Signatures { id, stage, outcome, answer };
        self.bridge.tell(TELL_TIMEOUT, build).await
    }

    /// Tells Sync how the link is.
    ///
    /// # Errors
    ///
    /// When Sync did not deal with it; the next word replaces this one.
    pub async fn tell_health(&self, health: LinkHealth) -> Result<(), TargetError> {
        let build = |answer| SyncMessage::Health { health, answer };
        self.sync.tell(TELL_TIMEOUT, build).await
    }

    /// Who cannot be told anything now: absent, or with as much to do as it may have.
    #[must_use]
    pub fn late(&self) -> Vec<&'static str> {
        [
            self.bridge.is_late().then_some(Target::Bridge),
            self.chain.is_late().then_some(Target::Chain),
            self.network.is_late().then_some(Target::Network),
            self.storage.is_late().then_some(Target::Storage),
            self.sync.is_late().then_some(Target::Sync),
        ]
        .into_iter()
        .flatten()
        .map(Target::as_str)
        .collect()
    }

    /// How much of what each was told it has not answered.
    #[must_use]
    pub fn in_flight(&self) -> [(&'static str, usize); 5] {
        [
            (Target::Bridge.as_str(), self.bridge.in_flight()),
            (Target::Chain.as_str(), self.chain.in_flight()),
            (Target::Network.as_str(), self.network.in_flight()),
            (Target::Storage.as_str(), self.storage.in_flight()),
            (Target::Sync.as_str(), self.sync.in_flight()),
        ]
    }

    /// Hands Storage an audit record, if it has room for it: the audit log has it in any case.
    pub fn audit(&self, record: AuditRecord) {
        let left = self.storage.post(|answer| StorageMessage::Audit { record, answer });
        tracing::debug!(left, "audit record");
    }

    /// Tells Sync of an event, if it has room for it: an event is news, not a duty.
    pub fn note(&self, event: GovernanceEvent) {
        let left = self.sync.post(|answer| SyncMessage::Event { event, answer });
        tracing::debug!(left, "governance event");
    }
}

/// Answers a call. Whoever asked may be gone: then nobody needs to know.
pub(crate) fn reply<R>(port: RpcReplyPort<R>, value: R) {
    drop(port.send(value));
}

/// Says what became of something; see [`reply`].
pub(crate) fn handled(answer: Answer, handled: Handled) {
    reply(answer, handled);
}
