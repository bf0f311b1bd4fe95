//! The accept loop: TCP, TLS, and then to the gRPC server.
//!
//! tonic's own has no bound on handshakes, no deadline for them, and spins when file descriptors
//! run out. This one holds at most [`HANDSHAKES_MAX`] handshakes, each at most [`HANDSHAKE_WAIT`].

use std::io;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::time::WallClock;
use alys_stream_transport::tls::{self, TlsFault};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::generation::Generations;
use super::io::{PeerInfo, PeerIo, Wire};
use crate::metrics::Metrics;

/// Handshakes at once.
pub(crate) const HANDSHAKES_MAX: usize = 256;

/// How long a handshake may take.
pub(crate) const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);

/// Pause when no connection can be accepted, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Idle time before TCP probes the other end.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Everything that a new connection needs.
#[derive(Clone)]
pub(crate) struct Door {
    /// `None`: plaintext.
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) require_node_name: bool,
    pub(crate) generations: Arc<Generations>,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) metrics: Arc<Metrics>,
}

/// A connection that did not come to anything.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no handshake within {} s", HANDSHAKE_WAIT.as_secs())]
    Timeout,
    #[error("{0}")]
    Tls(TlsFault),
    #[error("the handshake failed: {0}")]
    Io(#[source] io::Error),
    #[error("the client certificate cannot be read: {0}")]
    Certificate(String),
}

impl Refused {
    const fn word(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Tls(_) => "tls",
            Self::Io(_) => "io",
            Self::Certificate(_) => "certificate",
        }
    }
}

/// Accepts until `shutdown`.
pub(crate) async fn accept(listener: TcpListener, door: Door, shutdown: CancellationToken) {
    let pending = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        let accepted = async {
            // The bound is taken before the connection is, so that the rest waits in the backlog.
            let permit = Arc::clone(&pending).acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = accepted => accepted,
            Some(_) = handshakes.join_next(), if !handshakes.is_empty() => continue,
        };
        let (Ok(permit), Ok((stream, address))) = (permit, accepted.inspect_err(complain)) else {
            door.metrics.connection_refused("accept");
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        handshakes.spawn(welcome(door.clone(), stream, address, permit));
    }
}

fn complain(error: &io::Error) {
    tracing::error!(%error, "connections cannot be accepted for a moment; raise the limit of open files if this stays");
}

/// Brings one connection as far as the gRPC server.
async fn welcome(
    door: Door,
    stream: TcpStream,
    address: std::net::SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    tune(&stream);
    let shaken = tokio::time::timeout(HANDSHAKE_WAIT, handshake(&door, stream)).await;
    match shaken.unwrap_or(Err(Refused::Timeout)) {
        Ok((wire, identity)) => {
            let info = PeerInfo {
                address,
                identity,
                require_node_name: door.require_node_name,
                connected_at: door.clock.now(),
                cut: door.generations.connection_cut(),
            };
            drop(permit);
            door.generations.take(PeerIo::new(wire, info)).await;
        }
        Err(refused) => {
            door.metrics.connection_refused(refused.word());
            tracing::warn!(%address, %refused, "a connection was refused");
        }
    }
}

async fn handshake(
    door: &Door,
    stream: TcpStream,
) -> Result<(Wire, Option<Arc<tls::PeerIdentity>>), Refused> {
    let Some(acceptor) = &door.tls else {
        return Ok((Wire::Plaintext(stream), None));
    };
    let stream = acceptor
        .accept(stream)
        .await
        .map_err(|error| TlsFault::from_io(&error).map_or(Refused::Io(error), Refused::Tls))?;
    let session = stream.get_ref().1;
    tls::check_alpn(session.alpn_protocol()).map_err(Refused::Tls)?;
    let certificate = session.peer_certificates().and_then(|chain| chain.first());
    let certificate =
        certificate.ok_or_else(|| Refused::Certificate("there is none".to_owned()))?;
    let identity =
        tls::peer_identity(certificate).map_err(|error| Refused::Certificate(error.to_string()))?;
    Ok((Wire::Tls(Box::new(stream)), Some(Arc::new(identity))))
}

/// Best effort: a connection without these works, only slower to notice a dead peer.
fn tune(stream: &TcpStream) {
    let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
    let socket = socket2::SockRef::from(stream);
    if let Err(error) = stream.set_nodelay(true).and_then(|()| socket.set_tcp_keepalive(&keepalive))
    {
        tracing::debug!(%error, "socket options could not be set");
    }
}
