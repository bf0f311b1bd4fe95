//! How old a stream may become: rotation moves it to where there is room, and keeps what nobody
//! notices from growing with age.
//!
//! Pure. A stream that has reached its age is drained and opened anew; what was not acknowledged
//! by then is sent again there and recognised.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// When a stream is closed politely for its age.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RotationConfig {
    /// Age at which a stream is drained; default 1 h, 0 never. Lower rebalances sooner, higher
    /// costs fewer handshakes.
    #[serde(with = "humantime_serde")]
    pub age: Duration,
    /// Share of the age by which streams differ, so that they do not all rotate at once; from 0 to
    /// 1, default 0.1.
    pub jitter: f64,
    /// What is in flight may take so long to be acknowledged; default 30 s.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
}

impl Default for RotationConfig {
    fn default() -> Self {
        Self { age: Duration::from_secs(3600), jitter: 0.1, drain: Duration::from_secs(30) }
    }
}

/// The age that one stream may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamAge {
    /// From the handshake.
    pub max: Duration,
    /// Of the drain.
    pub drain: Duration,
}

impl RotationConfig {
    /// The age of one stream: `age` ± `jitter`; `None` when streams do not rotate.
    #[must_use]
    pub fn sample(&self, rng: &mut fastrand::Rng) -> Option<StreamAge> {
        if self.age.is_zero() {
            return None;
        }
        let jitter = if self.jitter.is_finite() { self.jitter.clamp(0.0, 1.0) } else { 0.0 };
        let share = 1.0 + jitter * (2.0 * rng.f64() - 1.0);
        let max = Duration::try_from_secs_f64(self.age.as_secs_f64() * share).unwrap_or(self.age);
        Some(StreamAge { max, drain: self.drain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_spread_over_a_tenth_to_either_side_and_follow_the_seed() {
        let config = RotationConfig::default();
        let ages = |seed| {
            let mut rng = fastrand::Rng::with_seed(seed);
            (0..1000).filter_map(|_| config.sample(&mut rng)).map(|age| age.max).collect::<Vec<_>>()
        };
        let sampled = ages(7);
        let (low, high) = (sampled.iter().min().unwrap(), sampled.iter().max().unwrap());
        assert!(*low >= Duration::from_secs(3240) && *low < Duration::from_secs(3260), "{low:?}");
        assert!(
            *high <= Duration::from_secs(3960) && *high > Duration::from_secs(3940),
            "{high:?}"
        );
        assert_eq!(sampled, ages(7));
        assert_ne!(sampled, ages(8));
        let never = RotationConfig { age: Duration::ZERO, ..config };
        assert_eq!(never.sample(&mut fastrand::Rng::with_seed(1)), None);
        let odd = RotationConfig { jitter: f64::NAN, ..config };
        assert_eq!(odd.sample(&mut fastrand::Rng::with_seed(1)).unwrap().max, config.age);
    }
}
