//! What each policy prefers.

use super::*;

#[test]
fn round_robin_takes_turns() {
    let (mut balancer, now) = warm(config(Policy::RoundRobin), 1, &equal(3));
    let candidates = [0, 1, 2].map(|n| Candidate::new(key(n), 0));
    let chosen: Vec<u16> =
        (0..6).map(|_| balancer.choose(now, &candidates).expect("T40").0).collect();
    assert_eq!(chosen, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn weights_are_kept_exactly_and_evenly_mixed() {
    let all = [traits(100, 5), traits(100, 1), traits(100, 1)];
    let (mut balancer, now) = warm(config(Policy::WeightedRoundRobin), 1, &all);
    let candidates = [0, 1, 2].map(|n| Candidate::new(key(n), 0));
    let chosen: Vec<u16> =
        (0..7).map(|_| balancer.choose(now, &candidates).expect("T40").0).collect();
    assert_eq!(chosen, [0, 0, 1, 0, 2, 0, 0]);
    assert_eq!(counts(&mut balancer, now, 3, 700), [500, 100, 100]);
}

#[test]
fn weights_follow_load_reports_while_they_are_fresh() {
    let loaded =
        BalanceConfig { weights: WeightSource::LoadReport, ..config(Policy::WeightedRoundRobin) };
    let (mut balancer, now) = warm(loaded, 1, &equal(3));
    balancer.handle_load_report(now, key(0), 0, 500);
    balancer.handle_load_report(now, key(1), 1024, 0);
    balancer.handle_load_report(now, key(2), 0, 0);
    assert_eq!(counts(&mut balancer, now, 3, 400), [100, 100, 200]);
    balancer.handle_load_report(now, key(0), 1_000_000, 1000);
    let weight = balancer.view_of(now, key(0)).expect("known").weight_permille;
    assert_eq!(weight, 100, "the least share");
    let stale = now + 45 * SECOND;
    assert_eq!(counts(&mut balancer, stale, 3, 300), [100, 100, 100]);
    // Static weights do not look at reports.
    balancer.handle_load_report(stale, key(0), 0, 1000);
    balancer.set_config(config(Policy::WeightedRoundRobin));
    assert_eq!(counts(&mut balancer, stale, 3, 300), [100, 100, 100]);
}

#[test]
fn the_highest_tier_is_used_and_a_full_one_spills_over() {
    let all = [traits(100, 1), traits(100, 1), traits(90, 1), traits(80, 1)];
    let (mut balancer, now) = warm(config(Policy::Priority), 1, &all);
    assert_eq!(counts(&mut balancer, now, 4, 100), [50, 50, 0, 0]);
    let full = |n| Candidate { is_saturated: true, ..Candidate::new(key(n), 1024) };
    let candidates = [full(0), full(1), Candidate::new(key(2), 0), Candidate::new(key(3), 0)];
    assert_eq!(balancer.choose(now, &candidates), Some(key(2)), "spill-over");
    let all_full = [full(0), full(1), full(2), full(3)];
    let chosen = balancer.choose(now, &all_full).expect("T40");
    assert!(chosen <= key(1), "when all are full, the highest tier");
    for n in [0, 1] {
        balancer.handle_down(now, key(n));
    }
    assert_eq!(counts(&mut balancer, now, 4, 10), [0, 0, 10, 0]);
}

#[test]
fn a_tier_that_comes_back_takes_over_slowly() {
    let all = [traits(100, 1), traits(90, 1)];
    let (mut balancer, now) = warm(config(Policy::Priority), 3, &all);
    balancer.handle_down(now, key(0));
    assert_eq!(counts(&mut balancer, now, 2, 10), [0, 10]);
    balancer.handle_up(now, key(0));
    let shares: Vec<u32> =
        [0_u32, 10, 20, 30].map(|s| counts(&mut balancer, now + SECOND * s, 2, 1000)[0]).to_vec();
    let expected = [100, 400, 700, 1000];
    for (share, expected) in shares.iter().zip(expected) {
        assert!(share.abs_diff(expected) <= 60, "{shares:?} (seed 3)");
    }
}

#[test]
fn latency_takes_the_fastest_and_forgets_slowly() {
    let (mut balancer, now) = warm(config(Policy::Latency), 1, &equal(2));
    balancer.handle_acked(now, key(0), 1, Duration::from_millis(100));
    balancer.handle_acked(now, key(1), 1, Duration::from_millis(40));
    assert_eq!(counts(&mut balancer, now, 2, 10), [0, 10]);
    balancer.handle_acked(now, key(1), 1, Duration::from_millis(400));
    assert_eq!(counts(&mut balancer, now, 2, 10), [10, 0], "a peak counts at once");
    let ewma = |balancer: &Balancer, at| balancer.view_of(at, key(1)).expect("known").ewma_us;
    assert_eq!(ewma(&balancer, now), 400_000);
    let after_decay = ewma(&balancer, now + 10 * SECOND);
    assert!(after_decay.abs_diff(147_152) <= 1, "400 ms / e is 147 ms: {after_decay}");
}

#[test]
fn least_connections_counts_what_is_unacknowledged_for_the_weight() {
    let all = [traits(100, 1), traits(100, 4)];
    let (mut balancer, now) = warm(config(Policy::LeastConnections), 1, &all);
    let with = |a, b| [Candidate::new(key(0), a), Candidate::new(key(1), b)];
    assert_eq!(balancer.choose(now, &with(3, 10)), Some(key(1)));
    assert_eq!(balancer.choose(now, &with(1, 10)), Some(key(0)));
}

#[test]
fn peak_ewma_leaves_a_peer_that_stops_answering_before_anybody_says_so() {
    let (mut balancer, now) = warm(BalanceConfig::default(), 1, &equal(2));
    for n in [0, 1] {
        balancer.handle_acked(now, key(n), 1, Duration::from_millis(10));
    }
    balancer.handle_sent(now, key(0), 1);
    let candidates = [Candidate::new(key(0), 1), Candidate::new(key(1), 40)];
    assert_eq!(balancer.choose(now, &candidates), Some(key(0)), "41 times the cost");
    let later = now + SECOND;
    balancer.handle_acked(later, key(1), 1, Duration::from_millis(10));
    assert_eq!(balancer.choose(later, &candidates), Some(key(1)), "it owes an answer for 1 s");
    // What was withdrawn elsewhere is not owed any more.
    let idle = [Candidate::new(key(0), 0), Candidate::new(key(1), 40)];
    assert_eq!(balancer.choose(later, &idle), Some(key(0)));
}

#[test]
fn the_own_region_is_preferred_while_it_has_room() {
    let near = EndpointTraits { region: Some("eu".into()), ..EndpointTraits::default() };
    let far = EndpointTraits { region: Some("us".into()), ..EndpointTraits::default() };
    for policy in Policy::ALL {
        let config = BalanceConfig { region: Some("eu".into()), ..config(policy) };
        let (mut balancer, now) = warm(config, 1, &[far.clone(), near.clone(), far.clone()]);
        assert_eq!(counts(&mut balancer, now, 3, 20), [0, 20, 0], "{policy:?}");
        let full = Candidate { is_saturated: true, ..Candidate::new(key(1), 1024) };
        let candidates = [Candidate::new(key(0), 0), full];
        assert_eq!(balancer.choose(now, &candidates), Some(key(0)), "{policy:?}");
        balancer.handle_down(now, key(1));
        assert_eq!(counts(&mut balancer, now, 3, 20)[1], 0, "{policy:?}");
    }
}

#[test]
fn what_is_avoided_is_the_last_choice_and_what_is_down_is_none() {
    for policy in Policy::ALL {
        let (mut balancer, now) = warm(config(policy), 1, &equal(2));
        let avoided = Candidate { is_avoided: true, ..Candidate::new(key(0), 0) };
        let busy = Candidate { is_saturated: true, ..Candidate::new(key(1), 1000) };
        assert_eq!(balancer.choose(now, &[avoided, busy]), Some(key(1)), "{policy:?}");
        assert_eq!(balancer.choose(now, &[avoided]), Some(key(0)), "{policy:?}");
        balancer.handle_down(now, key(0));
        assert_eq!(balancer.choose(now, &[avoided]), None, "{policy:?}");
        let stranger = Candidate::new(key(9), 0);
        assert_eq!(balancer.choose(now, &[stranger]), None, "{policy:?}");
        assert_eq!(balancer.choose(now, &[]), None, "{policy:?}");
    }
}

#[test]
fn an_endpoint_that_comes_up_gets_its_share_within_thirty_seconds() {
    let (mut balancer, now) = warm(config(Policy::RoundRobin), 1, &equal(3));
    balancer.handle_down(now, key(2));
    balancer.handle_up(now, key(2));
    let shares: Vec<u32> =
        [0_u32, 10, 20, 30].map(|s| counts(&mut balancer, now + SECOND * s, 3, 2100)[2]).to_vec();
    // 0.1, 0.4, 0.7 and 1 against two times 1.
    for (share, expected) in shares.iter().zip([100, 350, 544, 700]) {
        assert!(share.abs_diff(expected) <= 2, "{shares:?}");
    }
    let permille =
        |s: u32| balancer.view_of(now + SECOND * s, key(2)).expect("known").slow_start_permille;
    assert_eq!([permille(0), permille(15), permille(30), permille(300)], [100, 550, 1000, 1000]);
}

#[test]
fn the_policy_is_switched_without_forgetting_what_was_measured() {
    let (mut balancer, now) = warm(config(Policy::RoundRobin), 1, &equal(2));
    balancer.handle_acked(now, key(0), 1, SECOND);
    assert_eq!(counts(&mut balancer, now, 2, 10), [5, 5]);
    balancer.set_config(config(Policy::Latency));
    assert_eq!(counts(&mut balancer, now, 2, 10), [0, 10]);
    let shown = serde_json::to_value(balancer.view(now)).expect("a view is JSON");
    assert_eq!(shown["policy"], "latency");
    assert_eq!(shown["endpoints"][0]["ewma_us"], 1_000_000);
    assert_eq!(shown["endpoints"][1]["chosen"], 15);
    assert_eq!(shown["endpoints"][1]["ejected"], serde_json::Value::Null);
}

#[test]
fn values_without_sense_are_refused_with_their_key() {
    let refused = |change: fn(&mut BalanceConfig)| {
        let mut config = BalanceConfig::default();
        change(&mut config);
        config.check().expect_err("refused").to_string()
    };
    assert_eq!(BalanceConfig::default().check(), Ok(()));
    assert_eq!(
        refused(|config| config.slow_start.from = 0.0),
        "slow_start.from is 0; it must be between 0.01 and 1"
    );
    assert_eq!(
        refused(|config| config.outlier.ejected_share_max = f64::NAN),
        "outlier.ejected_share_max is NaN; it must be between 0 and 1"
    );
    assert_eq!(
        refused(|config| config.ewma.decay = Duration::ZERO),
        "ewma.decay is 0; it must be more"
    );
    assert_eq!(
        refused(|config| config.outlier.ejection_max = SECOND),
        "outlier.ejection_max (1s) is shorter than outlier.ejection (30s); make it longer"
    );
}
