//! How busy this side is, as it tells its peer with every heartbeat.
//!
//! It is busy while something received is not dealt with yet: what the peer could relieve it of.

use std::time::{Duration, Instant};

/// What is said is measured over at least this long; a shorter one would be noise.
const SPAN_MIN: Duration = Duration::from_secs(1);

/// The share of time spent busy.
#[derive(Debug)]
pub(super) struct Busy {
    span_at: Instant,
    /// Busy in this span, up to `since`.
    spent: Duration,
    /// Busy since, when it is.
    since: Option<Instant>,
    permille: u32,
}

impl Busy {
    pub(super) const fn new(now: Instant) -> Self {
        Self { span_at: now, spent: Duration::ZERO, since: None, permille: 0 }
    }

    /// Takes note of whether there is anything to do.
    pub(super) fn handle(&mut self, now: Instant, is_busy: bool) {
        if let Some(since) = self.since.take() {
            self.spent += now.saturating_duration_since(since);
        }
        self.since = is_busy.then_some(now);
    }

    /// Share of the last span, in thousandths.
    pub(super) fn permille(&mut self, now: Instant) -> u32 {
        let span = now.saturating_duration_since(self.span_at);
        if span >= SPAN_MIN {
            let is_busy = self.since.is_some();
            self.handle(now, is_busy);
            let share = self.spent.as_micros() * 1000 / span.as_micros().max(1);
            self.permille = u32::try_from(share).unwrap_or(1000).min(1000);
            (self.span_at, self.spent) = (now, Duration::ZERO);
        }
        self.permille
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[expect(clippy::disallowed_methods, reason = "an arbitrary start")]
    fn it_is_the_share_of_the_time_since_the_last_report() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut busy = Busy::new(start);
        busy.handle(at(100), true);
        busy.handle(at(350), false);
        assert_eq!(busy.permille(at(500)), 0, "too short to say");
        assert_eq!(busy.permille(at(1000)), 250);
        busy.handle(at(1500), true);
        assert_eq!(busy.permille(at(2000)), 500);
        assert_eq!(busy.permille(at(4000)), 1000, "busy all the time");
        busy.handle(at(4000), false);
        assert_eq!(busy.permille(at(5000)), 0);
    }
}
