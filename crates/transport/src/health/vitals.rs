//! How well a link that is up does its work: minor and critical issues, by numbers.
//!
//! Pure. Five things are measured, each with a threshold for a minor and for a critical issue:
//!
//! | what | minor | critical |
//! |---|---|---|
//! | heartbeats that are overdue | 1 | 2 |
//! | round trip, against its own baseline | 3 × | 10 ×, if another number is out of its range |
//! | retryable refusals among the last outcomes | 5 % | 50 % |
//! | time without credit, or without room on the wire | 5 s | 60 s |
//! | time without an acknowledgement that is owed | 5 s | 15 s |
//!
//! An issue is seen at once and is over only when every number was below `resolve_share` of its
//! threshold for `resolve_after`, so that a link at the edge does not flap.
//!
//! A slow round trip alone is never critical, since the link still answers; and it counts only from
//! [`SLOW_SAMPLES_MIN`] slow answers in a row on, since one may have waited for a disk.
//!
//! Not the end of a link: silence and missing acknowledgements end it in [`super::Health`] and in
//! the session; one that stays critical is given up by [`crate::connection`].
//!
//! Invariants:
//! - T51: the grade gets worse at once, and better only after `resolve_after` without an issue.
//! - T52: the baseline of the round trip follows a slower link slowly (1/32 of the way at each
//!   heartbeat), so a route that stays slow becomes normal after some minutes.

use std::fmt;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::window::Window;

mod config;

pub use config::VitalsConfig;

/// So many slow round trips in a row are an issue. Higher is quieter and sees a slow route later, by
/// one interval of heartbeats for each.
pub const SLOW_SAMPLES_MIN: u32 = 2;

/// How well a link does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Grade {
    /// No issue.
    Good,
    /// Something to watch.
    Minor,
    /// About to be given up.
    Critical,
}

/// One number that is out of its range.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Issue {
    /// So many heartbeats are overdue.
    Missed(u32),
    /// The round trip is slow.
    Rtt {
        /// As it is.
        now: Duration,
        /// As it used to be.
        baseline: Duration,
    },
    /// The share of retryable refusals.
    Errors(f64),
    /// Nothing may be sent.
    Starved(Duration),
    /// Nothing is acknowledged.
    AckAge(Duration),
}

impl fmt::Display for Issue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missed(1) => f.write_str("a heartbeat is overdue"),
            Self::Missed(missed) => write!(f, "{missed} heartbeats are overdue"),
            Self::Rtt { now, baseline } => {
                write!(f, "the round trip is {now:.1?} and used to be {baseline:.1?}")
            }
            Self::Errors(share) => write!(f, "{:.0} % of the messages are refused", share * 100.0),
            Self::Starved(since) => write!(f, "no credit or no room for {since:.0?}"),
            Self::AckAge(since) => write!(f, "no acknowledgement for {since:.0?}"),
        }
    }
}

/// The round trip and what it used to be, in seconds.
#[derive(Debug, Clone, Copy)]
struct RoundTrip {
    smoothed: f64,
    baseline: f64,
    /// Slow ones in a row.
    slow: u32,
    /// Whether there were enough of them, and it has not become normal since.
    is_slow: bool,
}

/// What is measured of one link.
#[derive(Debug, Clone)]
pub struct Vitals {
    config: VitalsConfig,
    missed: u32,
    round_trip: Option<RoundTrip>,
    outcomes: Window,
    in_flight: u64,
    waiting_since: Instant,
    starved_for: Duration,
    grade: Grade,
    issue: Option<Issue>,
    /// Since when no number is out of its range, for a grade that is not good.
    clear_since: Option<Instant>,
}

impl Vitals {
    /// Of a link that has just come up. Values of `config` out of range are brought into it.
    #[must_use]
    pub fn new(now: Instant, config: VitalsConfig) -> Self {
        let config = config.into_range();
        Self {
            config,
            missed: 0,
            round_trip: None,
            outcomes: Window::new(config.window),
            in_flight: 0,
            waiting_since: now,
            starved_for: Duration::ZERO,
            grade: Grade::Good,
            issue: None,
            clear_since: None,
        }
    }

    /// So many heartbeats are overdue now.
    pub const fn handle_missed(&mut self, missed: u32) {
        self.missed = missed;
    }

    /// A heartbeat was answered.
    pub fn handle_rtt(&mut self, sample: Duration) {
        let sample = sample.as_secs_f64();
        self.missed = 0;
        let (times, floor) = (self.config.rtt_minor, self.config.rtt_floor.as_secs_f64());
        let easier = self.config.resolve_share;
        self.round_trip = Some(match self.round_trip {
            None => RoundTrip { smoothed: sample, baseline: sample, slow: 0, is_slow: false },
            Some(RoundTrip { smoothed, baseline, slow, is_slow }) => {
                let is_one = sample >= floor && sample >= baseline * times;
                let slow = if is_one { slow.saturating_add(1) } else { 0 };
                let smoothed = smoothed + (sample - smoothed) / 2.0;
                let stays = smoothed >= floor * easier && smoothed >= baseline * times * easier;
                // T52: down at once, up slowly.
                let share = if sample < baseline { 0.25 } else { 1.0 / 32.0 };
                RoundTrip {
                    smoothed,
                    baseline: baseline + (sample - baseline) * share,
                    slow,
                    is_slow: slow >= SLOW_SAMPLES_MIN || (is_slow && stays),
                }
            }
        });
    }

    /// Something was sent; so much is unacknowledged now, of what left in full and is not in
    /// progress.
    pub const fn handle_sent(&mut self, now: Instant, in_flight: u64) {
        if self.in_flight == 0 {
            self.waiting_since = now;
        }
        self.in_flight = in_flight;
    }

    /// So many were acknowledged; so much is unacknowledged now.
    pub fn handle_acked(&mut self, now: Instant, messages: u64, in_flight: u64) {
        self.outcomes.add(now, messages, 0);
        self.waiting_since = now;
        self.in_flight = in_flight;
    }

    /// A message was refused for now.
    pub fn handle_refused(&mut self, now: Instant) {
        self.outcomes.add(now, 0, 1);
        self.waiting_since = now;
        self.in_flight = self.in_flight.saturating_sub(1);
    }

    /// The link is at work, although nothing is acknowledged; so much is awaited now.
    pub const fn handle_progress(&mut self, now: Instant, awaited: u64) {
        self.waiting_since = now;
        self.in_flight = awaited;
    }

    /// For how long nothing may be sent; zero when something may.
    pub const fn handle_starved(&mut self, starved_for: Duration) {
        self.starved_for = starved_for;
    }

    /// What is worst about the link, when that is not good.
    #[must_use]
    pub const fn issue(&self) -> Option<Issue> {
        self.issue
    }

    /// How well the link does now.
    pub fn handle_timeout(&mut self, now: Instant) -> Grade {
        let (grade, issue) = self.worst(now, 1.0);
        if grade >= self.grade && grade > Grade::Good {
            self.grade = grade;
            self.issue = issue;
            self.clear_since = None;
            return self.grade;
        }
        let (lenient, issue) = self.worst(now, self.config.resolve_share);
        if lenient >= self.grade {
            self.clear_since = None;
            return self.grade;
        }
        let since = *self.clear_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.config.resolve_after {
            self.grade = lenient;
            self.issue = issue.filter(|_| lenient > Grade::Good);
            self.clear_since = None;
        }
        self.grade
    }

    /// The worst grade with thresholds of this share of themselves, and why.
    fn worst(&self, now: Instant, share: f64) -> (Grade, Option<Issue>) {
        let mut worst = (Grade::Good, None);
        for (grade, issue) in self.judged(now, share) {
            if grade > worst.0 {
                worst = (grade, Some(issue));
            }
        }
        worst
    }

    fn judged(&self, now: Instant, share: f64) -> Vec<(Grade, Issue)> {
        let config = &self.config;
        let judge = |value: f64, minor: f64, critical: f64| {
            if value >= critical * share {
                Grade::Critical
            } else if value >= minor * share {
                Grade::Minor
            } else {
                Grade::Good
            }
        };
        let secs = |duration: Duration| duration.as_secs_f64();
        let mut judged = Vec::with_capacity(5);
        // A count has nothing between its thresholds: the share does not apply.
        let missed = if self.missed >= config.missed_critical {
            Grade::Critical
        } else if self.missed >= config.missed_minor {
            Grade::Minor
        } else {
            Grade::Good
        };
        judged.push((missed, Issue::Missed(self.missed)));
        let ack_age = if self.in_flight > 0 {
            now.saturating_duration_since(self.waiting_since)
        } else {
            Duration::ZERO
        };
        let grade = judge(secs(ack_age), secs(config.ack_age_minor), secs(config.ack_age_critical));
        judged.push((grade, Issue::AckAge(ack_age)));
        let counted = self.outcomes.peek(now);
        if counted.total() >= config.outcomes_min {
            let errors = 1.0 - counted.success_rate();
            let grade = judge(errors, config.error_rate_minor, config.error_rate_critical);
            judged.push((grade, Issue::Errors(errors)));
        }
        let starved = if self.in_flight > 0 { self.starved_for } else { Duration::ZERO };
        let grade = judge(secs(starved), secs(config.starved_minor), secs(config.starved_critical));
        judged.push((grade, Issue::Starved(starved)));
        if let Some(RoundTrip { smoothed, baseline, is_slow: true, .. }) = self.round_trip
            && smoothed >= secs(config.rtt_floor) * share
        {
            let times = smoothed / baseline.max(1e-9);
            let is_alone = judged.iter().all(|(grade, _)| *grade == Grade::Good);
            let most = if is_alone { Grade::Minor } else { Grade::Critical };
            let grade = judge(times, config.rtt_minor, config.rtt_critical).min(most);
            let duration = |seconds| Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            judged.push((
                grade,
                Issue::Rtt { now: duration(smoothed), baseline: duration(baseline) },
            ));
        }
        judged
    }
}

#[cfg(test)]
mod tests;
