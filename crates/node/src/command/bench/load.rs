//! Load on a link: callers that each wait until what they sent is accepted, and a bound on what is
//! accepted and not acknowledged.

use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::failure::Failure;

/// How often what is owed is looked at.
const LOOK: Duration = Duration::from_micros(500);

/// Longest time without any acknowledgement while some are owed.
const REST_MAX: Duration = Duration::from_secs(60);

/// What to send.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Load {
    /// For so long.
    pub(super) millis: u64,
    /// Callers at the same time.
    pub(super) producers: u32,
    /// Messages that each hands over at once.
    pub(super) together: usize,
    /// Bytes of a payload.
    pub(super) payload: usize,
    /// Callers wait while more than so many messages are owed.
    pub(super) window: u64,
}

/// What was sent.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Loaded {
    /// Accepted, and acknowledged by the end.
    pub(super) messages: u64,
    /// From the first call until the last acknowledgement.
    pub(super) seconds: f64,
}

impl Loaded {
    /// Messages per second.
    pub(super) fn rate(&self) -> f64 {
        super::stats::float(self.messages) / self.seconds.max(1e-9)
    }
}

/// One that messages are handed to.
pub(super) trait Link: Clone + Send + Sync + 'static {
    /// Accepts messages: durable when this returns, where the mode is.
    fn send(&self, payloads: Vec<Bytes>) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Accepted and not acknowledged.
    fn owed(&self) -> u64;
}

/// Puts load on, and waits until all of it is acknowledged.
///
/// # Errors
///
/// When a message is not accepted, or what was accepted is not acknowledged in time.
pub(super) async fn run<L: Link>(link: &L, load: &Load) -> Result<Loaded, Failure> {
    let started = Instant::now();
    let end = started + Duration::from_millis(load.millis);
    let (gate, open) = watch::channel(true);
    let mut producers = JoinSet::new();
    for _ in 0..load.producers {
        producers.spawn(produce(link.clone(), load.clone(), open.clone(), end));
    }
    drop(open);
    let mut looks = tokio::time::interval(LOOK);
    let mut messages = 0;
    loop {
        tokio::select! {
            joined = producers.join_next() => match joined {
                Some(sent) => messages += sent.map_err(|error| failed(&error))??,
                None => break,
            },
            _ = looks.tick() => {
                let is_open = link.owed() < load.window;
                gate.send_if_modified(|open| std::mem::replace(open, is_open) != is_open);
            }
        }
    }
    acknowledged(link).await?;
    Ok(Loaded { messages, seconds: started.elapsed().as_secs_f64() })
}

/// Waits until nothing is owed.
///
/// # Errors
///
/// When nothing is acknowledged for too long.
pub(super) async fn acknowledged<L: Link>(link: &L) -> Result<(), Failure> {
    let mut looks = tokio::time::interval(LOOK);
    let (mut least, mut since) = (u64::MAX, Instant::now());
    loop {
        let owed = link.owed();
        if owed == 0 {
            return Ok(());
        }
        if owed < least {
            (least, since) = (owed, Instant::now());
        }
        if since.elapsed() > REST_MAX {
            return Err(failed(&format_args!("{owed} messages are still not acknowledged")));
        }
        looks.tick().await;
    }
}

async fn produce<L: Link>(
    link: L,
    load: Load,
    mut open: watch::Receiver<bool>,
    end: Instant,
) -> Result<u64, Failure> {
    let payload = vec![0x5a; load.payload];
    let mut sent = 0;
    while Instant::now() < end {
        if !*open.borrow() {
            drop(open.wait_for(|open| *open).await);
        }
        // Each has a payload of its own, as messages have.
        let payloads = (0..load.together).map(|_| Bytes::copy_from_slice(&payload)).collect();
        link.send(payloads).await?;
        sent += u64::try_from(load.together).unwrap_or(0);
    }
    Ok(sent)
}

fn failed(why: &dyn std::fmt::Display) -> Failure {
    Failure::other(format_args!("the load: {why}"))
}
