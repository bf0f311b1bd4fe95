//! The Network talks to the other nodes of the chain. It spreads federation updates to peers that
//! governance does not reach, with the signatures that let them verify it themselves.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef, RpcReplyPort};

use super::Answer;
use super::ring::Ring;
use crate::federation::{InForce, Version};

/// Rebroadcasts that [`MemoryNetwork`] remembers.
const REBROADCASTS_MAX: usize = 64;

/// What the Network is told and asked.
#[derive(Debug)]
pub enum NetworkMessage {
    /// Spread the update that put this federation in force, with its signatures, to peers. Nothing
    /// is to be spread when `in_force.update` is `None`: the federation is a configured one. Sent
    /// by StreamActor at its start and at every change, once that is durable. `Ok` once it is
    /// handed to the peers that are connected; [`super::TELL_TIMEOUT`].
    Rebroadcast {
        /// The federation, and the update as signed.
        in_force: Arc<InForce>,
        /// Where to say so.
        answer: Answer,
    },
    /// How many peers are connected? Asked by StreamActor before each status report;
    /// [`super::QUERY_TIMEOUT`].
    PeerCount(RpcReplyPort<u32>),
    /// What the Network knows. Sent by tests and `/status`; [`super::QUERY_TIMEOUT`].
    Snapshot(RpcReplyPort<NetworkSnapshot>),
}

/// What a [`MemoryNetwork`] knows.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize)]
pub struct NetworkSnapshot {
    /// The newest versions that were spread, oldest first.
    pub rebroadcast: Vec<Version>,
    /// How many there were.
    pub rebroadcast_total: u64,
    /// Peers that it reports.
    pub peers: u32,
}

/// A Network without peers of its own: it notes what it would spread.
#[derive(Debug)]
pub struct MemoryNetwork {
    /// The number of peers that it reports.
    pub peers: u32,
}

/// What a [`MemoryNetwork`] holds.
#[derive(Debug)]
pub struct MemoryNetworkState {
    rebroadcast: Ring<Version>,
}

impl Actor for MemoryNetwork {
    type Msg = NetworkMessage;
    type State = MemoryNetworkState;
    type Arguments = ();

    async fn pre_start(
        &self,
        _myself: ActorRef<Self::Msg>,
        (): (),
    ) -> Result<Self::State, ActorProcessingErr> {
        Ok(MemoryNetworkState { rebroadcast: Ring::new(REBROADCASTS_MAX) })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            NetworkMessage::Rebroadcast { in_force, answer } => {
                let last = state.rebroadcast.iter().next_back();
                let is_news = last.is_none_or(|last| *last < in_force.version);
                if in_force.update.is_some() && is_news {
                    state.rebroadcast.push(in_force.version);
                }
                super::handled(answer, Ok(()));
            }
            NetworkMessage::PeerCount(reply) => super::reply(reply, self.peers),
            NetworkMessage::Snapshot(reply) => {
                let snapshot = NetworkSnapshot {
                    rebroadcast: state.rebroadcast.to_vec(),
                    rebroadcast_total: state.rebroadcast.total(),
                    peers: self.peers,
                };
                super::reply(reply, snapshot);
            }
        }
        Ok(())
    }
}
