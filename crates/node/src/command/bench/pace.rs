//! Messages at a steady rate, and how long each took until it was acknowledged.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::stats;
use crate::failure::Failure;

/// What to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Pace {
    /// For so long.
    pub(super) millis: u64,
    /// Messages per second.
    pub(super) rate: u32,
    /// Bytes of a payload.
    pub(super) payload: usize,
}

/// How long it took.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Paced {
    /// From the call until the acknowledgement, in microseconds, ascending.
    pub(super) micros: Vec<u32>,
}

impl Paced {
    /// A quantile in microseconds.
    pub(super) fn quantile(&self, percent: usize) -> f64 {
        stats::quantile(&self.micros, percent)
    }
}

/// One that messages are handed to.
pub(super) trait Acknowledges: Clone + Send + Sync + 'static {
    /// Accepts a message, and resolves when the peer has acknowledged it.
    fn through(&self, payload: Bytes) -> impl Future<Output = Result<(), Failure>> + Send;
}

/// Sends at a steady rate, whether or not what was sent before is acknowledged.
///
/// # Errors
///
/// When a message is not accepted.
pub(super) async fn run<L: Acknowledges>(link: &L, pace: &Pace) -> Result<Paced, Failure> {
    let payload = vec![0x5a; pace.payload];
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / pace.rate.max(1));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let end = Instant::now() + Duration::from_millis(pace.millis);
    let mut under_way = JoinSet::new();
    let mut micros = Vec::new();
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {
                if Instant::now() >= end {
                    break;
                }
                let (link, payload) = (link.clone(), Bytes::copy_from_slice(&payload));
                let begun = Instant::now();
                under_way.spawn(async move {
                    link.through(payload).await?;
                    Ok::<_, Failure>(begun.elapsed())
                });
            }
            Some(took) = under_way.join_next() => note(took, &mut micros)?,
        }
    }
    while let Some(took) = under_way.join_next().await {
        note(took, &mut micros)?;
    }
    micros.sort_unstable();
    Ok(Paced { micros })
}

fn note(
    took: Result<Result<Duration, Failure>, tokio::task::JoinError>,
    micros: &mut Vec<u32>,
) -> Result<(), Failure> {
    let took = took.map_err(|error| Failure::other(format_args!("a message: {error}")))??;
    micros.push(u32::try_from(took.as_micros()).unwrap_or(u32::MAX));
    Ok(())
}
