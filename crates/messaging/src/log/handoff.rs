//! The hand-off of entries from callers to the writer thread: one buffer, one wake-up.
//!
//! Names nothing but the primitives of `sync`, so that `tests/torture/handoff.rs` compiles this very
//! file over those of a model checker and walks through every interleaving.
//!
//! Not here: what entries are, and who is told when they are durable.
//!
//! Invariants:
//! - M21: every entry is taken once, in the order of positions, however many callers there are.
//! - M22: the writer sleeps only while there is nothing to take: no wake-up is lost, and none is
//!   made while it is awake.

use std::mem;
use std::sync::PoisonError;
use std::time::Duration;

use super::SegmentId;
use super::sync::{AtomicU64, Condvar, Mutex, MutexGuard, Ordering};

/// Entries that wait for the next commit, encoded one behind the other.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) buffer: Vec<u8>,
    pub(super) retire: Vec<SegmentId>,
    pub(super) is_closing: bool,
    next_position: u64,
    is_writer_waiting: bool,
}

/// What came of [`Handoff::take_now`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// There is something to do.
    Work,
    Nothing,
    /// The log closes, and nothing is left.
    Closed,
}

#[derive(Debug)]
pub(super) struct Handoff {
    pending: Mutex<Pending>,
    wake_writer: Condvar,
    last_position: AtomicU64,
}

impl Handoff {
    pub(super) fn new(next_position: u64) -> Self {
        Self {
            pending: Mutex::new(Pending {
                buffer: Vec::new(),
                retire: Vec::new(),
                is_closing: false,
                next_position,
                is_writer_waiting: false,
            }),
            wake_writer: Condvar::new(),
            last_position: AtomicU64::new(next_position.saturating_sub(1)),
        }
    }

    /// Gives the next position and lets `fill` write its entry, unless the log takes nothing more:
    /// then it never becomes durable, and whoever waits for it is told so.
    pub(super) fn push(
        &self,
        is_failed: impl FnOnce() -> bool,
        fill: impl FnOnce(u64, &mut Vec<u8>),
    ) -> u64 {
        let mut pending = self.lock();
        let position = pending.next_position;
        pending.next_position += 1;
        // Released under the lock, so that an observer of it finds the entry in the buffer.
        self.last_position.store(position, Ordering::Release);
        if pending.is_closing || is_failed() {
            return position;
        }
        fill(position, &mut pending.buffer);
        if pending.is_writer_waiting {
            self.wake(pending);
        }
        position
    }

    /// The latest position that was given.
    pub(super) fn last_position(&self) -> u64 {
        self.last_position.load(Ordering::Acquire)
    }

    pub(super) fn retire(&self, segments: &[SegmentId]) {
        let mut pending = self.lock();
        pending.retire.extend_from_slice(segments);
        self.wake(pending);
    }

    pub(super) fn close(&self) {
        let mut pending = self.lock();
        pending.is_closing = true;
        self.wake(pending);
    }

    /// Lets go of the lock first: the writer may run at once, and takes it.
    fn wake(&self, mut pending: MutexGuard<'_, Pending>) {
        pending.is_writer_waiting = false;
        drop(pending);
        self.wake_writer.notify_one();
    }

    /// Waits for something to do and takes all of it, leaving the emptied `batch` behind. `false`
    /// when the log closes and nothing is left. For the writer alone.
    pub(super) fn take(&self, batch: &mut Vec<u8>, retire: &mut Vec<SegmentId>) -> bool {
        batch.clear();
        let mut pending = self.lock();
        loop {
            match Self::take_from(&mut pending, batch, retire) {
                Taken::Work => return true,
                Taken::Closed => return false,
                Taken::Nothing => pending.is_writer_waiting = true,
            }
            pending = self.wake_writer.wait(pending).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// As [`Handoff::take`], without waiting: for a writer that is woken in another way.
    pub(super) fn take_now(&self, batch: &mut Vec<u8>, retire: &mut Vec<SegmentId>) -> Taken {
        batch.clear();
        Self::take_from(&mut self.lock(), batch, retire)
    }

    fn take_from(pending: &mut Pending, batch: &mut Vec<u8>, retire: &mut Vec<SegmentId>) -> Taken {
        if pending.buffer.is_empty() && pending.retire.is_empty() {
            return if pending.is_closing { Taken::Closed } else { Taken::Nothing };
        }
        pending.is_writer_waiting = false;
        mem::swap(&mut pending.buffer, batch);
        retire.append(&mut pending.retire);
        Taken::Work
    }

    pub(super) fn is_closing(&self) -> bool {
        self.lock().is_closing
    }

    /// Waits for `time`, or until something wakes the writer. `false` at once when the log closes.
    pub(super) fn pause(&self, time: Duration) -> bool {
        let pending = self.lock();
        if pending.is_closing {
            return false;
        }
        drop(self.wake_writer.wait_timeout(pending, time).unwrap_or_else(PoisonError::into_inner));
        true
    }

    /// A panic while it is held would be a bug of this crate; what it guards is changed in steps
    /// that leave it whole, so going on is right.
    pub(super) fn lock(&self) -> MutexGuard<'_, Pending> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
