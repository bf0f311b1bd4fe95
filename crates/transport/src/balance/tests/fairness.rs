//! Equals get equal shares, over many seeds; unequals get what they can do.

use std::collections::VecDeque;

use super::*;

/// Pearson's χ² of `counts` against equal shares.
fn chi_square(counts: &[u32]) -> f64 {
    let total: u32 = counts.iter().sum();
    let expected = f64::from(total) / counts.len() as f64;
    counts.iter().map(|count| (f64::from(*count) - expected).powi(2) / expected).sum()
}

#[test]
fn equal_endpoints_get_equal_shares() {
    // With χ² above this bound and up to four degrees of freedom the chance is below 1 in 10⁶, and
    // there are 4 × 3 × 40 trials.
    const CHI_SQUARE_MAX: f64 = 34.0;
    const SEEDS: u32 = 40;
    for policy in [Policy::RoundRobin, Policy::Latency, Policy::LeastConnections, Policy::PeakEwma]
    {
        for endpoints in [2_u16, 3, 5] {
            let mut sum = 0.0;
            for seed in 0..SEEDS {
                let (mut balancer, now) =
                    warm(config(policy), seed.into(), &equal(usize::from(endpoints)));
                let counts = counts(&mut balancer, now, endpoints, 1000);
                let chi_square = chi_square(&counts);
                sum += chi_square;
                assert!(
                    chi_square < CHI_SQUARE_MAX,
                    "{policy:?}, {endpoints} endpoints, seed {seed}: χ² {chi_square} of {counts:?}"
                );
            }
            // The mean of χ² is the degrees of freedom; the trials together come close to it.
            let freedom = f64::from(endpoints - 1);
            let mean = sum / f64::from(SEEDS);
            assert!(mean < freedom * 2.0, "{policy:?}, {endpoints} endpoints: mean χ² {mean}");
        }
    }
}

/// Peers that take so long for each message, one after the other; 1000 messages a second arrive.
/// Returns how many each got, and the highest number in flight.
fn simulated(policy: Policy, seed: u64, service_ms: &[u64]) -> (Vec<u64>, usize) {
    let (mut balancer, t0) = warm(config(policy), seed, &equal(service_ms.len()));
    let mut queues: Vec<VecDeque<(u64, u64)>> = vec![VecDeque::new(); service_ms.len()];
    let (mut got, mut most) = (vec![0; service_ms.len()], 0);
    for ms in 0..10_000_u64 {
        let now = t0 + Duration::from_millis(ms);
        for (n, queue) in (0..).zip(&mut queues) {
            while let Some((sent, done)) = queue.front().copied().filter(|(_, done)| *done <= ms) {
                queue.pop_front();
                balancer.handle_acked(now, key(n), 1, Duration::from_millis(done - sent));
            }
        }
        let candidates: Vec<Candidate> = (0..)
            .zip(&queues)
            .map(|(n, queue)| Candidate::new(key(n), u64::try_from(queue.len()).unwrap()))
            .collect();
        let chosen = balancer.choose(now, &candidates).expect("T40");
        balancer.handle_sent(now, chosen, 1);
        let index = usize::from(chosen.0);
        let free = queues[index].back().map_or(ms, |(_, done)| *done);
        queues[index].push_back((ms, free.max(ms) + service_ms[index]));
        got[index] += 1;
        most = most.max(queues[index].len());
    }
    (got, most)
}

#[test]
fn peak_ewma_sends_a_slow_peer_less_and_keeps_its_queue_short() {
    for seed in 0..4 {
        // Together they can do 2.2 messages in a millisecond; a fair third would drown the last.
        let (got, most) = simulated(Policy::PeakEwma, seed, &[1, 1, 5]);
        assert!(got[2] * 5 < got[0] + got[1], "seed {seed}: {got:?}");
        assert!(most < 60, "seed {seed}: {most} in one queue, {got:?}");
        let (_, drowned) = simulated(Policy::RoundRobin, seed, &[1, 1, 5]);
        assert!(drowned > 500, "round robin is blind to it: {drowned}");
    }
}
