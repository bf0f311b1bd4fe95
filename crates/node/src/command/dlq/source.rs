//! Where dead letters are: behind a running node, or in a directory.

use std::path::Path;

use alys_stream_protocol::submission::{
    ListDeadLettersRequest, ListDeadLettersResponse, ReplayedLetter,
};

use super::offline::Offline;
use crate::failure::Failure;
use crate::operator::client::Client;
use crate::submission::Address;

/// Sees results as they come.
pub(super) type Progress<'a> = &'a mut dyn FnMut(Vec<ReplayedLetter>) -> Result<(), Failure>;

/// Where dead letters are.
#[derive(Debug)]
pub(super) enum Source {
    /// A running node.
    Node(Client),
    /// The data directory of one that does not run.
    Dir(Box<Offline>),
}

impl Source {
    /// Connects to the node, or opens the directory when there is one.
    ///
    /// # Errors
    ///
    /// When nobody answers, or the directory is in use or cannot be read.
    pub(super) async fn open(node: &Address, dir: Option<&Path>) -> Result<Self, Failure> {
        match dir {
            Some(dir) => Ok(Self::Dir(Box::new(Offline::open(dir)?))),
            None => Client::connect(node).await.map(Self::Node),
        }
    }

    /// One page.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or the directory cannot be read.
    pub(super) async fn page(
        &mut self,
        request: ListDeadLettersRequest,
    ) -> Result<ListDeadLettersResponse, Failure> {
        match self {
            Self::Node(client) => client.list(request).await,
            Self::Dir(offline) => offline.page(request),
        }
    }

    /// Has messages accepted again.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or a store fails.
    pub(super) async fn replay(
        &mut self,
        ids: &[u64],
        progress: Progress<'_>,
    ) -> Result<(), Failure> {
        match self {
            Self::Node(client) => client.replay(ids, progress).await,
            Self::Dir(offline) => offline.replay(ids, progress).await,
        }
    }

    /// Removes them for good; how many there were.
    ///
    /// # Errors
    ///
    /// When the node does not answer, or the store fails.
    pub(super) async fn purge(&mut self, ids: &[u64]) -> Result<u64, Failure> {
        match self {
            Self::Node(client) => client.purge(ids).await,
            Self::Dir(offline) => offline.purge(ids).await,
        }
    }

    /// Releases what is open.
    pub(super) async fn close(self) {
        match self {
            Self::Node(_) => {}
            Self::Dir(offline) => offline.close().await,
        }
    }
}
