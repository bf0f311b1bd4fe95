//! The steps of one attempt: resolve, TCP, TLS, HTTP/2. None waits longer than it is told.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tonic::transport::{Channel, Endpoint};

use super::network::{BoxIo, Network};
use crate::endpoint::{EndpointConfig, EndpointUrl, KeepaliveConfig};
use crate::grpc::error::{LinkCause, LinkError, Step};
use crate::grpc::probe::{Probe, Probed};
use crate::tls::{self, TlsFault};

/// HTTP/2 flow control: 2 MiB for a stream, 8 MiB for a connection.
const STREAM_WINDOW: u32 = 2 * 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
/// Larger frames cost less than the default of 16 KiB.
const FRAME_BYTES: u32 = 64 * 1024;

/// Runs a step within its limit.
pub(in crate::grpc) async fn within<T>(
    step: Step,
    limit: Duration,
    work: impl Future<Output = Result<T, LinkError>>,
) -> Result<T, LinkError> {
    tokio::time::timeout(limit, work)
        .await
        .unwrap_or_else(|_| Err(LinkError::new(step, LinkCause::TimedOut(limit))))
}

pub(in crate::grpc) fn not_resolved(url: &EndpointUrl, detail: String) -> LinkError {
    let host = url.host().to_owned();
    LinkError::new(Step::Resolve, LinkCause::NotResolved { host, detail })
}

/// All addresses of an endpoint that may be dialled; a name is asked for anew each time: peers move.
pub(in crate::grpc) async fn resolve(
    network: &dyn Network,
    config: &EndpointConfig,
) -> Result<Vec<SocketAddr>, LinkError> {
    let url = &config.url;
    let found: Vec<SocketAddr> = match url.host().parse::<IpAddr>() {
        Ok(address) => vec![SocketAddr::new(address, url.port())],
        Err(_) => network
            .resolve(url.host(), url.port())
            .await
            .map_err(|error| not_resolved(url, error.to_string()))?,
    };
    let Some(first) = found.first().copied() else {
        return Err(not_resolved(url, "no address".to_owned()));
    };
    let addresses: Vec<_> = found.into_iter().filter(|address| config.may_dial(address)).collect();
    if addresses.is_empty() {
        let detail =
            format!("none that insecure: plaintext may go to: {} is another machine", first.ip());
        return Err(not_resolved(url, detail));
    }
    Ok(addresses)
}

pub(in crate::grpc) async fn connect(
    network: &dyn Network,
    address: SocketAddr,
) -> Result<BoxIo, LinkError> {
    network.connect(address).await.map_err(|error| {
        let cause = if error.kind() == io::ErrorKind::ConnectionRefused {
            LinkCause::Refused
        } else {
            LinkCause::Unreachable(error.to_string())
        };
        LinkError::new(Step::Connect, cause)
    })
}

pub(in crate::grpc) async fn secure(
    name: &str,
    config: &Arc<rustls::ClientConfig>,
    tcp: BoxIo,
) -> Result<tokio_rustls::client::TlsStream<BoxIo>, LinkError> {
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
pub(in crate::grpc) async fn channel(
    url: &EndpointUrl,
    io: BoxIo,
    probe: &Arc<Probe>,
    keepalive: KeepaliveConfig,
) -> Result<Channel, LinkError> {
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
        .http2_keep_alive_interval(keepalive.interval)
        .keep_alive_timeout(keepalive.timeout)
        .keep_alive_while_idle(keepalive.while_idle);
    let probed = TokioIo::new(Probed { io, probe: Arc::clone(probe) });
    let once = Mutex::new(Some(probed));
    let connector = tower::service_fn(move |_| {
        let io = crate::lock(&once).take();
        std::future::ready(io.ok_or_else(|| io::Error::other("one channel is one connection")))
    });
    endpoint.connect_with_connector(connector).await.map_err(|error| failed(error.to_string()))
}
