//! The configuration of the balancer, which outlives every StreamActor.
//!
//! A balancer is made anew with every life of the StreamActor, from what the node was started with;
//! what an operator switched to since is kept here.
//!
//! Invariant:
//! - A18: the delivery that runs balances by what was set last: setting it and beginning to run
//!   exclude each other.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alys_stream_transport::balance::BalanceConfig;
use tokio::sync::watch;

use crate::delivery::Delivery;
use crate::stream_actor::Phase;

/// What was set last.
#[derive(Debug, Clone)]
pub(crate) struct BalanceSetting {
    config: Arc<Mutex<BalanceConfig>>,
}

impl BalanceSetting {
    /// What the node is started with.
    pub(crate) fn new(config: BalanceConfig) -> Self {
        Self { config: Arc::new(Mutex::new(config)) }
    }

    fn lock(&self) -> MutexGuard<'_, BalanceConfig> {
        self.config.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Switches the delivery that runs, when one does, and all that follow.
    pub(crate) fn set(&self, config: BalanceConfig, phase: &watch::Receiver<Phase>) {
        let mut set = self.lock();
        let running = phase.borrow().clone();
        if let Phase::Running(delivery) = running {
            delivery.set_balance(config.clone());
        }
        *set = config;
    }

    /// From here on `delivery` is the one that runs.
    pub(crate) fn run(&self, delivery: Arc<Delivery>, phase: &watch::Sender<Phase>) {
        let set = self.lock();
        delivery.set_balance(set.clone());
        phase.send_replace(Phase::Running(delivery));
    }
}
