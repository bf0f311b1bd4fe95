//! Callers under chaos: they submit until they are told to stop, and the ends of their messages.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::OutcomeState;
use alys_stream_tests::deployment::Deployment;
use alys_stream_tests::load;
use alys_stream_tests::submission::Client;
use tokio::task::JoinSet;

/// Callers that submit peg-ins, which every governance node must have.
#[derive(Debug)]
pub(crate) struct Callers {
    stop: Arc<AtomicBool>,
    accepted: Arc<AtomicU64>,
    tasks: JoinSet<Vec<MessageId>>,
}

impl Callers {
    pub(crate) fn start(client: &Client, callers: u64, seed: u64) -> Self {
        let (stop, accepted) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = JoinSet::new();
        for caller in 0..callers {
            let rng = fastrand::Rng::with_seed(seed + caller);
            tasks.spawn(submit(client.clone(), rng, Arc::clone(&stop), Arc::clone(&accepted)));
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
        drop(tokio::time::timeout(Duration::from_secs(5), waiting).await);
    }

    /// Stops them; what was accepted.
    pub(crate) async fn finish(mut self) -> Vec<MessageId> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(accepted) = self.tasks.join_next().await {
            all.extend(accepted.expect("a caller does not panic"));
        }
        all
    }
}

async fn submit(
    client: Client,
    mut rng: fastrand::Rng,
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
) -> Vec<MessageId> {
    let mut accepted = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let ids: Vec<MessageId> = (0..rng.u32(1..6)).map(|_| MessageId::mint()).collect();
        let batch = ids.iter().map(|id| load::pegin(&mut rng, *id)).collect();
        client.submit_until_accepted(batch).await;
        count.fetch_add(ids.len() as u64, Ordering::Relaxed);
        accepted.extend(ids);
    }
    accepted
}

/// Every message ended well, and every governance node has applied it once.
pub(crate) async fn check(deployment: Deployment, accepted: &[MessageId]) {
    let client = deployment.client();
    for id in accepted {
        let outcome = client.outcome(*id).await;
        assert_eq!(outcome.state(), OutcomeState::Complete, "{id}: {}", outcome.reason);
    }
    let ids: BTreeSet<MessageId> = accepted.iter().copied().collect();
    for (index, ledger) in deployment.stop().await.into_iter().enumerate() {
        let twice: Vec<_> = ledger.iter().filter(|(_, times)| **times > 1).collect();
        assert!(twice.is_empty(), "governance {index} applied twice: {twice:?}");
        let missing: Vec<_> = ids.iter().filter(|id| !ledger.contains_key(id)).collect();
        assert!(missing.is_empty(), "governance {index} never got {missing:?}");
    }
}
