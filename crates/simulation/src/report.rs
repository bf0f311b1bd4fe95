//! What `sim` says while it runs, and of the runs that broke a promise.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use alys_stream_simulation::{Edition, Outcome, Totals, Trial, run, shortest};
use clap::ValueEnum as _;

/// Runs whose beginnings are shortened: each takes about as long as ten runs.
const SHORTENED_MAX: usize = 20;

/// Where event logs go, and how many threads there are.
pub(crate) struct Desk {
    pub(crate) logs: PathBuf,
    pub(crate) threads: usize,
}

/// One line of how far it is.
pub(crate) fn progress(totals: &Totals) -> String {
    let (edges, all_edges) = totals.edges();
    let coverage = &totals.coverage;
    let struck: u64 = coverage.faults.values().map(|count| count.struck).sum();
    let mut kinds = String::new();
    for (kind, count) in coverage.faults.iter().filter(|(_, count)| count.struck > 0) {
        // Writing to a string does not fail.
        let _infallible = write!(kinds, " {kind:?} {}", count.struck);
    }
    let per_second = f64::from(u32::try_from(totals.seeds).unwrap_or(u32::MAX))
        / totals.time.as_secs_f64().max(0.001);
    format!(
        "{} seeds, {per_second:.1}/s, {} virtual hours, {} failed, {edges}/{all_edges} edges, \
         {} classes and {} kinds of errors, {struck} faults:{kinds}",
        totals.seeds,
        totals.virtual_time.as_secs() / 3600,
        totals.failures.len(),
        coverage.classes.values().filter(|count| **count > 0).count(),
        coverage.kinds.len(),
    )
}

impl Desk {
    /// Keeps an event log; where it is.
    pub(crate) fn keep(&self, outcome: &Outcome, kind: &str) -> anyhow::Result<PathBuf> {
        std::fs::create_dir_all(&self.logs)?;
        let path = Path::new(&self.logs).join(format!("seed-{}.{kind}", outcome.seed));
        std::fs::write(&path, &outcome.log)?;
        Ok(path)
    }

    /// Says what is wrong with each run, and how to see it again. Of many, the first are shortened.
    pub(crate) fn failures(&self, all: &[(&Outcome, Trial)]) -> anyhow::Result<Vec<String>> {
        let (next, texts) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    while let place = next.fetch_add(1, Ordering::Relaxed)
                        && let Some((outcome, trial)) = all.get(place)
                    {
                        let text = self.failure(outcome, *trial, place < SHORTENED_MAX);
                        let mut texts = texts.lock().unwrap_or_else(PoisonError::into_inner);
                        texts.push((place, text));
                    }
                });
            }
        });
        let mut texts = texts.into_inner().unwrap_or_else(PoisonError::into_inner);
        texts.sort_by_key(|(place, _)| *place);
        texts.into_iter().map(|(_, text)| text).collect()
    }

    fn failure(&self, outcome: &Outcome, trial: Trial, is_short: bool) -> anyhow::Result<String> {
        let seed = outcome.seed;
        let (steps, path, how) = if outcome.is_endless() {
            (outcome.steps, self.keep(outcome, "log")?, "not shortened, since it does not end")
        } else if is_short {
            let steps = shortest(outcome, trial);
            let path = self.keep(&run(Trial { steps: Some(steps), ..trial }), "log")?;
            (steps, path, "shortest beginning")
        } else {
            (outcome.steps, self.keep(outcome, "log")?, "not shortened, since there are so many")
        };
        let mut text = format!("seed {seed} breaks a promise:\n");
        for violation in &outcome.violations {
            writeln!(text, "  {}: {}", violation.invariant, violation.text)?;
        }
        writeln!(text, "  {how}: {steps} of {} steps", outcome.steps)?;
        writeln!(text, "  event log: {}", path.display())?;
        let bug = trial.planted.map(|bug| format!(" --bug {}", bug.as_str())).unwrap_or_default();
        let edition = named(trial.edition);
        write!(
            text,
            "  again: cargo xtask sim --seed {seed} --steps {steps}{bug}{edition} --trace"
        )?;
        Ok(text)
    }
}

/// How the command line calls an edition that is not the present one.
fn named(edition: Edition) -> String {
    let value = edition.to_possible_value().filter(|_| edition != Edition::default());
    value.map(|value| format!(" --edition {}", value.get_name())).unwrap_or_default()
}
