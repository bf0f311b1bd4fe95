//! One accepted connection, and who is at its other end.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::tls::PeerIdentity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct PeerInfo {
    pub(crate) address: SocketAddr,
    /// What its certificate says; `None` without TLS.
    pub(crate) identity: Option<Arc<PeerIdentity>>,
    /// Whether it may only use a name of its certificate.
    pub(crate) require_node_name: bool,
    pub(crate) connected_at: UnixMillis,
    /// Cuts the connection.
    pub(crate) cut: CancellationToken,
}

impl PeerInfo {
    /// Why this peer may not call itself `node_id`.
    pub(crate) fn name_refusal(&self, node_id: &str) -> Option<String> {
        let identity = self.identity.as_ref().filter(|identity| !identity.is_named(node_id))?;
        let name = identity.name().unwrap_or("(no name)");
        if self.require_node_name {
            return Some(format!(
                "node id {node_id} is not a name of your certificate, which is for {name}"
            ));
        }
        tracing::debug!(
            node_id,
            certificate = name,
            "a node uses a name that its certificate does not have"
        );
        None
    }
}

/// The bytes of a connection.
#[derive(Debug)]
pub(crate) enum Wire {
    Tls(Box<TlsStream<TcpStream>>),
    Plaintext(TcpStream),
}

/// A connection that can be cut.
#[derive(Debug)]
pub(crate) struct PeerIo {
    wire: Wire,
    info: PeerInfo,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl PeerIo {
    pub(crate) fn new(wire: Wire, info: PeerInfo) -> Self {
        let cut = Box::pin(info.cut.clone().cancelled_owned());
        Self { wire, info, cut }
    }
}

impl Connected for PeerIo {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for PeerIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // HTTP/2 always reads, so this is enough to notice the cut.
        if self.cut.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        match &mut self.wire {
            Wire::Tls(wire) => Pin::new(wire).poll_read(cx, buffer),
            Wire::Plaintext(wire) => Pin::new(wire).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for PeerIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Tls(wire) => Pin::new(wire).poll_write(cx, bytes),
            Wire::Plaintext(wire) => Pin::new(wire).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tls(wire) => Pin::new(wire).poll_flush(cx),
            Wire::Plaintext(wire) => Pin::new(wire).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Tls(wire) => Pin::new(wire).poll_shutdown(cx),
            Wire::Plaintext(wire) => Pin::new(wire).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.wire {
            Wire::Tls(wire) => Pin::new(wire).poll_write_vectored(cx, slices),
            Wire::Plaintext(wire) => Pin::new(wire).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Tls(wire) => wire.is_write_vectored(),
            Wire::Plaintext(wire) => wire.is_write_vectored(),
        }
    }
}
