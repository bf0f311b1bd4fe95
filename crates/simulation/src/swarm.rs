//! Many seeds, on all cores, and what they exercised together.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use alys_stream_transport::connection::EDGES;

use crate::coverage::Coverage;
use crate::planted::Planted;
use crate::run::{self, Edition, Outcome, Trial};

/// How much is to be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Budget {
    /// So many seeds.
    Seeds(u64),
    /// Seeds for so long.
    Time(Duration),
}

/// A swarm of seeds.
#[derive(Debug, Clone, Copy)]
pub struct Swarm {
    /// The first seed.
    pub first: u64,
    /// How much.
    pub budget: Budget,
    /// A bug to plant.
    pub planted: Option<Planted>,
    /// How much of the world there is.
    pub edition: Edition,
    /// Threads.
    pub threads: usize,
}

/// What came of a swarm.
#[derive(Debug, Default)]
pub struct Totals {
    /// Seeds that were run.
    pub seeds: u64,
    /// Virtual time of all of them.
    pub virtual_time: Duration,
    /// Real time.
    pub time: Duration,
    /// Everything that was exercised.
    pub coverage: Coverage,
    /// Runs that broke a promise, by seed.
    pub failures: BTreeMap<u64, Outcome>,
}

impl Totals {
    fn add(&mut self, outcome: Outcome) {
        self.seeds += 1;
        self.virtual_time += outcome.elapsed;
        self.coverage.add(&outcome.coverage);
        if !outcome.violations.is_empty() {
            self.failures.insert(outcome.seed, outcome);
        }
    }

    /// Edges of the connection machine that were taken, of all that it has.
    #[must_use]
    pub fn edges(&self) -> (usize, usize) {
        (self.coverage.edges.len(), EDGES.len())
    }
}

impl Swarm {
    /// Runs the seeds, and tells `progress` after each; ends early when that says `false`.
    ///
    /// # Panics
    ///
    /// When a thread cannot be started.
    pub fn run(&self, mut progress: impl FnMut(&Totals) -> bool) -> Totals {
        let begun = now();
        let (next, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (tell, told) = mpsc::sync_channel::<Outcome>(self.threads * 2);
        let totals = Mutex::new(Totals::default());
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                let (next, stop, tell) = (Arc::clone(&next), Arc::clone(&stop), tell.clone());
                let Self { first, budget, planted, edition, .. } = *self;
                scope.spawn(move || {
                    while !stop.load(Ordering::Relaxed) {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        let is_over = match budget {
                            Budget::Seeds(seeds) => number >= seeds,
                            Budget::Time(time) => now().duration_since(begun) >= time,
                        };
                        let seed = first + number;
                        let trial = Trial { seed, planted, steps: None, edition };
                        if is_over || tell.send(run::run(trial)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(tell);
            while let Ok(outcome) = told.recv() {
                let mut totals = totals.lock().unwrap_or_else(PoisonError::into_inner);
                totals.add(outcome);
                totals.time = now().duration_since(begun);
                if !progress(&totals) {
                    stop.store(true, Ordering::Relaxed);
                }
            }
        });
        totals.into_inner().unwrap_or_else(PoisonError::into_inner)
    }
}

#[expect(clippy::disallowed_methods, reason = "how long a swarm takes is real time")]
fn now() -> Instant {
    Instant::now()
}
