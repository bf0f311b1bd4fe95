//! The driver of the bounds of the dead letters: drops in time what is older than it may be, and
//! says how near the bounds are before anything is dropped.

use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use alys_stream_messaging::dead_letter::{DeadLetterStat, NEARLY_FULL_PERCENT};
use alys_stream_protocol::time::UnixMillis;
use alys_stream_telemetry::logs::AUDIT;
use alys_stream_telemetry::metrics::{LettersBound, LettersFill};
use tokio::time::{Instant, MissedTickBehavior};

use super::Delivery;

/// How long after the start the dead letters are looked at first: what became too old while the
/// node was down goes soon, and not before an operator could see the start in the log.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(5);

/// How often they are looked at: the most by which one outlives `dead_letters.age_max`.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What was said of the dead letters already.
#[derive(Debug, Default)]
pub(super) struct LettersWatch {
    /// Those dropped for their bytes that were counted.
    dropped_by_bytes: u64,
    /// The same of those that were too old.
    dropped_by_age: u64,
    is_nearly_full: bool,
    is_nearly_too_old: bool,
}

/// Runs until it is aborted.
pub(super) async fn run(delivery: Arc<Delivery>) {
    let mut looks = tokio::time::interval_at(Instant::now() + FIRST_LOOK, LOOK_AGAIN);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        delivery.expire_letters(delivery.clock.now()).await;
    }
}

impl Delivery {
    /// Drops for good what is older than it may be.
    async fn expire_letters(&self, now: UnixMillis) {
        // How near they are to the bound is said before any is dropped.
        self.watch_letters(now);
        // Not while messages are dying (A20).
        let ending = self.ending.lock().await;
        if !*ending && self.dead_letters.expire(now) > 0 {
            self.watch_letters(now);
        }
    }

    /// Writes the gauges, counts what was dropped, and says when a bound comes near.
    pub(super) fn watch_letters(&self, now: UnixMillis) {
        self.look(&mut self.letters_watch(), now);
    }

    /// How full the store of dead letters is.
    pub(crate) fn letters_fill(&self, now: UnixMillis) -> LettersFill {
        fill(&self.dead_letters.stat(), self.letters_age_max, now)
    }

    fn letters_watch(&self) -> MutexGuard<'_, LettersWatch> {
        self.letters_watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, watch: &mut LettersWatch, now: UnixMillis) {
        let stat = self.dead_letters.stat();
        for (bound, dropped, counted) in [
            (LettersBound::Bytes, stat.dropped_by_bytes(), &mut watch.dropped_by_bytes),
            (LettersBound::Age, stat.dropped_by_age, &mut watch.dropped_by_age),
        ] {
            self.count_dropped(bound, dropped.saturating_sub(*counted));
            *counted = dropped;
        }
        let fill = fill(&stat, self.letters_age_max, now);
        self.metrics.letters(&fill);
        for (bound, is_near, was_near) in [
            (LettersBound::Bytes, fill.is_nearly_full, &mut watch.is_nearly_full),
            (LettersBound::Age, fill.is_nearly_too_old, &mut watch.is_nearly_too_old),
        ] {
            if is_near && !*was_near {
                let LettersFill { count, bytes, bytes_max, oldest_age, .. } = fill;
                tracing::warn!(
                    bound = bound.as_str(),
                    count,
                    bytes,
                    bytes_max,
                    ?oldest_age,
                    "dead letters are near a bound, beyond which the oldest are dropped for good: replay, export or purge some"
                );
            }
            *was_near = is_near;
        }
    }

    /// Each of them has a line of its own already, from the store.
    fn count_dropped(&self, bound: LettersBound, dropped: u64) {
        if dropped > 0 {
            self.metrics.letters_dropped(bound, dropped);
            let bound = bound.as_str();
            tracing::warn!(target: AUDIT, action = "drop", bound, dropped, "dead letters");
        }
    }
}

fn fill(stat: &DeadLetterStat, age_max: Option<Duration>, now: UnixMillis) -> LettersFill {
    let oldest_age = stat.oldest.map(|died_at| now.saturating_since(died_at));
    let percent = u32::try_from(NEARLY_FULL_PERCENT).unwrap_or(100);
    let near = age_max.map(|age_max| age_max / 100 * percent);
    LettersFill {
        count: stat.count,
        bytes: stat.bytes,
        bytes_max: stat.bytes_max,
        oldest_age,
        is_nearly_full: stat.is_nearly_full(),
        is_nearly_too_old: oldest_age.zip(near).is_some_and(|(age, near)| age >= near),
    }
}
