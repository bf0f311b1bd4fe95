//! The admin port: what an operator, a scraper and an orchestrator ask a running node.
//!
//! | path | answer |
//! |---|---|
//! | `/metrics` | Prometheus text, or `OpenMetrics` when the scraper asks for it |
//! | `/healthz`, `/health` | 200 while the process answers |
//! | `/readyz`, `/ready` | 200 when the node takes messages, else 503 with the reason |
//! | `/status` | JSON: endpoints, states, queues |
//! | `/config` | JSON: the configuration in force, without secrets |
//! | `/version` | JSON |
//!
//! Read only, without authentication: it belongs on a loopback address, or behind something that
//! authenticates. Invariant T3: at most [`CONNECTIONS_MAX`] connections, none older than
//! [`CONNECTION_AGE_MAX`], so that clients that never finish cannot starve the scraper for long.

mod listener;
#[cfg(test)]
mod tests;

use std::future::{Future, IntoFuture};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

use crate::metrics::{Exposition, Metrics};

pub use self::listener::{CONNECTION_AGE_MAX, CONNECTIONS_MAX};

/// How long a request in progress may take once the node stops.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// What lies behind the port. The calls answer from memory: none of them may block.
pub trait AdminSource: Send + Sync + 'static {
    /// Endpoints, states and queues.
    fn status(&self) -> Value;

    /// Whether the node takes messages: buffer open, configuration valid, room to accept. Not
    /// whether all peers are up.
    ///
    /// # Errors
    ///
    /// Why it does not.
    fn ready(&self) -> Result<(), String>;

    /// The configuration in force, without secrets.
    fn config(&self) -> Value;

    /// Brings gauges up to date; called before every scrape.
    fn refresh(&self);
}

struct Shared<S> {
    metrics: Arc<Metrics>,
    source: Arc<S>,
}

/// Answers on `listener` until `shutdown` resolves, then finishes requests in progress for at most
/// a second.
///
/// # Errors
///
/// When the listener fails for good.
///
/// # Cancel safety
///
/// Dropping the future closes the port.
pub async fn serve<S: AdminSource>(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    source: Arc<S>,
    shutdown: impl Future<Output = ()> + Send,
) -> io::Result<()> {
    let (stop, stopped) = oneshot::channel::<()>();
    let server = axum::serve(listener::Bounded::new(listener), router(metrics, source))
        .with_graceful_shutdown(async move {
            // A dropped sender says the same as a message.
            drop(stopped.await);
        })
        .into_future();
    tokio::pin!(server);
    tokio::select! {
        ended = &mut server => ended,
        () = shutdown => {
            drop(stop);
            tokio::time::timeout(DRAIN_MAX, server).await.unwrap_or(Ok(()))
        }
    }
}

fn router<S: AdminSource>(metrics: Arc<Metrics>, source: Arc<S>) -> Router {
    Router::new()
        .route("/metrics", get(scrape::<S>))
        .route("/healthz", get(alive))
        .route("/health", get(alive))
        .route("/readyz", get(ready::<S>))
        .route("/ready", get(ready::<S>))
        .route("/status", get(status::<S>))
        .route("/config", get(config::<S>))
        .route("/version", get(version))
        .fallback(nothing_here)
        .with_state(Arc::new(Shared { metrics, source }))
}

type Source<S> = State<Arc<Shared<S>>>;

async fn scrape<S: AdminSource>(State(shared): Source<S>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    let exposition = Exposition::accepted(accept.unwrap_or_default());
    shared.source.refresh();
    let content_type = [(header::CONTENT_TYPE, exposition.content_type())];
    (content_type, exposition.render(shared.metrics.encode())).into_response()
}

async fn alive() -> &'static str {
    "alive\n"
}

async fn ready<S: AdminSource>(State(shared): Source<S>) -> (StatusCode, String) {
    match shared.source.ready() {
        Ok(()) => (StatusCode::OK, "ready\n".to_owned()),
        Err(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {why}\n")),
    }
}

async fn status<S: AdminSource>(State(shared): Source<S>) -> Json<Value> {
    Json(shared.source.status())
}

async fn config<S: AdminSource>(State(shared): Source<S>) -> Json<Value> {
    Json(shared.source.config())
}

async fn version() -> Json<Value> {
    Json(json!({ "name": "alys-stream", "version": crate::VERSION }))
}

async fn nothing_here() -> (StatusCode, &'static str) {
    let paths = "not found: try /metrics, /healthz, /readyz, /status, /config or /version\n";
    (StatusCode::NOT_FOUND, paths)
}
