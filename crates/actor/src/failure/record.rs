//! The failures of one node, shared by everybody who meets one.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use alys_stream_protocol::time::WallClock;
use alys_stream_telemetry::metrics::Metrics;

use super::{Classified, Context, Failure, Failures};

/// Classifies, reports and keeps. Outlives every StreamActor.
#[derive(Debug)]
pub struct FailureLog {
    clock: Arc<dyn WallClock>,
    metrics: Arc<Metrics>,
    failures: Mutex<Failures>,
}

impl FailureLog {
    /// Nothing has failed yet.
    #[must_use]
    pub fn new(clock: Arc<dyn WallClock>, metrics: Arc<Metrics>) -> Self {
        Self { clock, metrics, failures: Mutex::default() }
    }

    /// Takes an error in: one line in the log when it is news, and an entry for `/status`.
    pub fn record<E: Classified + fmt::Display>(&self, error: &E, context: Context) {
        let failure = Failure::new(error, context);
        if self.keep(failure.clone()) {
            failure.report();
        }
    }

    /// The same of one that has its line in the log already.
    pub fn note<E: Classified + fmt::Display>(&self, error: &E, context: Context) {
        self.keep(Failure::new(error, context));
    }

    fn keep(&self, failure: Failure) -> bool {
        self.metrics.failure(failure.row().class.as_str(), failure.kind.as_str());
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        failures.handle_failure(self.clock.now(), failure)
    }

    /// Counts and the last ones.
    #[must_use]
    pub fn snapshot(&self) -> Failures {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
