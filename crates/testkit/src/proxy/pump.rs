//! One direction of a connection: bytes in, bytes out, as ordered at the moment.

use std::collections::VecDeque;
use std::io;
use std::num::NonZeroU64;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::link::Tally;
use super::{Direction, Flow, Orders};

/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;

/// Bytes that were read and have not passed: what a delayed link carries at a time.
const WAITING_BYTES_MAX: usize = 1024 * 1024;

/// A throttled direction passes its bytes in so many steps a second, or one by one.
const STEPS_PER_SECOND: u64 = 50;

/// When something last passed, in either direction.
#[derive(Debug)]
pub(super) struct Activity {
    last: Mutex<Instant>,
}

impl Activity {
    pub(super) const fn new(now: Instant) -> Self {
        Self { last: Mutex::new(now) }
    }

    pub(super) fn last(&self) -> Instant {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// One direction.
#[derive(Debug)]
pub(super) struct Pump<'a> {
    pub(super) direction: Direction,
    pub(super) orders: watch::Receiver<Orders>,
    pub(super) tally: &'a Tally,
    pub(super) activity: &'a Activity,
}

/// Bytes that were read and have not passed, and when they may.
#[derive(Debug, Default)]
struct Waiting {
    chunks: VecDeque<(Instant, Vec<u8>)>,
    bytes: usize,
    /// How much of the first chunk has passed.
    passed: usize,
    /// A throttled direction rests until then.
    rests_until: Option<Instant>,
    /// The sender has ended its stream.
    is_ended: bool,
    /// What is ordered, and the bytes that were read and that passed since it is.
    flow: Flow,
    since: Since,
}

/// Bytes since an order.
#[derive(Debug, Clone, Copy, Default)]
struct Since {
    read: u64,
    passed: u64,
}

impl Pump<'_> {
    /// Until the sender ends its stream and everything has passed; then the receiver is told.
    ///
    /// # Errors
    ///
    /// When either side breaks, or so many bytes have passed that the connection is to end.
    pub(super) async fn run(
        mut self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> io::Result<()> {
        let mut waiting = Waiting::default();
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let flow = self.orders.borrow_and_update().flow(self.direction);
            waiting.obey(flow);
            if waiting.is_truncated() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let may_pass = flow != Flow::Hold && flow != Flow::Discard;
            if waiting.is_over() && may_pass {
                return to.shutdown().await;
            }
            let may_read =
                flow != Flow::Hold && !waiting.is_ended && waiting.bytes < WAITING_BYTES_MAX;
            // Each branch loses nothing when another one wins.
            tokio::select! {
                biased;
                changed = self.orders.changed() => if changed.is_err() { return Ok(()) },
                wrote = waiting.write_next(&mut to), if may_pass && waiting.bytes > 0 => {
                    self.activity.now();
                    self.tally.passed(self.direction, wrote?);
                }
                read = from.read(&mut bytes), if may_read => {
                    let count = read?;
                    waiting.is_ended = count == 0;
                    waiting.push(Instant::now(), bytes.get(..count).unwrap_or_default());
                }
            }
        }
    }
}

impl Waiting {
    fn obey(&mut self, flow: Flow) {
        if flow != self.flow {
            (self.flow, self.since) = (flow, Since::default());
        }
        if flow == Flow::Discard {
            self.chunks.clear();
            (self.bytes, self.passed) = (0, 0);
        }
    }

    fn push(&mut self, now: Instant, bytes: &[u8]) {
        if bytes.is_empty() || self.flow == Flow::Discard {
            return;
        }
        let delay = if let Flow::Delay(delay) = self.flow { delay } else { Duration::ZERO };
        let mut chunk = bytes.to_vec();
        if let Flow::Flip(every) = self.flow {
            flip(&mut chunk, self.since.read, every);
        }
        self.since.read += bytes.len() as u64;
        self.bytes += bytes.len();
        self.chunks.push_back((now + delay, chunk));
    }

    const fn is_over(&self) -> bool {
        self.is_ended && self.bytes == 0
    }

    fn is_truncated(&self) -> bool {
        matches!(self.flow, Flow::Truncate(most) if self.since.passed >= most.get())
    }

    /// Most bytes that may pass at once, and how long nothing may behind them.
    fn step(&self) -> (u64, Option<Duration>) {
        match self.flow {
            Flow::Throttle(per_second) => {
                let step = per_second.get().div_ceil(STEPS_PER_SECOND);
                let rest =
                    Duration::from_secs(step) / u32::try_from(per_second.get()).unwrap_or(u32::MAX);
                (step, Some(rest))
            }
            Flow::Truncate(most) => (most.get().saturating_sub(self.since.passed), None),
            Flow::Pass | Flow::Hold | Flow::Discard | Flow::Delay(_) | Flow::Flip(_) => {
                (u64::MAX, None)
            }
        }
    }

    /// Writes what may pass next, once it may. Nothing is lost when it is dropped.
    async fn write_next(&mut self, to: &mut WriteHalf<'_>) -> io::Result<usize> {
        let (step_bytes, rest) = self.step();
        let Some((due, chunk)) = self.chunks.front() else { return Ok(0) };
        let until = if rest.is_some() { self.rests_until.max(Some(*due)) } else { Some(*due) };
        if let Some(until) = until {
            sleep_until(until).await;
        }
        let step_bytes = usize::try_from(step_bytes).unwrap_or(usize::MAX);
        let end = chunk.len().min(self.passed.saturating_add(step_bytes));
        let count = to.write(chunk.get(self.passed..end).unwrap_or_default()).await?;
        self.rests_until = rest.map(|rest| Instant::now() + rest);
        self.since.passed += count as u64;
        self.passed += count;
        self.bytes -= count;
        if self.passed == chunk.len() {
            self.chunks.pop_front();
            self.passed = 0;
        }
        Ok(count)
    }
}

/// Flips a bit of every so many bytes of a stream, of which so many came before.
fn flip(chunk: &mut [u8], before: u64, every: NonZeroU64) {
    for (place, byte) in (before..).zip(chunk) {
        if (place + 1).is_multiple_of(every.get()) {
            *byte ^= 1 << (place / every % 8);
        }
    }
}
