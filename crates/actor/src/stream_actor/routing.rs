//! Where what is asked goes: messages to the delivery, heights to whatever waits for them, questions
//! to the health monitor.
//!
//! Accepting waits for the disk, so it happens in a task of its own and never in the mailbox. There
//! are at most [`crate::neighbours::asks::ASKS_MAX`] such tasks: each holds the permit of its ask.
//! Where messages go then is the delivery's business, by the router of the messaging layer.

use std::sync::Arc;

use alys_stream_protocol::submission::Submission;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::delivery::{Accepted, Delivery, SendError};
use crate::links::Links;
use crate::neighbours::StreamAsk;
use crate::submit::Submitter;

use super::health;

/// What answers asks.
#[derive(Debug)]
pub(super) struct Routing {
    delivery: Arc<Delivery>,
    links: Arc<Links>,
    submitter: Arc<Submitter>,
    heights: watch::Sender<Option<u64>>,
    accepting: JoinSet<()>,
}

impl Routing {
    pub(super) fn new(
        delivery: Arc<Delivery>,
        links: Arc<Links>,
        submitter: Arc<Submitter>,
        heights: watch::Sender<Option<u64>>,
    ) -> Self {
        Self { delivery, links, submitter, heights, accepting: JoinSet::new() }
    }

    pub(super) fn handle_ask(&mut self, ask: StreamAsk) {
        // Those that are done.
        while self.accepting.try_join_next().is_some() {}
        match ask {
            StreamAsk::Submit { submission, reply, permit } => {
                let (delivery, submitter) =
                    (Arc::clone(&self.delivery), Arc::clone(&self.submitter));
                self.accepting.spawn(async move {
                    let accepted = accept(&delivery, &submitter, *submission).await;
                    // Whoever asked may be gone: then nobody needs to know.
                    drop(reply.send(accepted));
                    drop(permit);
                });
            }
            StreamAsk::Height(height) => {
                self.heights.send_if_modified(|highest| {
                    let is_higher = highest.is_none_or(|highest| height > highest);
                    if is_higher {
                        *highest = Some(height);
                    }
                    is_higher
                });
            }
            StreamAsk::Health(reply) => {
                drop(reply.send(health::of(&self.delivery.facts(&self.links))));
            }
        }
    }
}

async fn accept(
    delivery: &Delivery,
    submitter: &Submitter,
    submission: Submission,
) -> Result<Accepted, SendError> {
    let mut accepted = delivery.submit(submitter, vec![submission]).await?;
    accepted.pop().ok_or(SendError::Unavailable)
}
