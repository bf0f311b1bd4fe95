//! The admin server: health, metrics, status, ledger, misbehaviour, pushes. HTTP on loopback.
//!
//! Without authentication: configuration refuses any other address.

use std::sync::Arc;

use alys_stream_protocol::governance::stream_response::Payload;
use alys_stream_protocol::message::Priority;
use alys_stream_transport::tls::ServerSource;
use axum::Json;
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{Method, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::codegen::Service;

use crate::config::Dialect;
use crate::custody::Custody;
use crate::member::SigningMember;
use crate::metrics::ServerNow;
use crate::misbehaviour::{Acts, Misdeed};
use crate::push::{HaltBody, ProposalBody, PushError, Pushed, UpdateBody, push};
use crate::server::accept::Door;
use crate::streams::Act;
use crate::sync::lock;

/// Longest answer to a question without a socket.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What the admin server shows and may change.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    pub(crate) custody: Arc<Custody>,
    pub(crate) member: Arc<SigningMember>,
    pub(crate) door: Arc<Door>,
    /// What does not change while the node runs.
    pub(crate) fixed: Arc<Value>,
    /// Cancelled when the node stops.
    pub(crate) shutdown: CancellationToken,
}

/// Serves until `shutdown`.
pub(crate) async fn serve(listener: TcpListener, admin: Admin, shutdown: CancellationToken) {
    let router = router(admin);
    let served =
        axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await;
    if let Err(error) = served {
        tracing::error!(%error, "the admin server ended");
    }
}

/// Answers one request without a socket.
pub(crate) async fn ask(admin: &Admin, path: &str, body: Option<&Value>) -> (u16, String) {
    let method = if body.is_some() { Method::POST } else { Method::GET };
    let body = body.map(ToString::to_string).unwrap_or_default();
    let request = match Request::builder().method(method).uri(path).body(Body::from(body)) {
        Ok(request) => request,
        Err(error) => return (StatusCode::BAD_REQUEST.as_u16(), error.to_string()),
    };
    let mut router = router(admin.clone());
    let Ok(response) = Service::<Request<Body>>::call(&mut router, request).await;
    let status = response.status().as_u16();
    match axum::body::to_bytes(response.into_body(), ANSWER_BYTES_MAX).await {
        Ok(bytes) => (status, String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => (status, error.to_string()),
    }
}

fn router(admin: Admin) -> Router {
    Router::new()
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/health", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/status", get(status))
        .route("/ledger", get(ledger))
        .route("/misbehave", get(misbehaviour).post(misbehave))
        .route("/push/federation_update", post(push_update))
        .route("/push/halt", post(push_halt))
        .route("/push/proposal", post(push_proposal))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Response {
    if admin.shutdown.is_cancelled() {
        return (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response();
    }
    if !admin.custody.desk.has_room() {
        return (StatusCode::SERVICE_UNAVAILABLE, "too much is waiting to be applied\n")
            .into_response();
    }
    "ready\n".into_response()
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let custody = &admin.custody;
    let owed = lock(&custody.outbound).owed().map(|(_, owed, _)| owed).sum();
    let sessions = custody.streams.count(Dialect::Session);
    custody.metrics.refresh(
        sessions,
        custody.streams.count(Dialect::Plain),
        custody.desk.messages(),
        owed,
    );
    custody.metrics.refresh_server(&admin.door.limits, &server_now(&admin.door));
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], custody.metrics.encode()).into_response()
}

fn server_now(door: &Door) -> ServerNow {
    ServerNow {
        connections: door.connections.count(),
        handshakes: door.pending(),
        client_expires_at: door.connections.first_expiry(),
        tls: door.tls.as_ref().map(ServerSource::status),
    }
}

async fn status(State(admin): State<Admin>) -> Json<Value> {
    let custody = &admin.custody;
    let nodes: Vec<Value> = lock(&custody.outbound)
        .owed()
        .map(|(node_id, owed, connected)| json!({"node_id": node_id, "owed": owed, "has_session": connected}))
        .collect();
    let now = server_now(&admin.door);
    Json(json!({
        "node": *admin.fixed,
        "server": {
            "connections": now.connections,
            "pending_handshakes": now.handshakes,
            "limits": admin.door.limits,
            "tls": now.tls,
        },
        "streams": custody.streams.status(),
        "nodes": nodes,
        "held": custody.desk.messages(),
        "applied": custody.ledger.stat(),
        "misbehave": custody.streams.flags(),
        "draining": admin.shutdown.is_cancelled(),
    }))
}

async fn ledger(State(admin): State<Admin>) -> Json<Value> {
    let custody = &admin.custody;
    Json(json!({
        "applied": custody.ledger.stat(),
        "duplicates": {
            "by_sequence": custody.metrics.duplicates("sequence"),
            "by_message_id": custody.metrics.duplicates("message_id"),
        },
    }))
}

async fn misbehaviour(State(admin): State<Admin>) -> Response {
    Json(admin.custody.streams.flags()).into_response()
}

async fn misbehave(State(admin): State<Admin>, body: Bytes) -> Response {
    let patch = match parse::<Value>(&body) {
        Ok(patch) => patch,
        Err(response) => return *response,
    };
    let streams = &admin.custody.streams;
    match streams.flags().patched(patch) {
        Err(error) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        Ok((flags, acts)) => {
            tracing::warn!(?flags, ?acts, "told to misbehave");
            streams.set_flags(flags.clone());
            perform(&admin, acts);
            Json(flags).into_response()
        }
    }
}

fn perform(admin: &Admin, acts: Acts) {
    let streams = &admin.custody.streams;
    let mut told = 0;
    if acts.goaway {
        told += admin.door.connections.count();
        admin.door.generations.renew();
    }
    if let Some(deadline) = acts.drain {
        told += streams.act(Act::Drain(deadline));
    }
    if acts.close {
        told += streams.act(Act::Close);
    }
    if told > 0 {
        streams.did(Misdeed::SentAway);
    }
}

async fn push_update(State(admin): State<Admin>, body: Bytes) -> Response {
    let update = match parse::<UpdateBody>(&body) {
        Ok(body) => body.signed(&admin.member),
        Err(response) => return *response,
    };
    respond(&admin, Priority::High, update.map(Payload::FederationUpdate)).await
}

async fn push_halt(State(admin): State<Admin>, body: Bytes) -> Response {
    let update = match parse::<HaltBody>(&body) {
        Ok(body) => body.signed(&admin.member),
        Err(response) => return *response,
    };
    respond(&admin, Priority::Critical, update.map(Payload::FederationUpdate)).await
}

async fn push_proposal(State(admin): State<Admin>, body: Bytes) -> Response {
    let proposal = match parse::<ProposalBody>(&body) {
        Ok(body) => body.to_wire(admin.custody.now(), admin.member.federation()),
        Err(response) => return *response,
    };
    respond(&admin, Priority::Normal, proposal.map(Payload::ProposalNotification)).await
}

async fn respond(
    admin: &Admin,
    priority: Priority,
    payload: Result<Payload, PushError>,
) -> Response {
    let pushed: Result<Pushed, PushError> = match payload {
        Ok(payload) => push(&admin.custody, priority, payload).await,
        Err(error) => Err(error),
    };
    match pushed {
        Ok(pushed) => Json(pushed).into_response(),
        Err(error @ PushError::Hex { .. }) => problem(StatusCode::BAD_REQUEST, &error.to_string()),
        Err(error @ PushError::Storage(_)) => {
            problem(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
    }
}

/// Reads a JSON body; an empty one is an empty object.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Box<Response>> {
    let body = if body.trim_ascii().is_empty() { b"{}" } else { body };
    serde_json::from_slice(body)
        .map_err(|error| Box::new(problem(StatusCode::BAD_REQUEST, &format!("body: {error}"))))
}

fn problem(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({ "error": text }))).into_response()
}
