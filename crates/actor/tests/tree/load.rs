//! Messages under way while actors die: each is handed over until it is accepted, and followed to
//! its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use alys_stream_actor::{SendError, StreamHandle};
use alys_stream_protocol::message::{Message, MessageId, MessageKind, Priority};
use alys_stream_protocol::submission::OutcomeState;
use tokio::task::JoinSet;

use crate::rig::{PATIENCE, until};

/// Callers at once.
const CALLERS: usize = 8;

/// Messages under way.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    settled: Arc<AtomicUsize>,
    callers: JoinSet<Vec<MessageId>>,
}

impl Load {
    pub(crate) fn start(handle: &StreamHandle) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let settled = Arc::new(AtomicUsize::new(0));
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            let (handle, stop, settled) = (handle.clone(), Arc::clone(&stop), Arc::clone(&settled));
            callers.spawn(async move {
                let mut done = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let message = message(done.len());
                    accept(&handle, &message).await;
                    follow(&handle, message.id).await;
                    settled.fetch_add(1, Ordering::Relaxed);
                    done.push(message.id);
                }
                done
            });
        }
        Self { stop, settled, callers }
    }

    /// Waits until so many more have settled.
    pub(crate) async fn more(&self, more: usize) {
        let wanted = self.settled.load(Ordering::Relaxed) + more;
        until("messages settle", || self.settled.load(Ordering::Relaxed) >= wanted).await;
    }

    /// Stops, and gives everything that was accepted and has settled.
    pub(crate) async fn finish(mut self) -> Vec<MessageId> {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        while let Some(done) = self.callers.join_next().await {
            all.extend(done.unwrap());
        }
        all
    }
}

pub(crate) fn message(number: usize) -> Message {
    Message {
        id: MessageId::mint(),
        kind: MessageKind(1000),
        priority: Priority::ALL[number % Priority::ALL.len()],
        deadline: None,
        ordering_key: None,
        traceparent: None,
        payload: vec![7; 64].into(),
    }
}

/// Hands a message over until it is accepted, always with the same id.
pub(crate) async fn accept(handle: &StreamHandle, message: &Message) {
    let accepting = async {
        loop {
            match handle.send(message.clone()).await {
                Ok(accepted) => return assert_eq!(accepted.id, message.id),
                // The actor or its log went away under it: it is not known whether it is stored.
                Err(SendError::Io(_) | SendError::Unavailable) => tokio::task::yield_now().await,
                Err(error) => panic!("{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, accepting).await.expect("it is accepted in the end");
}

/// Follows a message to its end through every restart.
pub(crate) async fn follow(handle: &StreamHandle, id: MessageId) {
    let following = async {
        loop {
            let Ok(follow) = handle.follow(id).await else { continue };
            let mut follow = follow.expect("it was accepted");
            if let Some(outcome) = follow.finished_outcome().await {
                return assert_eq!(outcome.state(), OutcomeState::Complete, "{}", outcome.reason);
            }
        }
    };
    let words = || format!("{id} ends: {:?}", handle.status());
    tokio::time::timeout(PATIENCE, following).await.unwrap_or_else(|_| panic!("{}", words()));
}

/// Everything was applied somewhere, and nowhere twice.
pub(crate) fn check_once(sent: &[MessageId], applied: &[BTreeMap<MessageId, u64>]) {
    assert!(!sent.is_empty());
    for id in sent {
        let times: Vec<u64> = applied.iter().filter_map(|ledger| ledger.get(id).copied()).collect();
        assert!(!times.is_empty(), "{id} is lost");
        assert!(times.iter().all(|times| *times == 1), "{id} was applied twice: {times:?}");
    }
}
