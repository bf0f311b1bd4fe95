//! What the node reports of itself, put together from what its neighbours say.

use alys_stream_protocol::governance::{NodeStatus, StatusUpdate, SyncStatus};

use super::chain::NodeReport;
use super::{ChainMessage, Neighbours, NetworkMessage, QUERY_TIMEOUT, SyncMessage};
use crate::failure::Mode;

/// What the neighbours said in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Answers {
    /// Chain's.
    pub node: Option<NodeReport>,
    /// Network's.
    pub peers: Option<u32>,
    /// Sync's.
    pub sync: Option<SyncStatus>,
}

impl Answers {
    /// The report. A node that is halted, or whose Chain does not answer, is degraded; what nobody
    /// said is 0 or an error, never a guess.
    #[must_use]
    pub fn status_update(&self, mode: Mode) -> StatusUpdate {
        let status = match (self.node, mode.is_normal()) {
            (Some(node), true) => node.status,
            (Some(node), false) if node.status != NodeStatus::Active => node.status,
            (Some(_), false) | (None, _) => NodeStatus::Degraded,
        };
        StatusUpdate {
            status: status.into(),
            block_height: self.node.map_or(0, |node| node.block_height),
            sync_status: self.sync.unwrap_or(SyncStatus::Error).into(),
            connection_count: self.peers.unwrap_or_default(),
            metrics: None,
        }
    }
}

impl Neighbours {
    /// Asks Chain, Network and Sync how they are, all at once, each within [`QUERY_TIMEOUT`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn ask_status(&self) -> Answers {
        let (node, peers, sync) = tokio::join!(
            self.chain.call(QUERY_TIMEOUT, ChainMessage::NodeStatus),
            self.network.call(QUERY_TIMEOUT, NetworkMessage::PeerCount),
            self.sync.call(QUERY_TIMEOUT, SyncMessage::SyncStatus),
        );
        Answers { node: node.ok(), peers: peers.ok(), sync: sync.ok() }
    }
}
