//! One seed, from the plan to the verdict.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Once};
use std::time::Duration;

use tokio::sync::Notify;

use crate::check::{self, Violation};
use crate::coverage::Coverage;
use crate::federation;
use crate::node::WANTED_PANIC;
use crate::plan::Plan;
use crate::planted::Planted;
use crate::world::World;

/// How often tasks may be polled in one run; more is a run without an end. Most runs take some ten
/// thousand.
const POLLS_MAX: u64 = 2_000_000;

/// How long a run may take of real time; most take a second. One that does not come out of a single
/// poll can be noticed by nothing else.
const TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// What a run without an end breaks.
const ENDS: &str = "liveness_the_run_ends";

thread_local! {
    /// What panicked in the run of this thread.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What came of one run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Its seed.
    pub seed: u64,
    /// Promises that were not kept; empty when all is well.
    pub violations: Vec<Violation>,
    /// The event log, one line for each event.
    pub log: String,
    /// What it exercised.
    pub coverage: Coverage,
    /// How much virtual time it took.
    pub elapsed: Duration,
    /// How many steps the plan had.
    pub steps: usize,
}

/// Which run is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Trial {
    /// Its seed.
    pub seed: u64,
    /// A bug to plant.
    pub planted: Option<Planted>,
    /// Only so many steps of its plan.
    pub steps: Option<usize>,
    /// How much of the world there is.
    pub edition: Edition,
}

/// How much of the world there is. Each edition has what the one before it has and draws the same for
/// it, so that seeds that found something can be run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, clap::ValueEnum)]
pub enum Edition {
    /// The first shape of the world.
    First,
    /// And the first additions of `extras`.
    Second,
    /// And half-open and reordered connections, power that fails inside a sync, refusals of all peers.
    Third,
    /// Everything.
    #[default]
    Fourth,
}

/// Runs a seed.
///
/// # Panics
///
/// When no folder for keys can be made, or no runtime.
#[must_use]
pub fn run(trial: Trial) -> Outcome {
    notice_panics();
    let seed = trial.seed;
    let whole = Plan::draw(trial);
    let plan = trial.steps.map_or_else(|| whole.clone(), |steps| whole.prefix(steps));
    let count = plan.steps.len();
    let mut outcome = watched(seed, TIME_MAX, move || simulate(&plan, POLLS_MAX));
    outcome.steps = count;
    outcome
}

/// Runs what gives an outcome on a thread of its own, which is left behind when it does not end.
fn watched(
    seed: u64,
    time_max: Duration,
    body: impl FnOnce() -> Outcome + Send + 'static,
) -> Outcome {
    let (tell, told) = mpsc::sync_channel(1);
    let thread = std::thread::Builder::new().name(format!("seed-{seed}"));
    let running = thread.spawn(move || {
        // Nobody waits any more when it took too long.
        drop(tell.send(body()));
    });
    let running = running.expect("a thread for a seed");
    let broken = match told.recv_timeout(time_max) {
        Ok(outcome) => return outcome,
        Err(RecvTimeoutError::Timeout) => {
            let text = format!(
                "after {time_max:?} of real time it has not ended; look at it with a debugger"
            );
            Violation { invariant: ENDS, text }
        }
        Err(RecvTimeoutError::Disconnected) => {
            let panic = running.join().err().map(|panic| words(&*panic));
            Violation { invariant: "no_panic", text: panic.unwrap_or_default() }
        }
    };
    Outcome {
        seed,
        violations: vec![broken],
        log: String::new(),
        coverage: Coverage::default(),
        elapsed: Duration::ZERO,
        steps: 0,
    }
}

impl Outcome {
    /// Whether it did not end, so that trying it again takes as long.
    #[must_use]
    pub fn is_endless(&self) -> bool {
        self.violations.iter().any(|violation| violation.invariant == ENDS)
    }
}

fn simulate(plan: &Plan, polls_max: u64) -> Outcome {
    // What draws from the generator of the thread draws the same for the same seed.
    fastrand::seed(plan.seed);
    PANICS.take();
    let keys = tempfile::tempdir().expect("a folder for keys");
    federation::write_keys(keys.path()).expect("keys can be written");
    let polls = Arc::new(Polls { left: AtomicU64::new(polls_max), over: Notify::new() });
    let runtime = runtime(plan.seed, &polls);
    let (journal, done) = runtime.block_on(async {
        let world = World::new(plan, keys.path());
        let journal = world.journal();
        tokio::select! {
            biased;
            () = polls.over.notified() => (journal, None),
            done = world.run() => (journal, Some(done)),
        }
    });
    let elapsed = runtime.block_on(async { journal.elapsed() });
    drop(runtime);
    let (mut violations, entries, coverage) = match done {
        Some((history, coverage)) => (check::check(&history), history.entries, coverage),
        None => (vec![endless(polls_max)], journal.entries().clone(), Coverage::default()),
    };
    let panics = PANICS.take().into_iter();
    violations.extend(panics.map(|text| Violation { invariant: "no_panic", text }));
    let mut log = String::new();
    for entry in &entries {
        // Writing to a string does not fail.
        let _infallible = writeln!(log, "{entry}");
    }
    for Violation { invariant, text } in &violations {
        let _infallible = writeln!(log, "violated {invariant}: {text}");
    }
    Outcome { seed: plan.seed, violations, log, coverage, elapsed, steps: 0 }
}

/// How often tasks may be polled yet, counted in the runtime and by no clock: the same in every run.
struct Polls {
    left: AtomicU64,
    over: Notify,
}

impl Polls {
    #[cfg(tokio_unstable)]
    fn count(&self) {
        // It wraps when the run is over, long before it comes to the last one again.
        if self.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.over.notify_one();
        }
    }
}

fn endless(polls_max: u64) -> Violation {
    let text = format!("tasks were polled {polls_max} times, and the run has not ended");
    Violation { invariant: ENDS, text }
}

/// The shortest beginning of a plan that still breaks the same promise, as far as bisecting finds it.
#[must_use]
pub fn shortest(outcome: &Outcome, trial: Trial) -> usize {
    let Some(first) = outcome.violations.first() else { return outcome.steps };
    let (mut works, mut fails) = (0, outcome.steps);
    while works + 1 < fails {
        let middle = works.midpoint(fails);
        let shorter = run(Trial { seed: outcome.seed, steps: Some(middle), ..trial });
        let is_same = |it: &Violation| it.invariant == first.invariant;
        if shorter.violations.iter().any(is_same) {
            fails = middle;
        } else {
            works = middle;
        }
    }
    fails
}

/// One thread, virtual time, and with the flag of tokio its choices drawn from the seed.
fn runtime(seed: u64, polls: &Arc<Polls>) -> tokio::runtime::Runtime {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().start_paused(true);
    #[cfg(tokio_unstable)]
    {
        builder.rng_seed(tokio::runtime::RngSeed::from_bytes(&seed.to_le_bytes()));
        let polls = Arc::clone(polls);
        builder.on_before_task_poll(move |_| polls.count());
    }
    #[cfg(not(tokio_unstable))]
    tracing::warn!(
        seed,
        polls = polls.left.load(Ordering::Relaxed),
        "built without --cfg tokio_unstable: a seed is not always the same run"
    );
    builder.build().expect("a runtime")
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Remembers panics but those that the simulation wants: supervisors and runtimes go on after one, and
/// it is a violation all the same. A run has one thread.
fn notice_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&WANTED_PANIC) {
                PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
                before(info);
            }
        }));
    });
}

#[cfg(all(test, tokio_unstable))]
mod tests {
    use super::*;

    #[test]
    fn a_run_that_does_not_end_is_a_failure_and_its_log_is_kept() {
        let plan = Plan::draw(Trial { seed: 1, ..Trial::default() });
        let [one, other] = [(), ()].map(|()| simulate(&plan, 5_000));
        let found: Vec<_> = one.violations.iter().map(|it| it.invariant).collect();
        assert_eq!(found, ["liveness_the_run_ends"]);
        assert!(one.log.contains("Started") && one.log == other.log);
    }

    #[test]
    fn a_run_that_stays_in_one_poll_is_left_behind() {
        let endless = watched(7, Duration::from_millis(20), || {
            loop {
                std::thread::park();
            }
        });
        assert!(endless.is_endless() && endless.seed == 7);
        let panicked = watched(7, TIME_MAX, || panic!("a bug"));
        assert_eq!(panicked.violations[0].text, "a bug");
        assert!(!panicked.is_endless());
    }
}
