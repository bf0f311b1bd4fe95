//! Serves `OperatorService` on top of the node's `StreamHandle`.

use std::pin::Pin;

use alys_stream_actor::StreamHandle;
use alys_stream_actor::letters::{LetterFilter, LettersError, PageBounds};
use alys_stream_messaging::dead_letter::DeadLetterId;
use alys_stream_protocol::limits;
use alys_stream_protocol::submission::{
    GetStatusRequest, GetStatusResponse, ListDeadLettersRequest, ListDeadLettersResponse,
    PurgeDeadLettersRequest, PurgeDeadLettersResponse, ReconnectEndpointRequest,
    ReconnectEndpointResponse, ReplayDeadLettersRequest, ReplayDeadLettersResponse,
};
use alys_stream_telemetry::logs::AUDIT;
use futures::{Stream, stream};
use tonic::{Request, Response, Status};

use super::api::operator_service_server::{OperatorService, OperatorServiceServer};
use super::wire;
use crate::submission::server::REQUEST_BYTES_MAX;

/// Most dead letters in one answer.
pub(crate) const PAGE_MAX: usize = 1000;

/// Most identifiers in one call.
pub(crate) const IDS_MAX: usize = 100_000;

/// How many are accepted again with one write to the disk, and between two words of progress.
const STEP: usize = 64;

/// The service for a node.
pub(crate) fn service(handle: StreamHandle) -> OperatorServiceServer<Operator> {
    OperatorServiceServer::new(Operator { handle })
        .max_decoding_message_size(REQUEST_BYTES_MAX)
        .max_encoding_message_size(REQUEST_BYTES_MAX)
}

/// What operators ask of a node.
#[derive(Debug)]
pub(crate) struct Operator {
    handle: StreamHandle,
}

#[tonic::async_trait]
impl OperatorService for Operator {
    async fn list_dead_letters(
        &self,
        request: Request<ListDeadLettersRequest>,
    ) -> Result<Response<ListDeadLettersResponse>, Status> {
        let request = request.into_inner();
        let filter = LetterFilter::try_from(request.filter.clone().unwrap_or_default())
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let wanted = usize::try_from(request.count_max).ok().filter(|wanted| *wanted > 0);
        let bounds = PageBounds {
            after: (request.after_id > 0).then_some(DeadLetterId(request.after_id)),
            count_max: wanted.unwrap_or(PAGE_MAX).min(PAGE_MAX),
            bytes_max: limits::FRAME_BYTES_MAX,
        };
        if let Some(wire::Look { action, which }) = wire::look(&request) {
            tracing::info!(target: AUDIT, action, which, "dead letters");
        }
        let page = self.handle.dead_letters(filter, bounds).await.map_err(refusal)?;
        Ok(Response::new(wire::page(page, request.with_payloads)))
    }

    type ReplayDeadLettersStream =
        Pin<Box<dyn Stream<Item = Result<ReplayDeadLettersResponse, Status>> + Send>>;

    async fn replay_dead_letters(
        &self,
        request: Request<ReplayDeadLettersRequest>,
    ) -> Result<Response<Self::ReplayDeadLettersStream>, Status> {
        let ids = ids(request.into_inner().ids)?;
        let handle = self.handle.clone();
        let steps = stream::unfold(Some((handle, ids, 0)), |state| async move {
            let (handle, ids, done) = state?;
            let step = ids.get(done..)?.chunks(STEP).next()?;
            let done = done + step.len();
            match handle.replay_dead_letters(step).await {
                Ok(replayed) => {
                    let replayed = replayed.into_iter().map(wire::replayed).collect();
                    let progress = ReplayDeadLettersResponse { replayed };
                    Some((Ok(progress), Some((handle, ids, done))))
                }
                Err(error) => Some((Err(refusal(error)), None)),
            }
        });
        Ok(Response::new(Box::pin(steps)))
    }

    async fn purge_dead_letters(
        &self,
        request: Request<PurgeDeadLettersRequest>,
    ) -> Result<Response<PurgeDeadLettersResponse>, Status> {
        let ids = ids(request.into_inner().ids)?;
        let purged = self.handle.purge_dead_letters(&ids).await.map_err(refusal)?;
        let purged = u64::try_from(purged).unwrap_or(u64::MAX);
        Ok(Response::new(PurgeDeadLettersResponse { purged }))
    }

    async fn get_status(
        &self,
        _request: Request<GetStatusRequest>,
    ) -> Result<Response<GetStatusResponse>, Status> {
        let status = serde_json::to_value(self.handle.status());
        let status = status.map_err(|error| Status::internal(error.to_string()))?;
        Ok(Response::new(GetStatusResponse { json: status.to_string() }))
    }

    async fn reconnect_endpoint(
        &self,
        request: Request<ReconnectEndpointRequest>,
    ) -> Result<Response<ReconnectEndpointResponse>, Status> {
        let endpoint = request.into_inner().endpoint;
        let is_dialled = self.handle.reconnect(&endpoint);
        tracing::info!(target: AUDIT, action = "reconnect", ?endpoint, is_dialled, "endpoint");
        if is_dialled {
            return Ok(Response::new(ReconnectEndpointResponse {}));
        }
        let status = self.handle.status();
        let names: Vec<_> =
            status.endpoints.iter().map(|link| link.connection.name.as_str()).collect();
        let text = format!("{endpoint:?} is not dialled; there are {}", names.join(", "));
        Err(Status::not_found(text))
    }
}

fn ids(ids: Vec<u64>) -> Result<Vec<DeadLetterId>, Status> {
    if ids.len() > IDS_MAX {
        let text = format!("ids: {} in one call, at most {IDS_MAX} are allowed", ids.len());
        return Err(Status::invalid_argument(text));
    }
    Ok(ids.into_iter().map(DeadLetterId).collect())
}

fn refusal(error: LettersError) -> Status {
    match error {
        LettersError::Io(_) => Status::internal(error.to_string()),
        LettersError::Unavailable => Status::unavailable(error.to_string()),
    }
}
