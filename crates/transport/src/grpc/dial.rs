//! One attempt: resolve, TCP, TLS, HTTP/2, each with a deadline.
//!
//! Not a retry: one tonic `Channel` is one attempt, made from a connection that is already up. Its
//! own reconnect finds no second connection and fails.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};
use tonic::transport::{Channel, Endpoint};

use super::error::{LinkCause, LinkError, Step};
use super::probe::{Probe, Probed};
use crate::endpoint::{EndpointConfig, EndpointUrl};
use crate::tls::{self, TlsFault};

/// Idle time before TCP asks whether the peer is there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Longest time that sent bytes may stay unacknowledged by TCP: finds black holes.
const USER_TIMEOUT: Duration = Duration::from_secs(20);
/// HTTP/2 flow control: 2 MiB for a stream, 8 MiB for a connection.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Larger frames cost less than the default of 16 KiB.
const FRAME_BYTES: u32 = 64 * 1024;
/// HTTP/2 pings, while idle too.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// How long one attempt may take.
#[derive(Debug, Clone, Copy)]
pub(super) struct Deadlines {
    pub(super) per_address: Duration,
    pub(super) in_all: Duration,
}

/// A connection that is up.
#[derive(Debug)]
pub(super) struct Dialed {
    pub(super) channel: Channel,
    pub(super) probe: Arc<Probe>,
    pub(super) address: SocketAddr,
}

/// Either kind of connection.
trait Io: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Io for T {}
type BoxIo = Box<dyn Io>;

/// Makes one connection to the endpoint: every address is tried once.
pub(super) async fn dial(
    config: &EndpointConfig,
    tls: Option<&Arc<rustls::ClientConfig>>,
    deadlines: Deadlines,
) -> Result<Dialed, LinkError> {
    let (limit, url) = (deadlines.in_all, &config.url);
    tokio::time::timeout(limit, async {
        let addresses = resolve(url, deadlines.per_address).await?;
        let mut furthest: Option<LinkError> = None;
        for address in addresses {
            match dial_address(config, tls, address, deadlines.per_address).await {
                Ok(dialed) => return Ok(dialed),
                Err(mut error) => {
                    error.address = Some(address);
                    // The error that says most is the one that came furthest.
                    if furthest.as_ref().is_none_or(|other| error.step > other.step) {
                        furthest = Some(error);
                    }
                }
            }
        }
        Err(furthest.unwrap_or_else(|| not_resolved(url, "no address".to_owned())))
    })
    .await
    .unwrap_or_else(|_| Err(LinkError::new(Step::Connect, LinkCause::TimedOut(limit))))
}

fn not_resolved(url: &EndpointUrl, detail: String) -> LinkError {
    let host = url.host().to_owned();
    LinkError::new(Step::Resolve, LinkCause::NotResolved { host, detail })
}

/// All addresses of a name, the families taking turns (RFC 8305), so that a broken one costs one
/// attempt only.
async fn resolve(url: &EndpointUrl, limit: Duration) -> Result<Vec<SocketAddr>, LinkError> {
    if let Ok(address) = url.host().parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, url.port())]);
    }
    let lookup = tokio::net::lookup_host((url.host(), url.port()));
    let found = within(Step::Resolve, limit, async {
        lookup.await.map_err(|error| not_resolved(url, error.to_string()))
    })
    .await?;
    let (v6, v4): (Vec<_>, Vec<_>) = found.partition(SocketAddr::is_ipv6);
    let (mut v6, mut v4) = (v6.into_iter(), v4.into_iter());
    let mut ordered = Vec::new();
    loop {
        let (a, b) = (v6.next(), v4.next());
        if a.is_none() && b.is_none() {
            return Ok(ordered);
        }
        ordered.extend(a.into_iter().chain(b));
    }
}

async fn within<T>(
    step: Step,
    limit: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(LinkError::new(step, LinkCause::TimedOut(limit))))
}

async fn dial_address(
    config: &EndpointConfig,
    tls: Option<&Arc<rustls::ClientConfig>>,
    address: SocketAddr,
    limit: Duration,
) -> Result<Dialed, LinkError> {
    let started = tokio::time::Instant::now();
    let tcp = within(Step::Connect, limit, connect(address)).await?;
    let rest = limit.saturating_sub(started.elapsed());
    let io: BoxIo = if config.url.is_tls() {
        let tls = tls.ok_or(LinkError::new(Step::Tls, LinkCause::TlsMissing))?;
        Box::new(within(Step::Tls, rest, secure(config.tls_name(), tls, tcp)).await?)
    } else {
        Box::new(tcp)
    };
    let probe = Arc::new(Probe::default());
    let rest = limit.saturating_sub(started.elapsed());
    let channel = within(Step::Http2, rest, channel(&config.url, io, &probe)).await?;
    Ok(Dialed { channel, probe, address })
}

async fn connect(address: SocketAddr) -> Result<TcpStream, LinkError> {
    let failed = |error: io::Error| {
        let cause = if error.kind() == io::ErrorKind::ConnectionRefused {
            LinkCause::Refused
        } else {
            LinkCause::Unreachable(error.to_string())
        };
        LinkError::new(Step::Connect, cause)
    };
    let socket = match address {
        SocketAddr::V4(_) => TcpSocket::new_v4(),
        SocketAddr::V6(_) => TcpSocket::new_v6(),
    };
    let socket = socket.map_err(failed)?;
    let options = SockRef::from(&socket);
    options.set_tcp_nodelay(true).map_err(failed)?;
    options.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE)).map_err(failed)?;
    #[cfg(target_os = "linux")]
    options.set_tcp_user_timeout(Some(USER_TIMEOUT)).map_err(failed)?;
    socket.connect(address).await.map_err(failed)
}

async fn secure(
    name: &str,
    config: &Arc<rustls::ClientConfig>,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, LinkError> {
    let failed = |fault: TlsFault| LinkError::new(Step::Tls, LinkCause::Tls(fault));
    let name = ServerName::try_from(name.to_owned())
        .map_err(|error| failed(TlsFault::Other(error.to_string())))?;
    let connector = tokio_rustls::TlsConnector::from(Arc::clone(config));
    let stream = connector.connect(name, tcp).await.map_err(|error| {
        let closed = [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset];
        failed(TlsFault::from_io(&error).unwrap_or_else(|| {
            if closed.contains(&error.kind()) {
                TlsFault::Closed
            } else {
                TlsFault::Other(error.to_string())
            }
        }))
    })?;
    tls::check_alpn(stream.get_ref().1.alpn_protocol()).map_err(failed)?;
    Ok(stream)
}

/// A tonic channel over a connection that is up.
async fn channel(url: &EndpointUrl, io: BoxIo, probe: &Arc<Probe>) -> Result<Channel, LinkError> {
    let failed = |text: String| LinkError::new(Step::Http2, LinkCause::Broken(text));
    // An `https` URI with a connector of our own is refused by tonic when its own TLS is compiled
    // in: the scheme that the peer sees is that of the origin.
    let origin =
        url.to_string().parse().map_err(|e: http::uri::InvalidUri| failed(e.to_string()))?;
    let endpoint = Endpoint::from_shared(format!("http://{}", url.authority()))
        .map_err(|error| failed(error.to_string()))?
        .origin(origin)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(FRAME_BYTES)
        .http2_adaptive_window(false)
        .http2_keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .keep_alive_while_idle(true);
    let probed = TokioIo::new(Probed { io, probe: Arc::clone(probe) });
    let once = Mutex::new(Some(probed));
    let connector = tower::service_fn(move |_| {
        let io = crate::lock(&once).take();
        std::future::ready(io.ok_or_else(|| io::Error::other("one channel is one connection")))
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| failed(error.to_string()))
}
