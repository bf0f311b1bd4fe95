//! Watches the bytes of a connection just enough to say later why it failed.
//!
//! The HTTP/2 library keeps neither the TLS error behind a broken read nor the bytes of a peer
//! that speaks something else; both are what an operator needs to know. Nor does it tell of a GOAWAY
//! while a stream is open: the stream could go on, yet the peer wants us elsewhere.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::tls::TlsFault;

/// Bytes of an HTTP/2 frame header: all that is needed to tell it from something else.
const HEADER_BYTES: usize = 9;

/// The type of the frame that every HTTP/2 peer sends first.
const SETTINGS: u8 = 4;

/// The type of the frame that asks for no more streams.
const GOAWAY: u8 = 7;

/// What was seen of a connection.
#[derive(Default)]
pub(super) struct Probe {
    seen: AtomicBool,
    first: Mutex<Vec<u8>>,
    failure: Mutex<Option<Failure>>,
    frames: Mutex<Frames>,
    goaway: CancellationToken,
}

/// Follows the HTTP/2 frames that come in: their headers alone.
#[derive(Debug, Default)]
struct Frames {
    header: Vec<u8>,
    /// Bytes of the present frame that are still to come.
    payload_left: usize,
}

impl Frames {
    /// Takes what was read; whether a GOAWAY begins in it.
    fn handle_read(&mut self, mut bytes: &[u8]) -> bool {
        let mut goaway = false;
        while !bytes.is_empty() {
            let (skipped, rest) = bytes.split_at(self.payload_left.min(bytes.len()));
            self.payload_left -= skipped.len();
            let missing = HEADER_BYTES.saturating_sub(self.header.len());
            let (taken, rest) = rest.split_at(missing.min(rest.len()));
            self.header.extend_from_slice(taken);
            bytes = rest;
            if let [a, b, c, kind, _, _, _, _, _] = *self.header {
                self.payload_left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
                goaway |= kind == GOAWAY;
                self.header.clear();
            }
        }
        goaway
    }
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

    /// Whether the peer has sent GOAWAY.
    pub(super) fn is_going_away(&self) -> bool {
        self.goaway.is_cancelled()
    }

    /// Resolves when the peer has sent GOAWAY.
    pub(super) async fn going_away(&self) {
        self.goaway.cancelled().await;
    }

    fn saw(&self, bytes: &[u8]) {
        if crate::lock(&self.frames).handle_read(bytes) {
            self.goaway.cancel();
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let [.., a, b, c] = payload.to_be_bytes();
        let mut frame = vec![a, b, c, kind, 0, 0, 0, 0, 1];
        // What would be a GOAWAY, were it a header.
        frame.resize(HEADER_BYTES + payload, GOAWAY);
        frame
    }

    #[test]
    fn a_goaway_is_seen_however_the_bytes_are_cut_and_nothing_else_is() {
        let quiet = [frame(SETTINGS, 18), frame(0, 70_000), frame(8, 4), frame(0, 0)].concat();
        for size in [1, 2, 5, 8, 9, 10, 4096, usize::MAX] {
            let mut frames = Frames::default();
            let pieces = quiet.chunks(size.min(quiet.len()));
            assert!(pieces.into_iter().all(|piece| !frames.handle_read(piece)), "{size}");
            let goaway = frame(GOAWAY, 8);
            let seen =
                goaway.chunks(size.min(goaway.len())).filter(|piece| frames.handle_read(piece));
            assert_eq!(seen.count(), 1, "{size}");
        }
    }
}
