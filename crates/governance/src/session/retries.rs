//! Records that a node refused for now: sent again after a pause, never in a tight loop.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::time::Duration;

use alys_stream_protocol::message::Seq;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::sync::lock;

/// Pause when the node names none.
const PAUSE: Duration = Duration::from_secs(1);

/// Bounds of the pause that a node may ask for.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Refused records of one session and when each is due. Bounded by the credit of the session: a
/// refused record stays in flight here until it is due.
#[derive(Debug, Default)]
pub(super) struct Retries {
    due: Mutex<BTreeSet<(Instant, Seq)>>,
    arrived: Notify,
}

impl Retries {
    pub(super) fn push(&self, seq: Seq, after: Option<Duration>) {
        let pause = after.unwrap_or(PAUSE).clamp(PAUSE_MIN, PAUSE_MAX);
        lock(&self.due).insert((Instant::now() + pause, seq));
        self.arrived.notify_one();
    }

    /// Calls `send_again` for each record when it is due. Never ends.
    pub(super) async fn run(&self, send_again: impl Fn(Seq)) {
        loop {
            let next = lock(&self.due).first().copied();
            let Some((at, seq)) = next else {
                self.arrived.notified().await;
                continue;
            };
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(at) => {
                    lock(&self.due).remove(&(at, seq));
                    send_again(seq);
                }
                // Perhaps an earlier one.
                () = self.arrived.notified() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_is_sent_again_when_it_is_due() {
        let (retries, sent) = (Retries::default(), Mutex::new(Vec::new()));
        let start = Instant::now();
        retries.push(Seq(1), None);
        retries.push(Seq(2), Some(Duration::ZERO));
        retries.push(Seq(3), Some(Duration::from_secs(3600)));
        let running = retries.run(|seq| lock(&sent).push((seq, start.elapsed().as_millis())));
        assert!(tokio::time::timeout(Duration::from_secs(61), running).await.is_err());
        assert_eq!(*lock(&sent), [(Seq(2), 10), (Seq(1), 1000), (Seq(3), 60_000)]);
    }
}
