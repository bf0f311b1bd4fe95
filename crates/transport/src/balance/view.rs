//! What can be seen of the balancer from outside.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::outlier::EjectCause;
use super::{Balancer, EndpointKey, Policy};

/// The balancer, as the status output shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BalanceView {
    /// How one is chosen.
    pub policy: Policy,
    /// Whether ejections are overruled because too few endpoints are healthy.
    pub ejections_overruled: bool,
    /// One entry for each endpoint.
    pub endpoints: Vec<EndpointView>,
}

/// One endpoint, as the balancer sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointView {
    /// Which.
    pub endpoint: EndpointKey,
    /// Whether it takes messages.
    pub is_up: bool,
    /// Why and for how long it gets none.
    pub ejected: Option<EjectionView>,
    /// Its weight now, in thousandths: configured, in its slow start, with its load.
    pub weight_permille: u64,
    /// How far its slow start is, in thousandths.
    pub slow_start_permille: u64,
    /// The time from send to acknowledgement to expect, in microseconds.
    pub ewma_us: u64,
    /// What one more message costs, in microseconds: lower is better.
    pub score_us: u64,
    /// Unacknowledged messages.
    pub unacknowledged: u64,
    /// How often it was chosen.
    pub chosen: u64,
}

/// An ejection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct EjectionView {
    /// Why.
    pub cause: EjectCause,
    /// It ends after this, in milliseconds.
    pub left_ms: u64,
}

/// A number that is never negative, in thousandths.
fn permille(value: f64) -> u64 {
    micros(value / 1000.0)
}

/// Seconds as microseconds.
fn micros(seconds: f64) -> u64 {
    let duration = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl Balancer {
    /// As it stands.
    #[must_use]
    pub fn view(&self, now: Instant) -> BalanceView {
        let endpoints = self.members.keys().filter_map(|key| self.view_of(now, *key)).collect();
        let ejections_overruled = self.is_panicking();
        BalanceView { policy: self.config.policy, ejections_overruled, endpoints }
    }

    /// One endpoint as it stands; `None` when it is unknown.
    #[must_use]
    pub fn view_of(&self, now: Instant, endpoint: EndpointKey) -> Option<EndpointView> {
        let member = self.members.get(&endpoint)?;
        Some(EndpointView {
            endpoint,
            is_up: member.is_up,
            ejected: member.ejected.map(|ejected| EjectionView {
                cause: ejected.cause,
                left_ms: u64::try_from(Self::left(now, ejected).as_millis()).unwrap_or(u64::MAX),
            }),
            weight_permille: permille(member.weight(now, &self.config)),
            slow_start_permille: permille(member.warmth(now, self.config.slow_start)),
            ewma_us: micros(member.latency(now, &self.config)),
            score_us: micros(member.cost(now, &self.config)),
            unacknowledged: member.unacknowledged,
            chosen: member.chosen,
        })
    }
}
