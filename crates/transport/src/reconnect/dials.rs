//! What the drivers of all endpoints of a node share about dialling.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::budget::{RetryBudget, RetryBudgetConfig};
use super::spread::{DialSpread, DialSpreadConfig};

/// How a node dials its endpoints, all together.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct DialsConfig {
    /// First dials.
    pub spread: DialSpreadConfig,
    /// Repeated dials.
    pub budget: RetryBudgetConfig,
}

/// Shared by all drivers of a node.
#[derive(Debug)]
pub struct Dials(Mutex<(DialSpread, RetryBudget)>);

impl Dials {
    /// For one node.
    #[must_use]
    pub fn new(config: DialsConfig, seed: u64) -> Self {
        let spread = DialSpread::new(config.spread, seed);
        Self(Mutex::new((spread, RetryBudget::new(config.budget))))
    }

    /// How long an endpoint waits for its first dial.
    pub fn start_delay(&self, now: Instant) -> Duration {
        crate::lock(&self.0).0.next_delay(now)
    }

    /// An endpoint is dialled for the first time, by order, or after a connection that was good.
    pub fn handle_first(&self, now: Instant) {
        crate::lock(&self.0).1.handle_first(now);
    }

    /// An endpoint is to be dialled again.
    ///
    /// # Errors
    ///
    /// How long to wait when too many are.
    pub fn try_retry(&self, now: Instant) -> Result<(), Duration> {
        let budget = &mut crate::lock(&self.0).1;
        if budget.try_retry(now) { Ok(()) } else { Err(budget.patience()) }
    }
}
