//! When to try which address of a name (RFC 8305, happy eyeballs).
//!
//! Pure. Addresses are started one after the other, each with a head start; the first that is up
//! wins. Not only TCP races: a peer that accepts and never answers must not hold up the others, but
//! what has TCP gets more time, since a handshake costs the peer something.
//!
//! Invariants:
//! - T47: every address is started exactly once, unless another one wins first; and the next one is
//!   started at once when nothing is under way.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// Head start of an address without TCP; the recommended delay of RFC 8305.
pub(super) const STAGGER: Duration = Duration::from_millis(250);

/// Head start of an address that has TCP, for its handshakes.
pub(super) const HANDSHAKE_HEAD_START: Duration = Duration::from_secs(1);

/// Addresses of one name that are tried; more are a mistake in its zone.
pub(super) const ADDRESSES_MAX: usize = 16;

#[derive(Debug)]
pub(super) struct Race {
    waiting: VecDeque<SocketAddr>,
    running: usize,
    next_at: Instant,
}

impl Race {
    /// The families take turns, beginning with that of the first address: the resolver puts the one
    /// first that this machine can use.
    pub(super) fn new(now: Instant, addresses: &[SocketAddr]) -> Self {
        let is_first = |address: &&SocketAddr| {
            addresses.first().is_some_and(|first| first.is_ipv6() == address.is_ipv6())
        };
        let (first, second): (Vec<_>, Vec<_>) = addresses.iter().partition(is_first);
        let (mut first, mut second) = (first.into_iter(), second.into_iter());
        let mut waiting = VecDeque::new();
        loop {
            let (a, b) = (first.next(), second.next());
            if (a.is_none() && b.is_none()) || waiting.len() >= ADDRESSES_MAX {
                break;
            }
            waiting.extend(a.into_iter().chain(b).copied());
        }
        waiting.truncate(ADDRESSES_MAX);
        Self { waiting, running: 0, next_at: now }
    }

    /// The next address to start, when it is time.
    pub(super) fn poll_start(&mut self, now: Instant) -> Option<SocketAddr> {
        if self.running > 0 && now < self.next_at {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.running += 1;
        self.next_at = now + STAGGER;
        Some(address)
    }

    /// One address has TCP.
    pub(super) fn handle_tcp_up(&mut self, now: Instant) {
        self.next_at = self.next_at.max(now + HANDSHAKE_HEAD_START);
    }

    /// One address failed.
    pub(super) fn handle_failed(&mut self, now: Instant) {
        self.running = self.running.saturating_sub(1);
        self.next_at = self.next_at.min(now);
    }

    /// When [`Race::poll_start`] has another one, if nothing fails before.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next_at)
    }

    /// Whether nothing is under way, and nothing will be.
    pub(super) fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.running == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn the_families_take_turns_and_each_has_a_head_start() {
        let t0 = start();
        let names = ["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1"].map(address);
        let mut race = Race::new(t0, &names);
        assert_eq!(race.poll_start(t0), Some(names[0]));
        assert_eq!(race.poll_start(t0), None);
        assert_eq!(race.poll_timeout(), Some(t0 + STAGGER));
        assert_eq!(race.poll_start(t0 + STAGGER), Some(names[3]));
        race.handle_failed(t0 + STAGGER);
        assert_eq!(race.poll_start(t0 + STAGGER), Some(names[1]), "T47");
        race.handle_tcp_up(t0 + STAGGER);
        assert_eq!(race.poll_start(t0 + 2 * STAGGER), None);
        let later = t0 + STAGGER + HANDSHAKE_HEAD_START;
        assert_eq!(race.poll_start(later), Some(names[2]));
        assert_eq!(race.poll_timeout(), None);
        assert!(!race.is_over());
        for _ in 0..3 {
            race.handle_failed(later);
        }
        assert!(race.is_over(), "T47");
    }

    #[test]
    fn ipv4_is_first_when_the_resolver_says_so_and_the_number_is_bounded() {
        let t0 = start();
        let mut race = Race::new(t0, &["1.1.1.1:1", "1.1.1.2:1", "[::1]:1"].map(address));
        assert_eq!(race.poll_start(t0), Some(address("1.1.1.1:1")));
        assert_eq!(race.poll_start(t0 + STAGGER), Some(address("[::1]:1")));
        let many: Vec<SocketAddr> = (1..=40).map(|n| address(&format!("1.1.1.{n}:1"))).collect();
        assert_eq!(Race::new(t0, &many).waiting.len(), ADDRESSES_MAX);
    }
}
