//! How late this machine wakes who asked to be woken: what other work costs whatever is measured at
//! the same time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// How often it looks.
const LOOK: Duration = Duration::from_millis(5);

/// Watches until it is dropped.
#[derive(Debug)]
pub struct Noise {
    late: Arc<Mutex<Vec<(UnixMillis, Duration)>>>,
    _watching: JoinSet<()>,
}

impl Noise {
    /// Starts to watch.
    #[must_use]
    pub fn start() -> Self {
        let late = Arc::new(Mutex::new(Vec::new()));
        let mut watching = JoinSet::new();
        let seen = Arc::clone(&late);
        watching.spawn(async move {
            loop {
                let due = Instant::now() + LOOK;
                sleep_until(due).await;
                let found = (SystemClock.now(), due.elapsed());
                seen.lock().unwrap_or_else(PoisonError::into_inner).push(found);
            }
        });
        Self { late, _watching: watching }
    }

    /// By how much wake-ups between two moments were late: the same share of them was later.
    #[must_use]
    pub fn percentile(&self, from: UnixMillis, to: UnixMillis, percent: usize) -> Duration {
        let late = self.late.lock().unwrap_or_else(PoisonError::into_inner);
        let within = late.iter().filter(|(at, _)| (from..to).contains(at));
        let mut times: Vec<Duration> = within.map(|(_, late)| *late).collect();
        times.sort_unstable();
        let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
        times.get(place).copied().unwrap_or_default()
    }
}
