//! Talks to a running node.

use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{
    Acceptance, AwaitOutcomeRequest, AwaitOutcomeResponse, OutcomeState, Submission, SubmitRequest,
    SubscribeRequest, SubscribeResponse,
};
use bytes::Bytes;
use tonic::transport::{Channel, Endpoint};
pub(crate) use tonic::{Code, Status, Streaming};

use super::Address;
use super::api::submission_service_client::SubmissionServiceClient;
use super::server::REQUEST_BYTES_MAX;
use crate::failure::{Exit, Failure};

/// Longest time to reach a node.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// A connection to the submission interface of a node; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    inner: SubmissionServiceClient<Channel>,
    address: Address,
}

impl Client {
    /// Connects when the first call is made, and again when a call finds the connection gone.
    ///
    /// # Errors
    ///
    /// When the address cannot be one.
    pub(crate) fn connect_lazy(address: &Address) -> Result<Self, Failure> {
        Ok(Self::new(endpoint(address)?.connect_lazy(), address))
    }

    /// Connects now.
    ///
    /// # Errors
    ///
    /// When nobody answers there.
    pub(crate) async fn connect(address: &Address) -> Result<Self, Failure> {
        Ok(Self::new(channel(address).await?, address))
    }

    fn new(channel: Channel, address: &Address) -> Self {
        let inner =
            SubmissionServiceClient::new(channel).max_decoding_message_size(REQUEST_BYTES_MAX);
        Self { inner, address: address.clone() }
    }

    /// Hands over one message.
    ///
    /// # Errors
    ///
    /// What the node answered, or that it did not.
    pub(crate) async fn submit(&mut self, submission: Submission) -> Result<Acceptance, Status> {
        let submissions = vec![submission];
        let answer = self.inner.submit(SubmitRequest { submissions }).await?.into_inner();
        let missing = || Status::internal("the node accepted nothing and refused nothing");
        answer.acceptances.into_iter().next().ok_or_else(missing)
    }

    /// Hands over several messages as one: all are accepted, or none.
    ///
    /// # Errors
    ///
    /// What the node answered, or that it did not.
    pub(crate) async fn submit_all(
        &mut self,
        submissions: Vec<Submission>,
    ) -> Result<Vec<Acceptance>, Status> {
        Ok(self.inner.submit(SubmitRequest { submissions }).await?.into_inner().acceptances)
    }

    /// Follows a message: every change of its state.
    ///
    /// # Errors
    ///
    /// `NotFound` for an identifier that the node does not know.
    pub(crate) async fn follow(
        &mut self,
        id: MessageId,
    ) -> Result<Streaming<AwaitOutcomeResponse>, Status> {
        let message_id = Bytes::copy_from_slice(id.as_bytes());
        Ok(self.inner.await_outcome(AwaitOutcomeRequest { message_id }).await?.into_inner())
    }

    /// What governance sends from now on, of these kinds; of all when there are none.
    ///
    /// # Errors
    ///
    /// What the node answered, or that it did not.
    pub(crate) async fn subscribe(
        &mut self,
        kinds: Vec<u32>,
    ) -> Result<Streaming<SubscribeResponse>, Status> {
        Ok(self.inner.subscribe(SubscribeRequest { kinds }).await?.into_inner())
    }

    /// What a person should read about a refused call.
    pub(crate) fn failure(&self, doing: &str, status: &Status) -> Failure {
        failure(&self.address, doing, status)
    }
}

/// Whether asking again later may help: the node is away, restarting or full.
pub(crate) fn is_transient(status: &Status) -> bool {
    // A connection that breaks in the middle of a call is reported under several codes.
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::Internal
            | Code::ResourceExhausted
            | Code::DeadlineExceeded
            | Code::Aborted
    )
}

/// Whether nothing will follow this outcome.
pub(crate) fn is_final(outcome: &AwaitOutcomeResponse) -> bool {
    match outcome.state() {
        OutcomeState::Complete | OutcomeState::Failed | OutcomeState::TimedOut => true,
        OutcomeState::Unspecified | OutcomeState::Accepted | OutcomeState::Pending => false,
    }
}

/// Connects to a node now.
///
/// # Errors
///
/// When nobody answers there.
pub(crate) async fn channel(address: &Address) -> Result<Channel, Failure> {
    endpoint(address)?.connect().await.map_err(|error| {
        let error = deepest(&error);
        Failure::unavailable(format_args!(
            "no node answers: {address}: {error} (is it running? name it with --node or \
             ALYS_STREAM_NODE)"
        ))
    })
}

/// What a person should read about a call that the node at `address` refused.
pub(crate) fn failure(address: &Address, doing: &str, status: &Status) -> Failure {
    let wrong = [Code::InvalidArgument, Code::NotFound, Code::FailedPrecondition];
    let exit = if wrong.contains(&status.code()) {
        Exit::Usage
    } else if is_transient(status) {
        Exit::Unavailable
    } else {
        Exit::Other
    };
    let text =
        if status.message().is_empty() { status.code().description() } else { status.message() };
    Failure::new(exit, format_args!("{doing}: {address}: {text}"))
}

fn endpoint(address: &Address) -> Result<Endpoint, Failure> {
    let uri = match address {
        Address::Unix(path) => format!("unix:{}", path.display()),
        Address::Tcp { .. } => format!("http://{address}"),
    };
    Endpoint::from_shared(uri)
        .map(|endpoint| endpoint.connect_timeout(CONNECT_MAX))
        .map_err(|error| Failure::usage(format_args!("{address} is not an address: {error}")))
}

/// The cause at the bottom: "transport error" alone helps nobody.
fn deepest(error: &(dyn std::error::Error + 'static)) -> String {
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}
