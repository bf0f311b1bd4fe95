//! One endpoint, as the balancer knows it.

use std::time::{Duration, Instant};

use super::EndpointTraits;
use super::config::{BalanceConfig, SlowStartConfig, WeightSource};
use super::ewma::PeakEwma;
use super::outlier::{EjectCause, Ejected};
use crate::window::Window;

/// What a peer said of its load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    pub(super) at: Instant,
    pub(super) queued_messages: u32,
    pub(super) busy_permille: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) traits: EndpointTraits,
    pub(super) is_local: bool,
    pub(super) is_up: bool,
    /// Whether what it owes says anything about it.
    pub(super) is_prompt: bool,
    /// Slow start counts from here.
    since: Instant,
    ewma: PeakEwma,
    pub(super) unacknowledged: u64,
    /// Those of them that are still leaving or that the peer works on, as last told.
    exempt: u64,
    /// Since when it owes an acknowledgement; true only while something is unacknowledged.
    waiting_since: Instant,
    pub(super) load: Option<Load>,
    pub(super) outcomes: Window,
    pub(super) failures_in_a_row: u32,
    pub(super) ejected: Option<Ejected>,
    /// Ejections in a row, and when the last one ended.
    pub(super) ejections: u32,
    pub(super) returned_at: Instant,
    /// What it is owed in turns.
    pub(super) round: f64,
    pub(super) chosen: u64,
}

impl Member {
    pub(super) fn new(now: Instant, config: &BalanceConfig) -> Self {
        Self {
            traits: EndpointTraits::default(),
            is_local: false,
            is_up: false,
            is_prompt: true,
            since: now,
            ewma: PeakEwma::new(now, config.ewma.default_rtt),
            unacknowledged: 0,
            exempt: 0,
            waiting_since: now,
            load: None,
            outcomes: Window::new(config.outlier.window),
            failures_in_a_row: 0,
            ejected: None,
            ejections: 0,
            returned_at: now,
            round: 0.0,
            chosen: 0,
        }
    }

    pub(super) fn set_traits(&mut self, traits: EndpointTraits, config: &BalanceConfig) {
        self.is_local = config.region.is_some() && traits.region == config.region;
        self.traits = traits;
    }

    /// It comes up, or comes back from an ejection: what was measured before is of another time.
    pub(super) fn begin(&mut self, now: Instant, config: &BalanceConfig) {
        self.since = now;
        self.ewma = PeakEwma::new(now, config.ewma.default_rtt);
        self.waiting_since = now;
        self.exempt = 0;
        self.outcomes.clear();
        self.failures_in_a_row = 0;
        self.round = 0.0;
    }

    pub(super) fn sent(&mut self, now: Instant, messages: u64) {
        if !self.is_owing() {
            self.waiting_since = now;
        }
        self.unacknowledged = self.unacknowledged.saturating_add(messages);
    }

    pub(super) fn acked(
        &mut self,
        now: Instant,
        messages: u64,
        latency: Duration,
        decay: Duration,
    ) {
        self.unacknowledged = self.unacknowledged.saturating_sub(messages);
        self.exempt = self.exempt.min(self.unacknowledged);
        self.waiting_since = now;
        self.failures_in_a_row = 0;
        self.outcomes.add(now, messages, 0);
        self.ewma.add(now, latency, decay);
    }

    pub(super) fn failed(&mut self, now: Instant) {
        self.unacknowledged = self.unacknowledged.saturating_sub(1);
        self.failures_in_a_row = self.failures_in_a_row.saturating_add(1);
        self.outcomes.add(now, 0, 1);
    }

    /// The owner of the messages knows best what is unacknowledged: messages that were withdrawn
    /// are not reported here.
    pub(super) const fn correct(&mut self, now: Instant, unacknowledged: u64) {
        let was_owing = self.is_owing();
        self.unacknowledged = unacknowledged;
        if !was_owing && self.is_owing() {
            self.waiting_since = now;
        }
    }

    /// It is at work on what it has; so many of that have left in full and are not in progress.
    pub(super) const fn progressed(&mut self, now: Instant, awaited: u64) {
        self.waiting_since = now;
        self.exempt = self.unacknowledged.saturating_sub(awaited);
    }

    /// Whether an acknowledgement is overdue some time after now.
    const fn is_owing(&self) -> bool {
        self.unacknowledged > self.exempt
    }

    /// How long it has owed an acknowledgement.
    pub(super) fn waited(&self, now: Instant) -> Duration {
        if !self.is_owing() || !self.is_prompt {
            return Duration::ZERO;
        }
        now.saturating_duration_since(self.waiting_since)
    }

    /// The latency to expect, in seconds. While it owes an acknowledgement it does not decay, and
    /// is at least the time already waited: a peer that stopped answering must not look fast.
    pub(super) fn latency(&self, now: Instant, config: &BalanceConfig) -> f64 {
        if self.unacknowledged == 0 {
            return self.ewma.decayed(now, config.ewma.decay);
        }
        self.ewma.last().max(self.waited(now).as_secs_f64())
    }

    /// What it costs to send one more message to it, in seconds.
    pub(super) fn cost(&self, now: Instant, config: &BalanceConfig) -> f64 {
        // Two idle endpoints with nothing left of their averages still differ by their weights.
        let latency = self.latency(now, config).max(1e-6);
        latency * (self.unacknowledged as f64 + 1.0) / self.weight(now, config)
    }

    /// Its weight now: configured, in its slow start, and with what it reports of its load.
    pub(super) fn weight(&self, now: Instant, config: &BalanceConfig) -> f64 {
        f64::from(self.traits.weight.max(1))
            * self.warmth(now, config.slow_start)
            * self.load_share(now, config)
    }

    /// How far its slow start is: from the configured share to 1.
    pub(super) fn warmth(&self, now: Instant, slow_start: SlowStartConfig) -> f64 {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= slow_start.period {
            return 1.0;
        }
        let done = elapsed.as_secs_f64() / slow_start.period.as_secs_f64();
        slow_start.from + (1.0 - slow_start.from) * done
    }

    fn load_share(&self, now: Instant, config: &BalanceConfig) -> f64 {
        match (config.weights, self.load) {
            (WeightSource::LoadReport, Some(load))
                if now.saturating_duration_since(load.at) < config.load.age_max =>
            {
                let idle = 1.0 - f64::from(load.busy_permille.min(1000)) / 1000.0;
                let queued = f64::from(load.queued_messages) / f64::from(config.load.queued_half);
                (idle / (1.0 + queued)).max(config.load.share_min)
            }
            (WeightSource::Static | WeightSource::LoadReport, Some(_) | None) => 1.0,
        }
    }

    /// Why it should get no messages, if it should not.
    pub(super) fn fault(&mut self, now: Instant, config: &BalanceConfig) -> Option<EjectCause> {
        let outlier = &config.outlier;
        if self.failures_in_a_row >= outlier.consecutive_failures {
            return Some(EjectCause::ConsecutiveFailures);
        }
        let counted = self.outcomes.counted(now);
        if counted.total() >= outlier.outcomes_min
            && counted.success_rate() < outlier.success_rate_min
        {
            return Some(EjectCause::SuccessRate);
        }
        (self.waited(now) >= outlier.stall_max).then_some(EjectCause::Stalled)
    }
}
