//! Callers under chaos: they submit until they are told to stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alys_stream_protocol::governance::RequestPriority;
use alys_stream_protocol::message::{MessageId, Priority, Seq};
use alys_stream_protocol::submission::{Acceptance, Submission};
use alys_stream_simulation::verdict::{Accepted, For};
use alys_stream_tests::load;
use alys_stream_tests::submission::Client;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::verdict::ENDING;

/// Ordering keys of all callers together: what one of them submits waits for what others did.
const KEYS: u8 = 5;

/// Callers that submit peg-ins, which every governance node must have.
#[derive(Debug)]
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    tasks: JoinSet<Vec<Accepted>>,
}

impl Callers {
    pub(crate) fn start(client: &Client, callers: u64, rng: &mut fastrand::Rng) -> Self {
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..callers {
            let (stop, accepted) = (Arc::clone(&stop), Arc::clone(&accepted));
            tasks.spawn(submit(client.clone(), rng.fork(), stop, accepted));
        }
        Self { stop, accepted, tasks }
    }

    /// How many were accepted so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Waits until so many more are accepted, or not at all when the node is in no state to.
    pub(crate) async fn until_accepted(&self, more: u64) {
        let wanted = self.accepted() + more;
        let waiting = async {
            while self.accepted() < wanted {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        drop(timeout(Duration::from_secs(5), waiting).await);
    }

    /// Stops them; what was accepted.
    pub(crate) async fn finish(self) -> Vec<Accepted> {
        self.stop.store(true, Ordering::Relaxed);
        let finished = timeout(ENDING, self.tasks.join_all()).await;
        finished.expect("the node takes messages again").concat()
    }
}

async fn submit(
    client: Client,
    mut rng: fastrand::Rng,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Vec<Accepted> {
    let mut all = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let messages = rng.usize(1..6);
        let batch = draw(&mut rng, messages);
        let acceptances = client.submit_until_accepted(batch.clone()).await;
        count.fetch_add(acceptances.len() as u64, Ordering::Relaxed);
        all.extend(accepted(&batch, &acceptances));
    }
    all
}

/// Peg-ins, half of them with an ordering key.
pub(crate) fn draw(rng: &mut fastrand::Rng, messages: usize) -> Vec<Submission> {
    let mut pegin = || {
        let mut pegin = load::pegin(rng, MessageId::mint());
        if rng.bool() {
            pegin.ordering_key = vec![rng.u8(0..KEYS)].into();
        }
        pegin
    };
    (0..messages).map(|_| pegin()).collect()
}

/// What was accepted of peg-ins, which every governance node must have.
pub(crate) fn accepted(batch: &[Submission], acceptances: &[Acceptance]) -> Vec<Accepted> {
    assert_eq!(batch.len(), acceptances.len(), "all of a batch is accepted, or nothing");
    let pairs = batch.iter().zip(acceptances);
    let accepted = pairs.map(|(submission, acceptance)| {
        assert_eq!(submission.message_id, acceptance.message_id, "answers are in order");
        assert_eq!(submission.deadline_ms, 0, "no peg-in here has a deadline");
        let priority = RequestPriority::try_from(submission.priority).expect("a priority");
        Accepted {
            id: MessageId::try_from_slice(&submission.message_id).expect("an id"),
            seq: Seq(acceptance.seq),
            target: For::All,
            priority: Priority::try_from(priority).expect("a priority is said"),
            key: submission.ordering_key.first().copied(),
            deadline: None,
        }
    });
    accepted.collect()
}
