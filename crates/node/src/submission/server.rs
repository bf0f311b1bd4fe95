//! Serves `alys.node.v1` on top of the node's `StreamHandle`.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_actor::{Accepted, StreamHandle};
use alys_stream_protocol::governance::stream_response::Payload;
use alys_stream_protocol::limits;
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{
    Acceptance, AwaitOutcomeRequest, AwaitOutcomeResponse, SubmitRequest, SubmitResponse,
    SubscribeRequest, SubscribeResponse,
};
use bytes::Bytes;
use futures::{Stream, StreamExt as _, stream};
use tokio::sync::broadcast;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::api::submission_service_server::{SubmissionService, SubmissionServiceServer};
use super::listen::Listener;
use super::refusal;
use crate::failure::Failure;
use crate::operator;

/// Most submissions in one call.
pub(crate) const SUBMISSIONS_MAX: usize = 1024;

/// Largest call, in bytes: several of the largest messages.
pub(crate) const REQUEST_BYTES_MAX: usize = 4 * limits::FRAME_BYTES_MAX;

/// Most calls at once on one connection, followers included.
const CALLS_MAX: u32 = 16 * 1024;

/// How long calls may take to end once the server stops.
const DRAIN_MAX: Duration = Duration::from_secs(2);

type Outbound<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Answers on `listener` until `stop`; followers and subscribers are then told to come again.
///
/// # Errors
///
/// When the listener fails for good.
///
/// # Cancel safety
///
/// Dropping the future closes the socket.
pub(crate) async fn serve(
    listener: Listener,
    handle: StreamHandle,
    stop: CancellationToken,
) -> Result<(), Failure> {
    let operator = operator::server::service(handle.clone());
    let interface = Interface { handle, stop: stop.clone() };
    let service = SubmissionServiceServer::new(interface)
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX);
    let router = Server::builder()
        .max_concurrent_streams(CALLS_MAX)
        .add_service(service)
        .add_service(operator);
    let stopped = stop.clone().cancelled_owned();
    let serving = async move {
        match listener {
            Listener::Unix(socket, _file) => {
                let incoming = UnixListenerStream::new(socket);
                router.serve_with_incoming_shutdown(incoming, stopped).await
            }
            Listener::Tcp(socket) => {
                let incoming = TcpListenerStream::new(socket);
                router.serve_with_incoming_shutdown(incoming, stopped).await
            }
        }
    };
    // A client that never ends its calls must not keep the node from stopping.
    let too_long = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN_MAX).await;
    };
    tokio::select! {
        served = serving => {
            served.map_err(|error| Failure::other(format_args!("submission interface: {error}")))
        }
        () = too_long => Ok(()),
    }
}

#[derive(Debug)]
struct Interface {
    handle: StreamHandle,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl SubmissionService for Interface {
    async fn submit(
        &self,
        request: Request<SubmitRequest>,
    ) -> Result<Response<SubmitResponse>, Status> {
        let submissions = request.into_inner().submissions;
        if submissions.len() > SUBMISSIONS_MAX {
            return Err(Status::invalid_argument(format!(
                "submissions: {} in one call, at most {SUBMISSIONS_MAX} are allowed",
                submissions.len()
            )));
        }
        let accepted =
            self.handle.submit(submissions).await.map_err(|error| refusal::of_send(&error))?;
        let acceptances = accepted.iter().map(acceptance).collect();
        Ok(Response::new(SubmitResponse { acceptances }))
    }

    type AwaitOutcomeStream = Outbound<AwaitOutcomeResponse>;

    async fn await_outcome(
        &self,
        request: Request<AwaitOutcomeRequest>,
    ) -> Result<Response<Self::AwaitOutcomeStream>, Status> {
        let id = MessageId::try_from_slice(&request.get_ref().message_id)
            .map_err(|error| Status::invalid_argument(format!("message_id: {error}")))?;
        let known = self.handle.follow(id).await.map_err(|error| refusal::of_send(&error))?;
        let follow = known.ok_or_else(|| {
            Status::not_found(format!("no message {id}: never accepted, or forgotten since"))
        })?;
        let outcomes = stream::unfold(follow, |mut follow| async move {
            let outcome = follow.next().await?;
            Some((Ok(outcome), follow))
        });
        Ok(Response::new(until_stopped(&self.stop, outcomes)))
    }

    type SubscribeStream = Outbound<SubscribeResponse>;

    async fn subscribe(
        &self,
        request: Request<SubscribeRequest>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let kinds = request.into_inner().kinds;
        let inbound = self.handle.subscribe();
        let seen = stream::unfold(Some((inbound, kinds)), |state| async move {
            let (mut inbound, kinds) = state?;
            match next_of(&mut inbound, &kinds).await {
                Ok(response) => Some((Ok(response), Some((inbound, kinds)))),
                Err(Missed::Some(count)) => Some((Err(too_slow(count)), None)),
                Err(Missed::Everything) => None,
            }
        });
        Ok(Response::new(until_stopped(&self.stop, seen)))
    }
}

/// Ends a stream with `Unavailable` when the server stops, so that clients know to ask again.
fn until_stopped<T: Send + 'static>(
    stop: &CancellationToken,
    stream: impl Stream<Item = Result<T, Status>> + Send + 'static,
) -> Outbound<T> {
    let state = Some((stream.boxed(), stop.clone()));
    Box::pin(stream::unfold(state, |state| async move {
        let (mut stream, stop) = state?;
        tokio::select! {
            biased;
            item = stream.next() => item.map(|item| (item, Some((stream, stop)))),
            () = stop.cancelled() => {
                let stopping = Status::unavailable("the node is stopping (ask again once it runs)");
                Some((Err(stopping), None))
            }
        }
    }))
}

enum Missed {
    Some(u64),
    Everything,
}

async fn next_of(
    inbound: &mut broadcast::Receiver<Arc<SubscribeResponse>>,
    kinds: &[u32],
) -> Result<SubscribeResponse, Missed> {
    loop {
        match inbound.recv().await {
            Ok(response) if kinds.is_empty() || kinds.contains(&kind_of(&response)) => {
                return Ok(SubscribeResponse::clone(&response));
            }
            Ok(_) => {}
            Err(broadcast::error::RecvError::Lagged(count)) => return Err(Missed::Some(count)),
            Err(broadcast::error::RecvError::Closed) => return Err(Missed::Everything),
        }
    }
}

/// D5: what a slow subscriber misses is reported, never skipped.
fn too_slow(count: u64) -> Status {
    Status::data_loss(format!("{count} messages were missed: read faster, and subscribe again"))
}

/// The number of the payload's field in `StreamResponse`; 0 for a bare acknowledgement.
fn kind_of(message: &SubscribeResponse) -> u32 {
    let payload = message.response.as_ref().and_then(|response| response.payload.as_ref());
    payload.map_or(0, |payload| match payload {
        Payload::RegistrationAck(_) => 10,
        Payload::SignatureResponse(_) => 20,
        Payload::FederationUpdate(_) => 30,
        Payload::ProposalNotification(_) => 40,
        Payload::ErrorResponse(_) => 50,
        Payload::HeartbeatAck(_) => 60,
    })
}

fn acceptance(accepted: &Accepted) -> Acceptance {
    Acceptance {
        message_id: Bytes::copy_from_slice(accepted.id.as_bytes()),
        seq: accepted.seq.0,
        duplicate: accepted.duplicate,
    }
}
