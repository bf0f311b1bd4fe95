//! What a node stands on: the disk and the network of its machine, or what stands in for them in a
//! simulation.

use std::sync::Arc;

use alys_stream_messaging::storage::{FileStorage, Storage};
use alys_stream_transport::grpc::{Network, Sockets};

/// Where the stores lie, and how endpoints are reached.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The file system of the stores.
    pub storage: Arc<dyn Storage>,
    /// Resolves and connects.
    pub network: Arc<dyn Network>,
}

impl Default for Ground {
    fn default() -> Self {
        Self { storage: Arc::new(FileStorage), network: Arc::new(Sockets) }
    }
}
