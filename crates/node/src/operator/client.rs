//! Asks a running node how it is and about its dead letters, and tells it what to do.

use alys_stream_protocol::submission::{
    GetStatusRequest, ListDeadLettersRequest, ListDeadLettersResponse, PurgeDeadLettersRequest,
    ReconnectEndpointRequest, ReplayDeadLettersRequest, ReplayedLetter,
};
use serde_json::Value;
use tonic::transport::Channel;

use super::api::operator_service_client::OperatorServiceClient;
use super::server::IDS_MAX;
use crate::failure::Failure;
use crate::submission::server::REQUEST_BYTES_MAX;
use crate::submission::{Address, client};

/// A connection to a node.
#[derive(Debug)]
pub(crate) struct Client {
    inner: OperatorServiceClient<Channel>,
    address: Address,
}

impl Client {
    /// Connects now.
    ///
    /// # Errors
    ///
    /// When nobody answers there.
    pub(crate) async fn connect(address: &Address) -> Result<Self, Failure> {
        let channel = client::channel(address).await?;
        let inner =
            OperatorServiceClient::new(channel).max_decoding_message_size(REQUEST_BYTES_MAX);
        Ok(Self { inner, address: address.clone() })
    }

    /// One page of dead letters.
    ///
    /// # Errors
    ///
    /// What the node answered, or that it did not.
    pub(crate) async fn list(
        &mut self,
        request: ListDeadLettersRequest,
    ) -> Result<ListDeadLettersResponse, Failure> {
        let answer = self.inner.list_dead_letters(request).await;
        let answer = answer.map_err(|status| {
            client::failure(&self.address, "cannot list dead letters", &status)
        })?;
        Ok(answer.into_inner())
    }

    /// Has them accepted again; `progress` sees the results as they come.
    ///
    /// # Errors
    ///
    /// What the node answered, or that it did not; `progress` has seen what was done by then.
    pub(crate) async fn replay(
        &mut self,
        ids: &[u64],
        progress: &mut dyn FnMut(Vec<ReplayedLetter>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        for ids in ids.chunks(IDS_MAX) {
            let request = ReplayDeadLettersRequest { ids: ids.to_vec() };
            let refused = |status| client::failure(&self.address, "cannot replay", &status);
            let mut steps =
                self.inner.replay_dead_letters(request).await.map_err(refused)?.into_inner();
            while let Some(step) = steps.message().await.map_err(refused)? {
                progress(step.replayed)?;
            }
        }
        Ok(())
    }

    /// Has them removed for good; how many there were.
    ///
    /// # Errors
    ///
    /// What the node answered, or that it did not.
    pub(crate) async fn purge(&mut self, ids: &[u64]) -> Result<u64, Failure> {
        let mut purged = 0;
        for ids in ids.chunks(IDS_MAX) {
            let request = PurgeDeadLettersRequest { ids: ids.to_vec() };
            let answer = self.inner.purge_dead_letters(request).await;
            let answer =
                answer.map_err(|status| client::failure(&self.address, "cannot purge", &status))?;
            purged += answer.into_inner().purged;
        }
        Ok(purged)
    }

    /// How everything is: the document that the admin port has at `/status`.
    ///
    /// # Errors
    ///
    /// What the node answered, or that it did not.
    pub(crate) async fn status(&mut self) -> Result<Value, Failure> {
        let answer = self.inner.get_status(GetStatusRequest {}).await;
        let answer = answer.map_err(|status| {
            client::failure(&self.address, "cannot tell how the node is", &status)
        })?;
        serde_json::from_str(&answer.into_inner().json).map_err(|error| {
            Failure::other(format_args!("{}: the status is not JSON: {error}", self.address))
        })
    }

    /// Has an endpoint dialled at once.
    ///
    /// # Errors
    ///
    /// What the node answered, or that it did not.
    pub(crate) async fn reconnect(&mut self, endpoint: &str) -> Result<(), Failure> {
        let request = ReconnectEndpointRequest { endpoint: endpoint.to_owned() };
        let answer = self.inner.reconnect_endpoint(request).await;
        answer
            .map(drop)
            .map_err(|status| client::failure(&self.address, "cannot reconnect", &status))
    }
}
