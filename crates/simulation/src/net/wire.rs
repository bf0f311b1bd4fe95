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
use crate::strikes::{Blow, Strikes};

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
    under_way: VecDeque<Parcel>,
    bytes: usize,
    last_at: Instant,
    /// What is written comes so much later.
    lag: Option<(Duration, Blow)>,
    strikes: Strikes,
    passed: Last,
    /// The end that says this, or the one that hears it, knows that the connection is gone.
    is_lost: Lost,
    is_finished: bool,
    is_reset: bool,
    /// Nobody is there any more to say or to hear anything.
    is_silent: bool,
    /// The reader is gone: what is written is answered by a reset.
    is_unread: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// Bytes that are under way.
struct Parcel {
    written_at: Instant,
    at: Instant,
    bytes: Bytes,
    /// What made it late.
    lagged: Option<Blow>,
}

/// For whom a connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lost {
    Nobody,
    Writer,
    Reader,
}

/// When what passed last in one direction, on whichever connection, was written.
#[derive(Debug, Clone, Default)]
pub(super) struct Last(Arc<Mutex<Option<Instant>>>);

impl Last {
    /// Bytes pass; says whether some that were written later passed before them.
    fn is_overtaken(&self, written_at: Instant) -> bool {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_overtaken = last.is_some_and(|last| last > written_at);
        if !is_overtaken {
            *last = Some(written_at);
        }
        is_overtaken
    }
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(
        seed: u64,
        link: Link,
        tap: Option<Box<dyn Tap>>,
        (strikes, passed): (Strikes, Last),
    ) -> Arc<Self> {
        Arc::new(Self(Mutex::new(Inner {
            rng: Rng::with_seed(seed),
            link,
            begun: BytesMut::new(),
            tap,
            under_way: VecDeque::new(),
            bytes: 0,
            last_at: Instant::now(),
            lag: None,
            strikes,
            passed,
            is_lost: Lost::Nobody,
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

    /// The connection is gone for one of its ends, and silent for the other one.
    pub(super) fn lose(&self, is_writer: bool) {
        self.silence(!is_writer);
        self.lock().is_lost = if is_writer { Lost::Writer } else { Lost::Reader };
    }

    /// Whether both ends are there.
    pub(super) fn is_live(&self) -> bool {
        let inner = self.lock();
        !(inner.is_reset || inner.is_silent || inner.is_unread || inner.is_finished)
    }

    /// What is written from now on comes so much later.
    pub(super) fn set_lag(&self, lag: Option<(Duration, Blow)>) {
        self.lock().lag = lag;
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
        // That nobody reads any more is news that comes as late as everything else.
        inner.is_silent |= inner.lag.is_some();
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
        if let Some(blow) = link.slowed {
            self.strikes.strike(blow);
        }
        let lost = self.rng.u32(0..1000);
        if let Some((permille, blow)) = link.lost_permille
            && lost < permille
        {
            self.strikes.strike(blow);
            at += Duration::from_millis(self.rng.u64(SENT_AGAIN_MS));
        }
        if let Some((lag, _)) = self.lag {
            at += lag;
        }
        if let Some((per_second, blow)) = link.bytes_per_second {
            self.strikes.strike(blow);
            let micros = u64::try_from(bytes.len()).unwrap_or(0) * 1_000_000 / per_second.max(1);
            at = at.max(self.last_at) + Duration::from_micros(micros);
        }
        // N1.
        self.last_at = at.max(self.last_at);
        self.bytes += bytes.len();
        let lagged = self.lag.map(|(_, blow)| blow);
        let (written_at, at) = (Instant::now(), self.last_at);
        self.under_way.push_back(Parcel { written_at, at, bytes, lagged });
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

    /// Hands over as much of what comes first as there is room for.
    fn deliver(&mut self, buffer: &mut ReadBuf<'_>) {
        let Some(first) = self.under_way.front_mut() else { return };
        let count = first.bytes.len().min(buffer.remaining());
        buffer.put_slice(first.bytes.get(..count).unwrap_or_default());
        first.bytes.advance(count);
        let is_empty = first.bytes.is_empty();
        self.bytes -= count;
        if is_empty {
            self.under_way.pop_front();
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
            if inner.is_reset || inner.is_lost == Lost::Reader {
                return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
            }
            inner.reader = Some(cx.waker().clone());
            if let Some(blow) = inner.link.held {
                if !inner.under_way.is_empty() {
                    inner.strikes.strike(blow);
                }
                return Poll::Pending;
            }
            let now = Instant::now();
            let Some(first) = inner.under_way.front() else {
                return if inner.is_finished { Poll::Ready(Ok(())) } else { Poll::Pending };
            };
            let (at, written_at, lagged) = (first.at, first.written_at, first.lagged);
            if at > now {
                drop(inner);
                let mut sleep = Box::pin(tokio::time::sleep_until(at));
                let polled = sleep.as_mut().poll(cx);
                this.sleep = Some(sleep);
                if polled.is_pending() {
                    return Poll::Pending;
                }
                continue;
            }
            if inner.passed.is_overtaken(written_at)
                && let Some(blow) = lagged
            {
                inner.strikes.strike(blow);
            }
            inner.deliver(buffer);
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
        let is_over = inner.is_reset || inner.is_unread || inner.is_finished;
        if is_over || inner.is_lost == Lost::Writer {
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
