//! What may stand in the `transport` section. The transport itself brings values into their range;
//! here they are refused instead, so that what an operator reads is what is in force.

use std::fmt::Display;
use std::time::Duration;

use alys_stream_protocol::limits;
use alys_stream_transport::endpoint::{INTERVAL_MAX, INTERVAL_MIN};
use humantime_serde::re::humantime::format_duration;

use super::TransportSection;
use crate::ENDPOINTS_MAX;
use crate::error::ConfigError;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Shortest of what a round trip over a network has to fit in.
const NETWORK_MIN: Duration = Duration::from_millis(100);

/// Shortest of what is counted by timers.
const TIMER_MIN: Duration = Duration::from_millis(10);

/// Longest of what waits for one answer.
const ANSWER_MAX: Duration = Duration::from_secs(10 * 60);

/// Largest of what is a number of events.
const EVENTS_MAX: u64 = 1_000_000;

/// Most heartbeats that may be missed: hours.
const MISSED_MAX: u64 = 100;

/// Longest a stream may live when it rotates at all.
const AGE_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Largest share by which delays vary: none may become nothing.
const JITTER_MAX: f64 = 0.9;

type Checked = Result<(), ConfigError>;

impl TransportSection {
    /// Checks what the types alone cannot.
    ///
    /// # Errors
    ///
    /// The first value that is out of its bounds or contradicts another one, with its key.
    pub(in crate::node) fn validate(&self) -> Checked {
        self.validate_timers()?;
        self.validate_retries()?;
        self.validate_session()?;
        self.validate_vitals()?;
        self.validate_relations()
    }

    fn validate_timers(&self) -> Checked {
        let Self { connection, keepalive, .. } = self;
        periods(&[
            ("address_timeout", self.address_timeout, NETWORK_MIN, ANSWER_MAX),
            ("step_timeout", self.step_timeout, NETWORK_MIN, ANSWER_MAX),
            ("drain", self.drain, Duration::ZERO, ANSWER_MAX),
            ("dialect_cache", self.dialect_cache, Duration::ZERO, DAY),
            ("barrier_delay", self.barrier_delay, Duration::ZERO, 10 * SECOND),
            ("connection.connect_timeout", connection.connect_timeout, NETWORK_MIN, ANSWER_MAX),
            (
                "connection.authenticate_timeout",
                connection.authenticate_timeout,
                NETWORK_MIN,
                ANSWER_MAX,
            ),
            ("connection.critical_max", connection.critical_max, NETWORK_MIN, HOUR),
            ("connection.healthy_reset", connection.healthy_reset, NETWORK_MIN, HOUR),
            ("keepalive.interval", keepalive.interval, INTERVAL_MIN, INTERVAL_MAX),
            ("keepalive.timeout", keepalive.timeout, SECOND, ANSWER_MAX),
        ])
    }

    fn validate_retries(&self) -> Checked {
        let Self { backoff, breaker, dials, .. } = self;
        periods(&[
            ("backoff.first", backoff.first, TIMER_MIN, HOUR),
            ("backoff.backoff_max", backoff.backoff_max, TIMER_MIN, DAY),
            ("dials.spread.period", dials.spread.period, Duration::ZERO, ANSWER_MAX),
            ("dials.budget.window", dials.budget.window, SECOND, ANSWER_MAX),
            ("breaker.window", breaker.window, SECOND, DAY),
            ("breaker.open", breaker.open, TIMER_MIN, HOUR),
            ("breaker.open_max", breaker.open_max, TIMER_MIN, DAY),
            ("breaker.probe_timeout", breaker.probe_timeout, SECOND, HOUR),
        ])?;
        let endpoints_max = u64::try_from(ENDPOINTS_MAX).unwrap_or(u64::MAX);
        counts(&[
            ("dials.spread.at_once", dials.spread.at_once.into(), 1, endpoints_max),
            ("dials.budget.per_second", dials.budget.per_second.into(), 1, 1000),
            ("breaker.consecutive_failures", breaker.consecutive_failures.into(), 1, EVENTS_MAX),
            ("breaker.outcomes_min", breaker.outcomes_min, 1, EVENTS_MAX),
        ])?;
        numbers(&[
            ("backoff.factor", backoff.factor, 1.0, 10.0),
            ("backoff.jitter", backoff.jitter, 0.0, JITTER_MAX),
            ("dials.budget.ratio", dials.budget.ratio, 0.0, 10.0),
            ("breaker.success_rate_min", breaker.success_rate_min, 0.0, 1.0),
            ("breaker.jitter", breaker.jitter, 0.0, JITTER_MAX),
        ])
    }

    fn validate_session(&self) -> Checked {
        let Self { heartbeat, acks, rotation, .. } = self;
        periods(&[
            ("heartbeat.interval", heartbeat.interval, NETWORK_MIN, ANSWER_MAX),
            ("acks.delay", acks.delay, Duration::ZERO, SECOND),
            ("acks.timeout", acks.timeout, SECOND, HOUR),
            ("rotation.drain", rotation.drain, NETWORK_MIN, ANSWER_MAX),
        ])?;
        if !rotation.age.is_zero() {
            periods(&[("rotation.age", rotation.age, 10 * SECOND, AGE_MAX)])?;
        }
        counts(&[
            ("heartbeat.missed_max", heartbeat.missed_max.into(), 1, MISSED_MAX),
            ("acks.messages", acks.messages.into(), 1, limits::CREDIT_MESSAGES.into()),
            ("acks.bytes", acks.bytes, 1, limits::CREDIT_BYTES),
        ])?;
        numbers(&[("rotation.jitter", rotation.jitter, 0.0, 0.5)])
    }

    fn validate_vitals(&self) -> Checked {
        let vitals = &self.vitals;
        periods(&[
            ("vitals.rtt_floor", vitals.rtt_floor, Duration::ZERO, MINUTE),
            ("vitals.window", vitals.window, SECOND, DAY),
            ("vitals.starved_minor", vitals.starved_minor, TIMER_MIN, HOUR),
            ("vitals.starved_critical", vitals.starved_critical, TIMER_MIN, HOUR),
            ("vitals.ack_age_minor", vitals.ack_age_minor, TIMER_MIN, HOUR),
            ("vitals.ack_age_critical", vitals.ack_age_critical, TIMER_MIN, HOUR),
            ("vitals.resolve_after", vitals.resolve_after, Duration::ZERO, HOUR),
        ])?;
        counts(&[
            ("vitals.missed_minor", vitals.missed_minor.into(), 1, MISSED_MAX),
            ("vitals.missed_critical", vitals.missed_critical.into(), 1, MISSED_MAX),
            ("vitals.outcomes_min", vitals.outcomes_min, 1, EVENTS_MAX),
        ])?;
        numbers(&[
            ("vitals.rtt_minor", vitals.rtt_minor, 1.1, 1000.0),
            ("vitals.rtt_critical", vitals.rtt_critical, 1.1, 1000.0),
            ("vitals.error_rate_minor", vitals.error_rate_minor, 0.001, 1.0),
            ("vitals.error_rate_critical", vitals.error_rate_critical, 0.001, 1.0),
            ("vitals.resolve_share", vitals.resolve_share, 0.1, 1.0),
        ])
    }

    /// What would never come into force, because something else comes first.
    fn validate_relations(&self) -> Checked {
        let Self { connection, backoff, breaker, heartbeat, acks, vitals, .. } = self;
        let least: [(Named<Duration>, Named<Duration>); 7] = [
            (
                ("address_timeout", self.address_timeout),
                ("connection.connect_timeout", connection.connect_timeout),
            ),
            (
                ("step_timeout", self.step_timeout),
                ("connection.authenticate_timeout", connection.authenticate_timeout),
            ),
            (("backoff.first", backoff.first), ("backoff.backoff_max", backoff.backoff_max)),
            (("breaker.open", breaker.open), ("breaker.open_max", breaker.open_max)),
            (
                ("vitals.starved_minor", vitals.starved_minor),
                ("vitals.starved_critical", vitals.starved_critical),
            ),
            (
                ("vitals.ack_age_minor", vitals.ack_age_minor),
                ("vitals.ack_age_critical", vitals.ack_age_critical),
            ),
            (("vitals.ack_age_critical", vitals.ack_age_critical), ("acks.timeout", acks.timeout)),
        ];
        for (lower, upper) in least {
            in_order(lower, upper, |period| format_duration(*period).to_string())?;
        }
        let (missed_minor, missed_critical) = (vitals.missed_minor, vitals.missed_critical);
        for (lower, upper) in [
            (("vitals.missed_minor", missed_minor), ("vitals.missed_critical", missed_critical)),
            (
                ("vitals.missed_critical", missed_critical),
                ("heartbeat.missed_max", heartbeat.missed_max),
            ),
        ] {
            in_order(lower, upper, ToString::to_string)?;
        }
        for (lower, upper) in [
            (("vitals.rtt_minor", vitals.rtt_minor), ("vitals.rtt_critical", vitals.rtt_critical)),
            (
                ("vitals.error_rate_minor", vitals.error_rate_minor),
                ("vitals.error_rate_critical", vitals.error_rate_critical),
            ),
        ] {
            in_order(lower, upper, ToString::to_string)?;
        }
        Ok(())
    }
}

/// A key below `transport`, and its value.
type Named<T> = (&'static str, T);

/// Key, value, least, most.
type Bounded<T> = (&'static str, T, T, T);

fn periods(bounded: &[Bounded<Duration>]) -> Checked {
    within(bounded, |period| format_duration(*period).to_string())
}

fn counts(bounded: &[Bounded<u64>]) -> Checked {
    within(bounded, ToString::to_string)
}

fn numbers(bounded: &[Bounded<f64>]) -> Checked {
    within(bounded, ToString::to_string)
}

fn within<T: PartialOrd, D: Display>(bounded: &[Bounded<T>], shown: impl Fn(&T) -> D) -> Checked {
    for (key, value, min, max) in bounded {
        // Written so that what is no number is outside, too.
        if !(min..=max).contains(&value) {
            let what = format!("is {}", shown(value));
            let cure = format!("give {} to {}", shown(min), shown(max));
            return Err(ConfigError::invalid(format!("transport.{key}"), what, cure));
        }
    }
    Ok(())
}

fn in_order<T: PartialOrd, D: Display>(
    (lower_key, lower): Named<T>,
    (upper_key, upper): Named<T>,
    shown: impl Fn(&T) -> D,
) -> Checked {
    if lower <= upper {
        return Ok(());
    }
    let what = format!("is {}, above `{upper_key}` ({})", shown(&lower), shown(&upper));
    let cure = "lower it, or raise the other one";
    Err(ConfigError::invalid(format!("transport.{lower_key}"), what, cure))
}
