//! The breaker against what its numbers say, and against a slow model of itself.

use proptest::prelude::*;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
fn start() -> Instant {
    Instant::now()
}

fn steady() -> BreakerConfig {
    BreakerConfig { jitter: 0.0, ..BreakerConfig::default() }
}

#[test]
fn five_failures_in_a_row_open_it_and_each_failed_probe_doubles_the_time() {
    let mut now = start();
    let mut breaker = Breaker::new(steady(), 1);
    for n in 1..=5 {
        assert_eq!(breaker.poll_admission(now), Admission::Free);
        assert_eq!(breaker.handle_failure(now, Failure::Broken), n == 5);
    }
    let mut periods = Vec::new();
    for _ in 0..8 {
        let Admission::Refused { until: Some(until) } = breaker.poll_admission(now) else {
            panic!("it is open");
        };
        periods.push((until - now).as_secs());
        now = until;
        assert_eq!(breaker.poll_admission(now), Admission::Probe);
        breaker.handle_probe_sent(now);
        breaker.handle_failure(now, Failure::Broken);
    }
    assert_eq!(periods, [1, 2, 4, 8, 16, 32, 60, 60], "T44");
    breaker.handle_success(now + 60 * SECOND, 1);
    assert_eq!(breaker.state(now + 60 * SECOND), BreakerState::Closed);
}

#[test]
fn polling_does_not_spend_the_probe_and_only_one_is_out() {
    let now = start();
    let mut breaker = Breaker::new(steady(), 1);
    for _ in 0..5 {
        breaker.handle_failure(now, Failure::Broken);
    }
    let then = now + SECOND;
    for _ in 0..100 {
        assert_eq!(breaker.poll_admission(then), Admission::Probe, "T43");
    }
    breaker.handle_probe_sent(then);
    for _ in 0..100 {
        assert_eq!(breaker.poll_admission(then), Admission::Refused { until: None }, "T43");
    }
    breaker.handle_probe_returned(then);
    assert_eq!(breaker.poll_admission(then), Admission::Probe);
    breaker.handle_probe_sent(then);
    assert_eq!(breaker.poll_timeout(), Some(then + 30 * SECOND));
    breaker.handle_timeout(then + 29 * SECOND);
    assert_eq!(breaker.state(then + 29 * SECOND), BreakerState::HalfOpen);
    breaker.handle_timeout(then + 30 * SECOND);
    assert_eq!(breaker.state(then + 30 * SECOND), BreakerState::Open);
}

#[test]
fn too_few_successes_open_it_only_when_there_is_enough_to_judge_by() {
    let now = start();
    let mut breaker = Breaker::new(steady(), 1);
    // 3 of 4 succeed, and never two failures in a row.
    for n in 0_u32..20 {
        assert_eq!(breaker.state(now), BreakerState::Closed, "after {n}");
        if n % 4 == 3 {
            breaker.handle_failure(now, Failure::Broken);
        } else {
            breaker.handle_success(now, 1);
        }
    }
    assert_eq!(breaker.state(now), BreakerState::Open, "15 of 20 are below 80 %");
    let mut breaker = Breaker::new(steady(), 1);
    breaker.handle_success(now, 80);
    for _ in 0..4 {
        breaker.handle_failure(now, Failure::Broken);
    }
    assert_eq!(breaker.state(now), BreakerState::Closed, "80 of 84 are not");
}

#[test]
fn exhaustion_counts_for_the_rate_alone() {
    let now = start();
    let mut breaker = Breaker::new(steady(), 1);
    for _ in 0..19 {
        breaker.handle_failure(now, Failure::Exhausted);
    }
    assert_eq!(breaker.state(now), BreakerState::Closed, "T45");
    breaker.handle_failure(now, Failure::Exhausted);
    assert_eq!(breaker.state(now), BreakerState::Open, "but 0 of 20 is a rate");
    // A probe that meets exhaustion leaves the time as it was.
    breaker.handle_probe_sent(now + SECOND);
    breaker.handle_failure(now + SECOND, Failure::Exhausted);
    let until = Some(now + 2 * SECOND);
    assert_eq!(breaker.poll_admission(now + SECOND), Admission::Refused { until });
}

/// The same rules, computed from everything that ever happened.
#[derive(Debug, Default)]
struct Model {
    /// Since it closed last: when, successes, failures, and whether they count in a row.
    outcomes: Vec<(Instant, u64, u64, bool)>,
    open: Option<Instant>,
    probing: Option<Instant>,
    level: u32,
}

impl Model {
    fn opens(&self, now: Instant) -> bool {
        let in_a_row = self
            .outcomes
            .iter()
            .rev()
            .take_while(|(_, successes, ..)| *successes == 0)
            .filter(|(.., counts)| *counts)
            .count();
        // Parts of one second that begin with the first outcome after the one before.
        let mut parts: Vec<(Instant, u64, u64)> = Vec::new();
        for (at, successes, failures, _) in &self.outcomes {
            match parts.last_mut() {
                Some((began, s, f)) if *at - *began < SECOND => {
                    *s += successes;
                    *f += failures;
                }
                Some(_) | None => parts.push((*at, *successes, *failures)),
            }
        }
        let alive = parts.iter().filter(|(began, ..)| now - *began < 30 * SECOND);
        let (successes, failures) = alive.fold((0, 0), |(s, f), part| (s + part.1, f + part.2));
        let total: u64 = successes + failures;
        in_a_row >= 5 || (total >= 20 && successes * 10 < total * 8)
    }

    fn opened(&mut self, now: Instant) {
        let period = SECOND * 2_u32.saturating_pow(self.level).min(60);
        self.open = Some(now + period);
        self.probing = None;
        self.outcomes.clear();
    }

    fn succeeded(&mut self, now: Instant, count: u64) {
        if self.open.is_some_and(|until| now < until) {
            return;
        }
        if self.open.is_some() || self.probing.is_some() {
            *self = Self::default();
        } else {
            self.outcomes.push((now, count, 0, false));
        }
    }

    fn failed(&mut self, now: Instant, failure: Failure) {
        if self.open.is_some_and(|until| now < until) {
            return;
        }
        let counts = failure == Failure::Broken;
        if self.open.is_some() || self.probing.is_some() {
            self.level += u32::from(counts);
            self.opened(now);
        } else {
            self.outcomes.push((now, 0, 1, counts));
            if self.opens(now) {
                self.opened(now);
            }
        }
    }

    fn state(&self, now: Instant) -> BreakerState {
        match (self.open, self.probing) {
            (Some(until), _) if now < until => BreakerState::Open,
            (Some(_), _) | (None, Some(_)) => BreakerState::HalfOpen,
            (None, None) => BreakerState::Closed,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]
    #[test]
    fn it_does_what_the_slow_model_does(
        steps in prop::collection::vec((0..10_u8, 0..2500_u64), 1..400),
    ) {
        let mut now = start();
        let (mut breaker, mut model) = (Breaker::new(steady(), 1), Model::default());
        for (what, after_ms) in steps {
            now += Duration::from_millis(after_ms * u64::from(what % 3));
            match what {
                0..=2 => {
                    breaker.handle_success(now, 1);
                    model.succeeded(now, 1);
                }
                3..=6 => {
                    breaker.handle_failure(now, Failure::Broken);
                    model.failed(now, Failure::Broken);
                }
                7 => {
                    breaker.handle_failure(now, Failure::Exhausted);
                    model.failed(now, Failure::Exhausted);
                }
                8 => {
                    if breaker.poll_admission(now) == Admission::Probe {
                        prop_assert!(model.open.is_some_and(|until| now >= until));
                        breaker.handle_probe_sent(now);
                        model.open = None;
                        model.probing = Some(now);
                    }
                }
                _ => {
                    breaker.handle_timeout(now);
                    if model.probing.is_some_and(|since| now >= since + 30 * SECOND) {
                        model.failed(now, Failure::Broken);
                    }
                }
            }
            prop_assert_eq!(breaker.state(now), model.state(now), "after {}", what);
        }
    }

    #[test]
    fn an_open_period_stays_within_its_bounds(seed: u64, rounds in 1..20_u32) {
        let mut now = start();
        let config = BreakerConfig::default();
        let mut breaker = Breaker::new(config, seed);
        for _ in 0..5 {
            breaker.handle_failure(now, Failure::Broken);
        }
        for round in 0..rounds {
            let Admission::Refused { until: Some(until) } = breaker.poll_admission(now) else {
                return Err(TestCaseError::fail("it is open"));
            };
            let base = (config.open * 2_u32.saturating_pow(round)).min(config.open_max);
            prop_assert!(until - now <= config.open_max, "T44");
            prop_assert!(until - now >= base.mul_f64(0.5));
            now = until;
            breaker.handle_probe_sent(now);
            breaker.handle_failure(now, Failure::Broken);
        }
    }
}
