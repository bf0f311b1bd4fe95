//! Tests of the balancer: each policy alone, then the rules that all share.

use super::*;

mod fairness;
mod outliers;
mod policies;
mod properties;

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
fn start() -> Instant {
    Instant::now()
}

fn key(n: u16) -> EndpointKey {
    EndpointKey(n)
}

fn config(policy: Policy) -> BalanceConfig {
    BalanceConfig { policy, ..BalanceConfig::default() }
}

fn traits(priority: u32, weight: u32) -> EndpointTraits {
    EndpointTraits { priority, weight, region: None }
}

/// Endpoints 0, 1, … with these traits, up and past their slow start at the returned time.
fn warm(config: BalanceConfig, seed: u64, all: &[EndpointTraits]) -> (Balancer, Instant) {
    let t0 = start();
    let mut balancer = Balancer::new(config, seed);
    for (n, traits) in (0..).zip(all) {
        balancer.handle_endpoint_added(t0, key(n), traits.clone());
        balancer.handle_up(t0, key(n));
    }
    (balancer, t0 + 60 * SECOND)
}

fn equal(count: usize) -> Vec<EndpointTraits> {
    vec![EndpointTraits::default(); count]
}

/// How often each of the first `endpoints` is chosen in `rounds`, with nothing in flight.
fn counts(balancer: &mut Balancer, now: Instant, endpoints: u16, rounds: u32) -> Vec<u32> {
    let candidates: Vec<Candidate> = (0..endpoints).map(|n| Candidate::new(key(n), 0)).collect();
    let mut counts = vec![0; usize::from(endpoints)];
    for _ in 0..rounds {
        let chosen = balancer.choose(now, &candidates).expect("T40");
        counts[usize::from(chosen.0)] += 1;
    }
    counts
}
