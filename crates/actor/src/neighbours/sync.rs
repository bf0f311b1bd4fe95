//! The Sync follows the chain, and decides with what it hears from here whether blocks may be
//! produced: not during a halt, and not while the link to governance is gone.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::governance::SyncStatus;
use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};
use tokio::time::Instant;

use super::Answer;
use super::ring::Ring;
use crate::failure::Mode;
use crate::federation::{Conflict, Emergency, EmergencyKind, InForce, Scheduled};
use crate::proposals::Proposal;

/// How often StreamActor says how the link is, when nothing changes.
pub const HEALTH_EVERY: Duration = Duration::from_secs(10);

/// How long the word of StreamActor counts: three times [`HEALTH_EVERY`]. Longer, and blocks would
/// be produced that a halt could not have stopped; shorter, and a restart of it would stop them.
pub const HEALTH_STALE_AFTER: Duration = Duration::from_secs(30);

/// Events that [`MemorySync`] remembers.
const EVENTS_MAX: usize = 256;

/// Something that governance did.
#[derive(Debug, Clone, PartialEq)]
pub enum GovernanceEvent {
    /// Another federation takes over at a height.
    Scheduled(Arc<Scheduled>),
    /// A federation is in force.
    InForce(Arc<InForce>),
    /// A halt or a resume.
    Emergency(Arc<Emergency>),
    /// A proposal.
    Proposal(Arc<Proposal>),
    /// The voting deadline of a proposal passed.
    ProposalClosed(String),
    /// Two contents for one version.
    Conflict(Conflict),
}

impl GovernanceEvent {
    /// In words.
    #[must_use]
    pub fn describe(&self) -> String {
        match self {
            Self::Scheduled(it) => {
                format!("federation {} from height {}", it.version, it.effective_height)
            }
            Self::InForce(it) => format!("federation {} in force", it.version),
            Self::Emergency(it) => match it.kind {
                EmergencyKind::Halt => format!("halt by {}", it.endpoint),
                EmergencyKind::Resume => format!("resume by {}", it.endpoint),
            },
            Self::Proposal(it) => format!("proposal {}", it.id),
            Self::ProposalClosed(id) => format!("voting on {id} is over"),
            Self::Conflict(it) => format!("two contents for version {}", it.version),
        }
    }
}

/// How the link to governance is.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct LinkHealth {
    /// What works.
    pub mode: Mode,
    /// Why, in words.
    pub reason: String,
    /// Endpoints that carry data.
    pub endpoints_live: usize,
    /// Endpoints that should.
    pub endpoints_enabled: usize,
}

impl LinkHealth {
    /// Whether blocks may be produced, as far as the link is concerned.
    #[must_use]
    pub const fn may_produce(&self) -> bool {
        self.mode.may_produce()
    }
}

/// What the Sync is told and asked.
#[derive(Debug)]
pub enum SyncMessage {
    /// Governance did something. Sent by StreamActor as it happens. It is news, not a duty: it is
    /// left out when the Sync does not keep up. `Ok` once it is noted; nobody waits for it.
    Event {
        /// What.
        event: GovernanceEvent,
        /// Where to say so.
        answer: Answer,
    },
    /// The link is like this now. Sent by StreamActor at every change of mode and every
    /// [`HEALTH_EVERY`]. `Ok` once the gate of block production is set by it;
    /// [`super::TELL_TIMEOUT`]. No news for [`HEALTH_STALE_AFTER`] means that StreamActor is not
    /// running: the gate closes.
    Health {
        /// How it is.
        health: LinkHealth,
        /// Where to say so.
        answer: Answer,
    },
    /// How far is the node behind? Asked by StreamActor before each status report;
    /// [`super::QUERY_TIMEOUT`].
    SyncStatus(RpcReplyPort<SyncStatus>),
    /// What the Sync knows. Sent by tests and `/status`; [`super::QUERY_TIMEOUT`].
    Snapshot(RpcReplyPort<SyncSnapshot>),
}

/// What a [`MemorySync`] knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct SyncSnapshot {
    /// The newest events in words, oldest first.
    pub events: Vec<String>,
    /// How many events there were.
    pub events_total: u64,
    /// How the link was last.
    pub health: Option<LinkHealth>,
    /// Whether blocks may be produced.
    pub is_gate_open: bool,
}

/// A Sync that is always in sync, and keeps the gate.
#[derive(Debug)]
pub struct MemorySync;

/// What a [`MemorySync`] holds.
#[derive(Debug)]
pub struct MemorySyncState {
    events: Ring<String>,
    health: Option<LinkHealth>,
    heard_at: Instant,
    is_halted: bool,
}

impl Actor for MemorySync {
    type Msg = SyncMessage;
    type State = MemorySyncState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        let (events, heard_at) = (Ring::new(EVENTS_MAX), Instant::now());
        Ok(MemorySyncState { events, health: None, heard_at, is_halted: false })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            SyncMessage::Event { event, answer } => {
                if let GovernanceEvent::Emergency(emergency) = &event {
                    state.is_halted = emergency.kind == EmergencyKind::Halt;
                }
                state.events.push(event.describe());
                super::handled(answer, Ok(()));
            }
            SyncMessage::Health { health, answer } => {
                state.health = Some(health);
                state.heard_at = Instant::now();
                super::handled(answer, Ok(()));
            }
            SyncMessage::SyncStatus(reply) => super::reply(reply, SyncStatus::Synced),
            SyncMessage::Snapshot(reply) => super::reply(reply, state.snapshot()),
        }
        Ok(())
    }
}

impl MemorySyncState {
    fn snapshot(&self) -> SyncSnapshot {
        // Nobody has said yet that the link is up: the gate is closed.
        let may_produce = self.health.as_ref().is_some_and(LinkHealth::may_produce)
            && self.heard_at.elapsed() < HEALTH_STALE_AFTER;
        SyncSnapshot {
            events: self.events.to_vec(),
            events_total: self.events.total(),
            health: self.health.clone(),
            is_gate_open: may_produce && !self.is_halted,
        }
    }
}
