//! Which endpoint gets the next message that any of them may have.
//!
//! Pure, and of one node: it compares the endpoints that the caller names, and never sends. Not
//! the order of messages and not their keys: while a message with an ordering key is unsettled,
//! its owner keeps later ones on the same endpoint and does not ask here.
//!
//! Every choice narrows the candidates in the same order, and each step is skipped when it would
//! leave none:
//!
//! 1. those that are up;
//! 2. those that are not ejected, unless too few endpoints are healthy;
//! 3. those that are not avoided by the caller (it refused this message before, say);
//! 4. those with room; a full window is what spills over to the next tier;
//! 5. under [`Policy::Priority`], the highest tier;
//! 6. those in the region of this node;
//! 7. one of the rest, by the policy.
//!
//! Invariants:
//! - T40: a choice is one of the candidates, and is up; there is one whenever a candidate is up.
//! - T41: at most the configured share of the endpoints is ejected at once, and never the last one
//!   that is up.
//! - T42: one seed and one script give one sequence of choices.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

mod choose;
mod config;
mod ewma;
mod member;
mod outlier;
#[cfg(test)]
mod tests;
mod view;

pub use config::{
    BalanceConfig, BalanceConfigError, EwmaConfig, LoadConfig, OutlierConfig, Policy,
    SlowStartConfig, WeightSource,
};
pub use outlier::EjectCause;
pub use view::{BalanceView, EjectionView, EndpointView};

use self::member::Member;

/// Events kept for [`Balancer::poll_event`]; the oldest go first.
pub const EVENTS_MAX: usize = 256;

/// How often choosing looks for endpoints to eject. Failures and [`Balancer::handle_timeout`] look
/// at once; looking for each message would cost more than choosing.
pub const DETECT_INTERVAL: Duration = Duration::from_millis(50);

/// An endpoint, as the balancer and its caller call it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointKey(pub u16);

/// What the configuration says of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndpointTraits {
    /// Higher wins.
    pub priority: u32,
    /// Its share, at least 1.
    pub weight: u32,
    /// Where it stands.
    pub region: Option<String>,
}

impl Default for EndpointTraits {
    fn default() -> Self {
        Self { priority: 100, weight: 1, region: None }
    }
}

impl From<&crate::endpoint::EndpointConfig> for EndpointTraits {
    fn from(config: &crate::endpoint::EndpointConfig) -> Self {
        let region = config.region.clone();
        Self { priority: config.priority, weight: config.weight, region }
    }
}

/// An endpoint that could take the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub endpoint: EndpointKey,
    /// Messages that it has and has not acknowledged.
    pub unacknowledged: u64,
    /// Whether its window is full: it is chosen only when all are.
    pub is_saturated: bool,
    /// Whether another one is better for this message: it is chosen only when there is none.
    pub is_avoided: bool,
}

impl Candidate {
    /// One with room.
    #[must_use]
    pub const fn new(endpoint: EndpointKey, unacknowledged: u64) -> Self {
        Self { endpoint, unacknowledged, is_saturated: false, is_avoided: false }
    }
}

/// Something that an operator wants to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BalanceEvent {
    /// An endpoint gets no messages for a while.
    Ejected {
        /// Which.
        endpoint: EndpointKey,
        /// Why.
        cause: EjectCause,
        /// For so long.
        period: Duration,
    },
    /// It gets messages again, few at first.
    Returned {
        /// Which.
        endpoint: EndpointKey,
    },
}

/// The machine.
#[derive(Debug, Clone)]
pub struct Balancer {
    config: BalanceConfig,
    members: BTreeMap<EndpointKey, Member>,
    rng: fastrand::Rng,
    events: VecDeque<BalanceEvent>,
    detected_at: Option<Instant>,
    /// Room for a choice, kept from one to the next.
    scratch: Vec<Candidate>,
}

impl Balancer {
    /// One that knows no endpoint yet. Values of `config` that [`BalanceConfig::check`] refuses
    /// are brought into range.
    #[must_use]
    pub fn new(config: BalanceConfig, seed: u64) -> Self {
        Self {
            config: config.into_range(),
            members: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
            events: VecDeque::new(),
            detected_at: None,
            scratch: Vec::new(),
        }
    }

    /// The configuration in force.
    #[must_use]
    pub const fn config(&self) -> &BalanceConfig {
        &self.config
    }

    /// Switches to another configuration: what was measured stays.
    pub fn set_config(&mut self, config: BalanceConfig) {
        let config = config.into_range();
        let is_other_window = config.outlier.window != self.config.outlier.window;
        self.config = config;
        for member in self.members.values_mut() {
            member.round = 0.0;
            if is_other_window {
                member.outcomes = crate::window::Window::new(self.config.outlier.window);
            }
        }
    }

    /// An endpoint is configured; again, when its traits have changed. It is down until
    /// [`Balancer::handle_up`].
    pub fn handle_endpoint_added(
        &mut self,
        now: Instant,
        endpoint: EndpointKey,
        traits: EndpointTraits,
    ) {
        let config = &self.config;
        self.members
            .entry(endpoint)
            .or_insert_with(|| Member::new(now, config))
            .set_traits(traits, config);
    }

    /// An endpoint is not configured any more.
    pub fn handle_endpoint_removed(&mut self, now: Instant, endpoint: EndpointKey) {
        self.members.remove(&endpoint);
        // Of fewer endpoints fewer may be ejected.
        self.return_excess(now);
        self.return_when_alone(now);
    }

    /// A link is up and takes messages: slow start begins.
    pub fn handle_up(&mut self, now: Instant, endpoint: EndpointKey) {
        if let Some(member) = self.members.get_mut(&endpoint)
            && !member.is_up
        {
            member.is_up = true;
            member.begin(now, &self.config);
        }
        // It may have been ejected before it went down, and be the only one up now.
        self.return_when_alone(now);
    }

    /// A link takes no messages.
    pub fn handle_down(&mut self, now: Instant, endpoint: EndpointKey) {
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.is_up = false;
            member.unacknowledged = 0;
        }
        // What was ejected while others were up may be the last one now.
        self.return_when_alone(now);
    }

    /// Whether an endpoint acknowledges when it has a message, as sessions do; true until told. A
    /// plain `governance.v1` peer settles some messages only by its answers, which may take minutes:
    /// what it owes then is no sign of a stall, nor of a long latency.
    pub fn handle_promptness(&mut self, endpoint: EndpointKey, is_prompt: bool) {
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.is_prompt = is_prompt;
        }
    }

    /// So many messages went to an endpoint.
    pub fn handle_sent(&mut self, now: Instant, endpoint: EndpointKey, messages: u64) {
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.sent(now, messages);
        }
    }

    /// An endpoint acknowledged so many messages, the slowest of them so long after it was sent.
    pub fn handle_acked(
        &mut self,
        now: Instant,
        endpoint: EndpointKey,
        messages: u64,
        latency: Duration,
    ) {
        let decay = self.config.ewma.decay;
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.acked(now, messages, latency, decay);
        }
    }

    /// So many messages are unacknowledged at an endpoint, as the owner of the messages counts:
    /// those that were withdrawn, or answered elsewhere, are not reported as acknowledged. A caller
    /// says so before [`Balancer::handle_timeout`]; [`Balancer::choose`] is told by its candidates.
    pub fn handle_unacknowledged(&mut self, now: Instant, endpoint: EndpointKey, messages: u64) {
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.correct(now, messages);
        }
    }

    /// An endpoint and its link are at work, although nothing may be acknowledged: a part of a long
    /// message has left, or the peer says that it works on one. Of what it has, `awaited` messages
    /// have left in full and are not in progress: the others are no sign of a stall.
    pub fn handle_progress(&mut self, now: Instant, endpoint: EndpointKey, awaited: u64) {
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.progressed(now, awaited);
        }
    }

    /// An endpoint refused a message for now, or lost its stream with messages on it.
    pub fn handle_failure(&mut self, now: Instant, endpoint: EndpointKey) {
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.failed(now);
        }
        self.detect(now);
    }

    /// An endpoint says how busy it is: messages it has not handled, and the thousandths of a
    /// second that it works.
    pub fn handle_load_report(
        &mut self,
        now: Instant,
        endpoint: EndpointKey,
        queued_messages: u32,
        busy_permille: u32,
    ) {
        if let Some(member) = self.members.get_mut(&endpoint) {
            member.load = Some(member::Load { at: now, queued_messages, busy_permille });
        }
    }

    /// Lets time act: ejections begin and end. [`Balancer::choose`] does the same; a caller that
    /// chooses rarely calls this once a second, so that what it shows is true.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.detect(now);
    }

    /// What happened since the last call.
    pub fn poll_event(&mut self) -> Option<BalanceEvent> {
        self.events.pop_front()
    }

    fn report(&mut self, event: BalanceEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
