//! One direction of a connection: bytes in, bytes out, as ordered at the moment.

use std::collections::VecDeque;
use std::io;
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
}

impl Pump<'_> {
    /// Until the sender ends its stream and everything has passed; then the receiver is told.
    ///
    /// # Errors
    ///
    /// When either side breaks.
    pub(super) async fn run(
        mut self,
        mut from: ReadHalf<'_>,
        mut to: WriteHalf<'_>,
    ) -> io::Result<()> {
        let mut waiting = Waiting::default();
        let mut bytes = vec![0; READ_BYTES];
        loop {
            let flow = self.orders.borrow_and_update().flow(self.direction);
            if flow == Flow::Discard {
                waiting.throw_away();
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
                wrote = waiting.write_next(&mut to, flow), if may_pass && waiting.bytes > 0 => {
                    self.activity.now();
                    self.tally.passed(self.direction, wrote?);
                }
                read = from.read(&mut bytes), if may_read => {
                    let count = read?;
                    waiting.is_ended = count == 0;
                    if flow != Flow::Discard {
                        let delay = if let Flow::Delay(delay) = flow { delay } else { Duration::ZERO };
                        waiting.push(Instant::now() + delay, bytes.get(..count).unwrap_or_default());
                    }
                }
            }
        }
    }
}

impl Waiting {
    fn push(&mut self, due: Instant, bytes: &[u8]) {
        if !bytes.is_empty() {
            self.bytes += bytes.len();
            self.chunks.push_back((due, bytes.to_vec()));
        }
    }

    fn throw_away(&mut self) {
        self.chunks.clear();
        (self.bytes, self.passed) = (0, 0);
    }

    const fn is_over(&self) -> bool {
        self.is_ended && self.bytes == 0
    }

    /// Writes what may pass next, once it may. Nothing is lost when it is dropped.
    async fn write_next(&mut self, to: &mut WriteHalf<'_>, flow: Flow) -> io::Result<usize> {
        let (step_bytes, rest) = match flow {
            Flow::Throttle(per_second) => {
                let step = per_second.get().div_ceil(STEPS_PER_SECOND);
                let rest =
                    Duration::from_secs(step) / u32::try_from(per_second.get()).unwrap_or(u32::MAX);
                (usize::try_from(step).unwrap_or(usize::MAX), Some(rest))
            }
            Flow::Pass | Flow::Hold | Flow::Discard | Flow::Delay(_) => (usize::MAX, None),
        };
        let Some((due, chunk)) = self.chunks.front() else { return Ok(0) };
        let until = if rest.is_some() { self.rests_until.max(Some(*due)) } else { Some(*due) };
        if let Some(until) = until {
            sleep_until(until).await;
        }
        let end = chunk.len().min(self.passed.saturating_add(step_bytes));
        let count = to.write(chunk.get(self.passed..end).unwrap_or_default()).await?;
        self.rests_until = rest.map(|rest| Instant::now() + rest);
        self.passed += count;
        self.bytes -= count;
        if self.passed == chunk.len() {
            self.chunks.pop_front();
            self.passed = 0;
        }
        Ok(count)
    }
}
