//! The two scores that dashboards show, from 0 (useless) to 1 (perfect).
//!
//! Pure arithmetic. Not the machine that decides between healthy, warning and critical: that is
//! the transport's.

use std::time::Duration;

/// Uptime that counts as full in the health of an endpoint.
const ENDPOINT_UPTIME_FULL: Duration = Duration::from_secs(60 * 60);
/// Uptime that counts as full in the quality of a stream.
const STREAM_UPTIME_FULL: Duration = Duration::from_secs(5 * 60);

/// The health of an endpoint: 0.6 × quality + 0.2 × heartbeat freshness + 0.2 × uptime of one hour.
///
/// `quality` is that of [`stream_quality`]; `heartbeat_freshness` is 1 right after a heartbeat and
/// 0 once the link counts as dead. Both are clamped to 0..=1.
#[must_use]
pub fn endpoint_health(quality: f64, heartbeat_freshness: f64, uptime: Duration) -> f64 {
    0.6 * unit(quality)
        + 0.2 * unit(heartbeat_freshness)
        + 0.2 * fraction(uptime, ENDPOINT_UPTIME_FULL)
}

/// The quality of a stream: 0.5 × (1 − error rate) + 0.3 × latency score + 0.2 × uptime of five
/// minutes. The rate and the score are clamped to 0..=1.
#[must_use]
pub fn stream_quality(error_rate: f64, latency_score: f64, uptime: Duration) -> f64 {
    0.5 * (1.0 - unit(error_rate))
        + 0.3 * unit(latency_score)
        + 0.2 * fraction(uptime, STREAM_UPTIME_FULL)
}

fn fraction(uptime: Duration, full: Duration) -> f64 {
    unit(uptime.as_secs_f64() / full.as_secs_f64())
}

/// Clamps to 0..=1; what is not a number is 0, because a score nobody can compute is no good news.
pub(crate) fn unit(value: f64) -> f64 {
    if value.is_nan() { 0.0 } else { value.clamp(0.0, 1.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(actual: f64, expected: f64) {
        assert!((actual - expected).abs() < 1e-9, "{actual} is not {expected}");
    }

    #[test]
    fn weights_are_those_of_the_dashboards() {
        let hour = Duration::from_secs(3600);
        check(endpoint_health(1.0, 1.0, hour), 1.0);
        check(endpoint_health(0.5, 0.0, hour / 2), 0.4);
        check(endpoint_health(0.0, 0.0, Duration::ZERO), 0.0);
        check(stream_quality(0.0, 1.0, hour), 1.0);
        check(stream_quality(0.1, 0.5, Duration::from_secs(150)), 0.7);
        check(stream_quality(1.0, 0.0, Duration::ZERO), 0.0);
    }

    #[test]
    fn nonsense_stays_between_zero_and_one() {
        let day = Duration::from_secs(86_400);
        check(endpoint_health(f64::NAN, 7.0, day), 0.4);
        check(stream_quality(-1.0, f64::INFINITY, day), 1.0);
    }
}
