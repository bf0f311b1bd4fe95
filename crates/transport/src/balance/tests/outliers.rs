//! The three-node rules.

use super::*;

fn fail(balancer: &mut Balancer, now: Instant, endpoint: EndpointKey, times: u32) {
    for _ in 0..times {
        balancer.handle_failure(now, endpoint);
    }
}

fn ejected(balancer: &Balancer, now: Instant) -> Vec<u16> {
    let view = balancer.view(now);
    view.endpoints.iter().filter(|e| e.ejected.is_some()).map(|e| e.endpoint.0).collect()
}

fn events(balancer: &mut Balancer) -> Vec<BalanceEvent> {
    std::iter::from_fn(|| balancer.poll_event()).collect()
}

#[test]
fn five_failures_in_a_row_eject_for_thirty_seconds_then_longer() {
    let (mut balancer, mut now) = warm(config(Policy::RoundRobin), 1, &equal(3));
    fail(&mut balancer, now, key(1), 4);
    balancer.handle_acked(now, key(1), 1, SECOND / 100);
    fail(&mut balancer, now, key(1), 4);
    assert_eq!(ejected(&balancer, now), Vec::<u16>::new());
    let mut periods = Vec::new();
    for _ in 0..12 {
        fail(&mut balancer, now, key(1), 5);
        assert_eq!(ejected(&balancer, now), [1]);
        assert_eq!(counts(&mut balancer, now, 3, 100), [50, 0, 50]);
        let [BalanceEvent::Ejected { endpoint, cause, period }] = events(&mut balancer)[..] else {
            panic!("one event");
        };
        assert_eq!((endpoint, cause), (key(1), EjectCause::ConsecutiveFailures));
        periods.push(period.as_secs());
        now += period;
        balancer.handle_timeout(now);
        assert_eq!(events(&mut balancer), [BalanceEvent::Returned { endpoint: key(1) }]);
        assert_eq!(balancer.view_of(now, key(1)).expect("known").slow_start_permille, 100);
    }
    assert_eq!(periods, [30, 60, 90, 120, 150, 180, 210, 240, 270, 300, 300, 300]);
    now += 300 * SECOND;
    fail(&mut balancer, now, key(1), 5);
    let [BalanceEvent::Ejected { period, .. }] = events(&mut balancer)[..] else {
        panic!("one event");
    };
    assert_eq!(period, 30 * SECOND, "it was good for long enough");
}

#[test]
fn at_most_half_and_never_the_last_one() {
    for (total, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2), (10, 5)] {
        let (mut balancer, now) = warm(config(Policy::RoundRobin), 1, &equal(total));
        for n in 0..u16::try_from(total).unwrap() {
            fail(&mut balancer, now, key(n), 50);
        }
        assert_eq!(ejected(&balancer, now).len(), most, "T41: of {total}");
    }
    let all = OutlierConfig { ejected_share_max: 1.0, ..OutlierConfig::default() };
    let config = BalanceConfig { outlier: all, ..config(Policy::RoundRobin) };
    let (mut balancer, now) = warm(config, 1, &equal(3));
    for n in 0..3 {
        fail(&mut balancer, now, key(n), 50);
    }
    assert_eq!(ejected(&balancer, now), [0, 1], "T41: even when all may be");
}

#[test]
fn with_less_than_half_of_them_healthy_all_are_used() {
    let (mut balancer, now) = warm(config(Policy::RoundRobin), 1, &equal(3));
    fail(&mut balancer, now, key(0), 5);
    assert_eq!(counts(&mut balancer, now, 3, 100), [0, 50, 50], "two of three are healthy");
    assert!(!balancer.view(now).ejections_overruled);
    balancer.handle_down(now, key(1));
    assert!(balancer.view(now).ejections_overruled);
    assert_eq!(counts(&mut balancer, now, 3, 100), [50, 0, 50], "one of three is");
}

#[test]
fn the_last_one_up_returns_when_the_others_go() {
    let (mut balancer, now) = warm(config(Policy::RoundRobin), 1, &equal(3));
    fail(&mut balancer, now, key(0), 5);
    balancer.handle_down(now, key(1));
    assert_eq!(ejected(&balancer, now), [0]);
    balancer.handle_down(now, key(2));
    assert_eq!(ejected(&balancer, now), Vec::<u16>::new(), "T41");
    assert_eq!(counts(&mut balancer, now, 3, 10), [10, 0, 0]);
    let (mut balancer, now) = warm(config(Policy::RoundRobin), 1, &equal(4));
    fail(&mut balancer, now, key(0), 5);
    fail(&mut balancer, now, key(1), 5);
    balancer.handle_endpoint_removed(now, key(2));
    assert_eq!(ejected(&balancer, now), [1], "T41: one of three");
}

#[test]
fn a_low_share_of_successes_ejects_when_there_is_enough_to_judge_by() {
    let (mut balancer, now) = warm(config(Policy::RoundRobin), 1, &equal(3));
    for n in 0_u32..19 {
        if n % 3 == 0 {
            balancer.handle_failure(now, key(2));
        } else {
            balancer.handle_acked(now, key(2), 1, SECOND / 100);
        }
    }
    assert_eq!(ejected(&balancer, now), Vec::<u16>::new(), "19 outcomes");
    balancer.handle_failure(now, key(2));
    assert_eq!(ejected(&balancer, now), [2], "12 of 20 are below 80 %");
    let [BalanceEvent::Ejected { cause, .. }] = events(&mut balancer)[..] else {
        panic!("one event");
    };
    assert_eq!(cause, EjectCause::SuccessRate);
}

#[test]
fn a_peer_that_settles_by_its_answers_owes_nothing_in_the_meantime() {
    let (mut balancer, now) = warm(config(Policy::PeakEwma), 1, &equal(3));
    balancer.handle_promptness(key(0), false);
    balancer.handle_sent(now, key(0), 3);
    let later = now + 100 * SECOND;
    balancer.handle_timeout(later);
    assert_eq!(ejected(&balancer, later), Vec::<u16>::new());
    assert_eq!(balancer.view_of(later, key(0)).expect("known").ewma_us, 30_000);
}

#[test]
fn a_black_hole_is_ejected_after_ten_seconds_without_an_acknowledgement() {
    let (mut balancer, now) = warm(config(Policy::PeakEwma), 1, &equal(3));
    balancer.handle_sent(now, key(0), 3);
    let candidates = [(0, 3), (1, 0), (2, 0)].map(|(n, sent)| Candidate::new(key(n), sent));
    balancer.choose(now + 9 * SECOND, &candidates);
    assert_eq!(ejected(&balancer, now + 9 * SECOND), Vec::<u16>::new());
    // An acknowledgement in between would have shown that it works.
    let later = now + 10 * SECOND;
    balancer.handle_timeout(later);
    assert_eq!(ejected(&balancer, later), [0]);
    let off = OutlierConfig { enabled: false, ..OutlierConfig::default() };
    balancer.set_config(BalanceConfig { outlier: off, ..BalanceConfig::default() });
    balancer.handle_timeout(later);
    assert_eq!(ejected(&balancer, later), Vec::<u16>::new(), "switched off at run time");
}

#[test]
fn an_endpoint_that_is_at_work_on_what_it_has_is_not_stalled() {
    let (mut balancer, t0) = warm(config(Policy::LeastConnections), 7, &equal(3));
    let ejected = |balancer: &Balancer, at| {
        balancer.view_of(at, key(0)).and_then(|view| view.ejected).map(|ejected| ejected.cause)
    };
    // Parts of one long message leave, one every nine seconds.
    balancer.handle_sent(t0, key(0), 1);
    let mut now = t0;
    for _ in 0..10 {
        now += 9 * SECOND;
        balancer.handle_timeout(now);
        assert_eq!(ejected(&balancer, now), None);
        balancer.handle_progress(now, key(0), 0);
    }
    // It works on that one.
    now += 100 * SECOND;
    balancer.handle_timeout(now);
    assert_eq!(ejected(&balancer, now), None);
    // Another one stays unacknowledged.
    balancer.handle_sent(now, key(0), 1);
    balancer.handle_timeout(now + 9 * SECOND);
    assert_eq!(ejected(&balancer, now), None);
    balancer.handle_timeout(now + 10 * SECOND);
    assert_eq!(ejected(&balancer, now), Some(EjectCause::Stalled));
}
