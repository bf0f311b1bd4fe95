//! One direction of a connection.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use super::{Link, Tap};

/// Bytes that may be under way: the buffers of both sides.
const CAPACITY: usize = 256 * 1024;

/// How late what was lost comes.
const SENT_AGAIN_MS: std::ops::Range<u64> = 200..1200;

/// One direction.
pub(super) struct Wire(Mutex<Inner>);

struct Inner {
    rng: Rng,
    link: Link,
    /// Written, and not yet a whole unit of the tap.
    begun: BytesMut,
    tap: Option<Box<dyn Tap>>,
    under_way: VecDeque<(Instant, Bytes)>,
    bytes: usize,
    last_at: Instant,
    is_finished: bool,
    is_reset: bool,
    /// Nobody is there any more to say or to hear anything.
    is_silent: bool,
    /// The reader is gone: what is written is answered by a reset.
    is_unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(seed: u64, link: Link, tap: Option<Box<dyn Tap>>) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            rng: Rng::with_seed(seed),
            link,
            begun: BytesMut::new(),
            tap,
            under_way: VecDeque::new(),
            bytes: 0,
            last_at: Instant::now(),
            is_finished: false,
            is_reset: false,
            is_silent: false,
            is_unread: false,
            reader: None,
            writer: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reset(&self) {
        let mut inner = self.lock();
        inner.is_reset = true;
        inner.wake();
    }

    /// One of the machines has no power any more; `is_to` when it was to read this.
    pub(super) fn silence(&self, is_to: bool) {
        let mut inner = self.lock();
        inner.is_silent = true;
        if is_to {
            inner.under_way.clear();
            inner.bytes = 0;
        }
        inner.wake();
    }

    pub(super) fn set_link(&self, link: Link) {
        let mut inner = self.lock();
        inner.link = link;
        inner.wake();
    }

    fn finish(&self) {
        let mut inner = self.lock();
        if !inner.is_silent {
            inner.flush_all();
            inner.is_finished = true;
        }
        inner.wake();
    }

    fn leave(&self) {
        let mut inner = self.lock();
        inner.is_unread = !inner.is_silent;
        inner.wake();
    }
}

impl Inner {
    fn wake(&mut self) {
        for waker in [self.reader.take(), self.writer.take()].into_iter().flatten() {
            waker.wake();
        }
    }

    fn push(&mut self, bytes: Bytes) {
        let link = self.link;
        let (least, most) = link.latency;
        let span = u64::try_from((most - least).as_micros()).unwrap_or(0);
        let mut at = Instant::now() + least + Duration::from_micros(self.rng.u64(0..=span));
        if self.rng.u32(0..1000) < link.lost_permille {
            at += Duration::from_millis(self.rng.u64(SENT_AGAIN_MS));
        }
        if let Some(per_second) = link.bytes_per_second {
            let micros = u64::try_from(bytes.len()).unwrap_or(0) * 1_000_000 / per_second.max(1);
            at = at.max(self.last_at) + Duration::from_micros(micros);
        }
        // N1.
        self.last_at = at.max(self.last_at);
        self.bytes += bytes.len();
        self.under_way.push_back((self.last_at, bytes));
        if let Some(reader) = self.reader.take() {
            reader.wake();
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        if self.tap.is_none() {
            self.push(Bytes::copy_from_slice(bytes));
            return;
        }
        self.begun.extend_from_slice(bytes);
        while let Some(unit) = self.tap.as_mut().and_then(|tap| tap.next(&mut self.begun)) {
            self.push(unit.freeze());
        }
    }

    fn flush_all(&mut self) {
        if !self.begun.is_empty() {
            let rest = self.begun.split().freeze();
            self.push(rest);
        }
    }
}

/// One end of a connection.
pub(super) struct End {
    read: Arc<Wire>,
    write: Arc<Wire>,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End").finish_non_exhaustive()
    }
}

impl End {
    pub(super) const fn new(read: Arc<Wire>, write: Arc<Wire>) -> Self {
        Self { read, write, sleep: None }
    }
}

impl Drop for End {
    fn drop(&mut self) {
        self.write.finish();
        self.read.leave();
    }
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let mut inner = this.read.lock();
            if inner.is_reset {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            inner.reader = Some(cx.waker().clone());
            if inner.link.is_held {
                return Poll::Pending;
            }
            let now = Instant::now();
            let Some((at, chunk)) = inner.under_way.front_mut() else {
                return if inner.is_finished { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            if *at > now {
                let at = *at;
                drop(inner);
                let mut sleep = Box::pin(tokio::time::sleep_until(at));
                let polled = sleep.as_mut().poll(cx);
                this.sleep = Some(sleep);
                if polled.is_pending() {
                    return Poll::Pending;
                }
                continue;
            }
            let count = chunk.len().min(buffer.remaining());
            buffer.put_slice(chunk.get(..count).unwrap_or_default());
            chunk.advance(count);
            let is_empty = chunk.is_empty();
            inner.bytes -= count;
            if is_empty {
                inner.under_way.pop_front();
            }
            if let Some(writer) = inner.writer.take() {
                writer.wake();
            }
            return Poll::Ready(Ok(()));
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut inner = self.write.lock();
        if inner.is_reset || inner.is_unread || inner.is_finished {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        if inner.is_silent {
            return Poll::Ready(Ok(bytes.len()));
        }
        let room = CAPACITY.saturating_sub(inner.bytes + inner.begun.len());
        if room < bytes.len()
            && let Some(tap) = &mut inner.tap
        {
            tap.blocked();
        }
        if room == 0 {
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let count = bytes.len().min(room);
        inner.write(bytes.get(..count).unwrap_or_default());
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Some(tap) = &mut self.write.lock().tap {
            tap.flushed();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.write.finish();
        Poll::Ready(Ok(()))
    }
}
