//! How names become addresses, and addresses connections: the sockets of this machine, or what
//! stands in for them in a simulation.
//!
//! No more than that is behind this seam. Which addresses are tried in which order, all deadlines,
//! TLS and HTTP/2 are above it, and the same everywhere.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpSocket;

/// Idle time before TCP asks whether the peer is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Longest time that sent bytes may stay unacknowledged by TCP: finds black holes.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// The bytes of a connection, in both directions.
pub trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}

/// Any connection.
pub type BoxIo = Box<dyn Io>;

/// Resolves and connects.
pub trait Network: fmt::Debug + Send + Sync + 'static {
    /// All addresses of a name, asked for anew each time; at least one.
    ///
    /// # Errors
    ///
    /// When there is none.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future forgets the question.
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>>;

    /// A connection to an address. Waits for as long as it takes: the deadline is the caller's.
    ///
    /// # Errors
    ///
    /// When there is no way there, or nobody listens ([`io::ErrorKind::ConnectionRefused`]).
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes what there is of the connection.
    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>>;
}

/// The resolver and the TCP sockets of this machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct Sockets;

impl Network for Sockets {
    fn resolve<'a>(
        &'a self,
        host: &'a str,
        port: u16,
    ) -> BoxFuture<'a, io::Result<Vec<SocketAddr>>> {
        async move { Ok(tokio::net::lookup_host((host, port)).await?.collect()) }.boxed()
    }

    fn connect(&self, address: SocketAddr) -> BoxFuture<'_, io::Result<BoxIo>> {
        async move {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            let options = SockRef::from(&socket);
            options.set_tcp_nodelay(true)?;
            options.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
            #[cfg(target_os = "linux")]
            options.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
            let stream: BoxIo = Box::new(socket.connect(address).await?);
            Ok(stream)
        }
        .boxed()
    }
}
