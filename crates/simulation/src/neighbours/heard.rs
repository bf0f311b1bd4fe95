//! What each neighbour is told, in words, and what it says when it is asked.

use alys_stream_actor::neighbours::bridge::BridgeSnapshot;
use alys_stream_actor::neighbours::chain::{ChainSnapshot, NodeReport};
use alys_stream_actor::neighbours::network::NetworkSnapshot;
use alys_stream_actor::neighbours::storage::StorageSnapshot;
use alys_stream_actor::neighbours::sync::SyncSnapshot;
use alys_stream_actor::neighbours::{
    BridgeMessage, ChainMessage, NetworkMessage, StorageMessage, SyncMessage,
};
use alys_stream_protocol::governance::{NodeStatus, SyncStatus};
use tokio::task::JoinSet;

use super::{Heard, Notes};
use crate::signing;
use crate::world::number_of;

impl Heard for ChainMessage {
    fn deal(self, notes: &Notes, tasks: &mut JoinSet<()>) {
        let (what, answer) = match self {
            Self::Scheduled { scheduled, answer } => {
                (format!("scheduled {}", scheduled.version.0), answer)
            }
            Self::InForce { in_force, answer } => {
                (format!("in force {}", in_force.version.0), answer)
            }
            Self::Halt { answer, .. } => ("halt".to_owned(), answer),
            Self::Resume { answer, .. } => ("resume".to_owned(), answer),
            Self::Proposal { proposal, answer } => (format!("proposal {}", proposal.id), answer),
            Self::ProposalClosed { proposal_id, answer } => {
                (format!("closed {proposal_id}"), answer)
            }
            Self::NodeStatus(reply) => {
                let report = NodeReport { status: NodeStatus::Active, block_height: 0 };
                return drop(reply.send(report));
            }
            Self::Snapshot(reply) => return drop(reply.send(ChainSnapshot::default())),
        };
        notes.deal(what, answer, tasks);
    }
}

impl Heard for BridgeMessage {
    fn deal(self, notes: &Notes, tasks: &mut JoinSet<()>) {
        let (what, answer) = match self {
            Self::Signatures { id, stage, outcome, answer } => {
                let number = number_of(notes.seed, &id).unwrap_or(u64::MAX);
                let is_wrong = !outcome.transaction.is_empty()
                    && signing::verify(number, &outcome.transaction).is_err();
                let remark = if is_wrong { " wrongly" } else { "" };
                (format!("signatures {number} {stage:?}{remark}"), answer)
            }
            Self::Federation { in_force, answer } => {
                (format!("in force {}", in_force.version.0), answer)
            }
            Self::Halt { answer, .. } => ("halt".to_owned(), answer),
            Self::Resume { answer, .. } => ("resume".to_owned(), answer),
            Self::Snapshot(reply) => return drop(reply.send(BridgeSnapshot::default())),
        };
        notes.deal(what, answer, tasks);
    }
}

impl Heard for NetworkMessage {
    fn deal(self, notes: &Notes, tasks: &mut JoinSet<()>) {
        match self {
            Self::Rebroadcast { in_force, answer } => {
                notes.deal(format!("in force {}", in_force.version.0), answer, tasks);
            }
            Self::PeerCount(reply) => drop(reply.send(0)),
            Self::Snapshot(reply) => drop(reply.send(NetworkSnapshot::default())),
        }
    }
}

impl Heard for StorageMessage {
    fn deal(self, notes: &Notes, tasks: &mut JoinSet<()>) {
        let (what, answer) = match self {
            Self::Federation { in_force, answer } => {
                (format!("in force {}", in_force.version.0), answer)
            }
            Self::Audit { record, answer } => {
                (format!("audit {} by {}", record.action, record.who), answer)
            }
            Self::Setting { key, answer, .. } => (format!("setting {key}"), answer),
            Self::Snapshot(reply) => return drop(reply.send(StorageSnapshot::default())),
        };
        notes.deal(what, answer, tasks);
    }
}

impl Heard for SyncMessage {
    fn deal(self, notes: &Notes, tasks: &mut JoinSet<()>) {
        let (what, answer) = match self {
            Self::Event { event, answer } => (format!("event: {}", event.describe()), answer),
            Self::Health { health, answer } => (format!("health {:?}", health.mode), answer),
            Self::SyncStatus(reply) => return drop(reply.send(SyncStatus::Synced)),
            Self::Snapshot(reply) => return drop(reply.send(SyncSnapshot::default())),
        };
        notes.deal(what, answer, tasks);
    }
}
