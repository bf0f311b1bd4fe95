//! What governance is told of the node itself: put together from what its neighbours say.

use std::sync::Arc;
use std::time::Duration;

use alys_stream_protocol::message::MessageId;
use alys_stream_protocol::submission::{Submission, submission::Payload};

use super::{Accepted, Delivery, SendError};
use crate::failure::{Context, Mode, ModeReport};
use crate::links::Links;
use crate::submit::Submitter;

/// How often governance is told. More often shows a node that fell behind sooner; a report is about
/// 100 bytes for each endpoint, and only the newest one waits for an endpoint that is away.
const REPORT_EVERY: Duration = Duration::from_secs(30);

impl Delivery {
    /// Asks Chain, Network and Sync how the node is, and sends what they said.
    pub(crate) async fn report(
        &self,
        submitter: &Submitter,
        mode: Mode,
    ) -> Result<Accepted, SendError> {
        let update = self.neighbours.ask_status().await.status_update(mode);
        let payload = Some(Payload::StatusUpdate(update));
        let message_id = self.report_id().as_bytes().to_vec().into();
        let submission = Submission { message_id, payload, ..Submission::default() };
        let mut accepted = self.submit(submitter, vec![submission]).await?;
        accepted.pop().ok_or(SendError::Unavailable)
    }

    /// The moment and the log: a later report has another one, and the same run the same.
    fn report_id(&self) -> MessageId {
        let mut id = *self.buffer.log_id().as_bytes();
        let moment = self.clock.now().0.to_be_bytes();
        id[..6].copy_from_slice(&moment[2..]);
        MessageId::new(id)
    }
}

/// Reports, until it is aborted.
pub(crate) async fn run(delivery: Arc<Delivery>, links: Arc<Links>, submitter: Arc<Submitter>) {
    loop {
        tokio::time::sleep(REPORT_EVERY).await;
        let ModeReport { mode, .. } = ModeReport::of(&delivery.facts(&links));
        if let Err(error) = delivery.report(&submitter, mode).await {
            delivery.failures.record(&error, Context::default());
        }
    }
}
