//! Each number alone, and the way back.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
fn start() -> Instant {
    Instant::now()
}

fn vitals(now: Instant) -> Vitals {
    Vitals::new(now, VitalsConfig::default())
}

fn shown(vitals: &Vitals) -> String {
    vitals.issue().map_or_else(|| "none".to_owned(), |issue| issue.to_string())
}

#[test]
fn overdue_heartbeats_are_an_issue_until_some_time_after_the_answer() {
    let t0 = start();
    let mut vitals = vitals(t0);
    assert_eq!(vitals.handle_timeout(t0), Grade::Good);
    vitals.handle_missed(1);
    assert_eq!(vitals.handle_timeout(t0), Grade::Minor, "T51");
    assert_eq!(shown(&vitals), "a heartbeat is overdue");
    vitals.handle_missed(2);
    assert_eq!(vitals.handle_timeout(t0 + SECOND), Grade::Critical, "T51");
    vitals.handle_rtt(SECOND / 100);
    assert_eq!(vitals.handle_timeout(t0 + 2 * SECOND), Grade::Critical, "T51");
    assert_eq!(vitals.handle_timeout(t0 + 6 * SECOND), Grade::Critical, "T51");
    assert_eq!(vitals.handle_timeout(t0 + 7 * SECOND), Grade::Good, "T51");
    assert_eq!(shown(&vitals), "none");
}

#[test]
fn a_slow_round_trip_is_one_against_its_own_baseline_and_becomes_normal() {
    let t0 = start();
    let mut vitals = vitals(t0);
    for _ in 0..10 {
        vitals.handle_rtt(Duration::from_millis(50));
    }
    assert_eq!(vitals.handle_timeout(t0), Grade::Good);
    for _ in 0..4 {
        vitals.handle_rtt(Duration::from_millis(400));
    }
    assert_eq!(vitals.handle_timeout(t0), Grade::Minor);
    assert!(shown(&vitals).starts_with("the round trip is 37"), "{}", shown(&vitals));
    for _ in 0..40 {
        vitals.handle_rtt(Duration::from_millis(400));
    }
    vitals.handle_timeout(t0 + SECOND);
    assert_eq!(vitals.handle_timeout(t0 + 6 * SECOND), Grade::Good, "T52");
    // On a fast link a large factor is still nothing.
    let mut fast = Vitals::new(t0, VitalsConfig::default());
    fast.handle_rtt(Duration::from_micros(100));
    for _ in 0..10 {
        fast.handle_rtt(Duration::from_millis(20));
    }
    assert_eq!(fast.handle_timeout(t0), Grade::Good);
}

#[test]
fn refusals_count_from_enough_outcomes_on() {
    let t0 = start();
    let mut vitals = vitals(t0);
    for _ in 0..19 {
        vitals.handle_refused(t0);
    }
    assert_eq!(vitals.handle_timeout(t0), Grade::Good);
    vitals.handle_refused(t0);
    assert_eq!(vitals.handle_timeout(t0), Grade::Critical);
    assert_eq!(shown(&vitals), "100 % of the messages are refused");
    vitals.handle_acked(t0, 180, 0);
    vitals.handle_timeout(t0);
    assert_eq!(vitals.handle_timeout(t0 + 5 * SECOND), Grade::Minor, "20 of 200");
    assert_eq!(shown(&vitals), "10 % of the messages are refused");
    vitals.handle_timeout(t0 + 31 * SECOND);
    assert_eq!(vitals.handle_timeout(t0 + 36 * SECOND), Grade::Good, "the window has passed");
}

#[test]
fn starvation_and_late_acknowledgements_matter_only_while_something_is_in_flight() {
    let t0 = start();
    let mut idle = vitals(t0);
    idle.handle_starved(100 * SECOND);
    assert_eq!(idle.handle_timeout(t0 + 100 * SECOND), Grade::Good);
    let mut vitals = vitals(t0);
    vitals.handle_sent(t0, 10);
    assert_eq!(vitals.handle_timeout(t0 + 4 * SECOND), Grade::Good);
    assert_eq!(vitals.handle_timeout(t0 + 5 * SECOND), Grade::Minor);
    assert_eq!(shown(&vitals), "no acknowledgement for 5s");
    assert_eq!(vitals.handle_timeout(t0 + 15 * SECOND), Grade::Critical);
    vitals.handle_acked(t0 + 15 * SECOND, 1, 9);
    vitals.handle_starved(6 * SECOND);
    vitals.handle_timeout(t0 + 15 * SECOND);
    vitals.handle_acked(t0 + 19 * SECOND, 1, 8);
    assert_eq!(vitals.handle_timeout(t0 + 20 * SECOND), Grade::Minor);
    assert_eq!(shown(&vitals), "no credit or no room for 6s");
    vitals.handle_starved(61 * SECOND);
    assert_eq!(vitals.handle_timeout(t0 + 21 * SECOND), Grade::Critical);
}

#[test]
fn a_number_at_the_edge_does_not_flap() {
    let t0 = start();
    let mut vitals = vitals(t0);
    vitals.handle_sent(t0, 1);
    let mut changes = 0;
    let mut last = Grade::Good;
    // Acknowledgements come every 5.1 s: just too late, again and again.
    for tenth in 0..600_u32 {
        let now = t0 + SECOND * tenth / 10;
        if tenth % 51 == 50 {
            vitals.handle_acked(now, 1, 1);
        }
        let grade = vitals.handle_timeout(now);
        changes += u32::from(grade != last);
        last = grade;
    }
    assert!(changes <= 3, "{changes} changes in a minute");
}

#[test]
fn one_slow_answer_is_no_issue_and_slow_answers_alone_are_never_critical() {
    let millis = Duration::from_millis;
    let t0 = start();
    let mut vitals = vitals(t0);
    vitals.handle_rtt(millis(2));
    vitals.handle_rtt(millis(220));
    assert_eq!(vitals.handle_timeout(t0), Grade::Good, "one sample");
    vitals.handle_rtt(millis(2));
    vitals.handle_rtt(millis(400));
    assert_eq!(vitals.handle_timeout(t0), Grade::Good, "not in a row");
    vitals.handle_rtt(millis(800));
    assert_eq!(vitals.handle_timeout(t0), Grade::Minor, "the link still answers");
    // With another number out of its range it is one.
    vitals.handle_sent(t0, 1);
    assert_eq!(vitals.handle_timeout(t0 + 5 * SECOND), Grade::Critical);
    vitals.handle_acked(t0 + 5 * SECOND, 1, 0);
    vitals.handle_timeout(t0 + 5 * SECOND);
    assert_eq!(vitals.handle_timeout(t0 + 10 * SECOND), Grade::Minor, "and is over with that one");
    for _ in 0..4 {
        vitals.handle_rtt(millis(2));
    }
    vitals.handle_timeout(t0 + 11 * SECOND);
    assert_eq!(vitals.handle_timeout(t0 + 16 * SECOND), Grade::Good);
}
