//! A client of the node's submission interface, generated from the committed contract.

mod api;

use std::path::PathBuf;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{
    Acceptance, AwaitOutcomeRequest, AwaitOutcomeResponse, OutcomeState, Submission, SubmitRequest,
};
use api::submission_service_client::SubmissionServiceClient;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use crate::load;

/// Talks to one node, over restarts of it.
#[derive(Debug, Clone)]
pub struct Client {
    channel: Channel,
}

impl Client {
    /// A client of the socket at `path`; connects when it is used, and again when it must.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        let endpoint = Endpoint::from_static("http://node");
        Self { channel: endpoint.connect_with_connector_lazy(connect) }
    }

    /// Submits once.
    ///
    /// # Errors
    ///
    /// As the node says, or because it is not there.
    pub async fn submit(&self, batch: Vec<Submission>) -> Result<Vec<Acceptance>, tonic::Status> {
        let request = SubmitRequest { submissions: batch };
        let answer = SubmissionServiceClient::new(self.channel.clone()).submit(request).await?;
        Ok(answer.into_inner().acceptances)
    }

    /// Submits the same batch until it is accepted, through restarts of the node.
    pub async fn submit_until_accepted(&self, batch: Vec<Submission>) -> Vec<Acceptance> {
        loop {
            match self.submit(batch.clone()).await {
                Ok(accepted) => return accepted,
                // The node is down or starting: let it.
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            }
        }
    }

    /// Follows a message to its end, through restarts of the node.
    ///
    /// # Panics
    ///
    /// When the node does not know it.
    pub async fn outcome(&self, id: MessageId) -> AwaitOutcomeResponse {
        let outcome = self.outcome_if_known(id).await;
        outcome.unwrap_or_else(|| panic!("the node does not know {id}, which it accepted"))
    }

    /// The same; `None` when the node does not know it.
    pub async fn outcome_if_known(&self, id: MessageId) -> Option<AwaitOutcomeResponse> {
        loop {
            match self.follow(id).await {
                Ok(Some(outcome)) => return Some(outcome),
                Err(status) if status.code() == tonic::Code::NotFound => return None,
                Ok(None) | Err(_) => {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                }
            }
        }
    }

    async fn follow(&self, id: MessageId) -> Result<Option<AwaitOutcomeResponse>, tonic::Status> {
        let request = AwaitOutcomeRequest { message_id: id.as_bytes().to_vec().into() };
        let mut client = SubmissionServiceClient::new(self.channel.clone());
        let mut states = client.await_outcome(request).await?.into_inner();
        while let Some(state) = states.message().await? {
            match state.state() {
                OutcomeState::Complete | OutcomeState::Failed | OutcomeState::TimedOut => {
                    return Ok(Some(state));
                }
                OutcomeState::Unspecified | OutcomeState::Accepted | OutcomeState::Pending => {}
            }
        }
        Ok(None)
    }
}

/// Has peg-ins accepted one by one, so that each has an entry of its own in the log.
///
/// # Panics
///
/// When one is not accepted.
pub async fn accept_one_by_one(client: &Client, count: u64) -> Vec<MessageId> {
    let mut rng = fastrand::Rng::with_seed(11);
    let mut ids = Vec::new();
    for _ in 0..count {
        let id = MessageId::mint();
        client.submit(vec![load::pegin(&mut rng, id)]).await.expect("accepted without any peer");
        ids.push(id);
    }
    ids
}
