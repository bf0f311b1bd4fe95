//! Generations of the gRPC server: a new one takes new connections while the old one says GOAWAY
//! to its own and lets them finish.
//!
//! tonic says GOAWAY only when a whole server stops. So the listener is ours, servers come and go
//! behind it, and connections are handed to the one in charge.

use std::convert::Infallible;
use std::fmt;
use std::sync::Mutex;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;

use super::io::PeerIo;
use crate::config::LimitsSection;
use crate::sync::lock;

/// Connections on their way from the accept loop to the server.
const CONNECTIONS_QUEUED_MAX: usize = 16;

/// HTTP/2 window of one stream, in bytes.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;

/// HTTP/2 window of one connection, in bytes.
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;

/// Largest HTTP/2 frame, in bytes.
const H2_FRAME_BYTES_MAX: u32 = 64 * 1024;

/// HTTP/2 pings: how often, and how long their answer may take.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(10));

#[derive(Debug)]
struct Generation {
    connections: mpsc::Sender<PeerIo>,
    /// Says GOAWAY and waits for streams to end.
    goaway: CancellationToken,
}

pub(crate) struct Generations {
    routes: Routes,
    limits: LimitsSection,
    current: Mutex<Generation>,
    servers: Mutex<JoinSet<()>>,
    /// Parent of every connection's cut.
    cut: CancellationToken,
}

impl fmt::Debug for Generations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Generations").finish_non_exhaustive()
    }
}

impl Generations {
    /// Starts the first one.
    pub(crate) fn start(routes: Routes, limits: LimitsSection) -> Self {
        let (mut servers, cut) = (JoinSet::new(), CancellationToken::new());
        let current = Mutex::new(begin(&routes, &limits, &mut servers));
        Self { routes, limits, current, servers: Mutex::new(servers), cut }
    }

    /// What cuts a new connection.
    pub(crate) fn connection_cut(&self) -> CancellationToken {
        self.cut.child_token()
    }

    /// Hands a connection to the generation in charge.
    pub(crate) async fn take(&self, connection: PeerIo) {
        let connections = lock(&self.current).connections.clone();
        if connections.send(connection).await.is_err() {
            tracing::debug!("a connection came while the server was replaced");
        }
    }

    /// Cuts every connection.
    pub(crate) fn abort(&self) {
        self.cut.cancel();
    }

    /// Says GOAWAY on every connection; new ones go to a new generation.
    pub(crate) fn renew(&self) {
        let mut servers = lock(&self.servers);
        while servers.try_join_next().is_some() {}
        let next = begin(&self.routes, &self.limits, &mut servers);
        drop(servers);
        let old = std::mem::replace(&mut *lock(&self.current), next);
        old.goaway.cancel();
    }

    /// Says GOAWAY on every connection and waits for them to close, at most `deadline`. Returns
    /// whether they did; the others are cut.
    pub(crate) async fn finish(&self, deadline: Duration) -> bool {
        lock(&self.current).goaway.cancel();
        let mut servers = std::mem::take(&mut *lock(&self.servers));
        let all = async { while servers.join_next().await.is_some() {} };
        let are_closed = tokio::time::timeout(deadline, all).await.is_ok();
        if !are_closed {
            self.cut.cancel();
            servers.shutdown().await;
        }
        are_closed
    }
}

fn begin(routes: &Routes, limits: &LimitsSection, servers: &mut JoinSet<()>) -> Generation {
    let (connections, incoming) = mpsc::channel(CONNECTIONS_QUEUED_MAX);
    let goaway = CancellationToken::new();
    let served = Server::builder()
        .max_concurrent_streams(limits.streams_max)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(H2_FRAME_BYTES_MAX)
        .http2_max_header_list_size(limits.header_bytes_max)
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .http2_adaptive_window(Some(false))
        .add_routes(routes.clone())
        .serve_with_incoming_shutdown(
            ReceiverStream::new(incoming).map(Ok::<PeerIo, Infallible>),
            goaway.clone().cancelled_owned(),
        );
    servers.spawn(async move {
        if let Err(error) = served.await {
            tracing::error!(%error, "a gRPC server ended");
        }
    });
    Generation { connections, goaway }
}
