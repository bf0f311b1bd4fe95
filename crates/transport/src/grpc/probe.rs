//! Watches the bytes of a connection just enough to say later why it failed.
//!
//! The HTTP/2 library keeps neither the TLS error behind a broken read nor the bytes of a peer
//! that speaks something else; both are what an operator needs to know.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::tls::TlsFault;

/// Bytes of an HTTP/2 frame header: all that is needed to tell it from something else.
const HEADER_BYTES: usize = 9;

/// The type of the frame that every HTTP/2 peer sends first.
const SETTINGS: u8 = 4;

/// What was seen of a connection.
#[derive(Default)]
pub(super) struct Probe {
    seen: AtomicBool,
    first: Mutex<Vec<u8>>,
    failure: Mutex<Option<Failure>>,
}

/// How a connection broke, below HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    Tls(TlsFault),
    Io(String),
}

/// What a peer speaks that does not speak HTTP/2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Foreign {
    Http1,
    Other,
}

impl Probe {
    pub(super) fn failure(&self) -> Option<Failure> {
        crate::lock(&self.failure).clone()
    }

    /// What the peer speaks, when its first bytes are no HTTP/2.
    pub(super) fn foreign(&self) -> Option<Foreign> {
        let first = crate::lock(&self.first);
        if first.starts_with(b"HTTP/1") {
            return Some(Foreign::Http1);
        }
        let kind = first.get(3)?;
        let settings = *kind == SETTINGS && first.len() >= HEADER_BYTES;
        (!settings).then_some(Foreign::Other)
    }

    fn saw(&self, bytes: &[u8]) {
        if self.seen.load(Ordering::Relaxed) || bytes.is_empty() {
            return;
        }
        let mut first = crate::lock(&self.first);
        let missing = HEADER_BYTES.saturating_sub(first.len());
        first.extend(bytes.iter().take(missing));
        if first.len() >= HEADER_BYTES {
            self.seen.store(true, Ordering::Relaxed);
        }
    }

    fn failed(&self, error: &io::Error) {
        let failure =
            TlsFault::from_io(error).map_or_else(|| Failure::Io(error.to_string()), Failure::Tls);
        crate::lock(&self.failure).get_or_insert(failure);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe").field("failure", &self.failure()).finish_non_exhaustive()
    }
}

/// A connection that is watched.
#[derive(Debug)]
pub(super) struct Probed<T> {
    pub(super) io: T,
    pub(super) probe: Arc<Probe>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Probed<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = Pin::new(&mut self.io).poll_read(context, buffer);
        match &result {
            Poll::Ready(Ok(())) => {
                self.probe.saw(buffer.filled().get(before..).unwrap_or_default());
            }
            Poll::Ready(Err(error)) => self.probe.failed(error),
            Poll::Pending => {}
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Probed<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
