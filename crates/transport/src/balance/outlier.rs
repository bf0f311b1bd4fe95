//! Ejection: an endpoint that is up and does not do its work gets no messages for a while.

use std::time::{Duration, Instant};

use serde::Serialize;

use super::config::BalanceConfig;
use super::{BalanceEvent, Balancer, DETECT_INTERVAL, EndpointKey};

/// Why an endpoint was ejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum EjectCause {
    /// Too many failures in a row.
    ConsecutiveFailures,
    /// Too few successes in the window.
    SuccessRate,
    /// It acknowledges nothing of what it has.
    Stalled,
}

impl EjectCause {
    /// The word used in metrics and output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::SuccessRate => "success_rate",
            Self::Stalled => "stalled",
        }
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Ejected {
    pub(super) until: Instant,
    pub(super) cause: EjectCause,
}

/// So many of `total` may be ejected at once.
fn ejected_max(total: usize, config: &BalanceConfig) -> usize {
    (0..=total)
        .rev()
        .find(|n| *n as f64 <= total as f64 * config.outlier.ejected_share_max)
        .unwrap_or(0)
}

impl Balancer {
    /// Ends the ejections that are over, then looks for endpoints to eject.
    pub(super) fn detect(&mut self, now: Instant) {
        self.detected_at = Some(now);
        let is_over = |until: Instant| until <= now || !self.config.outlier.enabled;
        let over: Vec<EndpointKey> = self
            .members
            .iter()
            .filter(|(_, member)| member.ejected.is_some_and(|ejected| is_over(ejected.until)))
            .map(|(key, _)| *key)
            .collect();
        for key in over {
            self.take_back(now, key);
        }
        self.return_excess(now);
        if self.config.outlier.enabled {
            let keys: Vec<EndpointKey> = self.members.keys().copied().collect();
            for key in keys {
                self.detect_one(now, key);
            }
        }
    }

    /// The same, unless it was done a moment ago.
    pub(super) fn detect_in_turn(&mut self, now: Instant) {
        let is_due = |at: Instant| now.saturating_duration_since(at) >= DETECT_INTERVAL;
        if self.detected_at.is_none_or(is_due) {
            self.detect(now);
        }
    }

    fn detect_one(&mut self, now: Instant, key: EndpointKey) {
        let total = self.members.len();
        let ejected = self.members.values().filter(|member| member.ejected.is_some()).count();
        let others_up = self
            .members
            .iter()
            .any(|(other, member)| *other != key && member.is_up && member.ejected.is_none());
        let Some(member) = self.members.get_mut(&key) else {
            return;
        };
        if !member.is_up || member.ejected.is_some() {
            return;
        }
        let Some(cause) = member.fault(now, &self.config) else {
            return;
        };
        // T41.
        if ejected >= ejected_max(total, &self.config) || !others_up {
            return;
        }
        let outlier = self.config.outlier;
        if now.saturating_duration_since(member.returned_at) >= outlier.ejection_max {
            member.ejections = 0;
        }
        member.ejections = member.ejections.saturating_add(1);
        let period = outlier.ejection.saturating_mul(member.ejections).min(outlier.ejection_max);
        member.ejected = Some(Ejected { until: now + period, cause });
        self.report(BalanceEvent::Ejected { endpoint: key, cause, period });
        debug_assert!(
            self.members.values().any(|member| member.is_up && member.ejected.is_none()),
            "T41"
        );
    }

    /// T41, after another endpoint was removed: those that would return first do so now.
    pub(super) fn return_excess(&mut self, now: Instant) {
        let most = ejected_max(self.members.len(), &self.config);
        let mut ejected: Vec<(Instant, EndpointKey)> = self
            .members
            .iter()
            .filter_map(|(key, member)| member.ejected.map(|ejected| (ejected.until, *key)))
            .collect();
        ejected.sort_unstable();
        let excess = ejected.len().saturating_sub(most);
        for (_, key) in ejected.into_iter().take(excess) {
            self.take_back(now, key);
        }
    }

    /// T41, after another endpoint went down.
    pub(super) fn return_when_alone(&mut self, now: Instant) {
        if self.members.values().any(|member| member.is_up && member.ejected.is_none()) {
            return;
        }
        let ejected: Vec<EndpointKey> =
            self.members.iter().filter(|(_, m)| m.is_up).map(|(key, _)| *key).collect();
        for key in ejected {
            self.take_back(now, key);
        }
    }

    fn take_back(&mut self, now: Instant, key: EndpointKey) {
        if let Some(member) = self.members.get_mut(&key)
            && member.ejected.take().is_some()
        {
            member.returned_at = now;
            member.begin(now, &self.config);
            self.report(BalanceEvent::Returned { endpoint: key });
        }
    }

    /// Whether so few endpoints are healthy that ejections are overruled: better a message at a
    /// bad endpoint than all of them at the one that is left.
    pub(super) fn is_panicking(&self) -> bool {
        let total = self.members.len() as f64;
        let healthy =
            self.members.values().filter(|member| member.is_up && member.ejected.is_none()).count();
        (healthy as f64) < total * self.config.outlier.healthy_share_min
    }

    /// The period that is left of an ejection.
    pub(super) fn left(now: Instant, ejected: Ejected) -> Duration {
        ejected.until.saturating_duration_since(now)
    }
}
