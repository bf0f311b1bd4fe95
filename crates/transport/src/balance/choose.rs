//! The choice itself.

use std::cmp::Ordering;
use std::time::Instant;

use super::config::Policy;
use super::{Balancer, Candidate, EndpointKey};

/// Keeps those that `prefers` says, when there are any.
fn narrow<T>(candidates: &mut Vec<T>, mut prefers: impl FnMut(&T) -> bool) {
    if candidates.iter().any(&mut prefers) {
        candidates.retain(prefers);
    }
}

impl Balancer {
    /// Chooses one of the candidates for one message; `None` when none of them is up.
    ///
    /// The caller reports what it sends with [`Balancer::handle_sent`]; choosing alone counts for
    /// nothing but the turn.
    pub fn choose(&mut self, now: Instant, candidates: &[Candidate]) -> Option<EndpointKey> {
        for candidate in candidates {
            if let Some(member) = self.members.get_mut(&candidate.endpoint) {
                member.correct(now, candidate.unacknowledged);
            }
        }
        self.detect_in_turn(now);
        let mut left = std::mem::take(&mut self.scratch);
        left.clear();
        left.extend(candidates.iter().filter(|candidate| self.is_up(candidate.endpoint)));
        self.narrow(now, &mut left);
        let chosen = self.pick(now, &mut left);
        self.scratch = left;
        let chosen = chosen?;
        debug_assert!(self.is_up(chosen), "T40");
        if let Some(member) = self.members.get_mut(&chosen) {
            member.chosen = member.chosen.saturating_add(1);
        }
        Some(chosen)
    }

    /// Leaves those among which the policy decides.
    fn narrow(&mut self, now: Instant, left: &mut Vec<Candidate>) {
        if !self.is_panicking() {
            narrow(left, |candidate| !self.is_ejected(candidate.endpoint));
        }
        narrow(left, |candidate| !candidate.is_avoided);
        narrow(left, |candidate| !candidate.is_saturated);
        if self.config.policy == Policy::Priority {
            self.narrow_to_tier(now, left);
        }
        if self.config.region.is_some() {
            narrow(left, |candidate| {
                self.members.get(&candidate.endpoint).is_some_and(|member| member.is_local)
            });
        }
    }

    /// One of them, by the policy.
    fn pick(&mut self, now: Instant, left: &mut [Candidate]) -> Option<EndpointKey> {
        match self.config.policy {
            Policy::RoundRobin => self.turn(left, |balancer, key| balancer.warmth(now, key)),
            Policy::Priority | Policy::WeightedRoundRobin => {
                self.turn(left, |balancer, key| balancer.weight(now, key))
            }
            Policy::Latency => self.cheapest(left, |balancer, key| {
                balancer.latency(now, key) / balancer.warmth(now, key)
            }),
            Policy::LeastConnections => self.cheapest(left, |balancer, key| {
                (balancer.unacknowledged(key) + 1.0) / balancer.weight(now, key)
            }),
            Policy::PeakEwma => {
                let two = self.two_of(left);
                self.cheapest(two, |balancer, key| balancer.cost(now, key))
            }
        }
    }

    /// The highest tier; one that is in its slow start gets its share of the messages, and the
    /// next tier the rest. A tier is as warm as its warmest endpoint.
    fn narrow_to_tier(&mut self, now: Instant, left: &mut Vec<Candidate>) {
        let tier_of = |balancer: &Self, key: EndpointKey| {
            balancer.members.get(&key).map_or(0, |member| member.traits.priority)
        };
        let mut tiers: Vec<u32> = left.iter().map(|c| tier_of(self, c.endpoint)).collect();
        tiers.sort_unstable_by(|a, b| b.cmp(a));
        tiers.dedup();
        let last = tiers.last().copied();
        for tier in tiers {
            let warmth = left
                .iter()
                .filter(|candidate| tier_of(self, candidate.endpoint) == tier)
                .map(|candidate| self.warmth(now, candidate.endpoint))
                .fold(0.0, f64::max);
            if Some(tier) == last || warmth >= 1.0 || self.rng.f64() < warmth {
                left.retain(|candidate| tier_of(self, candidate.endpoint) == tier);
                return;
            }
        }
    }

    /// Each in turn as often as its weight says, evenly mixed: everyone is owed its weight, whoever
    /// is owed most gets the message and pays for all (the smooth weighted round robin of nginx).
    fn turn(
        &mut self,
        left: &[Candidate],
        weight: impl Fn(&Self, EndpointKey) -> f64,
    ) -> Option<EndpointKey> {
        let mut total = 0.0;
        let mut best: Option<(f64, EndpointKey)> = None;
        for Candidate { endpoint: key, .. } in left {
            let weight = weight(self, *key);
            let Some(member) = self.members.get_mut(key) else {
                continue;
            };
            total += weight;
            member.round += weight;
            if best.is_none_or(|(owed, _)| member.round > owed) {
                best = Some((member.round, *key));
            }
        }
        let (_, key) = best?;
        if let Some(member) = self.members.get_mut(&key) {
            member.round -= total;
        }
        Some(key)
    }

    /// The cheapest; a tie is decided by chance.
    fn cheapest(
        &mut self,
        left: &[Candidate],
        cost: impl Fn(&Self, EndpointKey) -> f64,
    ) -> Option<EndpointKey> {
        if let [only] = left {
            return Some(only.endpoint);
        }
        let mut best: Option<(f64, EndpointKey)> = None;
        let mut ties = 0_u32;
        for Candidate { endpoint: key, .. } in left {
            let cost = cost(self, *key);
            let order = best.map_or(Ordering::Less, |(least, _)| cost.total_cmp(&least));
            ties = match order {
                Ordering::Less => 1,
                Ordering::Equal => ties + 1,
                Ordering::Greater => continue,
            };
            // The n-th of equals replaces the one before with a chance of 1/n: all are as likely.
            if ties == 1 || self.rng.u32(0..ties) == 0 {
                best = Some((cost, *key));
            }
        }
        best.map(|(_, key)| key)
    }

    /// Two of them at random: comparing all would send every message of a burst to the same one.
    fn two_of<'a>(&mut self, left: &'a mut [Candidate]) -> &'a [Candidate] {
        if left.len() > 2 {
            let first = self.rng.usize(0..left.len());
            left.swap(0, first);
            let second = self.rng.usize(1..left.len());
            left.swap(1, second);
        }
        left.get(..2).unwrap_or(left)
    }

    pub(super) fn is_up(&self, key: EndpointKey) -> bool {
        self.members.get(&key).is_some_and(|member| member.is_up)
    }

    fn is_ejected(&self, key: EndpointKey) -> bool {
        self.members.get(&key).is_some_and(|member| member.ejected.is_some())
    }

    fn warmth(&self, now: Instant, key: EndpointKey) -> f64 {
        self.members.get(&key).map_or(1.0, |member| member.warmth(now, self.config.slow_start))
    }

    fn weight(&self, now: Instant, key: EndpointKey) -> f64 {
        self.members.get(&key).map_or(1.0, |member| member.weight(now, &self.config))
    }

    fn latency(&self, now: Instant, key: EndpointKey) -> f64 {
        self.members.get(&key).map_or(f64::MAX, |member| member.latency(now, &self.config))
    }

    fn cost(&self, now: Instant, key: EndpointKey) -> f64 {
        self.members.get(&key).map_or(f64::MAX, |member| member.cost(now, &self.config))
    }

    fn unacknowledged(&self, key: EndpointKey) -> f64 {
        self.members.get(&key).map_or(0.0, |member| member.unacknowledged as f64)
    }
}
