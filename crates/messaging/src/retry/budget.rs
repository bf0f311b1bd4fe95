//! How many retries there may be. Pure.
//!
//! A bucket that fills at a small rate, and beside it a share of every first send of the last ten
//! seconds: what is not spent by then is worth nothing, so that a quiet hour behind a busy one is not
//! followed by a storm of retries. As Finagle's `RetryBudget`: its `minRetriesPerSec`,
//! `percentCanRetry` and `ttl`.

use std::collections::VecDeque;
use std::time::Duration;

use alys_stream_protocol::time::UnixMillis;

/// Retries per 100 first sends.
pub const BUDGET_PERCENT: u64 = 20;

/// Retries per second that are always allowed.
pub const BUDGET_PER_SECOND: u64 = 10;

/// Seconds over which unused budget is kept.
pub const BUDGET_SECONDS: u64 = 10;

/// In hundredths of a retry: first sends add to it without rounding.
const ONE: u64 = 100;

/// What the rate fills at most.
const FILLED_MAX: u64 = BUDGET_SECONDS * BUDGET_PER_SECOND * ONE;

/// In hundredths of a retry.
#[derive(Debug)]
pub(super) struct Budget {
    /// What the rate filled and nobody spent.
    filled: u64,
    filled_at: Option<UnixMillis>,
    /// What first sends earned and nobody spent, by the second in which they did, oldest first; one
    /// entry for each of the last [`BUDGET_SECONDS`].
    earned: VecDeque<(u64, u64)>,
}

impl Default for Budget {
    fn default() -> Self {
        Self { filled: FILLED_MAX, filled_at: None, earned: VecDeque::new() }
    }
}

impl Budget {
    pub(super) fn handle_first_send(&mut self, now: UnixMillis) {
        let second = second_of(now);
        match self.earned.back_mut() {
            // A clock that goes back a little earns where it was.
            Some((newest, earned)) if *newest >= second => *earned += BUDGET_PERCENT,
            Some(_) | None => {
                self.forget(second);
                self.earned.push_back((second, BUDGET_PERCENT));
            }
        }
    }

    /// Time has passed: some is filled, and what is old is forgotten.
    pub(super) fn handle_time(&mut self, now: UnixMillis) {
        let since = self.filled_at.map_or(0, |at| now.0.saturating_sub(at.0));
        // One hundredth per millisecond and ten retries per second: exactly one each.
        let filled = since.saturating_mul(BUDGET_PER_SECOND * ONE) / 1000;
        self.filled = self.filled.saturating_add(filled).min(FILLED_MAX);
        self.filled_at = Some(self.filled_at.map_or(now, |at| at.max(now)));
        self.forget(second_of(now));
    }

    /// The clock was set back so far.
    pub(super) fn handle_set_back(&mut self, by: Duration) {
        self.filled_at = self.filled_at.map(|at| at.saturating_sub(by));
        for (second, _) in &mut self.earned {
            *second = second.saturating_sub(by.as_secs());
        }
    }

    fn forget(&mut self, second: u64) {
        while self.earned.front().is_some_and(|(at, _)| at + BUDGET_SECONDS <= second) {
            self.earned.pop_front();
        }
    }

    fn left(&self) -> u64 {
        self.earned.iter().map(|(_, earned)| earned).sum::<u64>() + self.filled
    }

    /// Takes one retry, of what is worth nothing soonest; whether there was one.
    pub(super) fn spend(&mut self) -> bool {
        if self.left() < ONE {
            return false;
        }
        let mut missing = ONE;
        while let Some((_, earned)) = self.earned.front_mut() {
            let taken = missing.min(*earned);
            *earned -= taken;
            missing -= taken;
            if missing == 0 {
                return true;
            }
            self.earned.pop_front();
        }
        self.filled -= missing;
        true
    }

    /// When a retry is allowed, if not now.
    pub(super) fn allowed_at(&self) -> Option<UnixMillis> {
        let missing = ONE.checked_sub(self.left()).filter(|missing| *missing > 0)?;
        let wait = Duration::from_millis(missing.div_ceil((BUDGET_PER_SECOND * ONE / 1000).max(1)));
        self.filled_at.map(|at| at.saturating_add(wait))
    }
}

const fn second_of(at: UnixMillis) -> u64 {
    at.0 / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> UnixMillis {
        UnixMillis(1_000_000_000 + seconds * 1000)
    }

    /// Spends all there is at this moment.
    fn spent(budget: &mut Budget, now: UnixMillis) -> usize {
        budget.handle_time(now);
        std::iter::from_fn(|| budget.spend().then_some(())).count()
    }

    #[test]
    fn first_sends_earn_a_fifth_which_is_worth_nothing_ten_seconds_later() {
        let mut budget = Budget::default();
        assert_eq!(spent(&mut budget, at(0)), 100, "the rate of ten seconds");
        for second in 0..10 {
            for _ in 0..50 {
                budget.handle_first_send(at(second));
            }
        }
        // Ten by each second's sends: those of the first second are forgotten by the tenth, and the
        // rate gives a hundred.
        assert_eq!(budget.left(), 100 * ONE);
        assert_eq!(spent(&mut budget, at(10)), 90 + 100);
        // Half of what was earned last is spent first of all, and the rest of it expires.
        for _ in 0..50 {
            budget.handle_first_send(at(10));
        }
        assert!((0..5).all(|_| budget.spend()));
        assert_eq!(spent(&mut budget, at(19)), 5 + 90);
        for _ in 0..50 {
            budget.handle_first_send(at(19));
        }
        assert_eq!(spent(&mut budget, at(29)), 100, "the rate is left");
    }

    #[test]
    fn however_much_is_sent_in_an_hour_the_next_hour_has_its_rate_alone() {
        let mut budget = Budget::default();
        for second in 0..3600 {
            for _ in 0..1000 {
                budget.handle_first_send(at(second));
            }
        }
        assert_eq!(budget.earned.len(), 10, "it takes no more memory either");
        assert_eq!(budget.left(), (10 * 200 + 100) * ONE);
        assert_eq!(spent(&mut budget, at(7200)), 100);
    }

    #[test]
    fn a_share_of_a_retry_waits_for_the_rest_of_it() {
        let mut budget = Budget::default();
        assert_eq!(spent(&mut budget, at(0)), 100);
        for _ in 0..4 {
            budget.handle_first_send(at(0));
        }
        assert!(!budget.spend());
        assert_eq!(budget.allowed_at(), Some(UnixMillis(at(0).0 + 20)), "80 of 100 are there");
        budget.handle_time(UnixMillis(at(0).0 + 20));
        assert!(budget.spend());
        assert_eq!(budget.left(), 0);
    }

    #[test]
    fn a_clock_that_is_set_back_neither_gives_nor_takes() {
        let mut budget = Budget::default();
        assert_eq!(spent(&mut budget, at(9000)), 100);
        for _ in 0..50 {
            budget.handle_first_send(at(9000));
        }
        budget.handle_set_back(Duration::from_secs(3600));
        assert_eq!(spent(&mut budget, at(5400)), 10);
        budget.handle_first_send(at(5400));
        assert_eq!(spent(&mut budget, at(5401)), 10, "the rate goes on, a fifth is left");
    }
}
