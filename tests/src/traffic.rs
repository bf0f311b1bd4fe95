//! Messages under way: submitted at a pace or as fast as they settle, each followed to its end and
//! timed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_protocol::time::{SystemClock, UnixMillis, WallClock as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::load;
use crate::process::PATIENCE;
use crate::submission::Client;

/// Between two batches of paced traffic.
const TICK: Duration = Duration::from_millis(10);

/// How messages are submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Load {
    /// So many a second, whatever becomes of them.
    Paced(u32),
    /// By so many callers, each of which waits for its message to settle before the next.
    Saturating(u32),
}

/// What is submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mix {
    /// Messages for which any governance node is enough.
    Any,
    /// Every eighth one is for all governance nodes.
    AnyAndAll,
}

/// A message that has settled.
#[derive(Debug, Clone, Copy)]
pub struct Settled {
    /// Which.
    pub id: MessageId,
    /// Whether all governance nodes had to have it.
    pub for_all: bool,
    /// When it was handed over.
    pub submitted_at: UnixMillis,
    /// When its sender learned that it had settled.
    pub settled_at: UnixMillis,
    /// What lay between the two.
    pub took: Duration,
}

/// Messages under way.
#[derive(Debug)]
pub struct Traffic {
    stop: watch::Sender<bool>,
    settled: Arc<Mutex<Vec<Settled>>>,
    count: watch::Receiver<usize>,
    tasks: JoinSet<()>,
}

/// What every task of the traffic shares.
#[derive(Debug, Clone)]
struct Sender {
    client: Client,
    mix: Mix,
    settled: Arc<Mutex<Vec<Settled>>>,
    count: watch::Sender<usize>,
}

impl Traffic {
    /// Starts submitting.
    #[must_use]
    pub fn start(client: Client, load: Load, mix: Mix, mut rng: fastrand::Rng) -> Self {
        let settled = Arc::new(Mutex::new(Vec::new()));
        let (stop, stopped) = watch::channel(false);
        let (counting, count) = watch::channel(0);
        let sender = Sender { client, mix, settled: Arc::clone(&settled), count: counting };
        let mut tasks = JoinSet::new();
        match load {
            Load::Paced(per_second) => {
                tasks.spawn(paced(sender, per_second, rng, stopped));
            }
            Load::Saturating(callers) => {
                for _ in 0..callers {
                    tasks.spawn(saturating(sender.clone(), rng.fork(), stopped.clone()));
                }
            }
        }
        Self { stop, settled, count, tasks }
    }

    /// Waits until so many more have settled.
    ///
    /// # Panics
    ///
    /// When it takes longer than [`PATIENCE`].
    pub async fn more(&mut self, more: usize) {
        let wanted = *self.count.borrow() + more;
        let waiting = async { self.count.wait_for(|count| *count >= wanted).await.is_ok() };
        let came = timeout(PATIENCE, waiting).await;
        assert_eq!(came, Ok(true), "{} settled of {wanted}", self.settled().len());
    }

    /// What has settled so far, in the order in which it did.
    #[must_use]
    pub fn settled(&self) -> Vec<Settled> {
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Stops submitting, and waits until everything that was accepted has settled.
    ///
    /// # Panics
    ///
    /// When something ends otherwise, or takes longer than [`PATIENCE`].
    pub async fn finish(mut self) -> Vec<Settled> {
        self.stop.send_replace(true);
        let ending = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.expect("every message settles");
            }
        };
        let ended = timeout(PATIENCE, ending).await;
        assert!(ended.is_ok(), "only {} have settled", self.settled().len());
        self.settled()
    }
}

async fn paced(
    sender: Sender,
    per_second: u32,
    mut rng: fastrand::Rng,
    stopped: watch::Receiver<bool>,
) {
    let mut following = JoinSet::new();
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (started, mut sent) = (ticks.tick().await, 0);
    while !*stopped.borrow() {
        let now = ticks.tick().await;
        let due = (now - started).as_secs_f64() * f64::from(per_second);
        while f64::from(sent) < due {
            following.spawn(sender.clone().send(rng.fork(), sent));
            sent += 1;
        }
        while let Some(ended) = following.try_join_next() {
            ended.expect("every message settles");
        }
    }
    while let Some(ended) = following.join_next().await {
        ended.expect("every message settles");
    }
}

async fn saturating(sender: Sender, mut rng: fastrand::Rng, stopped: watch::Receiver<bool>) {
    let mut sent = 0;
    while !*stopped.borrow() {
        sender.clone().send(rng.fork(), sent).await;
        sent += 1;
    }
}

impl Sender {
    /// Hands one message over, and follows it to its end.
    async fn send(self, mut rng: fastrand::Rng, number: u32) {
        let id = MessageId::mint();
        let for_all = self.mix == Mix::AnyAndAll && number.is_multiple_of(8);
        let message =
            if for_all { load::pegin(&mut rng, id) } else { load::application(&mut rng, id) };
        let (submitted_at, started) = (SystemClock.now(), Instant::now());
        self.client.submit_until_accepted(vec![message]).await;
        let outcome = self.client.outcome(id).await;
        assert_eq!(outcome.state(), OutcomeState::Complete, "{id}: {}", outcome.reason);
        let (settled_at, took) = (SystemClock.now(), started.elapsed());
        let settled = Settled { id, for_all, submitted_at, settled_at, took };
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).push(settled);
        self.count.send_modify(|count| *count += 1);
    }
}

/// The time within which this share of them has settled.
///
/// # Panics
///
/// When there are none.
#[must_use]
pub fn percentile(settled: &[Settled], percent: usize) -> Duration {
    let mut times: Vec<Duration> = settled.iter().map(|settled| settled.took).collect();
    times.sort_unstable();
    let place = (times.len() * percent).div_ceil(100).saturating_sub(1);
    times.get(place).copied().expect("something has settled")
}
