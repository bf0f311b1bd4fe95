//! What a governance node stands on: the disk, the clock and the sockets of its machine, or what
//! stands in for them in a simulation.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use alys_stream_messaging::storage::{FileStorage, Storage};
use alys_stream_protocol::time::{SystemClock, WallClock};
use alys_stream_transport::grpc::BoxIo;
use alys_stream_transport::tls::ReadFile;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::rustls::KeyLog;

use crate::files;
use crate::misbehaviour::Witness;

/// Idle time before TCP asks whether a client is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Where connections come in.
pub trait Entrance: fmt::Debug + Send + Sync + 'static {
    /// The next connection, and where it is from.
    ///
    /// # Errors
    ///
    /// When none can be accepted for the moment, or the next one ended before it was accepted.
    ///
    /// # Cancel safety
    ///
    /// No connection is lost by dropping the future.
    fn accept(&self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>>;

    /// Where that is.
    ///
    /// # Errors
    ///
    /// When the system does not say.
    fn local_addr(&self) -> io::Result<SocketAddr>;
}

impl Entrance for TcpListener {
    fn accept(&self) -> BoxFuture<'_, io::Result<(BoxIo, SocketAddr)>> {
        async move {
            let (stream, address) = Self::accept(self).await?;
            tune(&stream);
            let stream: BoxIo = Box::new(stream);
            Ok((stream, address))
        }
        .boxed()
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Self::local_addr(self)
    }
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

/// What a governance node stands on.
#[derive(Clone)]
pub struct Ground {
    /// The file system of its data directory; the keys of members are always files.
    pub storage: Arc<dyn Storage>,
    /// Wall time.
    pub clock: Arc<dyn WallClock>,
    /// Where connections come in; `None` for the address of the configuration. With one, the admin
    /// server listens nowhere: see [`super::Running::ask`].
    pub entrance: Option<Arc<dyn Entrance>>,
    /// What reads certificates, at the start and whenever they change.
    pub certificates: ReadFile,
    /// Where the secrets of connections go, for who checks what is on the wire. No configuration
    /// sets it.
    pub key_log: Option<Arc<dyn KeyLog>>,
    /// Who hears of what is done wrong, as told.
    pub witness: Witness,
}

impl fmt::Debug for Ground {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ground").field("storage", &self.storage).finish_non_exhaustive()
    }
}

impl Default for Ground {
    fn default() -> Self {
        Self {
            storage: Arc::new(FileStorage),
            clock: Arc::new(SystemClock),
            entrance: None,
            certificates: Arc::new(files::read),
            key_log: None,
            witness: Witness::default(),
        }
    }
}
