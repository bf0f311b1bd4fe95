//! The plain dialect on a connection that is up: registration, then requests and answers.
//!
//! One task: it waits for room and for answers in one `select!`, so it never stops reading because
//! it cannot write.

use std::sync::Arc;
use std::time::{Duration, Instant};

use alys_stream_protocol::governance::{
    AuthCredentials, AuthType, ErrorCode, NodeInfo, NodeRegistration, NodeRegistrationAck,
    RequestMetadata, RequestPriority, StatusCode, StreamRequest, StreamResponse, stream_request,
    stream_response,
};
use alys_stream_protocol::limits;
use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::session::{AuthScheme, RefuseCode};
use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message as _;
use tonic::{Status, Streaming};

use super::EndpointParts;
use super::codec::RawCodec;
use super::core::{Core, now};
use super::dial::Dialed;
use super::error::{LinkCause, LinkError, Step};
use crate::bounded;
use crate::connection::Event;
use crate::endpoint::Dialect;
use crate::exchange::{Exchange, Refusal};
use crate::plain::answer::{RETRY_DEFAULT, retry_after};
use crate::plain::{PROTOCOL_VERSION, Plain, PlainConfig};

mod requests;
mod stream;

use requests::Requests;

/// Responses kept that come before the registration is acknowledged.
const EARLY_MAX: usize = 64;

/// The two directions after the registration.
struct Registered {
    answers: Streaming<Bytes>,
    requests: Requests,
    early: Vec<Bytes>,
    peer_id: String,
}

/// Runs one plain stream to its end; `Ok` when we closed it ourselves.
pub(super) async fn run<X: Exchange>(
    parts: &EndpointParts<X>,
    core: &Arc<Core>,
    dialed: Dialed,
    begun: Instant,
) -> Result<(), LinkError> {
    let limit = parts.settings.step_timeout;
    let registered = tokio::time::timeout(limit, register(parts, &dialed))
        .await
        .unwrap_or_else(|_| Err(LinkError::new(Step::Authenticate, LinkCause::TimedOut(limit))))?;
    core.set_facts(|facts| facts.peer_id = Some(registered.peer_id.clone()));
    parts.exchange.established_plain(&registered.peer_id);
    core.feed(Event::Accepted);
    core.feed(Event::StreamOpened);
    core.connected(Dialect::Plain, now().saturating_duration_since(begun));
    let config = PlainConfig {
        heartbeat: parts.settings.heartbeat,
        barrier_delay: parts.settings.barrier_delay,
        ..PlainConfig::default()
    };
    let machine = Plain::new(now(), parts.identity.node_id.clone(), config);
    let ended = stream::Stream::new(parts, core, &dialed.probe, machine).run(registered).await;
    match ended {
        Err(error) if !parts.shutdown.is_cancelled() => Err(error),
        Err(_) | Ok(()) => Ok(()),
    }
}

async fn register<X: Exchange>(
    parts: &EndpointParts<X>,
    dialed: &Dialed,
) -> Result<Registered, LinkError> {
    let failed =
        |status: &Status| LinkError::from_status(Step::Authenticate, status, &dialed.probe);
    let (requests, outgoing) = requests::requests();
    let (id, registration) = registration(parts);
    let closed = || LinkError::new(Step::Authenticate, LinkCause::Closed);
    requests.push(registration).map_err(|_| closed())?;
    let mut client = tonic::client::Grpc::new(dialed.channel.clone())
        .max_decoding_message_size(limits::FRAME_BYTES_MAX);
    client.ready().await.map_err(|error| {
        let text = error.to_string();
        failed(&Status::unavailable(text))
    })?;
    let path = PathAndQuery::from_static("/governance.v1.GovernanceStream/Stream");
    let request = tonic::Request::new(outgoing);
    let answer = client.streaming(request, path, RawCodec).await;
    let mut answers = answer.map_err(|status| failed(&status))?.into_inner();
    let mut early = Vec::new();
    loop {
        let answer = answers.message().await.map_err(|status| failed(&status))?;
        let encoded = answer.ok_or_else(closed)?;
        let response = decode(&encoded)?;
        match registration_ack(&response, &id) {
            Some(Ok(ack)) => {
                let peer_id = response
                    .metadata
                    .as_ref()
                    .map(|metadata| metadata.node_id.clone())
                    .filter(|peer_id| !peer_id.is_empty())
                    .unwrap_or_else(|| parts.config.name.clone());
                tracing::debug!(assigned = %ack.assigned_node_id, "registered with {peer_id}");
                return Ok(Registered { answers, requests, early, peer_id });
            }
            Some(Err(cause)) => return Err(LinkError::new(Step::Authenticate, cause)),
            None if early.len() < EARLY_MAX => early.push(encoded),
            None => {
                let reason = format!("{EARLY_MAX} responses came before the acknowledgement");
                let cause = LinkCause::NotRegistered(reason);
                return Err(LinkError::new(Step::Authenticate, cause));
            }
        }
    }
}

/// What a response says of our registration; `None` when it speaks of something else.
fn registration_ack<'a>(
    response: &'a StreamResponse,
    id: &str,
) -> Option<Result<&'a NodeRegistrationAck, LinkCause>> {
    let message = || {
        let text = response.metadata.as_ref().and_then(|metadata| metadata.message.clone());
        bounded(text.unwrap_or_else(|| "no reason given".to_owned()))
    };
    let status = response.metadata.as_ref().map_or(0, |metadata| metadata.status);
    let is_later = [StatusCode::RateLimited, StatusCode::ServiceUnavailable]
        .into_iter()
        .any(|later| status == i32::from(later));
    let denied = |text| if is_later { later(text, None) } else { LinkCause::NotRegistered(text) };
    match &response.payload {
        Some(stream_response::Payload::RegistrationAck(ack)) if ack.accepted => Some(Ok(ack)),
        Some(stream_response::Payload::RegistrationAck(_)) => Some(Err(denied(message()))),
        Some(stream_response::Payload::ErrorResponse(error)) if response.request_id() == id => {
            let text = bounded(error.error_message.clone());
            let is_later = [ErrorCode::RateLimited, ErrorCode::ServiceUnavailable]
                .into_iter()
                .any(|later| error.error_code == i32::from(later));
            let after = retry_after(error);
            // A delay of its own says that another attempt is welcome.
            Some(Err(if is_later || after.is_some() { later(text, after) } else { denied(text) }))
        }
        Some(
            stream_response::Payload::ErrorResponse(_)
            | stream_response::Payload::SignatureResponse(_)
            | stream_response::Payload::FederationUpdate(_)
            | stream_response::Payload::ProposalNotification(_)
            | stream_response::Payload::HeartbeatAck(_),
        )
        | None => {
            let refused = status == i32::from(StatusCode::Unauthorized);
            // Of another status only an answer to us, and to nothing else, is about us.
            let is_ours = response.payload.is_none() && response.request_id() == id;
            (refused || (is_later && is_ours)).then(|| Err(denied(message())))
        }
    }
}

/// The peer has no room for us now: it says when, or soon.
fn later(reason: String, after: Option<Duration>) -> LinkCause {
    let retry_after = Some(after.unwrap_or(RETRY_DEFAULT));
    LinkCause::Refusal(Refusal { code: RefuseCode::Busy, reason, retry_after })
}

fn registration<X: Exchange>(parts: &EndpointParts<X>) -> (String, Bytes) {
    let identity = &parts.identity;
    let id = MessageId::mint().to_string();
    let proof = identity.auth.as_ref().and_then(|credentials| credentials.proof());
    let auth = proof.map_or_else(
        // The client certificate is the proof.
        || AuthCredentials {
            auth_type: AuthType::MutualTls.into(),
            credential_data: Bytes::new(),
            expires_at: None,
        },
        |proof| AuthCredentials {
            auth_type: match proof.scheme() {
                AuthScheme::Unspecified => AuthType::Unspecified,
                AuthScheme::Bearer => AuthType::Bearer,
                AuthScheme::MutualTls => AuthType::MutualTls,
                AuthScheme::Signature => AuthType::Signature,
                AuthScheme::ApiKey => AuthType::ApiKey,
            }
            .into(),
            credential_data: proof.credential,
            expires_at: (proof.expires_at_ms > 0).then_some(proof.expires_at_ms / 1000),
        },
    );
    let request = StreamRequest {
        metadata: Some(RequestMetadata {
            request_id: id.clone(),
            timestamp: parts.clock.now().as_unix_seconds(),
            node_id: identity.node_id.clone(),
            protocol_version: PROTOCOL_VERSION.to_owned(),
            priority: RequestPriority::High.into(),
            timeout: None,
        }),
        payload: Some(stream_request::Payload::NodeRegistration(NodeRegistration {
            node_info: Some(NodeInfo {
                public_key: identity.public_key.clone(),
                node_type: identity.node_type.into(),
                version: identity.software.clone(),
                region: identity.region.clone(),
            }),
            capabilities: vec![PROTOCOL_VERSION.to_owned()],
            endpoints: Vec::new(),
            auth: Some(auth),
        })),
    };
    (id, request.encode_to_vec().into())
}

/// Reads a response without copying its payloads.
fn decode(encoded: &Bytes) -> Result<StreamResponse, LinkError> {
    StreamResponse::decode(encoded.clone()).map_err(|error| {
        let text = format!("a response that is not readable: {error}");
        LinkError::new(Step::Stream, LinkCause::Broken(text))
    })
}

#[cfg(test)]
mod tests;
