//! The accept loop: TCP, TLS, and then to the gRPC server.
//!
//! tonic's own has no bound on handshakes, no deadline for them, and spins when file descriptors
//! run out. Here [`LimitsSection`] bounds them, and nothing is accepted for [`ACCEPT_PAUSE`] when the
//! machine has no room.
//!
//! [`LimitsSection`]: crate::config::LimitsSection

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use alys_stream_protocol::time::WallClock;
use alys_stream_transport::grpc::BoxIo;
use alys_stream_transport::tls::{self, PeerIdentity, ServerSource, ServerTls, TlsFault};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::KeyLog;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use super::connections::{Connections, Guest};
use super::generation::Generations;
use super::ground::Entrance;
use super::io::{PeerInfo, PeerIo, Wire};
use crate::config::LimitsSection;
use crate::metrics::Metrics;

/// Pause when no connection can be accepted, for example for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Everything that a new connection needs.
#[derive(Debug)]
pub(crate) struct Door {
    /// `None`: plaintext.
    pub(crate) tls: Option<ServerSource>,
    pub(crate) require_node_name: bool,
    key_log: Option<Arc<dyn KeyLog>>,
    pub(crate) limits: LimitsSection,
    /// One permit for each handshake, and for the accept call before it.
    turns: Arc<Semaphore>,
    /// Handshakes under way.
    pending: AtomicUsize,
    pub(crate) connections: Arc<Connections>,
    pub(crate) generations: Arc<Generations>,
    pub(crate) clock: Arc<dyn WallClock>,
    pub(crate) metrics: Arc<Metrics>,
}

impl Door {
    pub(crate) fn new(
        tls: Option<(ServerSource, bool)>,
        key_log: Option<Arc<dyn KeyLog>>,
        limits: LimitsSection,
        generations: Arc<Generations>,
        clock: Arc<dyn WallClock>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let turns = Arc::new(Semaphore::new(limits.handshakes_max));
        let connections =
            Connections::new(limits.connections_max, Arc::clone(&clock), Arc::clone(&metrics));
        let (tls, require_node_name) = tls.unzip();
        Self {
            tls,
            require_node_name: require_node_name.unwrap_or_default(),
            key_log,
            limits,
            turns,
            pending: AtomicUsize::new(0),
            connections: Arc::new(connections),
            generations,
            clock,
            metrics,
        }
    }

    /// How many handshakes are under way.
    pub(crate) fn pending(&self) -> usize {
        self.pending.load(Ordering::Relaxed)
    }
}

/// Counts one handshake for as long as it lives.
struct Pending<'a>(&'a AtomicUsize);

impl<'a> Pending<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection that did not come to anything.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no handshake within {0:?}")]
    Timeout(Duration),
    #[error("{0}")]
    Tls(TlsFault),
    #[error("the handshake failed: {0}")]
    Io(#[source] io::Error),
    #[error("the client certificate cannot be read: {0}")]
    Certificate(String),
    #[error("{0} connections are there already; raise limits.connections_max if they are welcome")]
    Full(usize),
}

impl Refused {
    const fn word(&self) -> &'static str {
        match self {
            Self::Timeout(_) => "timeout",
            Self::Tls(fault) => fault.word(),
            Self::Io(_) => "io",
            Self::Certificate(_) => "certificate",
            Self::Full(_) => "full",
        }
    }
}

/// A handshake that went well.
struct Shaken {
    wire: Wire,
    /// The generation that accepted the client; `None` without TLS.
    tls: Option<Arc<ServerTls>>,
    chain: Vec<CertificateDer<'static>>,
    identity: Option<Arc<PeerIdentity>>,
}

/// Accepts until `shutdown`.
pub(crate) async fn accept(
    entrance: Arc<dyn Entrance>,
    door: Arc<Door>,
    shutdown: CancellationToken,
) {
    let mut handshakes = JoinSet::new();
    let mut is_paused = false;
    loop {
        let accepted = async {
            // The bound is taken before the connection is, so that the rest waits in the backlog.
            let permit = Arc::clone(&door.turns).acquire_owned().await;
            (permit, entrance.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            accepted = accepted => accepted,
            Some(_) = handshakes.join_next(), if !handshakes.is_empty() => continue,
        };
        match (permit, accepted) {
            (Ok(permit), Ok((stream, address))) => {
                is_paused = false;
                let welcome = welcome(Arc::clone(&door), stream, address, permit);
                handshakes.spawn(welcome);
            }
            (Ok(_), Err(error)) if is_of_the_connection(&error) => {
                door.metrics.connection_refused("accept");
                tracing::debug!(%error, "a connection ended before it was accepted");
            }
            (Ok(_), Err(error)) => {
                door.metrics.accept_paused();
                if !is_paused {
                    is_paused = true;
                    tracing::error!(
                        %error,
                        "no connection can be accepted for the moment; raise the limit of open files (ulimit -n) if this stays"
                    );
                }
                tokio::select! {
                    biased;
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                }
            }
            // The semaphore is never closed.
            (Err(_), _) => return,
        }
    }
}

/// Errors that Linux hands over from a connection that ended in the queue: the next one may be well.
fn is_of_the_connection(error: &io::Error) -> bool {
    use io::ErrorKind;
    [
        ErrorKind::ConnectionAborted,
        ErrorKind::ConnectionReset,
        ErrorKind::ConnectionRefused,
        ErrorKind::NetworkDown,
        ErrorKind::NetworkUnreachable,
        ErrorKind::HostUnreachable,
        ErrorKind::TimedOut,
        ErrorKind::Interrupted,
    ]
    .contains(&error.kind())
}

/// Brings one connection as far as the gRPC server.
async fn welcome(
    door: Arc<Door>,
    stream: BoxIo,
    address: SocketAddr,
    permit: OwnedSemaphorePermit,
) {
    match receive(&door, stream, address).await {
        Ok(connection) => {
            drop(permit);
            door.metrics.connection_accepted();
            door.generations.take(connection).await;
        }
        Err(refused) => {
            door.metrics.connection_refused(refused.word());
            tracing::warn!(%address, %refused, "a connection was refused");
        }
    }
}

async fn receive(door: &Door, stream: BoxIo, address: SocketAddr) -> Result<PeerIo, Refused> {
    let pending = Pending::new(&door.pending);
    // Before any work is spent on it.
    if door.connections.is_full() {
        return Err(Refused::Full(door.limits.connections_max));
    }
    let limit = door.limits.handshake_timeout;
    let shaken = tokio::time::timeout(limit, handshake(door, stream)).await;
    let Shaken { wire, tls, chain, identity } = shaken.unwrap_or(Err(Refused::Timeout(limit)))?;
    let cut = door.generations.connection_cut();
    let expires_at = identity.as_ref().map(|identity| identity.expires_at);
    let guest = Guest { address, chain, expires_at, cut: cut.clone() };
    let shaken = door.tls.as_ref().zip(tls.as_deref());
    let seat = door.connections.admit(guest, shaken);
    let seat = seat.ok_or(Refused::Full(door.limits.connections_max))?;
    let info = PeerInfo {
        address,
        identity,
        require_node_name: door.require_node_name,
        connected_at: door.clock.now(),
        cut,
    };
    drop(pending);
    Ok(PeerIo::new(wire, info, seat, limit))
}

async fn handshake(door: &Door, stream: BoxIo) -> Result<Shaken, Refused> {
    let Some(source) = &door.tls else {
        let wire = Wire::Plaintext(stream);
        return Ok(Shaken { wire, tls: None, chain: Vec::new(), identity: None });
    };
    let tls = source.current();
    let mut config = Arc::clone(tls.config());
    if let Some(key_log) = &door.key_log {
        Arc::make_mut(&mut config).key_log = Arc::clone(key_log);
    }
    let stream = TlsAcceptor::from(config)
        .accept(stream)
        .await
        .map_err(|error| TlsFault::from_io(&error).map_or(Refused::Io(error), Refused::Tls))?;
    let session = stream.get_ref().1;
    tls::check_alpn(session.alpn_protocol()).map_err(Refused::Tls)?;
    let chain = session.peer_certificates().unwrap_or_default().to_vec();
    let certificate =
        chain.first().ok_or_else(|| Refused::Certificate("there is none".to_owned()))?;
    let identity =
        tls::peer_identity(certificate).map_err(|error| Refused::Certificate(error.to_string()))?;
    let wire = Wire::Tls(Box::new(stream));
    Ok(Shaken { wire, tls: Some(tls), chain, identity: Some(Arc::new(identity)) })
}
