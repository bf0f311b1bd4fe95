//! When a signature request is answered, and with what.
//!
//! Pure: time is an argument, signing is the driver's business. A request is signed at once unless
//! it has to wait ([`crate::misbehaviour::Misbehaviour::delay_ms`]):
//!
//! ```text
//! request ──▶ Sign                                  no wait
//! request ──▶ Pending ──▶ waiting ──▶ Sign          the wait is longer than PENDING_AFTER
//!                                └──▶ TimeOut       its timeout passed first
//! ```
//!
//! Invariants:
//! - G3: every request gets exactly one final answer, `Sign` or `TimeOut`, and at most one `Pending`
//!   before it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use alys_stream_protocol::time::UnixMillis;

/// A wait up to this long is not announced.
pub const PENDING_AFTER: Duration = Duration::from_millis(50);

/// What is to be done with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action<T> {
    /// Answer that it waits; it stays here.
    Pending(T),
    /// Sign and answer.
    Sign(T),
    /// Answer that its time has passed.
    TimeOut(T),
}

#[derive(Debug)]
struct Waiting<T> {
    ticket: T,
    expires: Option<UnixMillis>,
}

/// Requests that wait for their time, by ticket.
#[derive(Debug)]
pub struct Answers<T> {
    /// By when each is due, then in order of arrival.
    waiting: BTreeMap<(UnixMillis, u64), Waiting<T>>,
    arrivals: u64,
    actions: VecDeque<Action<T>>,
}

impl<T> Default for Answers<T> {
    fn default() -> Self {
        Self { waiting: BTreeMap::new(), arrivals: 0, actions: VecDeque::new() }
    }
}

impl<T: Clone> Answers<T> {
    /// Nothing waits.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a request that was received at `received` and must wait `delay` from then on.
    pub fn handle_request(
        &mut self,
        now: UnixMillis,
        ticket: T,
        received: UnixMillis,
        delay: Duration,
        timeout: Option<Duration>,
    ) {
        let due = received.saturating_add(delay);
        let expires = timeout.map(|timeout| received.saturating_add(timeout));
        if expires.is_some_and(|expires| expires <= now) {
            self.actions.push_back(Action::TimeOut(ticket));
        } else if due <= now {
            self.actions.push_back(Action::Sign(ticket));
        } else {
            if due.saturating_since(now) > PENDING_AFTER {
                self.actions.push_back(Action::Pending(ticket.clone()));
            }
            let wake = expires.map_or(due, |expires| due.min(expires));
            self.arrivals += 1;
            self.waiting.insert((wake, self.arrivals), Waiting { ticket, expires });
        }
    }

    /// Ends the waits that are over.
    pub fn handle_timeout(&mut self, now: UnixMillis) {
        while let Some(entry) = self.waiting.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let waiting = entry.remove();
            let is_late = waiting.expires.is_some_and(|expires| expires <= now);
            self.actions.push_back(if is_late {
                Action::TimeOut(waiting.ticket)
            } else {
                Action::Sign(waiting.ticket)
            });
        }
    }

    /// When [`Answers::handle_timeout`] has something to do.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<UnixMillis> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action<T>> {
        self.actions.pop_front()
    }

    /// How many requests wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixMillis = UnixMillis(1_000_000);

    #[track_caller]
    fn check(delay: u64, timeout: Option<u64>, expected: &[(u64, Action<u8>)]) {
        let mut answers = Answers::new();
        answers.handle_request(
            START,
            7,
            START,
            Duration::from_millis(delay),
            timeout.map(Duration::from_millis),
        );
        let mut seen = Vec::new();
        let mut now = START;
        loop {
            while let Some(action) = answers.poll_action() {
                seen.push((now.0 - START.0, action));
            }
            let Some(at) = answers.poll_timeout() else {
                break;
            };
            now = at;
            answers.handle_timeout(now);
        }
        assert_eq!(seen, expected);
        assert_eq!(answers.waiting(), 0);
    }

    #[test]
    fn the_three_ways() {
        check(0, None, &[(0, Action::Sign(7))]);
        check(50, None, &[(50, Action::Sign(7))]);
        check(200, None, &[(0, Action::Pending(7)), (200, Action::Sign(7))]);
        check(200, Some(1000), &[(0, Action::Pending(7)), (200, Action::Sign(7))]);
        check(2000, Some(1000), &[(0, Action::Pending(7)), (1000, Action::TimeOut(7))]);
        check(0, Some(0), &[(0, Action::TimeOut(7))]);
    }

    #[test]
    fn a_request_of_before_a_restart_is_measured_from_its_arrival() {
        let mut answers = Answers::new();
        let now = START.saturating_add(Duration::from_secs(60));
        answers.handle_request(now, 1, START, Duration::ZERO, Some(Duration::from_secs(30)));
        assert_eq!(answers.poll_action(), Some(Action::TimeOut(1)));
    }
}
