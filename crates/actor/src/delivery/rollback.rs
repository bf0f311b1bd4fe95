//! Whether a peer has seen what this log cannot have sent it: then the log was restored from an old
//! copy, or another process goes on with the same one (D12).
//!
//! The next number alone does not tell: an old copy that accepted enough since it was opened has
//! given the numbers again that the peer knows, to other messages. A peer says in which opening of
//! the log it received the latest record: that must be one of ours, and must have gone so far. Of one
//! that does not say it, and of the present opening, what it can know is what the log held when it
//! was opened, and what this process sent to that peer since.
//!
//! A copy of before something was settled may have everything that a peer has seen, and would send
//! again what is over: so a peer also says what it was told of that when it forgot something last.

use alys_stream_messaging::outbox::EndpointId;
use alys_stream_protocol::message::{Forgotten, LogId, Seq};
use alys_stream_protocol::session::RefuseCode;
use alys_stream_transport::exchange::{PeerLog, Refusal};

use super::Delivery;

impl Delivery {
    /// Everything up to `last` may be known to a peer from now on. Called before it is sent.
    pub(crate) fn handle_sent(&self, peer: LogId, last: Seq) {
        let mut state = self.lock();
        let below = state.sent_below.entry(peer).or_insert(Seq::FIRST);
        *below = (*below).max(last.next());
    }

    /// Checks that a peer has seen nothing that it cannot have from this log.
    ///
    /// # Errors
    ///
    /// `LogRolledBack`, with both numbers and the cure.
    pub(crate) fn check_seen(&self, endpoint: EndpointId, peer: &PeerLog) -> Result<(), Refusal> {
        let sent_below = self.lock().sent_below.get(&peer.log_id).copied();
        let in_doubt = self.fence.below(self.endpoint_name(endpoint));
        // Every peer is told what is settled, whoever was sent it.
        let told = self.resumed_below.max(self.buffer.settled_below());
        let known = in_doubt.map_or(told, |below| below.min(self.resumed_below));
        let below = known.max(sent_below.unwrap_or(Seq::FIRST));
        let seen = peer.received.last().unwrap_or(Seq(0)).max(peer.highest_seen);
        let Forgotten { opening, settled_count } = peer.forgotten;
        let what = if self.buffer.is_contradicted_by(peer.seen, seen) {
            let epoch = peer.seen.epoch.0;
            format!("has seen message {seen} in epoch {epoch}, and not from this log")
        } else if self.buffer.is_outlived_by(peer.forgotten) {
            let epoch = opening.epoch.0;
            format!(
                "was told in epoch {epoch} that {settled_count} messages are over, and not by this log"
            )
        } else if seen >= below {
            format!("has seen message {seen}, but of this log it can know those below {below} only")
        } else {
            return Ok(());
        };
        self.remember_rollback(endpoint);
        let text = format!(
            "the peer {what}: the buffer was restored from an old copy, or another process goes on \
             with it (adopt a new log before sending)"
        );
        Err(Refusal::new(RefuseCode::LogRolledBack, text))
    }

    /// Writes down that an endpoint found the log to be rolled back: a restart must not forget it.
    pub(crate) fn remember_rollback(&self, endpoint: EndpointId) {
        let raised = self.fence.raise(self.endpoint_name(endpoint), self.resumed_below);
        if let Err(error) = raised {
            tracing::error!(
                %error,
                "it cannot be written down that the log was rolled back: adopt a new log before \
                 the node is started again"
            );
        }
    }
}
