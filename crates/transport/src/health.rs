//! Is the link alive, and how good is it: heartbeats, round-trip time, quality.
//!
//! Pure. Only the answer to our own heartbeat counts as a sign of life: data that arrives proves
//! one direction, and a middlebox may have dropped the other.
//!
//! Invariants:
//! - T5: a link whose peer answers nothing is found dead within (`missed_max` + 1) intervals.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

mod vitals;

pub use vitals::{Grade, Issue, SLOW_SAMPLES_MIN, Vitals, VitalsConfig};

/// How often, and when it is too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HeartbeatConfig {
    /// Between two heartbeats; default 15 s, below the idle limit of every common proxy.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// So many unanswered ones in a row mean that the link is dead; default 3.
    pub missed_max: u32,
}

impl Default for HeartbeatConfig {
    fn default() -> Self {
        Self { interval: Duration::from_secs(15), missed_max: 3 }
    }
}

/// How good the link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// Every heartbeat is answered before the next one.
    Good,
    /// One heartbeat is overdue.
    Minor,
    /// Two or more are.
    Severe,
}

/// What a timer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat {
    /// Nothing yet.
    Wait,
    /// Send a heartbeat with this number.
    Send(u64),
    /// The peer is dead: so many heartbeats are unanswered.
    Dead(u32),
}

/// Smoothed round-trip time, after RFC 6298: α = 1/8, β = 1/4.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rtt {
    /// The last one measured.
    pub last: Duration,
    /// Smoothed.
    pub smoothed: Duration,
    /// Smoothed deviation.
    pub variation: Duration,
    /// The lowest one measured.
    pub lowest: Duration,
}

impl Rtt {
    fn first(sample: Duration) -> Self {
        Self { last: sample, smoothed: sample, variation: sample / 2, lowest: sample }
    }

    fn update(&mut self, sample: Duration) {
        let off = self.smoothed.abs_diff(sample);
        self.last = sample;
        self.variation = (self.variation * 3 + off) / 4;
        self.smoothed = (self.smoothed * 7 + sample) / 8;
        self.lowest = self.lowest.min(sample);
    }
}

/// The heartbeats of one stream.
#[derive(Debug)]
pub struct Health {
    config: HeartbeatConfig,
    next_at: Instant,
    sequence: u64,
    /// Sent and unanswered; at most `missed_max` plus the extra ones of barriers.
    outstanding: BTreeMap<u64, Instant>,
    /// Regular heartbeats in a row that found one unanswered which is at least an interval old.
    missed: u32,
    rtt: Option<Rtt>,
}

impl Health {
    /// The first heartbeat is due at once: it measures the round trip and proves the link.
    #[must_use]
    pub const fn new(now: Instant, config: HeartbeatConfig) -> Self {
        Self {
            config,
            next_at: now,
            sequence: 0,
            outstanding: BTreeMap::new(),
            missed: 0,
            rtt: None,
        }
    }

    /// Asks what is due.
    pub fn handle_timeout(&mut self, now: Instant) -> Beat {
        if now < self.next_at {
            return Beat::Wait;
        }
        self.next_at = now + self.config.interval;
        // A barrier that left a moment ago is not late.
        let is_overdue = self.outstanding.first_key_value().is_some_and(|(_, sent_at)| {
            now.saturating_duration_since(*sent_at) >= self.config.interval
        });
        self.missed = if is_overdue { self.missed.saturating_add(1) } else { 0 };
        if self.missed >= self.config.missed_max {
            return Beat::Dead(self.missed);
        }
        Beat::Send(self.handle_extra(now))
    }

    /// Numbers a heartbeat that is sent now for a reason of its own (a barrier).
    pub fn handle_extra(&mut self, now: Instant) -> u64 {
        self.sequence += 1;
        self.outstanding.insert(self.sequence, now);
        self.sequence
    }

    /// The peer answered a heartbeat. Returns the round trip, when that one was waited for.
    pub fn handle_ack(&mut self, now: Instant, sequence: u64) -> Option<Duration> {
        let sent_at = *self.outstanding.get(&sequence)?;
        // The stream keeps its order, so the answer covers every earlier heartbeat.
        self.outstanding = self.outstanding.split_off(&(sequence + 1));
        self.missed = 0;
        let sample = now.saturating_duration_since(sent_at);
        match &mut self.rtt {
            Some(rtt) => rtt.update(sample),
            None => self.rtt = Some(Rtt::first(sample)),
        }
        Some(sample)
    }

    /// When [`Health::handle_timeout`] has something to say.
    #[must_use]
    pub const fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// How good the link is.
    #[must_use]
    pub const fn quality(&self) -> Quality {
        match self.missed {
            0 => Quality::Good,
            1 => Quality::Minor,
            _ => Quality::Severe,
        }
    }

    /// The round-trip time, once measured.
    #[must_use]
    pub const fn rtt(&self) -> Option<Rtt> {
        self.rtt
    }

    /// The number of the last heartbeat.
    #[must_use]
    pub const fn sequence(&self) -> u64 {
        self.sequence
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
    fn start() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_silent_peer_is_dead_after_three_intervals() {
        let t0 = start();
        let mut health = Health::new(t0, HeartbeatConfig::default());
        let seen: Vec<_> = (0..=45)
            .map(|s| (s, health.handle_timeout(t0 + SECOND * s), health.quality()))
            .filter(|(_, beat, _)| *beat != Beat::Wait)
            .collect();
        assert_eq!(
            seen,
            [
                (0, Beat::Send(1), Quality::Good),
                (15, Beat::Send(2), Quality::Minor),
                (30, Beat::Send(3), Quality::Severe),
                (45, Beat::Dead(3), Quality::Severe),
            ],
            "T5"
        );
    }

    #[test]
    fn an_answer_covers_the_earlier_ones_and_mends_the_quality() {
        let t0 = start();
        let mut health = Health::new(t0, HeartbeatConfig::default());
        assert_eq!(health.handle_timeout(t0), Beat::Send(1));
        assert_eq!(health.handle_timeout(t0 + 15 * SECOND), Beat::Send(2));
        assert_eq!(health.quality(), Quality::Minor);
        assert_eq!(health.handle_ack(t0 + 16 * SECOND, 2), Some(SECOND));
        assert_eq!(health.quality(), Quality::Good);
        assert_eq!(health.handle_ack(t0 + 16 * SECOND, 1), None, "covered");
        assert_eq!(health.handle_ack(t0 + 16 * SECOND, 9), None, "never sent");
        assert_eq!(health.handle_timeout(t0 + 30 * SECOND), Beat::Send(3));
        assert_eq!(health.quality(), Quality::Good);
    }

    #[test]
    fn a_barrier_that_left_a_moment_ago_is_not_overdue() {
        let t0 = start();
        let mut health = Health::new(t0, HeartbeatConfig::default());
        assert_eq!(health.handle_timeout(t0), Beat::Send(1));
        health.handle_ack(t0 + SECOND / 50, 1);
        for round in 1..=10 {
            let due = t0 + 15 * SECOND * round;
            let barrier = health.handle_extra(due - SECOND / 25);
            let beat = health.handle_timeout(due);
            assert_eq!(beat, Beat::Send(barrier + 1));
            assert_eq!(health.quality(), Quality::Good, "round {round}");
            health.handle_ack(due + SECOND / 25, barrier + 1);
        }
        // One that stays unanswered is found as before.
        let barrier = health.handle_extra(t0 + 151 * SECOND);
        assert_eq!(health.handle_timeout(t0 + 165 * SECOND), Beat::Send(barrier + 1));
        assert_eq!(health.quality(), Quality::Good);
        health.handle_timeout(t0 + 180 * SECOND);
        assert_eq!(health.quality(), Quality::Minor);
    }

    #[test]
    fn the_round_trip_is_smoothed() {
        let t0 = start();
        let mut health = Health::new(t0, HeartbeatConfig::default());
        for millis in [80, 160, 80] {
            let sequence = health.handle_extra(t0);
            health.handle_ack(t0 + Duration::from_millis(millis), sequence);
        }
        let rtt = health.rtt().unwrap();
        assert_eq!(rtt.last, Duration::from_millis(80));
        assert_eq!(rtt.lowest, Duration::from_millis(80));
        assert_eq!(rtt.smoothed, Duration::from_micros(88_750));
    }
}
