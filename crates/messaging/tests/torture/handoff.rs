//! The hand-off between callers and the writer thread, there and back, through every interleaving.
//!
//! The modules below are the source of the crate, compiled over the primitives of a model checker.
//! What wakes a caller is a stand-in: a flag and a condition variable for a task and its waker.

use std::sync::atomic::AtomicU64 as Counter;

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use super::*;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicU64, Ordering};
    pub(super) use loom::sync::{Condvar, Mutex, MutexGuard};
}

/// What the module calls by this name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct SegmentId(u64);

#[path = "../../src/log/handoff.rs"]
#[expect(dead_code, reason = "waiting for space needs time, which a model has not")]
mod protocol;

#[path = "../../src/log/awaiting.rs"]
mod awaiting;

use awaiting::{Awaiting, Standing};
use protocol::Handoff;

/// How often a thread may be interrupted where it need not be.
const PREEMPTIONS: usize = 3;

/// Checks `case` in every interleaving; returns how many there were.
fn every_interleaving(case: impl Fn() + Sync + Send + 'static) -> u64 {
    let count = std::sync::Arc::new(Counter::new(0));
    let counted = std::sync::Arc::clone(&count);
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(PREEMPTIONS);
    model.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        case();
    });
    count.load(Ordering::Relaxed)
}

/// One caller that sleeps, and how often it was woken.
#[derive(Default)]
struct Sleeper {
    woken: Mutex<u64>,
    changed: Condvar,
}

impl Sleeper {
    fn wake(&self) {
        *self.woken.lock().unwrap() += 1;
        self.changed.notify_one();
    }

    /// Sleeps until it was woken once more than `before`.
    fn sleep(&self, before: u64) {
        let mut woken = self.woken.lock().unwrap();
        while *woken == before {
            woken = self.changed.wait(woken).unwrap();
        }
        assert_eq!(*woken, before + 1, "invariant M39: woken by nothing else");
    }
}

/// How far the log is durable, and whether it ended.
struct Watermark(Awaiting<Arc<Sleeper>>);

impl Watermark {
    fn publish(&self, change: impl FnOnce(&Awaiting<Arc<Sleeper>>, &mut Vec<Arc<Sleeper>>)) {
        let mut told = Vec::new();
        change(&self.0, &mut told);
        told.iter().for_each(|sleeper| sleeper.wake());
    }

    /// Whether a position became durable before the log ended.
    fn wait_for(&self, position: u64) -> bool {
        let (sleeper, mut place, mut woken) = (Arc::new(Sleeper::default()), None, 0);
        loop {
            match self.0.ask(position, &mut place, || Arc::clone(&sleeper)) {
                Standing::Reached => return true,
                Standing::Over => return false,
                Standing::Waits => assert_eq!(woken, 0, "invariant M39: woken for nothing"),
            }
            sleeper.sleep(woken);
            woken += 1;
        }
    }

    /// Asks once and leaves.
    fn ask_and_leave(&self, position: u64) {
        let mut place = None;
        self.0.ask(position, &mut place, || Arc::new(Sleeper::default()));
        if let Some(place) = place {
            self.0.leave(place);
        }
    }
}

#[derive(Default)]
struct Taken {
    positions: Vec<u64>,
    retired: Vec<SegmentId>,
}

#[derive(Clone)]
struct Log {
    handoff: Arc<Handoff>,
    durable: Arc<Watermark>,
}

impl Log {
    fn new() -> Self {
        let durable = Arc::new(Watermark(Awaiting::new(0)));
        Self { handoff: Arc::new(Handoff::new(1)), durable }
    }

    /// An entry is a byte: its position.
    fn push(&self) -> u64 {
        self.handoff.push(|| false, |position, buffer| buffer.push(position as u8))
    }

    /// What the writer thread does, without a disk.
    fn write(&self) -> Taken {
        let (mut taken, mut batch) = (Taken::default(), Vec::new());
        while self.handoff.take(&mut batch, &mut taken.retired) {
            taken.positions.extend(batch.iter().map(|position| u64::from(*position)));
            if let Some(last) = batch.last() {
                assert!(self.handoff.last_position() >= u64::from(*last));
                let last = u64::from(*last);
                self.durable.publish(|awaiting, told| awaiting.reach(last, told));
            }
        }
        self.durable.publish(|awaiting, told| awaiting.end(told));
        taken
    }

    fn spawn_writer(&self) -> thread::JoinHandle<Taken> {
        let log = self.clone();
        thread::spawn(move || log.write())
    }

    /// What the writer took of one entry whose caller waits for it, and of what somebody does on
    /// another thread meanwhile.
    fn taken_beside(somebody: impl FnOnce(Self) + Send + 'static) -> Taken {
        let log = Self::new();
        let writer = log.spawn_writer();
        let other = log.clone();
        let beside = thread::spawn(move || somebody(other));
        let position = log.push();
        assert!(log.durable.wait_for(position));
        beside.join().unwrap();
        log.handoff.close();
        writer.join().unwrap()
    }
}

#[test]
fn every_entry_is_taken_once_in_order_and_every_caller_is_told() {
    let cases = every_interleaving(|| {
        let taken = Log::taken_beside(|log| {
            let position = log.push();
            assert!(log.durable.wait_for(position));
        });
        assert_eq!(taken.positions, [1, 2]);
    });
    println!("cases: hand-off {cases} interleavings of two callers and the writer");
}

#[test]
fn a_close_at_any_moment_leaves_nobody_waiting_and_nothing_untold() {
    let cases = every_interleaving(|| {
        let log = Log::new();
        let writer = log.spawn_writer();
        let other = log.clone();
        let caller = thread::spawn(move || {
            let first = other.push();
            let second = other.push();
            (other.durable.wait_for(first), other.durable.wait_for(second))
        });
        log.handoff.close();
        let (first, second) = caller.join().unwrap();
        let taken = writer.join().unwrap().positions;
        assert_eq!((taken.contains(&1), taken.contains(&2)), (first, second));
        assert!(first || !second, "in order");
    });
    println!("cases: hand-off {cases} interleavings with a close");
}

#[test]
fn retired_segments_wake_the_writer_and_are_taken_once() {
    let cases = every_interleaving(|| {
        let taken = Log::taken_beside(|log| log.handoff.retire(&[SegmentId(7)]));
        assert_eq!((taken.positions, taken.retired), (vec![1], vec![SegmentId(7)]));
    });
    println!("cases: hand-off {cases} interleavings with retired segments");
}

#[test]
fn who_leaves_the_line_takes_nobody_with_it() {
    let cases = every_interleaving(|| {
        let taken = Log::taken_beside(|log| {
            let first = log.push();
            log.durable.ask_and_leave(first);
            let second = log.push();
            assert!(log.durable.wait_for(second));
        });
        assert_eq!(taken.positions, [1, 2, 3]);
    });
    println!("cases: hand-off {cases} interleavings with a caller that gives up");
}
