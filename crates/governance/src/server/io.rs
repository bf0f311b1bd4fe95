//! One accepted connection, and who is at its other end.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use alys_stream_protocol::time::UnixMillis;
use alys_stream_transport::grpc::BoxIo;
use alys_stream_transport::tls::PeerIdentity;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::connections::Seat;

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
pub(crate) enum Wire {
    Tls(Box<TlsStream<BoxIo>>),
    Plaintext(BoxIo),
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tls(_) => "Tls",
            Self::Plaintext(_) => "Plaintext",
        })
    }
}

/// Bytes with which every HTTP/2 client begins.
const PREFACE_BYTES: usize = 24;

/// A connection that can be cut, and that ends when it does not begin.
#[derive(Debug)]
pub(crate) struct PeerIo {
    wire: Wire,
    info: PeerInfo,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    /// `None` once the client has begun to speak HTTP/2.
    preface: Option<Preface>,
    seat: Seat,
}

/// The wait for the first bytes of HTTP/2: the library waits for ever.
#[derive(Debug)]
struct Preface {
    missing: usize,
    until: Pin<Box<Sleep>>,
}

impl PeerIo {
    /// `limit` is how long the first bytes of HTTP/2 may take.
    pub(crate) fn new(wire: Wire, info: PeerInfo, seat: Seat, limit: Duration) -> Self {
        let cut = Box::pin(info.cut.clone().cancelled_owned());
        let until = Box::pin(tokio::time::sleep(limit));
        let preface = Some(Preface { missing: PREFACE_BYTES, until });
        Self { wire, info, cut, preface, seat }
    }

    /// Counts bytes against the first ones of HTTP/2.
    fn handle_read(&mut self, read: usize) {
        if let Some(preface) = &mut self.preface {
            preface.missing = preface.missing.saturating_sub(read);
            if preface.missing == 0 {
                self.preface = None;
            }
        }
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
        let before = buffer.filled().len();
        let read = match &mut self.wire {
            Wire::Tls(wire) => Pin::new(wire).poll_read(cx, buffer),
            Wire::Plaintext(wire) => Pin::new(wire).poll_read(cx, buffer),
        };
        self.handle_read(buffer.filled().len().saturating_sub(before));
        if read.is_pending()
            && let Some(preface) = &mut self.preface
            && preface.until.as_mut().poll(cx).is_ready()
        {
            self.seat.report_silence();
            tracing::warn!(address = %self.info.address, "a connection is closed: its client does not begin to speak HTTP/2");
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
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
