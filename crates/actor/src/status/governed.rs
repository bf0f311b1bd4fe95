//! The federation in force, for `/status`.

use bitcoin::Network;
use serde::Serialize;

use crate::federation::{Addresses, FederationCounts, FederationDriver};

/// The federation in force, and what is to replace it.
#[derive(Debug, Serialize)]
pub struct FederationStatus {
    /// Its version.
    pub version: u64,
    /// Signatures that an input needs.
    pub threshold: u32,
    /// How many members there are.
    pub members: usize,
    /// The output script that peg-outs spend, as hexadecimal.
    pub script_pubkey: String,
    /// Its address with `wsh(multi(…))`.
    pub p2wsh: Option<String>,
    /// Its address with `tr(unspendable, multi_a(…))`.
    pub p2tr: Option<String>,
    /// From which height on it is in force; 0 when it was at once.
    pub effective_height: u64,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
    /// What waits for its height, next first.
    pub scheduled: Vec<ScheduledStatus>,
    /// The emergency halt in force.
    pub halt: Option<HaltStatus>,
    /// What was counted since the StreamActor began.
    pub counts: FederationCounts,
}

/// An accepted update that waits for its height.
#[derive(Debug, Serialize)]
pub struct ScheduledStatus {
    /// Its version.
    pub version: u64,
    /// Its height.
    pub effective_height: u64,
}

/// The emergency halt in force.
#[derive(Debug, Serialize)]
pub struct HaltStatus {
    /// Which endpoint brought it.
    pub endpoint: String,
    /// Why, in the words of governance.
    pub reason: String,
    /// Since when, in Unix milliseconds.
    pub since_ms: u64,
}

impl FederationStatus {
    pub(crate) fn of(driver: &FederationDriver, network: Network) -> Self {
        let in_force = driver.in_force().borrow().clone();
        let federation = &in_force.federation;
        let addresses = Addresses::of(federation, network).ok();
        let scheduled = driver.scheduled().into_iter().map(|it| ScheduledStatus {
            version: it.version.0,
            effective_height: it.effective_height,
        });
        Self {
            version: in_force.version.0,
            threshold: federation.threshold(),
            members: federation.members().len(),
            script_pubkey: federation.script_pubkey().to_hex_string(),
            p2wsh: addresses.as_ref().map(|it| it.p2wsh.to_string()),
            p2tr: addresses.as_ref().map(|it| it.p2tr.to_string()),
            effective_height: in_force.effective_height,
            since_ms: in_force.since.0,
            scheduled: scheduled.collect(),
            halt: driver.halted().borrow().as_ref().map(|halt| HaltStatus {
                endpoint: halt.endpoint.clone(),
                reason: halt.reason.clone(),
                since_ms: halt.at.0,
            }),
            counts: driver.counts(),
        }
    }
}
