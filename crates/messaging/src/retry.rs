//! The retry queue: when a refused message is due again. Pure.
//!
//! Full jitter over an exponential backoff, never before the delay that the peer named, under a
//! [`budget`]: retries may not exceed a share of first sends plus a small rate, so that a peer that
//! refuses everything is not hammered.
//!
//! Lost connections are not retries: see [`crate::outbox`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use alys_stream_protocol::message::Seq;
use alys_stream_protocol::time::UnixMillis;

use crate::outbox::EndpointId;

pub mod budget;

use budget::Budget;

/// The first backoff is at most this.
pub const BACKOFF_MIN: Duration = Duration::from_millis(500);

/// No backoff is longer, unless the peer asks for more.
pub const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Longest delay that a peer may ask for.
pub const PEER_DELAY_MAX: Duration = Duration::from_secs(3600);

/// Messages that wait for their next attempt, per endpoint that refused them.
#[derive(Debug)]
pub struct RetryQueue {
    due: BTreeSet<(UnixMillis, Seq, EndpointId)>,
    /// The same the other way round.
    waiting: BTreeMap<(Seq, EndpointId), UnixMillis>,
    rng: fastrand::Rng,
    budget: Budget,
}

impl RetryQueue {
    /// An empty queue whose jitter follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            due: BTreeSet::new(),
            waiting: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(seed),
            budget: Budget::default(),
        }
    }

    /// How many wait.
    #[must_use]
    pub fn count(&self) -> usize {
        self.due.len()
    }

    /// Notes a first send: it earns a share of a retry.
    pub fn handle_first_send(&mut self, now: UnixMillis) {
        self.budget.handle_first_send(now);
    }

    /// Queues a refused message. Returns when it is due.
    ///
    /// `refusals` counts this one; `after` is the delay that the peer named.
    pub fn push(
        &mut self,
        now: UnixMillis,
        (seq, endpoint): (Seq, EndpointId),
        refusals: u32,
        after: Option<Duration>,
    ) -> UnixMillis {
        let exponent = refusals.saturating_sub(1).min(16);
        let backoff = BACKOFF_MIN.saturating_mul(1 << exponent).min(BACKOFF_MAX);
        let jitter = Duration::from_millis(self.rng.u64(0..=millis(backoff)));
        // The peer's delay is a lower bound; jitter keeps its clients apart.
        let delay = after.map_or(jitter, |after| {
            let spread = Duration::from_millis(self.rng.u64(0..=millis(BACKOFF_MIN)));
            after.min(PEER_DELAY_MAX).saturating_add(spread).max(jitter)
        });
        let at = now.saturating_add(delay);
        self.restore(at, seq, endpoint);
        at
    }

    /// Queues a message again that was refused earlier, due when it was.
    pub fn restore(&mut self, at: UnixMillis, seq: Seq, endpoint: EndpointId) {
        self.remove(seq, endpoint);
        self.waiting.insert((seq, endpoint), at);
        self.due.insert((at, seq, endpoint));
    }

    /// Takes a message out before it is due.
    pub fn remove(&mut self, seq: Seq, endpoint: EndpointId) -> bool {
        let at = self.waiting.remove(&(seq, endpoint));
        at.is_some_and(|at| self.due.remove(&(at, seq, endpoint)))
    }

    /// The clock was set back so far: everything is due as soon as it was, not when the clock has
    /// caught up.
    pub fn handle_set_back(&mut self, by: Duration) {
        for at in self.waiting.values_mut() {
            *at = at.saturating_sub(by);
        }
        self.due =
            self.waiting.iter().map(|((seq, endpoint), at)| (*at, *seq, *endpoint)).collect();
        self.budget.handle_set_back(by);
    }

    /// When something is due, or the budget allows it again.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        let (at, _, _) = self.due.first()?;
        Some(self.budget.allowed_at().map_or(*at, |allowed| allowed.max(*at)))
    }

    /// Takes the next message that is due, as far as the budget allows.
    pub fn pop(&mut self, now: UnixMillis) -> Option<(Seq, EndpointId)> {
        self.budget.handle_time(now);
        let (at, seq, endpoint) = *self.due.first()?;
        if at > now || !self.budget.spend() {
            return None;
        }
        self.remove(seq, endpoint);
        Some((seq, endpoint))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const E: EndpointId = EndpointId(1);

    #[test]
    fn jitter_is_full_bounded_and_follows_from_the_seed() {
        let delays = |seed| -> Vec<u64> {
            let mut queue = RetryQueue::new(seed);
            (1..=20).map(|n| queue.push(UnixMillis(0), (Seq(n.into()), E), n, None).0).collect()
        };
        assert_eq!(delays(7), delays(7));
        assert_ne!(delays(7), delays(8));
        for (n, delay) in (1..).zip(delays(7)) {
            let bound = (500_u64 << (n - 1).min(16)).min(60_000);
            assert!(delay <= bound, "{n}: {delay}");
        }
    }

    #[test]
    fn the_delay_of_the_peer_is_a_lower_bound() {
        let mut queue = RetryQueue::new(1);
        let at = queue.push(UnixMillis(0), (Seq(1), E), 1, Some(Duration::from_secs(90)));
        assert!((90_000..=90_500).contains(&at.0), "{at}");
        assert_eq!(queue.pop(UnixMillis(at.0 - 1)), None);
        assert_eq!(queue.pop(at), Some((Seq(1), E)));
    }

    #[test]
    fn a_clock_that_is_set_back_moves_what_is_due_with_it() {
        let mut queue = RetryQueue::new(1);
        let at = queue.push(UnixMillis(9_000_000), (Seq(1), E), 3, None);
        queue.handle_set_back(Duration::from_secs(3600));
        let due = UnixMillis(at.0 - 3_600_000);
        assert_eq!(queue.poll_timeout(), Some(due));
        assert_eq!(queue.pop(due), Some((Seq(1), E)));
        queue.push(due, (Seq(1), E), 1, None);
        assert!(queue.remove(Seq(1), E) && !queue.remove(Seq(1), E));
        assert_eq!((queue.count(), queue.poll_timeout()), (0, None));
    }

    #[test]
    fn the_budget_holds_retries_back_and_first_sends_earn_them() {
        let mut queue = RetryQueue::new(1);
        let now = UnixMillis(1_000_000);
        for seq in 1..=200 {
            queue.push(UnixMillis(0), (Seq(seq), E), 1, None);
        }
        let burst = std::iter::from_fn(|| queue.pop(now)).count();
        assert_eq!(burst, 100);
        let next = queue.poll_timeout().unwrap();
        assert!(next > now && next.0 - now.0 <= 100, "{next}");
        assert!(queue.pop(UnixMillis(now.0 + 100)).is_some(), "ten per second");
        assert!(queue.pop(UnixMillis(now.0 + 100)).is_none());
        for _ in 0..5 {
            queue.handle_first_send(UnixMillis(now.0 + 100));
        }
        assert!(queue.pop(UnixMillis(now.0 + 100)).is_some(), "a fifth of first sends");
    }
}
